use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::home::UNFINISHED;
use super::process::exists;
use super::*;

/// Set in the process that [`a_killed_parent_leaves_nothing`] kills.
const TO_BE_KILLED: &str = "ADFLUX_TEST_TO_BE_KILLED";

fn start(keep: Option<&Path>) -> Postgres {
    Postgres::start(keep, 0).unwrap()
}

/// Whether a PostgreSQL server answers: to the request for TLS (protocol 3.0, `SSLRequest`), the
/// answer of one without certificates is the letter N.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    answer == *b"N"
}

/// Whether a process still runs. One that ended, but that nobody waited for, does not.
fn runs(pid: u32) -> bool {
    // Of one that was waited for there is no file.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    exists(i32::try_from(pid).unwrap()) && !stat.contains(") Z ")
}

/// For what happens within seconds, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(180);

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let ask = || Ok::<_, io::Error>(condition().then_some(()));
    let holds = within(PATIENCE, POLL, ask).unwrap();
    assert!(holds.is_some(), "not within {PATIENCE:?}: {what}");
}

/// Unique to a cluster: the system identifier, at the start of its control file.
fn identity(home: &Path) -> Vec<u8> {
    fs::read(home.join("postgres/global/pg_control")).unwrap()[..8].to_vec()
}

#[test]
fn a_temporary_server_answers_and_leaves_nothing() {
    let mut postgres = start(None);
    let port = postgres.port();
    let pid = postgres.server.0.id();
    let watcher = postgres._watcher.0.id();
    let home = postgres._temporary.as_ref().unwrap().path().to_owned();
    assert!(postgres.is_running());
    assert!(answers(port));
    assert_eq!(
        postgres.url(),
        format!("postgres://adflux@127.0.0.1:{port}/campaigns")
    );
    assert!(runs(pid) && runs(watcher) && home.exists());

    postgres.stop();
    assert!(!answers(port));
    assert!(!exists(i32::try_from(pid).unwrap()));
    assert!(!exists(i32::try_from(watcher).unwrap()));
    assert!(!home.exists());
}

#[test]
fn a_kept_cluster_is_used_again() {
    let home = tempfile::tempdir().unwrap();
    let first = start(Some(home.path()));
    let identity_at_first = identity(home.path());

    let error = Postgres::start(Some(home.path()), 0).err().unwrap();
    assert!(
        matches!(&error, StartError::InUse { pid, .. } if pid.unsigned_abs() == first.server.0.id()),
        "{error}"
    );
    assert!(
        answers(first.port()),
        "the refused start left the first alone"
    );
    first.stop();

    let second = start(Some(home.path()));
    assert!(answers(second.port()));
    assert_eq!(identity(home.path()), identity_at_first);
}

#[test]
fn a_lock_left_by_a_power_cut_does_not_matter() {
    let home = tempfile::tempdir().unwrap();
    start(Some(home.path())).stop();
    // A number no process has (Linux ends at 2^22, macOS at 99999), and one that another has got.
    for pid in [i32::MAX.unsigned_abs(), std::process::id()] {
        let port = free_port(0).unwrap();
        let lock = format!("{pid}\n\n\n{port}\n\n\n\nready\n");
        fs::write(home.path().join("postgres/postmaster.pid"), lock).unwrap();
        assert!(answers(start(Some(home.path())).port()));
    }
}

#[test]
fn another_port_if_the_wished_one_is_taken() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = other.local_addr().unwrap().port();
    let postgres = Postgres::start(None, taken).unwrap();
    assert_ne!(postgres.port(), taken);
    assert!(answers(postgres.port()));
}

#[test]
fn an_unfinished_cluster_is_made_anew() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(UNFINISHED)).unwrap();
    fs::write(home.path().join(UNFINISHED).join("PG_VERSION"), "15\n").unwrap();
    assert!(answers(start(Some(home.path())).port()));
    assert!(!home.path().join(UNFINISHED).exists());
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("letter.txt"), "dear").unwrap();
    let error = Postgres::start(Some(home.path()), 0).err().unwrap();
    assert!(matches!(error, StartError::NotOurs(_)), "{error}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_cluster_of_another_version_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(CLUSTER)).unwrap();
    fs::write(home.path().join(CLUSTER).join("PG_VERSION"), "9\n").unwrap();
    let error = Postgres::start(Some(home.path()), 0).err().unwrap();
    assert!(
        matches!(&error, StartError::OtherVersion { cluster, .. } if cluster == "9"),
        "{error}"
    );
}

#[test]
fn a_failing_server_shows_its_log() {
    let home = tempfile::tempdir().unwrap();
    start(Some(home.path())).stop();
    let configuration = home.path().join("postgres/postgresql.conf");
    fs::write(&configuration, "no_such_setting = 1\n").unwrap();
    let error = Postgres::start(Some(home.path()), 0).err().unwrap();
    assert!(
        matches!(&error, StartError::Exited { log, .. } if log.contains("no_such_setting")),
        "{error}"
    );
}

#[test]
fn root_runs_it_as_somebody_who_may_enter_the_folder() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let started = Postgres::start(Some(&closed.path().join("inside")), 0);
    if nix::unistd::geteuid().is_root() {
        let error = started.err().unwrap();
        assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
    } else {
        assert!(answers(started.unwrap().port()));
    }
}

#[test]
fn a_killed_parent_leaves_nothing() {
    if env::var_os(TO_BE_KILLED).is_some() {
        let postgres = start(None);
        let home = postgres._temporary.as_ref().unwrap().path();
        println!(
            "\nstarted {} {} {}",
            postgres.server.0.id(),
            postgres._watcher.0.id(),
            home.display()
        );
        // Until it is killed, or nobody is left who could.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    // This very test, in a process of its own.
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("{module}::a_killed_parent_leaves_nothing"))
        .env(TO_BE_KILLED, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(parent.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("started "))
        .unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (server, watcher): (u32, u32) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let home = Path::new(words[3]);
    assert!(runs(server) && runs(watcher) && home.exists());

    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the server ended", || !runs(server));
    eventually("the watcher ended", || !runs(watcher));
    assert!(!home.exists());
}
