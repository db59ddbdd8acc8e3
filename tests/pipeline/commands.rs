//! Each command as the documentation has it run: by the role that is named for it, none of them a superuser; and through pgbouncer.

use adflux::store::read::dead_letters::Filter;
use adflux::store::{self, Limits};
use diesel::connection::SimpleConnection as _;
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::roles::{ROLES, User, ask};
use crate::support::ports::free_address;
use crate::support::server::Pooler;
use crate::wait::wait_until;
use crate::world::{World, required, with_database};

/// Who runs a command.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Owner,
    Processor,
    Importer,
}

/// A command that ends by itself, and what follows its name.
type Line = (Role, &'static str, Vec<String>);

fn line(role: Role, command: &'static str, args: &[&str]) -> Line {
    (role, command, args.iter().map(|&arg| arg.into()).collect())
}

/// What they read.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { folder };
        for (name, text) in [
            (
                "report.json",
                r#"{"data": [{"account_id": "55", "account_currency": "USD", "campaign_id": "9", "date_start": "2026-01-20",
                    "date_stop": "2026-01-20", "impressions": "10", "clicks": "3", "spend": "1.5"}]}"#,
            ),
            ("rates.csv", "Date,USD,JPY,\n2026-01-20,1.25,160,\n"),
            (
                "rules.toml",
                "[[rule]]\nname = \"any\"\nwhen = \"clicks > 0 over 1d\"\n",
            ),
        ] {
            std::fs::write(files.folder.path().join(name), text).expect("room");
        }
        files
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("text").to_owned()
    }

    /// Every command that speaks to PostgreSQL, apart from `skip`, which gives up nothing that can be read. `letter` is the place of a
    /// dead letter.
    fn lines(&self, letter: &str) -> Vec<Line> {
        use Role::{Importer, Owner, Processor};
        let (report, rates, rules) = (
            self.path("report.json"),
            self.path("rates.csv"),
            self.path("rules.toml"),
        );
        let import = [
            "--time-zone",
            "UTC",
            "--observed-at",
            "2026-01-22T09:00:00Z",
            &report,
        ];
        vec![
            line(Owner, "migrate", &[]),
            line(Owner, "migrate", &["--drop-replaced"]),
            line(Processor, "process", &["--no-migrate", "--until-end"]),
            line(Owner, "rebuild", &[]),
            line(Owner, "rebuild", &["--as-of", "2026-01-01T00:00:00Z"]),
            line(Owner, "keys", &["create", "somebody"]),
            line(Owner, "keys", &["list"]),
            line(Processor, "verify", &[]),
            line(Processor, "export", &["events"]),
            line(Processor, "export", &["metrics"]),
            line(Processor, "dlq", &["list"]),
            line(Processor, "dlq", &["show", letter]),
            line(Processor, "dlq", &["redrive", "--again"]),
            line(Processor, "alerts", &["list"]),
            line(Processor, "alerts", &["test", "--rules", &rules]),
            line(Processor, "doctor", &["--listen", "127.0.0.1:0"]),
            line(Importer, "import", &import),
            line(Importer, "import", &["list"]),
            line(Importer, "rates", &["import", &rates]),
            line(Importer, "rates", &["show"]),
            line(Importer, "expect", &[]),
        ]
    }
}

fn run(world: &World, url: &str, (_, command, args): &Line) -> Ended {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = world.command(command, &args);
    Process::start(command.env("DATABASE_URL", url)).end()
}

/// Runs them all, each where `url_of` says, and requires that it does its work.
fn all_succeed(world: &World, lines: &[Line], url_of: impl Fn(Role) -> String) {
    for line in lines {
        let ended = run(world, &url_of(line.0), line);
        let said = format!("{}{}", ended.log, ended.stdout);
        assert!(ended.status.success(), "{} {:?}: {said}", line.1, line.2);
        for denied in ["permission denied", "must be owner", "lacks"] {
            assert!(!said.contains(denied), "{} {:?}: {said}", line.1, line.2);
        }
    }
}

fn letter(world: &World) -> String {
    let letters = world.letters(&Filter::default());
    let one = letters.first().expect("a dead letter");
    format!("{}:{}:{}", one.topic, one.partition, one.offset)
}

#[test]
fn each_command_needs_no_more_than_its_role() {
    let server = required("DATABASE_URL");
    // Dropped after its database.
    let owner = User::of(&server, "");
    let world = World::new("commands");
    let create = format!(
        "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0",
        world.database(),
        owner.name
    );
    let mut connection = world.server();
    connection.batch_execute(&create).expect("a database");
    // By someone who may: the owner may not.
    for role in ["adflux_processor", "adflux_api", "adflux_importer"] {
        let create = format!(
            "DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        connection.batch_execute(&create).expect("a role");
    }
    let owning = with_database(&owner.url, world.database());
    let mut migrate = world.command("migrate", &[]);
    Process::start(migrate.env("DATABASE_URL", &owning))
        .end()
        .success();
    let mut connection = store::connect(&owning, Limits::API).expect("a connection");
    connection.batch_execute(ROLES).expect("grants");

    let counting = User::create(&world, "adflux_processor");
    let importing = User::create(&world, "adflux_importer");
    let url_of = |role| match role {
        Role::Owner => owning.clone(),
        Role::Processor => counting.url.clone(),
        Role::Importer => importing.url.clone(),
    };
    world.simulate(&["--count", "1000", "--rate", "max", "--malformed", "1%"]);
    let count = line(Role::Processor, "process", &["--no-migrate", "--until-end"]);
    run(&world, &counting.url, &count).success();
    all_succeed(&world, &Files::new().lines(&letter(&world)), url_of);
}

#[test]
fn through_pgbouncer_each_command_has_a_session_or_is_refused() {
    let world = World::new("pooled");
    world.simulate(&["--count", "1000", "--rate", "max", "--malformed", "1%"]);
    world.process_until_end(&[]).success();
    let files = Files::new();
    let lines = files.lines(&letter(&world));
    let skip = ["--partition", "0", "--from", "0", "--reason", "a test"];
    let serve = ["--listen", "127.0.0.1:0"];

    let pooler = Pooler::start(&world.database_url, "transaction");
    let more = [
        line(Role::Processor, "skip", &skip),
        line(Role::Processor, "serve", &serve),
    ];
    for line in lines.iter().chain(&more) {
        let ended = run(&world, &pooler.url, line).code(1);
        let said = format!("{}{}", ended.log, ended.stdout);
        assert!(
            said.contains("a pool with pool_mode = session"),
            "{} {:?}: {said}",
            line.1,
            line.2
        );
    }
    drop(pooler);

    let pooler = Pooler::start(&world.database_url, "session");
    all_succeed(&world, &lines, |_| pooler.url.clone());
    let api = free_address();
    let mut command = world.command("serve", &["--listen", &api]);
    let server = Process::start(command.env("DATABASE_URL", &pooler.url));
    wait_until("it answers", || {
        ask(&api, "GET", "/insights", "").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    server.terminate().success();
}
