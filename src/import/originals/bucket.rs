//! Originals in a bucket of S3, or of what speaks like it: `BUCKET/PREFIX/ab/abcdef….zst`, as in a folder.
//!
//! Where it is and who asks is said by the `AWS_` variables that other programs read too. A file goes up in parts while it is
//! read, and is there when all of it is: whoever breaks off leaves parts that are no file.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::{Buf as _, Bytes};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt as _, RetryConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{self, Runtime};
use tokio_stream::{Stream, StreamExt as _};

use super::signing::Signing;
use super::{PIECE, Packed};

/// S3 takes 10,000 parts of a file, none but the last smaller than 5 MiB: more than any file that is read.
const PART: usize = 8 << 20;
/// Parts that are on their way at a time; each is memory.
const PARTS: usize = 2;
/// A part has so long, and so has a piece of what is read back.
const PATIENCE: &str = "120 seconds";
/// Somebody waits: what does not answer by then is away.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(60);

/// A bucket, and where in it.
pub struct Bucket {
    name: String,
    prefix: Path,
    client: OnceLock<Client>,
}

struct Client {
    store: Arc<AmazonS3>,
    /// Who keeps files waits for one after the other, and knows nothing of futures.
    runtime: Runtime,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.name)?;
        match self.prefix.as_ref() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Not waited for: a server ends within its own runtime, where nobody may wait.
        if let Some(client) = self.client.take() {
            client.runtime.shutdown_background();
        }
    }
}

impl Bucket {
    /// What stands behind `s3://`.
    ///
    /// # Errors
    /// A message for the user.
    pub(super) fn from_address(text: &str) -> Result<Bucket, String> {
        let (name, prefix) = text.split_once('/').unwrap_or((text, ""));
        let is_name = (3..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        if !is_name {
            return Err(format!(
                "'{name}' is no name of a bucket: s3://BUCKET/PREFIX, such as s3://acme-reports/adflux"
            ));
        }
        Ok(Bucket {
            name: name.to_owned(),
            prefix: Path::parse(prefix).map_err(|error| error.to_string())?,
            client: OnceLock::new(),
        })
    }

    /// Connects when it is first asked for.
    fn client(&self) -> anyhow::Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(&self.name)
            .with_crypto_provider(Arc::new(Signing))
            .with_config(
                AmazonS3ConfigKey::Client(ClientConfigKey::Timeout),
                "1 hour",
            )
            .with_config(
                AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout),
                PATIENCE,
            )
            .with_retry(retry)
            .build()
            .map_err(told)?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let store = Arc::new(store);
        Ok(self.client.get_or_init(|| Client { store, runtime }))
    }

    fn key(&self, name: &str) -> Path {
        let parts = self.prefix.parts();
        parts.chain(name.split('/').map(Into::into)).collect()
    }

    /// Keeps what is packed under a name, unless something is there.
    ///
    /// # Errors
    /// When the bucket does not take it, or the file is not what it was.
    pub(super) fn keep(&self, name: &str, mut packed: Packed<'_>) -> anyhow::Result<()> {
        let Client { store, runtime } = self.client()?;
        let key = self.key(name);
        runtime.block_on(async {
            match store.head(&key).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(told(error)),
            }
            let store: Arc<dyn ObjectStore> = store.clone();
            let mut out = BufWriter::with_capacity(store, key, PART).with_max_concurrency(PARTS);
            let written = async {
                loop {
                    let mut piece = Vec::with_capacity(PIECE);
                    packed.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
                    if piece.is_empty() {
                        return packed.is_the_file();
                    }
                    out.put(piece.into()).await.map_err(told)?;
                }
            };
            match written.await {
                Ok(()) => out.shutdown().await.map_err(|error| {
                    let of_bucket = error.downcast::<object_store::Error>();
                    of_bucket.map_or_else(Into::into, told)
                }),
                Err(error) => {
                    // If this fails too, the bucket's rules for parts that are left have it.
                    let _ = out.abort().await;
                    Err(error)
                }
            }
        })
    }

    /// Removes what is kept under a name, if anything is.
    ///
    /// # Errors
    /// When the bucket does not do it.
    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        let Client { store, runtime } = self.client()?;
        match runtime.block_on(store.delete(&self.key(name))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    /// What is kept under a name, packed.
    ///
    /// # Errors
    /// When it is not there, or the bucket does not give it.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<impl Read> {
        let Client { store, runtime } = self.client()?;
        let key = self.key(name);
        let got = runtime.block_on(store.get(&key));
        let got = got.map_err(told).with_context(|| format!("{key}"))?;
        Ok(Reading {
            stream: got.into_stream(),
            runtime,
            rest: Bytes::new(),
        })
    }
}

/// A stream, as it is read.
struct Reading<'r, S> {
    stream: S,
    runtime: &'r Runtime,
    rest: Bytes,
}

impl<S> Read for Reading<'_, S>
where
    S: Stream<Item = object_store::Result<Bytes>> + Unpin,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(next) => self.rest = next?,
                None => return Ok(0),
            }
        }
        (&mut self.rest).reader().read(buffer)
    }
}

/// What went wrong, and what to do.
fn told(error: object_store::Error) -> anyhow::Error {
    use object_store::Error;
    let what = match &error {
        Error::NotFound { .. } => "there is no such bucket, or no such file in it",
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "the bucket refuses; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and whether they may read, write and list"
        }
        _ => {
            "the bucket does not answer as it should; look at AWS_ENDPOINT, AWS_REGION and AWS_ALLOW_HTTP"
        }
    };
    anyhow!("{what}: {}", answer(&error))
}

/// What S3 says in its answer, `<Code>` and `<Message>`; where there is none, the cause of causes.
fn answer(error: &object_store::Error) -> String {
    let text = error.to_string();
    let within = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(said, _)| said)
    };
    if let (Some(code), Some(message)) = (within("Code"), within("Message")) {
        return format!("{code}, {message}");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
