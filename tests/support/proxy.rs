//! A network before a service that fails on purpose.
//!
//! Before PostgreSQL it reads the client's side of the protocol (PostgreSQL's manual, "Frontend/Backend Protocol",
//! "Message Formats": a type byte, a length, a body; only the first message has no type), so that
//! a test can say at which statement what goes wrong. Before any other service it carries bytes, and
//! what goes wrong is the whole link's.

// Each test target uses its part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// What goes wrong at a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the server, and the connection is gone.
    LoseRequest,
    /// The server has done it and says so, but the connection is gone.
    LoseReply,
    /// It does not reach the server until [`Proxy::release`].
    Hold,
}

/// What the link does to all that passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Carries it.
    #[default]
    Through,
    /// Holds it back, in both directions; nobody is told. It arrives when the link is well again.
    BlackHole,
    /// Carries each piece this much later.
    Slow(Duration),
    /// Carries requests and loses replies. When the link is well again, the connections that lost
    /// some are reset, as by a peer that has forgotten them.
    HalfOpen,
}

/// What the proxy reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Postgres,
    Bytes,
}

/// What a connection that writes batches says, once: it executes what it has prepared by its name.
const WRITES_BATCHES: &str = "SET next_offset = b.next_offset";

/// A fault that has not come yet.
struct Planned {
    /// The text of the statement at which it comes.
    statement: &'static str,
    /// Whether only a connection will do that writes batches.
    of_batch: bool,
    fault: Fault,
}

#[derive(Default)]
struct State {
    /// New connections are refused.
    cut: bool,
    link: Link,
    faults: VecDeque<Planned>,
    holding: usize,
    /// Rises with each release.
    releases: usize,
    server: Option<SocketAddr>,
    sockets: Vec<Weak<TcpStream>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
    /// The link has changed.
    changed: Condvar,
    lost: AtomicUsize,
    closing: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy before the server of this URL.
    pub fn before(url: &str) -> Proxy {
        let (_, authority, _) = parts(url);
        let host = authority.rsplit('@').next().expect("split gives one");
        let server = match host.rsplit_once(':') {
            Some(_) => host.to_owned(),
            None => format!("{host}:5432"),
        };
        let server = server
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .unwrap_or_else(|| panic!("DATABASE_URL must name a host, not '{server}'"));
        let proxy = Proxy::listen(Protocol::Postgres);
        proxy.leads_to(server);
        proxy
    }

    /// A proxy that carries bytes, once it is told where to with [`Proxy::leads_to`].
    pub fn of_bytes() -> Proxy {
        Proxy::listen(Protocol::Bytes)
    }

    fn listen(protocol: Protocol) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.closing.load(Ordering::Relaxed) {
                    return;
                }
                let server = accepting.state().server;
                if let Ok(client) = client
                    && let Some(server) = server
                    && let Ok(server) = TcpStream::connect(server)
                {
                    serve(&accepting, protocol, Arc::new(client), Arc::new(server));
                }
            }
        });
        Proxy { address, shared }
    }

    /// Where connections go that are made from now on.
    pub fn leads_to(&self, server: SocketAddr) {
        self.shared.state().server = Some(server);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what the link does. [`Link::Through`] heals it.
    pub fn set_link(&self, link: Link) {
        self.shared.state().link = link;
        self.shared.changed.notify_all();
    }

    /// Ends all connections that there are.
    pub fn reset(&self) {
        for socket in std::mem::take(&mut self.shared.state().sockets) {
            if let Some(socket) = socket.upgrade() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// The URL that leads through the proxy, without encryption that it could not read.
    pub fn url(&self, url: &str) -> String {
        let (scheme, authority, rest) = parts(url);
        let user = match authority.rsplit_once('@') {
            Some((user, _)) => format!("{user}@"),
            None => String::new(),
        };
        let separator = if rest.contains('?') { '&' } else { '?' };
        let address = self.address;
        format!("{scheme}://{user}{address}{rest}{separator}sslmode=disable&gssencmode=disable")
    }

    /// Cuts all connections and lets no new ones through.
    pub fn cut(&self) {
        self.shared.state().cut = true;
        self.reset();
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.shared.state().cut = false;
    }

    /// Forgets the faults that have not come yet.
    pub fn no_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// The next statement with this text has this fault (after those said before).
    pub fn fault(&self, statement: &'static str, fault: Fault) {
        self.plan(statement, false, fault);
    }

    /// The next COMMIT of a connection that writes batches has this fault (after those said before).
    /// A process commits on others, too: when it migrates, evaluates alerts, publishes dead letters.
    pub fn fault_at_batch(&self, fault: Fault) {
        self.plan("COMMIT", true, fault);
    }

    fn plan(&self, statement: &'static str, of_batch: bool, fault: Fault) {
        self.shared.state().faults.push_back(Planned {
            statement,
            of_batch,
            fault,
        });
    }

    /// How many requests and replies were lost.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Whether a statement is being held.
    pub fn is_holding(&self) -> bool {
        self.shared.state().holding > 0
    }

    /// Lets the held statements go on.
    pub fn release(&self) {
        let mut state = self.shared.state();
        state.releases += 1;
        // Now, not when their threads wake: who asks next means what is held by then.
        state.holding = 0;
        drop(state);
        self.shared.released.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.cut();
        self.release();
        self.set_link(Link::Through);
        // Wakes the thread that accepts, for it to see that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// Scheme, authority, and the rest from the path on.
fn parts(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").expect("DATABASE_URL is a URL");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    (scheme, authority, rest)
}

fn serve(shared: &Arc<Shared>, protocol: Protocol, client: Arc<TcpStream>, server: Arc<TcpStream>) {
    {
        let mut state = shared.state();
        if state.cut {
            return;
        }
        state.sockets.retain(|socket| socket.strong_count() > 0);
        for socket in [&client, &server] {
            // Without it, small statements wait for acknowledgements.
            let _ = socket.set_nodelay(true);
            state.sockets.push(Arc::downgrade(socket));
        }
    }
    let lose_reply = Arc::new(AtomicBool::new(false));
    let (from, to) = (Arc::clone(&server), Arc::clone(&client));
    let (watched, losing) = (Arc::clone(shared), Arc::clone(&lose_reply));
    std::thread::spawn(move || {
        replies(&watched, &losing, &from, &to);
        close(&from, &to);
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        // An error is the end of the connection, whoever ended it.
        let _ = match protocol {
            Protocol::Postgres => requests(&shared, &lose_reply, &client, &server),
            Protocol::Bytes => carry(&shared, &client, &server),
        };
        close(&client, &server);
    });
}

fn close(a: &TcpStream, b: &TcpStream) {
    let _ = a.shutdown(Shutdown::Both);
    let _ = b.shutdown(Shutdown::Both);
}

/// Waits as the link says. Returns what it is then: anything but a black hole.
fn pass(shared: &Shared) -> Link {
    let state = shared
        .changed
        .wait_while(shared.state(), |state| state.link == Link::BlackHole)
        .unwrap_or_else(PoisonError::into_inner);
    let link = state.link;
    drop(state);
    if let Link::Slow(delay) = link {
        std::thread::sleep(delay);
    }
    link
}

fn carry(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        pass(shared);
        to.write_all(&buffer[..n])?;
    }
}

fn replies(shared: &Shared, lose: &AtomicBool, mut server: &TcpStream, mut client: &TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = server.read(&mut buffer)
        && n > 0
    {
        if lose.load(Ordering::SeqCst) {
            // The server only replies to a COMMIT once it is done.
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if pass(shared) == Link::HalfOpen {
            // What follows would make no sense to the client without what is lost here.
            let _healed = shared
                .changed
                .wait_while(shared.state(), |state| state.link == Link::HalfOpen);
            return;
        }
        if client.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

fn requests(
    shared: &Shared,
    lose_reply: &AtomicBool,
    mut client: &TcpStream,
    mut server: &TcpStream,
) -> std::io::Result<()> {
    let mut message = Vec::new();
    let mut writes_batches = false;
    let mut header = 0;
    loop {
        message.resize(header + 4, 0);
        client.read_exact(&mut message)?;
        let mut length = [0; 4];
        length.copy_from_slice(&message[header..]);
        // The length counts itself, and not the type.
        message.resize(header + u32::from_be_bytes(length) as usize, 0);
        client.read_exact(&mut message[header + 4..])?;
        // A simple query, or the text of a statement to prepare.
        if header == 1 && matches!(message[0], b'Q' | b'P') {
            writes_batches = writes_batches || says(&message, WRITES_BATCHES);
            match fault_of(shared, writes_batches, &message) {
                Some(Fault::LoseRequest) => {
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Some(Fault::LoseReply) => lose_reply.store(true, Ordering::SeqCst),
                Some(Fault::Hold) => hold(shared),
                None => {}
            }
        }
        pass(shared);
        server.write_all(&message)?;
        header = 1;
    }
}

fn says(message: &[u8], text: &str) -> bool {
    message
        .windows(text.len())
        .any(|bytes| bytes == text.as_bytes())
}

fn fault_of(shared: &Shared, writes_batches: bool, message: &[u8]) -> Option<Fault> {
    let mut state = shared.state();
    let next = state.faults.front()?;
    let comes = says(message, next.statement) && (writes_batches || !next.of_batch);
    if comes {
        state.faults.pop_front().map(|planned| planned.fault)
    } else {
        None
    }
}

fn hold(shared: &Shared) {
    let mut state = shared.state();
    let releases = state.releases;
    state.holding += 1;
    let _released = shared
        .released
        .wait_while(state, |state| state.releases == releases);
}
