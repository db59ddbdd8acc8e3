//! SeaweedFS, which speaks S3, with a bucket of a test's own: its ports are free ones, and its data ends with it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::ports::free_port;
use super::wait::wait_until;

/// The bucket that there is.
const BUCKET: &str = "reports";

pub struct Bucket {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    filer: u16,
    child: Option<Child>,
}

impl Bucket {
    /// Starts the program `weed`, and waits until there is the bucket.
    pub fn start(program: impl Into<PathBuf>) -> Bucket {
        let mut bucket = Bucket {
            program: program.into(),
            folder: tempfile::tempdir().expect("room"),
            port: free_port(),
            filer: free_port(),
            child: None,
        };
        bucket.start_again();
        bucket
    }

    /// After it was killed: with its data.
    pub fn start_again(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("room");
        let mut command = Command::new(&self.program);
        command
            .env("AWS_ACCESS_KEY_ID", "adflux")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .arg("mini")
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-s3.autoCreateBucket=false", "-master.telemetry=false"])
            .arg(format!("-bucket={BUCKET}"))
            .arg(format!("-dir={}", self.folder.path().display()))
            .arg(format!("-s3.port={}", self.port))
            .arg(format!("-filer.port={}", self.filer))
            .arg(format!(
                "-filer.localSocket={}",
                self.folder.path().join("socket").display()
            ));
        for port in ["master.port", "volume.port", "admin.port"] {
            command.arg(format!("-{port}={}", free_port()));
        }
        for port in ["s3", "filer", "master", "volume", "admin"] {
            command.arg(format!("-{port}.port.grpc={}", free_port()));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("open"))
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        self.child = Some(child);
        wait_until("there is a bucket", || {
            let ended = self.child.as_mut().map(Child::try_wait);
            assert!(matches!(ended, Some(Ok(None))), "{}", self.log());
            self.folder("").is_some() && TcpStream::connect(self.address()).is_ok()
        });
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where it speaks S3.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A folder of the bucket; none where there is none.
    fn folder(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.filer)).ok()?;
        let head = "HTTP/1.0\r\nAccept: application/json\r\n\r\n";
        write!(stream, "GET /buckets/{BUCKET}/{path} {head}").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, folder) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(folder).ok()
    }

    /// What is in a folder of the bucket.
    pub fn files_in(&self, path: &str) -> Vec<String> {
        let folder = self.folder(path).unwrap_or_default();
        let entries = folder["Entries"].as_array().into_iter().flatten();
        let paths = entries.filter_map(|entry| entry["FullPath"].as_str());
        paths.map(str::to_owned).collect()
    }

    /// What programs need to know of it, which reach it at this address.
    pub fn known_to(&self, command: &mut Command, address: SocketAddr) {
        command
            .env("AWS_ACCESS_KEY_ID", "adflux")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_ENDPOINT", format!("http://{address}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env_remove("AWS_SESSION_TOKEN");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.kill();
    }
}
