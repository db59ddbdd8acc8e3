//! Traces, as a collector takes them that decodes them by OpenTelemetry's own definitions (`otlp_receiver.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};

use adflux::crash;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::process::Process;
use crate::records::{Event, Record};
use crate::roles::ask;
use crate::support::ports::{free_address, free_port};
use crate::support::redis::RedisServer;
use crate::wait::wait_until;
use crate::world::{World, required};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A running collector.
struct Collector {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Collector {
    fn start() -> Collector {
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipeline/otlp_receiver.py");
        let child = Command::new(required("ADFLUX_PYTHON"))
            .arg(script)
            .arg(port.to_string())
            .arg(folder.path().join("spans"))
            .spawn()
            .expect("ADFLUX_PYTHON starts");
        wait_until("the collector listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Collector {
            child,
            port,
            folder,
        }
    }

    /// Has a process tell it.
    fn told_by(&self, command: &mut Command) {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .env("NO_PROXY", "127.0.0.1");
    }

    fn start_process(&self, world: &World, args: &[&str], set: &[(&str, &str)]) -> Process {
        let mut command = world.command("process", args);
        self.told_by(&mut command);
        Process::start(command.envs(set.iter().copied()))
    }

    /// What it was told.
    fn spans(&self) -> Vec<Span> {
        let text = std::fs::read_to_string(self.folder.path().join("spans")).unwrap_or_default();
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .map(|line| Span(serde_json::from_str(line).expect("JSON")))
            .collect()
    }

    /// Waits for so many of a name, and gives all.
    fn wait_for(&self, name: &str, count: usize) -> Spans {
        wait_until(&format!("{count} spans '{name}'"), || {
            self.spans()
                .iter()
                .filter(|span| span.name() == name)
                .count()
                >= count
        });
        Spans(self.spans())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Span(Value);

impl Span {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().expect("text")
    }

    fn name(&self) -> &str {
        self.text("name")
    }

    fn id(&self) -> &str {
        self.text("id")
    }

    fn attribute(&self, name: &str) -> &Value {
        &self.0["attributes"][name]
    }

    fn failed(&self) -> bool {
        self.0["failed"] == true
    }

    fn begun(&self) -> u64 {
        self.0["begun"].as_u64().expect("a time")
    }
}

struct Spans(Vec<Span>);

impl Spans {
    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name() == name).collect()
    }

    /// The only one of a name.
    fn one(&self, name: &str) -> &Span {
        let [one] = self.named(name)[..] else {
            panic!("not one '{name}': {:#?}", self.0);
        };
        one
    }

    fn children(&self, name: &str, of: &Span) -> Vec<&Span> {
        let mut children = self.named(name);
        children.retain(|span| span.text("parent") == of.id());
        children
    }

    /// The writing of a batch that a record was in: its child, or another's that links to it.
    fn write_of(&self, process: &Span) -> &Span {
        let links_to = |write: &Span| {
            let links = write.0["links"].as_array().expect("links");
            links.iter().any(|link| link["id"] == process.id())
        };
        let is_its = |write: &&&Span| write.text("parent") == process.id() || links_to(write);
        let writes = self.named("write");
        let mut its = writes.iter().filter(is_its);
        let (Some(write), None) = (its.next(), its.next()) else {
            panic!("not one batch has {process:?}: {writes:#?}");
        };
        write
    }
}

/// `POST /events`, with a trace context.
fn post(api: &str, traceparent: &str, events: &[&Event]) {
    let event = |event: &&Event| {
        let counts = event.counts;
        let time = chrono::DateTime::from_timestamp_micros(event.time).expect("a time");
        serde_json::json!({
            "event_id": event.id, "campaign_id": event.campaign, "platform": "Google",
            "event_time": time.to_rfc3339(), "impressions": counts.impressions.get(), "clicks": counts.clicks.get(),
            "conversions": counts.conversions.get(), "cost_micros": counts.cost_micros.get(), "revenue_micros": counts.revenue_micros.get(),
        })
    };
    let body: Vec<Value> = events.iter().map(event).collect();
    let sending = async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client.post(format!("http://{api}/events")).json(&body);
        let request = request
            .header("traceparent", traceparent)
            .header("tracestate", "shop=1");
        request.send().await?.error_for_status()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let sent = runtime.expect("a runtime").block_on(sending);
    assert_eq!(sent.expect("it is taken").status(), 202);
}

fn headers(record: &Record) -> BTreeMap<String, String> {
    let text = |value: &Option<Vec<u8>>| {
        String::from_utf8(value.clone().unwrap_or_default()).expect("text")
    };
    record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

fn traced(event: &Event, traceparent: &str) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    Record {
        headers: vec![header("before", "1"), header("traceparent", traceparent)],
        ..event.record()
    }
}

#[test]
fn a_record_is_followed_from_its_request_to_the_cache() {
    let (world, collector, redis) = (
        World::new("traces"),
        Collector::start(),
        RedisServer::start(),
    );
    world.create_topic(1, &[]);
    let api = free_address();
    let mut command = world.command("serve", &["--listen", &api, "--brokers", &world.brokers]);
    collector.told_by(&mut command);
    let serve = Process::start(command.env("OTEL_SERVICE_NAME", "intake"));
    let process = collector.start_process(&world, &["--redis-url", &redis.url()], &[]);
    wait_until("it takes requests", || {
        ask(&api, "GET", "/readyz", "").is_some_and(|ready| ready.starts_with("HTTP/1.1 200"))
    });

    // One that is not sampled, one that is, and with it one that contradicts the first.
    let (first, second) = (Event::of("cmp-1"), Event::of("cmp-1"));
    let contradicting = Event {
        time: first.time + 1,
        ..first.clone()
    };
    post(&api, &format!("00-{OTHER_TRACE}-{PARENT}-00"), &[&first]);
    world.wait_until_counted(1);
    post(
        &api,
        &format!("00-{TRACE}-{PARENT}-01"),
        &[&second, &contradicting],
    );
    world.wait_until_counted(3);
    collector.wait_for("refresh", 1);
    process.terminate().success();
    serve.terminate().success();

    let spans = Spans(collector.spans());
    assert!(
        spans.0.iter().all(|span| span.text("trace") == TRACE),
        "{:#?}",
        spans.0
    );
    assert!(spans.0.iter().all(|span| span.text("state") == "shop=1"));
    let topic = &world.topic;
    let sent = spans.one(&format!("send {topic}"));
    assert_eq!(
        (sent.text("kind"), sent.text("parent")),
        ("producer", PARENT)
    );
    assert_eq!(sent.attribute("messaging.batch.message_count"), 2);
    assert_eq!(sent.0["resource"]["service.name"], "intake");
    assert!(!sent.failed());
    let on_topic = world.read_topic();
    for (record, traceparent) in on_topic.iter().zip([
        None,
        Some(format!("00-{TRACE}-{}-01", sent.id())),
        Some(format!("00-{TRACE}-{}-01", sent.id())),
    ]) {
        let headers = headers(record);
        assert_eq!(headers["tracestate"], "shop=1");
        match traceparent {
            Some(traceparent) => assert_eq!(headers["traceparent"], traceparent),
            // Whoever reads it knows that it is not sampled.
            None => {
                let header = &headers["traceparent"];
                assert!(
                    header.starts_with(&format!("00-{OTHER_TRACE}-")) && header.ends_with("-00"),
                    "{header}"
                );
            }
        }
    }

    let mut records = spans.named(&format!("process {topic}"));
    records.sort_by_key(|span| span.attribute("messaging.kafka.offset").as_i64());
    let [counted, dead] = records[..] else {
        panic!("{:#?}", spans.0);
    };
    for (span, offset) in [(counted, 1), (dead, 2)] {
        assert_eq!(
            (span.text("kind"), span.text("parent")),
            ("consumer", sent.id())
        );
        assert_eq!(span.0["resource"]["service.name"], "adflux");
        for (name, value) in [
            ("messaging.system", Value::from("kafka")),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", topic.as_str().into()),
            ("messaging.destination.partition.id", "0".into()),
            ("messaging.kafka.offset", offset.into()),
            ("messaging.kafka.message.key", "cmp-1".into()),
            ("messaging.consumer.group.name", world.group.as_str().into()),
            ("adflux.partition.epoch", 1.into()),
        ] {
            assert_eq!(*span.attribute(name), value, "{name}");
        }
        assert!(span.attribute("adflux.commit_id").is_i64());
    }
    assert_eq!(
        (counted.failed(), counted.attribute("adflux.outcome")),
        (false, &"committed".into())
    );
    assert_eq!(
        (dead.failed(), dead.attribute("adflux.outcome")),
        (true, &"dead_letter".into())
    );
    assert_eq!(dead.attribute("error.type"), "conflicting_duplicate");
    let reason = adflux::event::Reason::ConflictingDuplicate.to_string();
    assert_eq!(dead.text("status"), reason);

    // Whether the two were in one batch is for the processor to say.
    let writes: BTreeSet<&str> = [counted, dead]
        .map(|record| spans.write_of(record).id())
        .into();
    assert_eq!(writes.len(), spans.named("write").len());
    for write in spans.named("write") {
        let [[settle], [commit]] = ["settle", "commit"]
            .map(|name| <[&Span; 1]>::try_from(spans.children(name, write)).expect("one"));
        assert!(write.begun() <= settle.begun() && settle.begun() <= commit.begun());
        assert!(!write.failed() && !settle.failed() && !commit.failed());
        assert_eq!(write.attribute("db.system.name"), "postgresql");
    }
    let written = spans.write_of(counted);
    let [refresh] = spans.children("refresh", written)[..] else {
        panic!("{:#?}", spans.0);
    };
    assert_eq!((refresh.text("kind"), refresh.failed()), ("client", false));
    assert_eq!(refresh.attribute("db.system.name"), "redis");
    let seen = redis.run("KEYS adflux:*");
    assert!(format!("{seen:?}").contains("cmp-1"), "{seen:?}");
}

#[test]
fn what_is_read_again_has_another_span_and_is_counted_once() {
    let (world, collector) = (World::new("traced-again"), Collector::start());
    world.create_topic(1, &[]);
    world.send(&[traced(
        &Event::of("cmp-1"),
        &format!("00-{TRACE}-{PARENT}-01"),
    )]);
    let point = "before-begin";
    assert!(crash::POINTS.contains(&point));
    let armed = format!("stop:{point}:1");
    let frozen = collector.start_process(&world, &[], &[("ADFLUX_CRASH_POINT", &armed)]);
    let stat = format!("/proc/{}/stat", frozen.pid());
    wait_until("it is frozen", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    let other = collector.start_process(&world, &[], &[]);
    world.wait_until_counted(1);
    let name = format!("process {}", world.topic);
    collector.wait_for(&name, 1);
    frozen.signal(Signal::SIGCONT);
    let spans = collector.wait_for(&name, 2);
    let [second, first] = spans.named(&name)[..] else {
        panic!("{:#?}", spans.0);
    };
    for span in [first, second] {
        assert_eq!((span.text("trace"), span.text("parent")), (TRACE, PARENT));
        assert_eq!(span.attribute("messaging.kafka.offset"), 0);
    }
    let epoch = |span: &Span| span.attribute("adflux.partition.epoch").as_i64();
    assert!(epoch(first) < epoch(second), "{first:?} {second:?}");
    assert_eq!(
        (first.failed(), first.attribute("adflux.outcome")),
        (true, &"given_up".into())
    );
    assert_eq!(
        (second.failed(), second.attribute("adflux.outcome")),
        (false, &"committed".into())
    );
    frozen.terminate().success();
    other.terminate().success();
    assert_eq!(
        (
            world.counted(),
            world.number("SELECT sum(event_count)::bigint AS n FROM event_blocks")
        ),
        (1, 1)
    );
}

#[test]
fn traces_are_begun_as_often_as_it_is_asked() {
    let (world, collector) = (World::new("traced-all"), Collector::start());
    let always = ("OTEL_TRACES_SAMPLER", "parentbased_always_on");
    let mut command = world.command("simulate", &["--count", "20", "--rate", "max"]);
    collector.told_by(&mut command);
    let ledger = Process::start(command.env(always.0, always.1)).ledger();
    // Those of a command that has a trace itself are in it, and those of nobody in none.
    let mut command = world.command(
        "simulate",
        &["--count", "5", "--rate", "max", "--seed", "2"],
    );
    collector.told_by(&mut command);
    let parent = format!("00-{TRACE}-{PARENT}-01");
    Process::start(command.env("TRACEPARENT", &parent))
        .end()
        .success();
    let mut command = world.command(
        "simulate",
        &["--count", "5", "--rate", "max", "--seed", "3"],
    );
    collector.told_by(&mut command);
    Process::start(&mut command).end().success();
    collector
        .start_process(&world, &["--until-end"], &[])
        .end()
        .success();
    world.assert_every_record_once();

    let spans = Spans(collector.spans());
    let (created, processed) = (
        spans.named(&format!("create {}", world.topic)),
        spans.named(&format!("process {}", world.topic)),
    );
    assert_eq!(
        (created.len() as i64, processed.len()),
        (ledger.records, 25)
    );
    let ids: BTreeSet<(&str, &str)> = created
        .iter()
        .map(|span| (span.text("trace"), span.id()))
        .collect();
    let parents = processed
        .iter()
        .map(|span| (span.text("trace"), span.text("parent")));
    let (here, there): (BTreeSet<_>, Vec<_>) = {
        let (here, there): (Vec<_>, Vec<_>) = parents.partition(|parent| ids.contains(parent));
        (here.into_iter().collect(), there)
    };
    assert_eq!(here, ids);
    assert_eq!(there, [(TRACE, PARENT); 5]);
}

/// Also one that takes connections and says nothing, which is worse than one that is not there.
#[test]
fn counting_goes_on_without_a_collector() {
    let (world, hanging) = (
        World::new("untold"),
        TcpListener::bind("127.0.0.1:0").expect("binds"),
    );
    let hanging = hanging.local_addr().map(|at| (at.to_string(), hanging));
    let (hanging, _kept) = hanging.expect("an address");
    let mut sent = Ledger::default();
    for (seed, at) in [free_address(), hanging].into_iter().enumerate() {
        let seed = (seed + 1).to_string();
        sent.add(&world.simulate(&["--count", "3000", "--rate", "max", "--seed", &seed]));
        let mut command = world.command("process", &["--until-end"]);
        command
            .env(
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                format!("http://{at}/v1/traces"),
            )
            .env("OTEL_TRACES_SAMPLER", "always_on")
            .env("NO_PROXY", "127.0.0.1");
        Process::start(&mut command)
            .end()
            .success()
            .says("not taken");
        world.assert_counted(&sent);
    }
}

#[test]
fn settings_that_cannot_be_followed_are_refused() {
    let world = World::new("traced-wrong");
    for (set, said) in [
        (
            vec![("OTEL_TRACES_SAMPLER", "xray")],
            "OTEL_TRACES_SAMPLER=xray",
        ),
        (
            vec![("OTEL_TRACES_SAMPLER", "traceidratio")],
            "OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "http/protobuf only",
        ),
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "::")],
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ] {
        let mut command = world.command("process", &[]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        Process::start(command.envs(set)).end().code(1).says(said);
    }
}
