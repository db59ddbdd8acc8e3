//! The page where a proxy has put it below a path of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};

use crate::browser::Browser;
use crate::site::Site;

const PATH: &str = "/adflux";

/// A proxy that takes [`PATH`] off, and knows nothing outside of it. Ends with the test's process.
struct BelowAPath {
    address: SocketAddr,
    server: Arc<OnceLock<String>>,
}

impl BelowAPath {
    fn start() -> BelowAPath {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address");
        let server = Arc::new(OnceLock::<String>::new());
        let known = Arc::clone(&server);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = known.get().expect("a server").clone();
                std::thread::spawn(move || pass(client, &server));
            }
        });
        BelowAPath { address, server }
    }

    fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }
}

/// One request and its answer.
fn pass(mut client: TcpStream, server: &str) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?;
    let (method, rest) = head.split_once(' ')?;
    let Some(rest) = rest.strip_prefix(PATH).filter(|rest| rest.starts_with('/')) else {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(answer.as_bytes()).ok();
    };
    let (first, rest) = rest.split_once("\r\n")?;
    let kept = rest
        .split("\r\n")
        .filter(|line| !line.to_lowercase().starts_with("connection:"));
    let kept: Vec<&str> = kept.collect();
    let mut upstream = TcpStream::connect(server).ok()?;
    let head = format!(
        "{method} {first}\r\nConnection: close\r\n{}",
        kept.join("\r\n")
    );
    upstream.write_all(head.as_bytes()).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, upstream.try_clone().ok()?);
    std::thread::spawn(move || {
        // The body; and its end, once the client has what it asked for.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut upstream, &mut client);
    client.shutdown(Shutdown::Both).ok()
}

#[test]
fn all_of_it_is_found_there() {
    let proxy = BelowAPath::start();
    let site = Site::with(
        "page_below_a_path",
        |world| world.database_url.clone(),
        &["--public-url", &proxy.url()],
    );
    let server = site.origin.trim_start_matches("http://").to_owned();
    proxy.server.set(server).expect("set once");
    site.some_events();
    let browser = Browser::open(&proxy.url());
    browser.visit_page("/?tz=UTC&range=all");
    browser.until(
        "the campaigns are there",
        "document.querySelectorAll('.board tbody tr').length === 5",
    );
    // Followed: what happens now is told by the feed.
    browser.click(".board tbody a");
    browser.settled();
    browser.until(
        "a campaign is shown",
        "document.querySelector('h1').innerText.startsWith('cmp-')",
    );
    browser.visit_page("/?view=alerts");
    browser.visit_page("/?view=pipeline");
    browser.visit("/docs");
    browser.until(
        "the API is described",
        "document.querySelector('main details')",
    );
    browser.click("#questions button");
    browser.until(
        "a question is answered",
        "[...document.querySelectorAll('[role=status]')].some((s) => s.innerText.startsWith('200'))",
    );
    let curl = browser.value("document.querySelector('main details[open] pre').innerText");
    let curl = curl.as_str().expect("a command");
    assert!(curl.contains(&format!("'{}/", proxy.url())), "{curl}");
    // All that it loaded is below the path.
    browser.end(false);
}
