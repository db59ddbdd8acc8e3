//! The connections: how many there may be, how long they may be silent, and who makes room.
//!
//! Our own loop around hyper: `warp`'s bounds neither slow headers, nor their size, nor the number
//! of connections, nor how long a client may leave an answer unread. When all connections are
//! taken, the one that has been idle the longest is closed for the next: ten thousand of them that
//! do nothing keep nobody out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_io_timeout::TimeoutStream;

use super::Limits;

/// Files a process needs besides connections: databases, Kafka, logs.
const OTHER_FILES: u64 = 256;
/// What the kernel keeps of an answer that is not read, in bytes.
const SEND_BUFFER: usize = 256 * 1024;

/// Answers the requests on `listener` until `stop` is set; then calls `on_stop`, and waits for
/// what is being answered.
pub(super) async fn accept<F, A, B>(
    listener: TcpListener,
    answer: F,
    limits: &Limits,
    stop: &AtomicBool,
    on_stop: impl FnOnce(),
) -> anyhow::Result<()>
where
    F: Fn(SocketAddr, Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(room_for(limits.connections)));
    let idle = Arc::new(Idle::default());
    let graceful = GracefulShutdown::new();
    while !stop.load(Ordering::Relaxed) {
        if permits.available_permits() == 0 {
            idle.close_oldest();
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
        let place = Arc::new(Place::take(&idle));
        let (answer, used) = (answer.clone(), Arc::clone(&place));
        let service = service_fn(move |request| {
            let (busy, answering) = (Busy::start(&used), answer(peer, request));
            async move {
                let answer = answering.await;
                Ok::<_, Infallible>(answer.map(|body| Guarded { body, _busy: busy }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_buf_size(limits.header_bytes)
            .max_headers(limits.headers)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    log::debug!("a connection ended: {error}");
                },
                () = place.close.notified() => log::debug!("an idle connection made room"),
            }
            place.leave();
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

/// The connections on which nothing is being answered, in the order in which they became so.
#[derive(Default)]
struct Idle(Mutex<IdleState>);

#[derive(Default)]
struct IdleState {
    next: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, IdleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_oldest(&self) {
        if let Some((_, close)) = self.lock().connections.pop_first() {
            close.notify_one();
        }
    }
}

/// A connection among the others.
struct Place {
    idle: Arc<Idle>,
    close: Arc<Notify>,
    /// Its number among the idle ones.
    number: Mutex<Option<u64>>,
}

impl Place {
    fn take(idle: &Arc<Idle>) -> Place {
        let place = Place {
            idle: Arc::clone(idle),
            close: Arc::default(),
            number: Mutex::new(None),
        };
        place.enter();
        place
    }

    fn enter(&self) {
        let mut idle = self.idle.lock();
        idle.next += 1;
        let number = idle.next;
        idle.connections.insert(number, Arc::clone(&self.close));
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    fn leave(&self) {
        let mut idle = self.idle.lock();
        let number = self
            .number
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(number) = number {
            idle.connections.remove(&number);
        }
    }
}

/// From the head of a request to the end of its answer.
struct Busy(Arc<Place>);

impl Busy {
    fn start(place: &Arc<Place>) -> Busy {
        place.leave();
        Busy(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter();
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
