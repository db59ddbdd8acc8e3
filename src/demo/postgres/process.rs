//! The processes around a server: which user they run as, and that none of them outlives us.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, fmt};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, Pid};

use crate::pause::within;

/// How often a condition is looked at while it is awaited.
pub const POLL: Duration = Duration::from_millis(10);

/// The order in which a server is asked to end, and how long each request may take: a fast
/// shutdown (which writes what is in memory), an immediate one, and no choice.
const SHUTDOWN: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(20)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Ends what we started when we can no longer do it ourselves.
///
/// Its input is a pipe that only we hold, so the input ends when we do, however we do. The last
/// number read is the process group to end (a server's own children leave its group, and follow
/// it by themselves). The argument is a folder to remove then, or empty.
/// Some systems know only whole seconds in `sleep`.
const WATCHER: &str = r#"
group=
while read -r line; do group=$line; done
for signal in INT QUIT KILL; do
    [ -n "$group" ] && kill -s "$signal" -- "-$group" || break
    tries=0
    while kill -s 0 -- "-$group" && [ "$tries" -lt 200 ]; do
        tries=$((tries + 1))
        sleep 0.1 || sleep 1
    done
done
[ -z "$1" ] || rm -rf -- "$1"
"#;

/// Whom the server's processes run as, if not as ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match unistd::User::from_uid(self.uid.into()) {
            Ok(Some(user)) => write!(f, "{}", user.name),
            _ => write!(f, "uid {}", self.uid),
        }
    }
}

impl User {
    /// The user meant for this (`postgres`, which the packages make) or for nothing (`nobody`).
    pub fn unprivileged() -> Option<User> {
        ["postgres", "_postgres", "nobody"].iter().find_map(|name| {
            let user = unistd::User::from_name(name).ok()??;
            Some(User {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
        })
    }
}

/// How to run the server's programs: as whom, and in which folder.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// `None`: as ourselves.
    pub user: Option<User>,
    pub folder: &'a Path,
}

impl Surroundings<'_> {
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // The current folder may be one that the user cannot enter. The group keeps a Ctrl-C in
        // the terminal from ending the server before we are done with it.
        command
            .current_dir(self.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .env("LC_ALL", "C");
        // PGDATA, PGPORT and their like are meant for somebody's other server.
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some(user) = &self.user {
            // As root, this also drops root's supplementary groups (see `CommandExt::uid`).
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

/// See [`WATCHER`]. Dropping it lets go of what it watched.
pub struct Watcher(pub Child);

impl Watcher {
    /// `remove`: the folder to remove after us, absolute.
    pub fn start(surroundings: &Surroundings, remove: Option<&Path>) -> io::Result<Watcher> {
        surroundings
            .command("/bin/sh")
            .args(["-c", WATCHER, "adflux-watcher"])
            .arg(remove.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Watcher)
    }

    /// Watch this process group, and no longer the one before.
    pub fn watch(&mut self, child: &Child) -> io::Result<()> {
        match &mut self.0.stdin {
            Some(pipe) => writeln!(pipe, "{}", child.id()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Killed before its input ends, so that it does nothing. It cannot have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server's process. Dropping it ends it.
pub struct Server(pub Child);

impl Server {
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.0.id()) else {
            return;
        };
        for (signal, limit) in SHUTDOWN {
            // Never a stranger's process: until it was waited for, the number stays taken.
            if matches!(self.exited(), Ok(None)) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            if !matches!(within(limit, POLL, || self.exited()), Ok(None)) {
                return;
            }
            log::warn!("PostgreSQL (process {pid}) did not end {limit:?} after {signal}");
        }
    }
}

/// Whether there is such a process, and we may end it: any for root, else one of ours.
pub fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}
