//! PostgreSQL servers of a test's own, and what may stand before one. All end with their value.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::certificates::{Authority, Issued};
use super::ports::free_port;
use super::wait::wait_until;

const GERMAN: &str = "de_DE.UTF-8";

/// A server with user and password adflux.
pub struct Server {
    folder: TempDir,
    pub url: String,
}

/// A folder that PostgreSQL can get to, which may run as another user.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
    folder
}

/// One that the user may write to that PostgreSQL runs as.
fn writable_folder() -> TempDir {
    let folder = open_folder();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("ours");
    folder
}

impl Server {
    pub fn start() -> Server {
        Server::start_after(|_| {})
    }

    /// One whose folder holds what it needs, where `prepare` puts it.
    pub fn start_after(prepare: impl FnOnce(&Path)) -> Server {
        let folder = open_folder();
        prepare(folder.path());
        let mut server = Server {
            url: String::new(),
            folder,
        };
        server.services(&["up"]);
        let env = std::fs::read_to_string(server.services_folder().join("env")).expect("it is up");
        server.url = env
            .lines()
            .find_map(|line| line.strip_prefix("export DATABASE_URL="))
            .expect("it has a URL")
            .to_owned();
        server
    }

    /// One that speaks German: its language is a setting of the whole server.
    pub fn german() -> Server {
        let german = Server::start_after(make_german);
        let set = format!("ALTER SYSTEM SET lc_messages = '{GERMAN}'");
        german.connect().batch_execute(&set).expect("it is ours");
        german.stop();
        german.start_again();
        let asked = german.connect().batch_execute("SELECT 1 FROM nowhere");
        let words = asked.expect_err("there is no such table").to_string();
        assert!(words.contains("existiert nicht"), "not German: {words}");
        german
    }

    fn services_folder(&self) -> PathBuf {
        self.folder.path().join("services")
    }

    fn data(&self) -> PathBuf {
        self.services_folder().join("postgres/data")
    }

    /// Runs `scripts/services`, for PostgreSQL alone: the others are used as given, and not at all.
    fn script(&self, args: &[&str]) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let status = Command::new(script)
            .args(args)
            .arg("--dir")
            .arg(self.services_folder())
            .env_remove("DATABASE_URL")
            .env("KAFKA_BROKERS", "127.0.0.1:1")
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("LOCPATH", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        status.expect("the script runs").success()
    }

    fn services(&self, args: &[&str]) {
        assert!(self.script(args), "scripts/services {args:?}");
    }

    /// Ends the server and keeps its data.
    pub fn stop(&self) {
        self.end(Signal::SIGINT);
    }

    /// Ends it as a power cut does.
    pub fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&self, signal: Signal) {
        let pid = std::fs::read_to_string(self.services_folder().join("postgres.pid"));
        let pid = pid.expect("it runs").trim().parse().expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it is ours");
        while self.script(&["status"]) {}
    }

    /// From now on it speaks TLS with this certificate, and lets in who `rules` (as in pg_hba.conf) say, by certificates of this
    /// authority.
    pub fn speak_tls(&self, issued: &Issued, authority: &Authority, rules: &str) {
        let data = self.data();
        let authority = authority.file();
        for (file, name) in [
            (&issued.certificate_file, "server.crt"),
            (&issued.key_file, "server.key"),
            (&authority, "clients.pem"),
        ] {
            // Its own, which it insists on for the key.
            let copied = unprivileged(Path::new("install"))
                .args(["-m", "600"])
                .args([file, &data.join(name)])
                .status();
            assert!(copied.expect("it runs").success(), "{name} is not copied");
        }
        let rules = format!("{rules}\nhost all adflux all scram-sha-256\n");
        std::fs::write(data.join("pg_hba.conf"), rules).expect("written");
        let mut connection = self.connect();
        for set in [
            "ALTER SYSTEM SET ssl_ca_file = 'clients.pem'",
            "ALTER SYSTEM SET ssl = on",
        ] {
            connection.batch_execute(set).expect("it is ours");
        }
        self.reload();
        wait_until("it speaks TLS", || {
            PgConnection::establish(&format!("{}?sslmode=require", self.url)).is_ok()
        });
    }

    /// From now on it acknowledges no commit that no standby has.
    pub fn wait_for_standby(&self) {
        let set = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        self.connect().batch_execute(set).expect("it is ours");
        self.reload();
        let synchronous = sql_query(
            "SELECT count(*) AS number FROM pg_stat_replication WHERE sync_state = 'sync'",
        );
        wait_until("the standby is synchronous", || {
            let row: Number = synchronous
                .clone()
                .get_result(&mut self.connect())
                .expect("a row");
            row.number == 1
        });
    }

    fn reload(&self) {
        let reload = "SELECT pg_reload_conf()";
        self.connect().batch_execute(reload).expect("it is ours");
    }

    /// The address, host:port.
    pub fn address(&self) -> &str {
        address_of(&self.url)
    }

    /// Keeps a copy of the disk of a server that was stopped.
    pub fn keep_disk(&self) {
        self.copy("data", "kept");
    }

    /// Puts that copy in the place of the disk.
    pub fn put_disk_back(&self) {
        let data = self.services_folder().join("postgres/data");
        std::fs::remove_dir_all(data).expect("it is stopped");
        self.copy("kept", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let folder = self.services_folder().join("postgres");
        let copied = unprivileged(Path::new("cp"))
            .arg("-a")
            .args([folder.join(from), folder.join(to)])
            .status();
        assert!(copied.expect("it runs").success(), "the disk is not copied");
    }

    pub fn start_again(&self) {
        self.services(&["start", "postgres"]);
    }

    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).expect("it answers")
    }

    pub fn url_of(&self, database: &str) -> String {
        with_database(&self.url, database)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.services(&["down"]);
    }
}

/// Makes the language known below `folder`, whether or not this machine has it.
fn make_german(folder: &Path) {
    if cfg!(target_os = "linux") {
        let made = Command::new("localedef")
            .args(["-i", "de_DE", "-f", "UTF-8", "--no-archive"])
            .arg(folder.join(GERMAN))
            .status()
            .expect("localedef is installed (scripts/prerequisites test)");
        assert!(made.success(), "localedef: {made}");
    }
}

/// A program of PostgreSQL's.
pub fn program(name: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres-bin");
    let found = Command::new(script).output().expect("the script runs");
    let folder = String::from_utf8(found.stdout).expect("a path");
    let mut command = unprivileged(&Path::new(folder.trim()).join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A program that does not run as root, which may own no data of PostgreSQL and be no pooler.
fn unprivileged(program: &Path) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

fn with_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a database");
    format!("{server}/{database}")
}

fn address_of(url: &str) -> &str {
    let (_, place) = url.rsplit_once('@').expect("a user");
    place.split_once('/').expect("a database").0
}

fn with_port(url: &str, port: u16) -> String {
    let (user, place) = url.rsplit_once('@').expect("a user");
    let (_, database) = place.split_once('/').expect("a database");
    format!("{user}@127.0.0.1:{port}/{database}")
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A hot standby of a server.
pub struct Standby {
    folder: TempDir,
    pub url: String,
}

impl Standby {
    /// Of a primary that nobody is connected to yet: it is stopped for as long as its data is copied.
    pub fn of(primary: &Server) -> Standby {
        let standby = Standby {
            folder: writable_folder(),
            url: with_port(&primary.url, free_port()),
        };
        // pg_basebackup is not among a server's programs.
        primary.stop();
        let follow = format!(
            "cp -R \"$0/.\" \"$1\" && chmod 700 \"$1\" && : >\"$1/standby.signal\" && \
             echo \"primary_conninfo = '{}'\" >>\"$1/postgresql.auto.conf\"",
            primary.url
        );
        let copied = unprivileged(Path::new("sh"))
            .args(["-c", &follow])
            .args([&primary.data(), &standby.data()])
            .status();
        assert!(copied.expect("it runs").success(), "no copy of the primary");
        primary.start_again();
        standby.start();
        standby
    }

    /// A copy of a server that goes on, not started yet.
    fn copied(server: &Server) -> Standby {
        let standby = Standby {
            folder: writable_folder(),
            url: with_port(&server.url, free_port()),
        };
        let copied = program("pg_basebackup")
            .args(["--checkpoint=fast", "--dbname", &server.url])
            .arg("--pgdata")
            .arg(standby.data())
            .status();
        assert!(copied.expect("it runs").success(), "no copy of the server");
        standby
    }

    fn start(&self) {
        let (_, port) = address_of(&self.url).rsplit_once(':').expect("a port");
        self.control(&["start", "--wait", "--options", &format!("-p {port}")]);
    }

    pub fn url_of(&self, database: &str) -> String {
        with_database(&self.url, database)
    }

    /// Where it and its primary are, of whom whichever takes writes is meant.
    pub fn pair(&self, primary: &Server) -> String {
        let ours = address_of(&self.url);
        let both = format!("{},{ours}", primary.address());
        let url = primary.url.replace(primary.address(), &both);
        format!("{url}?target_session_attrs=read-write")
    }

    /// Waits until it has all that the primary has committed by now.
    pub fn catch_up(&self, primary: &Server) {
        let number = |connection: &mut PgConnection, position: &str| {
            let asked = format!("SELECT ({position} - '0/0')::bigint AS number");
            let row: Number = sql_query(asked).get_result(connection).expect("a row");
            row.number
        };
        let written = number(&mut primary.connect(), "pg_current_wal_lsn()");
        let mut connection = self.connect();
        wait_until("the standby has it all", || {
            number(&mut connection, "pg_last_wal_replay_lsn()") >= written
        });
    }

    /// From now on what the primary commits does not come here.
    pub fn lag(&self) {
        self.connect()
            .batch_execute("ALTER SYSTEM SET primary_conninfo = ''")
            .expect("it is ours");
        self.control(&["reload"]);
        let receiving = sql_query("SELECT count(*) AS number FROM pg_stat_wal_receiver");
        wait_until("nothing is received any more", || {
            let row: Number = receiving
                .clone()
                .get_result(&mut self.connect())
                .expect("a row");
            row.number == 0
        });
    }

    /// Makes it the primary.
    pub fn promote(&self) {
        self.control(&["promote", "--wait"]);
    }

    fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).expect("it answers")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn control(&self, args: &[&str]) {
        let done = program("pg_ctl")
            .args(args)
            .arg("--pgdata")
            .arg(self.data())
            .arg("--log")
            .arg(self.folder.path().join("log"))
            .status();
        assert!(done.expect("it runs").success(), "pg_ctl {args:?}");
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // A copy may never have been started.
        if self.data().join("postmaster.pid").exists() {
            self.control(&["stop", "--mode=immediate"]);
        }
    }
}

/// What a server can be recovered from: a copy of it, and the WAL that it has archived since.
pub struct Backup {
    /// Not started yet.
    copy: Standby,
    archive: TempDir,
}

impl Backup {
    /// Has the server archive its WAL from now on, and copies it.
    pub fn of(server: &Server) -> Backup {
        let archive = writable_folder();
        let mut connection = server.connect();
        for set in [
            "ALTER SYSTEM SET archive_mode = 'on'",
            &format!(
                "ALTER SYSTEM SET archive_command = 'cp %p {}/%f'",
                archive.path().display()
            ),
        ] {
            connection.batch_execute(set).expect("it is ours");
        }
        drop(connection);
        server.stop();
        server.start_again();
        Backup {
            copy: Standby::copied(server),
            archive,
        }
    }

    /// Has the server archive what it has written.
    pub fn archive(&self, server: &Server) {
        let mut connection = server.connect();
        let switched: Name = sql_query("SELECT pg_walfile_name(pg_switch_wal()) AS name")
            .get_result(&mut connection)
            .expect("it is ours");
        wait_until("the WAL is archived", || {
            self.archive.path().join(&switched.name).exists()
        });
    }

    /// A server as it was at a restore point, which takes writes.
    pub fn recover(self, restore_point: &str) -> Standby {
        let settings = format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_name = '{restore_point}'\n\
             recovery_target_action = 'promote'\narchive_mode = 'off'\n",
            self.archive.path().display()
        );
        let file = self.copy.data().join("postgresql.auto.conf");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(file)
            .expect("it is there");
        std::io::Write::write_all(&mut file, settings.as_bytes()).expect("written");
        std::fs::write(self.copy.data().join("recovery.signal"), "").expect("written");
        self.copy.start();
        let recovering = sql_query("SELECT count(*) AS number WHERE pg_is_in_recovery()");
        wait_until("it is recovered", || {
            let asked = PgConnection::establish(&self.copy.url);
            asked.is_ok_and(|mut connection| {
                let row: QueryResult<Number> = recovering.clone().get_result(&mut connection);
                row.is_ok_and(|row| row.number == 0)
            })
        });
        self.copy
    }
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// pgbouncer before a server.
pub struct Pooler {
    // Before its folder goes.
    child: Child,
    _folder: TempDir,
    pub url: String,
}

impl Pooler {
    /// One whose pools are of this mode.
    pub fn start(server: &str, mode: &str) -> Pooler {
        let port = free_port();
        let folder = open_folder();
        let (_, place) = server.rsplit_once('@').expect("a user");
        let (address, _) = place.split_once('/').expect("a database");
        let (host, server_port) = address.split_once(':').expect("a port");
        let settings = format!(
            "[databases]\n* = host={host} port={server_port} user=adflux password=adflux\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).expect("written");
        let child = unprivileged(Path::new("pgbouncer"))
            .arg("--quiet")
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed (scripts/prerequisites test)");
        let pooler = Pooler {
            child,
            _folder: folder,
            url: with_port(server, port),
        };
        wait_until("pgbouncer answers", || {
            PgConnection::establish(&pooler.url).is_ok()
        });
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Through runuser, which hands it on.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
