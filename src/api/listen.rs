//! The connections: how many there may be, how long they may be silent, and who makes room.
//!
//! Our own loop around hyper: `warp`'s bounds neither slow headers, nor their size, nor the number
//! of connections, nor how long a client may leave an answer unread. When all connections are
//! taken, the one that has been idle the longest is closed for the next: ten thousand of them that
//! do nothing keep nobody out. One address has only some of them. What a connection is at has to be over in time: a
//! head to come, an answer to be taken (who reads a little now and then would otherwise hold what it is made from for ever),
//! and silence between requests, which lasts longer than proxies keep theirs, so that they close first.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_io_timeout::TimeoutStream;
use warp::http::{HeaderMap, HeaderValue, header};

use super::Limits;
use super::pace::Pace;
use super::per_address::{PerAddress, network};

/// Files a process needs besides connections: databases, Kafka, logs.
const OTHER_FILES: u64 = 256;
/// What the kernel keeps of an answer that is not read, in bytes.
const SEND_BUFFER: usize = 256 * 1024;

/// Lines a second about what clients do.
const SAID_A_SECOND: u32 = 5;

/// How often it is looked on which connection something is overdue.
const LOOK: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub address: IpAddr,
    /// Whether its address has as many connections as it may besides this one.
    pub is_one_too_many: bool,
}

/// Answers the requests on `listener` until `stop` is set, and for `shutdown_delay` from then on, each for the last time on
/// its connection: who stands before us has so long to notice. Then calls `on_stop`, and waits for what is being answered.
pub(super) async fn accept<F, A, B>(
    listener: TcpListener,
    answer: F,
    limits: &Limits,
    stop: &Arc<AtomicBool>,
    on_stop: impl FnOnce(),
) -> anyhow::Result<()>
where
    F: Fn(Peer, Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(room_for(limits.connections)));
    let connections = Arc::new(Connections::new(limits));
    let per_address = PerAddress::new(limits.connections_per_address);
    let download_time = limits.download_time;
    let mut longest_idle = Vec::new();
    let mut looked_at = Instant::now();
    let graceful = GracefulShutdown::new();
    let mut told = None;
    while !is_over(stop, limits.shutdown_delay, &mut told) {
        if permits.available_permits() == 0 {
            connections.close_longest_idle(&mut longest_idle);
        }
        if looked_at.elapsed() >= LOOK {
            connections.close_overdue();
            looked_at = Instant::now();
        }
        // The flag is set by a signal handler, which can wake nobody.
        let accepted = tokio::time::timeout(Duration::from_millis(50), async {
            let permit = Arc::clone(&permits).acquire_owned().await?;
            Ok::<_, anyhow::Error>((permit, listener.accept().await))
        })
        .await;
        let (permit, stream) = match accepted {
            Err(_) => continue,
            Ok(accepted) => accepted?,
        };
        let (stream, peer) = match stream {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that has gone already, or no file descriptor left: neither ends us.
                log::debug!("accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        prepare(&stream, limits);
        let mut stream = TimeoutStream::new(stream);
        // Counts only while something is to be written and cannot be.
        stream.set_write_timeout(Some(limits.write_time));
        let entry = Connection::take(&connections);
        let stream = Heard {
            stream: Box::pin(stream),
            by: Arc::clone(&entry),
        };
        let place = per_address.take(network(peer.ip()));
        let peer = Peer {
            address: peer.ip(),
            is_one_too_many: place.is_none(),
        };
        let (answer, used) = (answer.clone(), Arc::clone(&entry));
        let stop = Arc::clone(stop);
        let service = service_fn(move |request| {
            let (busy, answering) = (Busy::start(&used), answer(peer, request));
            let (used, stop) = (Arc::clone(&used), Arc::clone(&stop));
            async move {
                let mut answer = answering.await;
                if stop.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                let is_endless = is_endless(answer.headers());
                used.be_over_in((!is_endless).then_some(download_time));
                Ok::<_, Infallible>(answer.map(|body| Guarded { body, _busy: busy }))
            }
        });
        let connection = http(limits).serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _held = (permit, place);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    let stopped = error.source().and_then(|e| e.downcast_ref::<io::Error>());
                    if stopped.is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
                        entry.connections.say(format_args!("{} has stopped reading its answer and is disconnected", peer.address));
                    } else {
                        log::debug!("a connection ended: {error}");
                    }
                },
                () = entry.close.notified() => log::debug!("a connection was closed"),
            }
            entry.leave();
        });
    }
    drop(listener);
    on_stop();
    if tokio::time::timeout(limits.drain, graceful.shutdown())
        .await
        .is_err()
    {
        log::debug!("connections were still open after {:?}", limits.drain);
    }
    Ok(())
}

/// Whether no more connections are to be accepted: so long after `stop` was found set, as `told` remembers.
fn is_over(stop: &AtomicBool, delay: Duration, told: &mut Option<Instant>) -> bool {
    if !stop.load(Ordering::Relaxed) {
        return false;
    }
    if told.is_none() && !delay.is_zero() {
        log::info!("told to end: not ready any more, and gone in {delay:?}");
    }
    told.get_or_insert_with(Instant::now).elapsed() >= delay
}

/// What is read of a connection, and how much of it at a time.
pub(super) fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.headers);
    http
}

/// Whether an answer never ends by itself: a live feed.
pub(super) fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == "text/event-stream")
}

fn prepare(stream: &TcpStream, limits: &Limits) {
    stream.set_nodelay(true).ok();
    let socket = socket2::SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER).ok();
    // A peer whose machine is gone takes nothing and refuses nothing: what is written to it fits
    // into the buffers, so only the missing acknowledgements tell.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(limits.write_time)).ok();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = limits;
}

/// How many connections there can be: as many as wished, or as the system allows files.
fn room_for(wished: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wished;
    };
    let needed = (wished as u64).saturating_add(OTHER_FILES);
    let allowed = needed.min(hard).max(soft);
    if allowed > soft && setrlimit(Resource::RLIMIT_NOFILE, allowed, hard).is_err() {
        return wished.min(room(soft));
    }
    if allowed < needed {
        log::warn!(
            "this process may open {allowed} files: at most {} connections at a time; raise `ulimit -n` for more",
            room(allowed)
        );
    }
    wished.min(room(allowed))
}

fn room(files: u64) -> usize {
    usize::try_from(files.saturating_sub(OTHER_FILES).max(1)).unwrap_or(usize::MAX)
}

/// The open connections, and the order in which they became idle.
struct Connections {
    header_time: Duration,
    keep_alive: Duration,
    started: Instant,
    /// Rises whenever one is opened or becomes idle.
    clock: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    said: Pace<()>,
}

impl Connections {
    fn new(limits: &Limits) -> Connections {
        Connections {
            header_time: limits.header_time,
            keep_alive: limits.keep_alive,
            started: Instant::now(),
            clock: AtomicU64::default(),
            open: Mutex::default(),
            said: Pace::always(SAID_A_SECOND),
        }
    }

    /// Says what a client did, unless clients have just had much said.
    fn say(&self, what: fmt::Arguments<'_>) {
        log::log!(self.said.level(log::Level::Info), "{what}");
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Closes the connections on which something should be over by now.
    fn close_overdue(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        for connection in self.lock().values() {
            let over_by = connection.over_by.load(Ordering::Relaxed);
            if over_by != NEVER && over_by < now {
                if connection.idle_since.load(Ordering::Relaxed) == BUSY {
                    self.say(format_args!(
                        "an answer was not taken in time: its connection is closed"
                    ));
                }
                connection.close.notify_one();
            }
        }
    }

    /// Closes the connection that has been idle the longest. `queue` is what was found at the last look
    /// at all of them, the longest idle last: whoever is not in it became idle later than those in it.
    fn close_longest_idle(&self, queue: &mut Vec<(u64, Arc<Connection>)>) {
        if queue.is_empty() {
            let idle = |entry: &Arc<Connection>| {
                let since = entry.idle_since.load(Ordering::Relaxed);
                (since != BUSY).then(|| (since, Arc::clone(entry)))
            };
            queue.extend(self.lock().values().filter_map(idle));
            queue.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        }
        while let Some((since, entry)) = queue.pop() {
            // Otherwise it has been used since.
            if entry.make_busy(since) {
                entry.close.notify_one();
                return;
            }
        }
    }
}

/// Stands for a time at which a connection became idle where it is not.
const BUSY: u64 = 0;

/// Stands for a time by which something must be over where nothing need be.
const NEVER: u64 = 0;

/// A connection among the others. To be used costs it no lock.
struct Connection {
    connections: Arc<Connections>,
    number: u64,
    /// When it became idle, or [`BUSY`].
    idle_since: AtomicU64,
    /// When what it is at must be over, in milliseconds from the start, or [`NEVER`].
    over_by: AtomicU64,
    /// Whether the next bytes begin a head.
    is_silent: AtomicBool,
    close: Notify,
}

impl Connection {
    fn take(connections: &Arc<Connections>) -> Arc<Connection> {
        let now = connections.now();
        let connection = Arc::new(Connection {
            connections: Arc::clone(connections),
            number: now,
            idle_since: AtomicU64::new(now),
            over_by: AtomicU64::new(NEVER),
            is_silent: AtomicBool::new(false),
            close: Notify::new(),
        });
        connection.be_over_in(Some(connections.header_time));
        connections.lock().insert(now, Arc::clone(&connection));
        connection
    }

    /// Whether it was idle since then, and is not now.
    fn make_busy(&self, since: u64) -> bool {
        let order = Ordering::Relaxed;
        let made = self.idle_since.compare_exchange(since, BUSY, order, order);
        made.is_ok()
    }

    /// Sets how long what it is at may take; none: for ever.
    fn be_over_in(&self, time: Option<Duration>) {
        let by = time.map(|time| self.connections.started.elapsed().saturating_add(time));
        let by = by.map_or(NEVER, |by| by.as_millis() as u64);
        self.over_by.store(by, Ordering::Relaxed);
    }

    /// Bytes have come.
    fn hear(&self) {
        if self.is_silent.load(Ordering::Relaxed) {
            self.is_silent.store(false, Ordering::Relaxed);
            self.be_over_in(Some(self.connections.header_time));
        }
    }

    fn leave(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
        self.connections.lock().remove(&self.number);
    }
}

/// From the head of a request to the end of its answer.
struct Busy(Arc<Connection>);

impl Busy {
    fn start(connection: &Arc<Connection>) -> Busy {
        connection.idle_since.store(BUSY, Ordering::Relaxed);
        connection.is_silent.store(false, Ordering::Relaxed);
        connection.be_over_in(None);
        Busy(Arc::clone(connection))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Busy(connection) = self;
        let now = connection.connections.now();
        connection.idle_since.store(now, Ordering::Relaxed);
        connection.is_silent.store(true, Ordering::Relaxed);
        connection.be_over_in(Some(connection.connections.keep_alive));
    }
}

/// The bytes of a connection, which hears of those that come.
struct Heard {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    by: Arc<Connection>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream.as_mut().poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.by.hear();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A body that says when it has been taken.
struct Guarded<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Guarded<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
