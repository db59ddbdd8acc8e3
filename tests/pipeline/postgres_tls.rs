//! A PostgreSQL that is reached over TLS, by certificates of both sides, and by what libpq reads from elsewhere.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use adflux::database::Database;
use adflux::store::{self, Limits};
use diesel::connection::SimpleConnection as _;
use tempfile::TempDir;

use crate::process::Process;
use crate::roles::ask;
use crate::support::certificates::{Authority, Issued, NOW};
use crate::support::ports::free_address;
use crate::support::server::Server;
use crate::wait::{wait_for, wait_until};
use crate::world::World;

const LAST_WEEK: std::ops::Range<i64> = -8..-1;

/// A server, and who may enter it how.
struct Secured {
    server: Server,
    folder: TempDir,
    ours: Authority,
    client: Issued,
}

/// `certified` comes by a certificate, `adflux` by a password, and nobody without TLS.
const RULES: &str = "hostssl all certified all cert\nhostssl all adflux all scram-sha-256\nhost all certified all reject";

impl Secured {
    fn start() -> Secured {
        let server = Server::start();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
        let ours = Authority::new("ours", folder.path());
        let issued = ours.issue("server", "127.0.0.1", NOW);
        let create = "CREATE ROLE certified LOGIN CREATEDB";
        server.connect().batch_execute(create).expect("a user");
        server.speak_tls(&issued, &ours, RULES);
        let client = client(&ours, "certified", NOW);
        Secured {
            server,
            folder,
            ours,
            client,
        }
    }

    /// The URL of a database for `user`, with settings behind it.
    fn url(&self, user: &str, database: &str, settings: &[(&str, &Path)]) -> String {
        let address = self.server.address();
        let mut url = format!("postgres://{user}@{address}/{database}?sslmode=verify-full");
        for (name, value) in settings {
            url.push_str(&format!("&{name}={}", value.display()));
        }
        url
    }

    fn certified(&self, database: &str) -> String {
        let settings = [
            ("sslrootcert", &*self.ours.file()),
            ("sslcert", &self.client.certificate_file),
            ("sslkey", &self.client.key_file),
        ];
        self.url("certified", database, &settings)
    }
}

/// A certificate for somebody; libpq wants its key to be nobody else's.
fn client(authority: &Authority, name: &str, days: std::ops::Range<i64>) -> Issued {
    let issued = authority.issue(name, "127.0.0.1", days);
    std::fs::set_permissions(&issued.key_file, Permissions::from_mode(0o600)).expect("ours");
    issued
}

#[test]
fn each_command_works_over_tls_however_it_is_told() {
    let secured = Secured::start();
    let world = World::on("tls", secured.certified("campaigns"));
    let sent = world.simulate(&["--count", "500", "--rate", "max"]);
    let (host, port) = secured.server.address().split_once(':').expect("a port");
    let (root, certificate, key) = (
        secured.ours.file().display().to_string(),
        secured.client.certificate_file.display().to_string(),
        secured.client.key_file.display().to_string(),
    );

    // As a URL.
    let migrated = Process::start(&mut world.command("migrate", &[])).end();
    migrated.success();
    // As keywords.
    let mut command = world.command("process", &["--until-end"]);
    let keywords = format!(
        "host={host} port={port} dbname={} user=certified sslmode=verify-full sslrootcert='{root}' sslcert={certificate} \
         sslkey={key}",
        world.database()
    );
    command.env("DATABASE_URL", keywords);
    Process::start(&mut command).end().success();
    world.assert_counted(&sent);
    // By the environment.
    let address = free_address();
    let mut command = world.command("serve", &["--listen", &address]);
    command
        .env("DATABASE_URL", format!("postgres:///{}", world.database()))
        .envs([("PGHOST", host), ("PGPORT", port), ("PGUSER", "certified")])
        .envs([("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &root)])
        .envs([("PGSSLCERT", &certificate), ("PGSSLKEY", &key)]);
    let server = Process::start(&mut command);
    let answer = wait_for("an answer", || ask(&address, "GET", "/insights", ""));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.terminate().success();
    // By a service, with the password in a file of its own.
    let service = secured.folder.path().join("services");
    let passwords = secured.folder.path().join("passwords");
    let named = format!(
        "[campaigns]\nhost={host}\nport={port}\ndbname={}\nuser=adflux\nsslmode=verify-full\nsslrootcert={root}\n",
        world.database()
    );
    std::fs::write(&service, named).expect("written");
    std::fs::write(&passwords, format!("{host}:{port}:*:adflux:adflux\n")).expect("written");
    std::fs::set_permissions(&passwords, Permissions::from_mode(0o600)).expect("ours");
    let mut command = world.command("doctor", &["--listen", "127.0.0.1:0"]);
    command
        .env("DATABASE_URL", "service=campaigns")
        .env("PGSERVICEFILE", &service)
        .env("PGPASSFILE", &passwords);
    let found = Process::start(&mut command).end().success().stdout;
    assert!(found.contains("500 events counted"), "{found}");

    a_question_nobody_waits_for_is_cancelled(&world);
}

fn a_question_nobody_waits_for_is_cancelled(world: &World) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let database = Database::new(&world.database_url, 1);
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let permit = permits.try_acquire_owned().expect("a permit");
    let asking = runtime.spawn(async move {
        let asked = database.read_long(permit, |connection| {
            Ok(connection.batch_execute("SET statement_timeout = 0; SELECT pg_sleep(600)")?)
        });
        asked.await
    });
    let is_asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' \
                    AND pid <> pg_backend_pid()";
    wait_until("it is asked", || world.number(is_asked) == 1);
    asking.abort();
    wait_until("it is cancelled", || world.number(is_asked) == 0);
}

#[test]
fn what_is_wrong_is_said_with_what_to_set() {
    let secured = Secured::start();
    let others = Authority::new("others", secured.folder.path());
    let (ours, theirs) = (secured.ours.file(), others.file());
    let expired = client(&secured.ours, "expired", LAST_WEEK);
    let foreign = client(&others, "foreign", NOW);
    let certified = |issued: &Issued| {
        let settings = [
            ("sslrootcert", &*ours),
            ("sslcert", &issued.certificate_file),
            ("sslkey", &issued.key_file),
        ];
        secured.url("certified", "campaigns", &settings)
    };
    let nowhere = secured.folder.path().join("nowhere.pem");
    let by_ca = |ca: &Path| secured.url("adflux:adflux", "campaigns", &[("sslrootcert", ca)]);
    let other_name = by_ca(&ours).replace("127.0.0.1", "localhost");
    let plain = "postgres://certified@127.0.0.1:5432/campaigns?sslmode=disable";
    let (_, port) = secured.server.address().split_once(':').expect("a port");
    for (url, advice) in [
        (
            by_ca(&theirs),
            "set sslrootcert (PGSSLROOTCERT) to the certificate of the CA",
        ),
        (
            by_ca(&nowhere),
            "set sslrootcert (PGSSLROOTCERT) to the file",
        ),
        (
            other_name,
            "connect by a name that the server's certificate has",
        ),
        (certified(&expired), "renew the client certificate"),
        (
            certified(&foreign),
            "set sslcert (PGSSLCERT) to a certificate of a CA that the server knows",
        ),
        (
            secured.url("certified", "campaigns", &[("sslrootcert", &ours)]),
            "set sslcert and sslkey",
        ),
        (
            by_ca(&ours).replace("adflux:adflux", "adflux:wrong"),
            "correct user and password",
        ),
        (
            by_ca(&ours).replace("adflux:adflux", "adflux"),
            "put the password into DATABASE_URL, or into a file",
        ),
        (
            by_ca(&ours).replace("adflux:adflux", "stranger:wrong"),
            "pg_hba.conf",
        ),
        (plain.replace("5432", port), "pg_hba.conf"),
    ] {
        let refused = store::connect(&url, Limits::API)
            .map(drop)
            .expect_err(&url)
            .to_string();
        assert!(refused.contains(advice), "{url}: {refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    // A processor says it at once, and goes on when it is set right.
    let world = World::on("refused", secured.server.url.clone());
    world.simulate(&["--count", "10", "--rate", "max"]);
    let mut command = world.command("process", &[]);
    let (expired, valid) = (certified(&expired), certified(&secured.client));
    command.env(
        "DATABASE_URL",
        expired.replace("campaigns", world.database()),
    );
    let mut process = Process::start(&mut command);
    process.wait_for_log("renew the client certificate");
    process.wait_for_log("retrying until");
    let file = |url: &str, name: &str| {
        let (_, rest) = url.split_once(&format!("{name}=")).expect("a setting");
        rest.split('&').next().expect("a path").to_owned()
    };
    for name in ["sslkey", "sslcert"] {
        std::fs::copy(file(&valid, name), file(&expired, name)).expect("renewed");
    }
    world.wait_until_counted(10);
    process.terminate().success();
}
