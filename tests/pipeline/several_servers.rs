//! Several servers of one database and one Redis: whichever is asked, the answer is the same, and none is missed while they
//! are replaced one after the other.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::process::Process;
use crate::roles::ask;
use crate::support::balancer::Balancer;
use crate::support::ending::SetAtEnd;
use crate::support::ports::free_address;
use crate::wait::{PATIENCE, wait_for, wait_until};
use crate::world::{World, required};

/// A server, which comes back at the same address.
struct Server<'a> {
    world: &'a World,
    address: String,
    args: &'a [&'a str],
    process: Option<Process>,
}

impl<'a> Server<'a> {
    fn start(world: &'a World, args: &'a [&'a str]) -> Server<'a> {
        let mut server = Server {
            world,
            address: free_address(),
            args,
            process: None,
        };
        server.start_again();
        server
    }

    fn start_again(&mut self) {
        let mut command = self.world.command("serve", &["--listen", &self.address]);
        command
            .args(self.args)
            .args(["--brokers", &self.world.brokers])
            .env("REDIS_URL", required("REDIS_URL"));
        self.process = Some(Process::start(&mut command));
        wait_until("the server is ready", || {
            ask(&self.address, "GET", "/readyz", "").is_some_and(|a| is(&a, 200))
        });
    }

    fn terminate(&mut self) {
        let process = self.process.take().expect("it runs");
        process.terminate().success();
    }

    /// The document at a path.
    fn get(&self, path: &str) -> Value {
        document(&ask(&self.address, "GET", path, "").expect("it answers"))
    }

    /// Has it know Redis, as it does soon after its start: what has been asked for comes from there.
    fn meet_redis(&self, campaign: &str) {
        let path = format!("/campaign/{campaign}/insights");
        wait_until("answers come from Redis", || {
            let answer = ask(&self.address, "GET", &path, "");
            answer.is_some_and(|a| a.contains("x-cache: redis"))
        });
    }

    fn count(&self, event: &str) -> String {
        let answer = ask(&self.address, "POST", "/events", event).expect("it answers");
        assert!(is(&answer, 202), "{answer}");
        let accepted = body(&answer);
        accepted["location"].as_str().expect("a path").to_owned()
    }
}

fn is(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status}"))
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn document(answer: &str) -> Value {
    assert!(is(answer, 200), "{answer}");
    body(answer)
}

fn event(campaign: &str, clicks: i64) -> String {
    let (id, now) = (Uuid::new_v4(), chrono::Utc::now().to_rfc3339());
    format!(
        r#"{{"event_id": "{id}", "campaign_id": "{campaign}", "platform": "Meta", "event_time": "{now}",
            "impressions": {clicks}, "clicks": {clicks}, "conversions": 0, "cost_micros": 0, "revenue_micros": 0}}"#
    )
}

/// The path of the page after this one.
fn next(path: &str, page: &Value) -> Option<String> {
    let cursor = page["paging"]["next_cursor"].as_str()?;
    Some(format!("{path}&cursor={cursor}"))
}

fn rows(page: &Value) -> Vec<Value> {
    page["data"].as_array().expect("rows").clone()
}

/// All rows, each page from the next server.
fn paged(servers: &[&Server<'_>], path: &str) -> Vec<Value> {
    let mut asked = path.to_owned();
    let mut all = Vec::new();
    for server in servers.iter().cycle() {
        let page = server.get(&asked);
        all.extend(rows(&page));
        match next(path, &page) {
            Some(path) => asked = path,
            None => break,
        }
    }
    all
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| row["campaign_id"].as_str().expect("a campaign"))
        .collect()
}

/// A live feed, read line by line.
struct Feed(BufReader<TcpStream>);

impl Feed {
    fn open(address: &str, last_event_id: Option<&str>) -> Feed {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("sets");
        let after = last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /live HTTP/1.1\r\nHost: {address}\r\n{after}\r\n");
        stream.write_all(request.as_bytes()).expect("asks");
        let mut feed = Feed(BufReader::new(stream));
        feed.until("HTTP/1.1 200");
        feed
    }

    /// The first line from here on that has this in it.
    fn until(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            assert!(!line.starts_with("event: reset"), "all is to be asked anew");
            line.clear();
            let n = self.0.read_line(&mut line).expect("it goes on");
            assert!(n > 0, "the feed ended before '{text}'");
        }
        line
    }

    /// Where to go on from: the id of the next round.
    fn id(&mut self) -> String {
        let line = self.until("id: ");
        line.trim_start_matches("id: ").trim_end().to_owned()
    }
}

#[test]
fn any_server_goes_on_where_another_began() {
    let world = World::new("several");
    world.simulate(&[
        "--count",
        "3000",
        "--rate",
        "max",
        "--campaigns",
        "60",
        "--malformed",
        "2%",
    ]);
    let redis = required("REDIS_URL");
    let _processor = world.start_process(&["--redis-url", &redis]);
    world.wait_until_counted(world.log_size());
    let (mut one, mut two) = (Server::start(&world, &[]), Server::start(&world, &[]));
    let all = one.get("/campaigns?limit=500&sort=clicks");
    let all = rows(&all);
    let campaigns = ids(&all);
    let [campaign, .., last] = campaigns.as_slice() else {
        panic!("{campaigns:?}");
    };
    one.meet_redis(campaign);
    two.meet_redis(campaign);

    // What is changed on one is there on the other.
    let rule = r#"{"name": "seen", "when": "impressions > 0 over 1d"}"#;
    let made = ask(&one.address, "POST", "/alerts/rules", rule).expect("it answers");
    assert!(is(&made, 201), "{made}");
    assert_eq!(two.get("/alerts/rules/seen")["name"], "seen");
    wait_until("the processor opens the alerts", || {
        rows(&two.get("/alerts?limit=500")).len() == campaigns.len()
    });
    let tag = |server: &Server<'_>| {
        let answer = ask(
            &server.address,
            "GET",
            &format!("/campaign/{campaign}/insights"),
            "",
        );
        let answer = answer.expect("it answers");
        let tag = answer.lines().find_map(|line| line.strip_prefix("etag: "));
        tag.expect("a tag").to_owned()
    };
    assert_eq!(tag(&one), tag(&two));

    // Pages.
    for path in [
        "/campaigns?limit=7&sort=clicks".to_owned(),
        "/campaigns?limit=11&sort=cost&order=asc&date_preset=last_7d_including_today&compare=previous_period".to_owned(),
        "/dead-letters?limit=5".to_owned(),
        "/alerts?limit=9".to_owned(),
        format!("/campaign/{campaign}/events?limit=7"),
        format!("/insights?breakdown=campaign&campaigns={}&limit=7", campaigns.join(",")),
    ] {
        let of_one = paged(&[&one], &path);
        assert!(of_one.len() > 11, "{path}: {of_one:?}");
        assert_eq!(paged(&[&two, &one], &path), of_one, "{path}");
        assert_eq!(paged(&[&one, &two], &path), of_one, "{path}");
    }

    // A server is replaced while somebody pages there.
    let path = "/campaigns?limit=7&sort=conversions";
    let page = one.get(path);
    let mut found = rows(&page);
    one.terminate();
    one.start_again();
    one.meet_redis(campaign);
    let mut asked = next(path, &page);
    while let Some(at) = asked {
        let page = one.get(&at);
        found.extend(rows(&page));
        asked = next(path, &page);
    }
    assert_eq!(found, paged(&[&two], path));

    // The last becomes the first while somebody pages: every campaign is there once, in the order of the first page.
    let path = "/campaigns?limit=13&sort=clicks";
    let page = one.get(path);
    let mut feeds = [&one, &two].map(|server| Feed::open(&server.address, None));
    let receipt = two.count(&event(last, 1_000_000));
    wait_until("it is counted, as the other server says", || {
        one.get(&receipt)["state"] == "counted"
    });
    let of_last = format!("\"campaign_id\":\"{last}\"");
    for feed in &mut feeds {
        feed.until(&of_last);
    }
    for server in [&one, &two] {
        wait_until("no server answers of before", || {
            let newest = server.get("/campaigns?limit=1&sort=clicks");
            newest["data"][0]["campaign_id"] == *last
        });
    }
    let mut found = rows(&page);
    let mut asked = next(path, &page);
    for server in [&two, &one].into_iter().cycle() {
        let Some(at) = asked else { break };
        let page = server.get(&at);
        found.extend(rows(&page));
        asked = next(path, &page);
    }
    assert_eq!(ids(&found), campaigns);
    assert_eq!(ids(&found).into_iter().collect::<BTreeSet<_>>().len(), 60);

    // Where one feed ended, that of another server goes on.
    let [mut of_one, _] = feeds;
    let id = of_one.id();
    drop(of_one);
    two.count(&event(campaign, 1));
    let mut of_two = Feed::open(&two.address, Some(&id));
    of_two.until(&format!("\"campaign_id\":\"{campaign}\""));
    two.terminate();
}

/// What clients see through balancers.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// Events that were taken in.
    accepted: AtomicUsize,
    /// How often a live feed was opened.
    feeds: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn fail(&self, what: String) {
        self.failures.lock().expect("no panic").push(what);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Asks again and again.
    async fn ask(&self, client: &reqwest::Client, url: &str) {
        while self.goes_on() {
            match client.get(url).send().await {
                Ok(answer) if answer.status() == 200 => match answer.bytes().await {
                    Ok(_) => _ = self.answered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => self.fail(format!("{url}: {error:?}")),
                },
                Ok(answer) => self.fail(format!("{url}: {}", answer.status())),
                Err(error) => self.fail(format!("{url}: {error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends an event, again and again.
    async fn send(&self, client: &reqwest::Client, url: &str) {
        while self.goes_on() {
            let sent = client
                .post(format!("{url}/events"))
                .header("content-type", "application/json")
                .body(event("cmp-rolling", 1))
                .send()
                .await;
            match sent {
                Ok(answer) if answer.status() == 202 => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => self.fail(format!("POST {url}: {}", answer.status())),
                Err(error) => self.fail(format!("POST {url}: {error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Follows the live feed, and comes back when it ends.
    async fn follow(&self, client: &reqwest::Client, url: &str) {
        while self.goes_on() {
            let mut feed = match client.get(format!("{url}/live")).send().await {
                Ok(feed) if feed.status() == 200 => feed,
                other => return self.fail(format!("the live feed of {url}: {other:?}")),
            };
            self.feeds.fetch_add(1, Ordering::Relaxed);
            while self.goes_on() {
                match feed.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return self.fail(format!("the live feed of {url}: {error:?}")),
                }
            }
        }
    }
}

#[test]
fn replacing_servers_one_by_one_fails_no_request() {
    let world = World::new("rolling");
    world.simulate(&["--count", "500", "--rate", "max"]);
    let _processor = world.start_process(&[]);
    world.wait_until_counted(world.log_size());
    let args = &["--shutdown-delay", "5s", "--trusted-proxy", "127.0.0.1"];
    let mut servers = [Server::start(&world, args), Server::start(&world, args)];
    let [one, two] = &servers;
    let addresses = [one.address.clone(), two.address.clone()];
    let [one, two] = &addresses;
    let (haproxy, nginx) = (Balancer::haproxy([one, two]), Balancer::nginx([one, two]));
    let (haproxy_url, nginx_url) = (
        format!("http://{}", haproxy.address),
        format!("http://{}", nginx.address),
    );
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&seen.stop);
        let clients = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let kept = reqwest::Client::new();
            let anew = reqwest::Client::builder().pool_max_idle_per_host(0);
            let anew = anew.build().expect("a client");
            let lists = format!("{haproxy_url}/campaigns?limit=1");
            let sums = format!("{nginx_url}/insights");
            runtime.block_on(async {
                tokio::join!(
                    seen.ask(&kept, &lists),
                    seen.ask(&anew, &lists),
                    seen.ask(&kept, &sums),
                    seen.ask(&anew, &sums),
                    seen.send(&kept, &haproxy_url),
                    seen.follow(&kept, &haproxy_url),
                    seen.follow(&kept, &nginx_url),
                );
            });
        });
        // Both are asked by both balancers, at first and again when they are back.
        let is_asked = |address: &str| {
            wait_until("both balancers ask it", || {
                let metrics = ask(address, "GET", "/metrics", "").unwrap_or_default();
                ["/campaigns", "/insights"].iter().all(|route| {
                    let name = format!(
                        "adflux_http_request_seconds_count{{route=\"{route}\",status=\"200\"}}"
                    );
                    metrics.contains(&name)
                })
            });
        };
        addresses.iter().for_each(|address| is_asked(address));
        for server in &mut servers {
            let before = seen.answered.load(Ordering::Relaxed);
            server.terminate();
            assert!(
                seen.answered.load(Ordering::Relaxed) > before,
                "nobody asked"
            );
            server.start_again();
            is_asked(&server.address);
        }
        let failures = std::mem::take(&mut *seen.failures.lock().expect("no panic"));
        assert!(failures.is_empty(), "{failures:#?}");
        let opened = seen.feeds.load(Ordering::Relaxed);
        assert!(
            opened >= 4,
            "feeds end with their servers, and come back: {opened}"
        );
        // Something for the feeds to say, so that they see that it is over.
        seen.stop.store(true, Ordering::Relaxed);
        wait_until("the clients end", || {
            servers[0].count(&event("cmp-end", 1));
            clients.is_finished()
        });
    });
    let failures = seen.failures.lock().expect("no panic");
    assert!(failures.is_empty(), "{failures:#?}");
    let accepted = seen.accepted.load(Ordering::Relaxed);
    let expected = i64::try_from(accepted).expect("few");
    let counted = "SELECT sum(events) FROM metrics_total WHERE campaign_id = 'cmp-rolling'";
    world.wait_until_all_counted();
    assert_eq!(world.number(counted), expected, "each was counted once");
}

#[test]
fn a_server_that_is_told_to_end_says_so_while_it_answers() {
    let world = World::new("draining");
    world.create_topic(1, &[]);
    // Longer than the test.
    let server = Server::start(&world, &["--shutdown-delay", "1h"]);
    let address = &server.address;
    let process = server.process.as_ref().expect("it runs");
    process.signal(Signal::SIGTERM);
    let ready = wait_for("it is not ready any more", || {
        ask(address, "GET", "/readyz", "").filter(|ready| is(ready, 503))
    });
    assert!(ready.contains("\"stopping\":true"), "{ready}");
    assert!(ready.contains("\"postgresql\":\"ok\""), "{ready}");
    let mut kept = TcpStream::connect(address).expect("it still accepts");
    write!(kept, "GET /insights HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("asks");
    let answer = std::io::read_to_string(kept).expect("it closes the connection");
    assert!(
        is(&answer, 200) && answer.contains("connection: close"),
        "{answer}"
    );
}
