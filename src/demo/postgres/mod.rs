//! A PostgreSQL server of our own, for as long as we run.
//!
//! Started from the server programs that are installed, in a temporary folder or in one that is
//! kept. It listens on 127.0.0.1 only and asks for no password: for trying things out, on a
//! machine whose users trust each other. PostgreSQL refuses to run as root; as root it runs as
//! `postgres` or `nobody`. It ends with us, also when we are killed.
//!
//! The folder holds `postgres/`, the cluster, and `postgres.log`, what the last server said.

mod find;
mod home;
mod process;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::pause::within;

pub use find::NoServer;
use find::{Installation, Search};
use home::{CLUSTER, LOG, LockFile};
use process::{POLL, Server, Surroundings, User, Watcher};

/// The database that [`Postgres::url`] names, and the role that owns the server.
const DATABASE: &str = "campaigns";
const ROLE: &str = "adflux";

/// How long a start may take. A kept cluster may first have to recover from a power cut.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no server. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error(
        "{} was made by PostgreSQL {cluster}, and only {installed} is installed: install PostgreSQL {cluster}, or name another folder",
        .folder.display()
    )]
    OtherVersion {
        folder: PathBuf,
        cluster: String,
        installed: String,
    },
    #[error("{} is not empty and holds no data of ours: name an empty or a new folder", .0.display())]
    NotOurs(PathBuf),
    #[error(
        "process {pid} already runs on {}: end it first (kill -INT {pid}) or name another folder. If {pid} is not a PostgreSQL server, remove {}",
        .cluster.display(), .cluster.join("postmaster.pid").display()
    )]
    InUse { cluster: PathBuf, pid: i32 },
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: create one (useradd --system postgres), or run adflux as another user"
    )]
    NoUser,
    #[error(
        "PostgreSQL refuses to run as root, and {user} may not enter {}: name a folder that everybody can reach (TMPDIR for temporary ones), or run adflux as another user", .folder.display()
    )]
    Unreachable { user: User, folder: PathBuf },
    #[error("initdb could not create a cluster ({status}):\n{output}")]
    Initdb { status: ExitStatus, output: String },
    #[error("PostgreSQL ended while starting ({status}). Its log says:\n{log}")]
    Exited { status: ExitStatus, log: String },
    #[error("PostgreSQL was not ready after {} s. Its log says:\n{log}", READY_WITHIN.as_secs())]
    NotReady { log: String },
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
}

/// For `map_err`: what could not be done.
fn cannot(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    |source| StartError::Io { what, source }
}

/// A running server; dropping it ends it, and removes what was temporary.
pub struct Postgres {
    // Dropped in this order: the server ends, its folder goes, and until then the watcher would
    // do both if we were killed.
    server: Server,
    _temporary: Option<TempDir>,
    _watcher: Watcher,
    port: u16,
    bin: PathBuf,
}

impl Postgres {
    /// Start a server and wait until it answers.
    ///
    /// `keep`: the folder whose data to go on with, created if absent; `None`: a temporary one.
    /// Kept data survives a power cut, temporary data is never synchronised to the disk.
    /// `wished_port`: taken if it is free, else any other; 0 is any.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(keep: Option<&Path>, wished_port: u16) -> Result<Postgres, StartError> {
        let installed = Search::from_env().run()?;
        let (home, temporary) = home::open(keep)?;
        let existing = home::cluster_version(&home)?;
        let Installation { bin, .. } = choose(installed, existing.as_deref(), &home)?;
        let cluster = home.join(CLUSTER);

        let user = match nix::unistd::geteuid().is_root() {
            true => Some(home::user_for(&cluster)?),
            false => None,
        };
        if let (Some(user), None) = (&user, &existing) {
            chown(&home, Some(user.uid), Some(user.gid))
                .map_err(cannot(format!("give {} to {user}", home.display())))?;
        }
        let surroundings = Surroundings {
            user: user.clone(),
            folder: &home,
        };
        let remove = temporary.as_ref().map(|_| home.as_path());
        let mut watcher = Watcher::start(&surroundings, remove).map_err(|source| {
            match (source.kind(), user) {
                // The shell itself is everybody's.
                (io::ErrorKind::PermissionDenied, Some(user)) => StartError::Unreachable {
                    user,
                    folder: home.clone(),
                },
                _ => cannot("run /bin/sh")(source),
            }
        })?;

        let durable = keep.is_some();
        match existing {
            Some(_) => home::await_end_of_another(&cluster)?,
            None => home::create_cluster(&bin, &surroundings, &mut watcher, durable)?,
        }
        let mut attempts_left = 3;
        loop {
            let port = free_port(wished_port).map_err(cannot("find a free port"))?;
            attempts_left -= 1;
            match run_server(&bin, &surroundings, &mut watcher, durable, port) {
                // Another process was faster than the server.
                Err(StartError::Exited { .. }) if attempts_left > 0 && !is_free(port) => {}
                Err(error) => return Err(error),
                Ok(server) => {
                    return Ok(Postgres {
                        server,
                        _temporary: temporary,
                        _watcher: watcher,
                        port,
                        bin,
                    });
                }
            }
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What diesel and psql take as the address of the database `campaigns`, which the caller
    /// creates.
    pub fn url(&self) -> String {
        self.url_for(DATABASE)
    }

    /// The address of another database; `postgres` always exists.
    pub fn url_for(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// The folder of the server's programs, where `psql` may be too.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Whether the server is still there; it does not come back by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.server.exited(), Ok(None))
    }

    /// End the server: in order, and if it does not obey within some seconds, by force.
    pub fn stop(self) {}
}

/// The installation that fits the cluster: a major version reads only its own files.
fn choose(
    installed: Vec<Installation>,
    cluster: Option<&str>,
    folder: &Path,
) -> Result<Installation, StartError> {
    let majors: Vec<String> = installed.iter().map(|i| i.major.to_string()).collect();
    installed
        .into_iter()
        .find(|i| cluster.is_none_or(|version| version == i.major.to_string()))
        .ok_or_else(|| StartError::OtherVersion {
            folder: folder.to_owned(),
            // There is one: without it, whatever is installed would do, and something is.
            cluster: cluster.unwrap_or_default().to_owned(),
            installed: majors.join(", "),
        })
}

/// Start the server and wait until it is ready, or has failed.
fn run_server(
    bin: &Path,
    surroundings: &Surroundings,
    watcher: &mut Watcher,
    durable: bool,
    port: u16,
) -> Result<Server, StartError> {
    let cluster = surroundings.folder.join(CLUSTER);
    let log = surroundings.folder.join(LOG);
    let output = new_log(&log).map_err(cannot(format!("write {}", log.display())))?;
    let errors = output.try_clone().map_err(cannot("share the log"))?;

    let program = bin.join("postgres");
    let mut postgres = surroundings.command(&program);
    postgres.arg("-D").arg(&cluster);
    let port = format!("port={port}");
    let mut settings = vec![
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=100",
        "shared_buffers=128MB",
        "max_wal_size=1GB",
        "autovacuum=on",
        "jit=off",
        "timezone=UTC",
        "log_timezone=UTC",
    ];
    if !durable {
        settings.extend(["fsync=off", "full_page_writes=off"]);
    }
    for setting in settings {
        postgres.args(["-c", setting]);
    }
    let child = postgres
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(cannot(format!("run {}", program.display())))?;
    let mut server = Server(child);
    watcher
        .watch(&server.0)
        .map_err(cannot("watch over PostgreSQL"))?;
    await_ready(&mut server, &cluster, &log)?;
    Ok(server)
}

/// An empty file in place of what is there. Never the file that is there: as root we write in a
/// folder of another user, who could have made it a link to anything.
fn new_log(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

fn await_ready(server: &mut Server, cluster: &Path, log: &Path) -> Result<(), StartError> {
    let log = || match fs::read_to_string(log) {
        Ok(text) => last_lines(&text),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    };
    let pid = server.0.id();
    let is_ours = |lock: &LockFile| u32::try_from(lock.pid) == Ok(pid);
    let ready = within(READY_WITHIN, POLL, || {
        if let Some(status) = server.exited().map_err(cannot("wait for PostgreSQL"))? {
            return Err(StartError::Exited { status, log: log() });
        }
        Ok(LockFile::of(cluster).filter(|lock| is_ours(lock) && lock.status == "ready"))
    })?;
    ready
        .map(drop)
        .ok_or_else(|| StartError::NotReady { log: log() })
}

fn free_port(wished: u16) -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wished))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?
        .local_addr()
        .map(|address| address.port())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The end of a text, where programs say what went wrong.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests;
