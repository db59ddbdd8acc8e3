//! The three processors: the real binary, killed and started again, each behind a proxy of its own
//! before PostgreSQL.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proxy::Proxy;

/// How many processors share the topic.
pub const PROCESSORS: usize = 3;

/// What every process of the laboratory is told.
#[derive(Clone)]
pub struct Settings {
    /// Name and value of environment variables.
    pub env: Vec<(&'static str, String)>,
    pub logs: PathBuf,
}

/// One run of the binary; it does not outlive the laboratory.
pub struct Process {
    child: Child,
    pub log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `adflux ARGS` with nothing set but what `settings` and `env` say; its log is added to
    /// the file of this name.
    pub fn start(
        settings: &Settings,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Process> {
        let log = settings.logs.join(format!("{name}.log"));
        let file = append(&log)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_adflux"));
        command
            .env_clear()
            .args(args)
            .envs(settings.env.iter().map(|(name, value)| (*name, value)))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().context("the binary starts")?;
        Ok(Process {
            child,
            log,
            ended: None,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Whether it is frozen.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(log: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.with_context(|| format!("cannot write {}", log.display()))
}

/// A place for a processor.
pub struct Slot {
    pub process: Process,
    pub proxy: Proxy,
    /// It will end or freeze itself at a crash point, so its end is no surprise.
    pub armed: bool,
}

/// See the module.
pub struct Fleet {
    settings: Settings,
    database_url: String,
    pub slots: Vec<Slot>,
}

impl Fleet {
    /// Starts the processors.
    pub fn start(settings: Settings, database_url: &str) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet {
            settings,
            database_url: database_url.to_owned(),
            slots: Vec::new(),
        };
        for slot in 0..PROCESSORS {
            let proxy = Proxy::before(database_url);
            let process = fleet.launch(slot, &proxy, &[])?;
            fleet.slots.push(Slot {
                process,
                proxy,
                armed: false,
            });
        }
        Ok(fleet)
    }

    /// Starts a processor where one has ended, or ends it first; `env` for this run alone.
    pub fn restart(&mut self, slot: usize, env: &[(&str, &str)]) -> anyhow::Result<()> {
        self.slots[slot].process.kill()?;
        let process = self.launch(slot, &self.slots[slot].proxy, env)?;
        self.slots[slot].process = process;
        self.slots[slot].armed = false;
        Ok(())
    }

    /// As [`Fleet::restart`], with `ADFLUX_CRASH_POINT` set to this.
    pub fn arm(&mut self, slot: usize, crash_point: &str) -> anyhow::Result<()> {
        self.restart(slot, &[("ADFLUX_CRASH_POINT", crash_point)])?;
        self.slots[slot].armed = true;
        Ok(())
    }

    /// A further processor, named `name` in the logs; it goes straight to PostgreSQL.
    pub fn extra(&self, name: &str) -> anyhow::Result<Process> {
        let url = [("DATABASE_URL", self.database_url.as_str())];
        Process::start(&self.settings, name, &["process"], &url)
    }

    /// The slot of the processor with this process id.
    pub fn slot_of(&self, pid: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.process.pid() == pid)
    }

    fn launch(&self, slot: usize, proxy: &Proxy, env: &[(&str, &str)]) -> anyhow::Result<Process> {
        let url = proxy.url(&self.database_url);
        let mut all = vec![("DATABASE_URL", url.as_str())];
        all.extend(env);
        let name = format!("processor-{}", slot + 1);
        Process::start(&self.settings, &name, &["process"], &all)
    }
}
