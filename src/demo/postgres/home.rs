//! The folder that holds the cluster: whose it is, what is in it already, and who uses it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::pause::within;

use super::process::{POLL, Surroundings, User, Watcher, exists};
use super::{ROLE, StartError, cannot, is_free, last_lines};

pub const CLUSTER: &str = "postgres";
pub const LOG: &str = "postgres.log";
/// A cluster gets its name only once it is complete.
pub const UNFINISHED: &str = "postgres.unfinished";

/// How long to wait for the server before us, if it is already ending.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

/// The folder to use, absolute; and what removes it, if it is temporary.
pub fn open(keep: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), StartError> {
    let (folder, temporary) = match keep {
        Some(folder) => (folder.to_owned(), None),
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("adflux-demo-")
                .tempdir()
                .map_err(cannot("create a temporary folder (see TMPDIR)"))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let home = fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .map_err(cannot(format!("create the folder {}", folder.display())))?;
    Ok((home, temporary))
}

/// The major version of the cluster in `home`, if there is one.
pub fn cluster_version(home: &Path) -> Result<Option<String>, StartError> {
    let file = home.join(CLUSTER).join("PG_VERSION");
    match fs::read_to_string(&file) {
        Ok(text) => return Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let whose =
                "does it belong to another user? Run adflux as that user, or name another folder";
            return Err(cannot(format!("read {} ({whose})", file.display()))(error));
        }
    }
    // Our own leftovers of a start that failed are no reason to stop.
    let entries = fs::read_dir(home).map_err(cannot(format!("read {}", home.display())))?;
    let foreign = entries
        .flatten()
        .any(|entry| entry.file_name() != LOG && entry.file_name() != UNFINISHED);
    if foreign {
        return Err(StartError::NotOurs(home.to_owned()));
    }
    Ok(None)
}

/// Whom root runs the server as: the owner of the cluster, whoever made it, since PostgreSQL
/// accepts no other.
pub fn user_for(cluster: &Path) -> Result<User, StartError> {
    match fs::metadata(cluster) {
        Ok(owner) if owner.uid() != 0 => Ok(User {
            uid: owner.uid(),
            gid: owner.gid(),
        }),
        _ => User::unprivileged().ok_or(StartError::NoUser),
    }
}

/// A new, empty cluster.
pub fn create_cluster(
    bin: &Path,
    surroundings: &Surroundings,
    watcher: &mut Watcher,
    durable: bool,
) -> Result<(), StartError> {
    let unfinished = surroundings.folder.join(UNFINISHED);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(cannot(format!("remove {}", unfinished.display()))(error));
        }
        _ => {}
    }
    let program = bin.join("initdb");
    let mut initdb = surroundings.command(&program);
    initdb
        .args(["--auth=trust", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--username={ROLE}"))
        .arg("--pgdata")
        .arg(&unfinished)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if !durable {
        initdb.arg("--no-sync");
    }
    let child = initdb
        .spawn()
        .map_err(cannot(format!("run {}", program.display())))?;
    let watched = watcher.watch(&child);
    let output = child
        .wait_with_output()
        .map_err(cannot("wait for initdb"))?;
    watched.map_err(cannot("watch over initdb"))?;
    if !output.status.success() {
        return Err(StartError::Initdb {
            status: output.status,
            output: last_lines(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    fs::rename(&unfinished, surroundings.folder.join(CLUSTER))
        .map_err(cannot(format!("rename {}", unfinished.display())))
}

/// Another server on the cluster is an error, unless it is ending: that of a run which was killed
/// a moment ago is.
pub fn await_end_of_another(cluster: &Path) -> Result<(), StartError> {
    let ended = within(ENDED_WITHIN, POLL, || {
        match LockFile::of(cluster).filter(|lock| exists(lock.pid)) {
            Some(lock) if lock.status == "stopping" => Ok(None),
            Some(lock) if lock.status == "ready" && !is_free(lock.port) => Err(StartError::InUse {
                cluster: cluster.to_owned(),
                pid: lock.pid,
            }),
            // Most likely a file that a power cut left behind, and a number that another process
            // has got since. PostgreSQL looks closer, and refuses if we are wrong.
            _ => Ok(Some(())),
        }
    });
    ended.map(drop)
}

/// What a server writes into its `postmaster.pid`; PostgreSQL's `pidfile.h` lists the lines.
pub struct LockFile {
    pub pid: i32,
    pub port: u16,
    /// `starting`, `ready`, `stopping`.
    pub status: String,
}

impl LockFile {
    /// `None` if there is none, or none that is complete.
    pub fn of(cluster: &Path) -> Option<LockFile> {
        let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(LockFile {
            pid: lines.first()?.parse().ok()?,
            port: lines.get(3)?.parse().ok()?,
            status: (*lines.get(7)?).to_owned(),
        })
    }
}
