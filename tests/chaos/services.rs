//! Kafka, PostgreSQL and Redis of the laboratory's own, each of which it may kill and start again.
//!
//! `scripts/services` starts them, in a folder and on ports that nobody else uses. Kafka and Redis are
//! reached through one proxy each, PostgreSQL through one a processor (see `fleet`), so that links
//! can fail as well; the laboratory itself and the server go straight there. PostgreSQL's data is on a
//! small tmpfs where one may be mounted, so that its disk can be filled.

use std::collections::HashMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proxy::Proxy;
use crate::wait::wait_until;

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Kafka,
    Postgres,
    Redis,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Kafka => "kafka",
            Service::Postgres => "postgres",
            Service::Redis => "redis",
        }
    }
}

/// How large PostgreSQL's disk is.
const DISK: &str = "4g";

/// See the module. All of it is gone when dropped.
pub struct Services {
    folder: PathBuf,
    settings: HashMap<String, String>,
    pub kafka_proxy: Proxy,
    pub redis_proxy: Proxy,
    /// Where PostgreSQL's disk is mounted, or why it could not be.
    disk: Result<PathBuf, String>,
}

impl Services {
    /// Starts them in `folder`, which must not exist.
    pub fn start_all(folder: &Path) -> anyhow::Result<Services> {
        std::fs::create_dir_all(folder)?;
        // PostgreSQL may run as another user, who has to get to its data.
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let mut services = Services {
            folder: folder.to_owned(),
            settings: HashMap::new(),
            kafka_proxy: Proxy::of_bytes(),
            redis_proxy: Proxy::of_bytes(),
            disk: mount_disk(folder),
        };
        let proxy = services.kafka_proxy.address().to_string();
        let mut args = vec!["up".to_owned(), "--kafka-proxy".to_owned(), proxy];
        if let Ok(disk) = &services.disk {
            args.push("--postgres-data".to_owned());
            args.push(disk.join("postgres").to_string_lossy().into_owned());
        }
        services.script(&args)?;
        let env = std::fs::read_to_string(services.folder().join("env"))?;
        for line in env.lines() {
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|setting| setting.split_once('='))
            {
                services.settings.insert(name.to_owned(), value.to_owned());
            }
        }
        let address = |text: &str| -> anyhow::Result<SocketAddr> {
            text.parse()
                .with_context(|| format!("not an address: {text}"))
        };
        let behind = address(services.setting("KAFKA_BEHIND_PROXY")?)?;
        services.kafka_proxy.leads_to(behind);
        let redis = services.setting("REDIS_URL")?.replace("redis://", "");
        services.redis_proxy.leads_to(address(&redis)?);
        Ok(services)
    }

    /// One of KAFKA_BROKERS, DATABASE_URL, REDIS_URL, without a proxy.
    pub fn setting(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.settings.get(name);
        value
            .map(String::as_str)
            .with_context(|| format!("scripts/services did not set {name}"))
    }

    /// Where PostgreSQL's disk is mounted, or why it could not be.
    pub fn disk(&self) -> Result<&Path, &str> {
        self.disk.as_deref().map_err(String::as_str)
    }

    /// The process of a service; PostgreSQL's is the one that starts all others.
    pub fn pid(&self, service: Service) -> anyhow::Result<Pid> {
        let file = self.folder().join(format!("{}.pid", service.name()));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Pid::from_raw(text.trim().parse()?))
    }

    /// Sends a signal to a service.
    pub fn signal(&self, service: Service, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid(service)?;
        kill(pid, signal).with_context(|| format!("{} ({pid})", service.name()))
    }

    /// Ends a service with all its processes as a power cut does, and waits until they are gone.
    pub fn kill(&self, service: Service) -> anyhow::Result<()> {
        let pid = self.pid(service)?;
        let mut all = children(pid)?;
        // Without its parent, a child would end by itself, only later.
        all.insert(0, pid);
        for &process in &all {
            // A child may be gone by now.
            let _ = kill(process, Signal::SIGKILL);
        }
        wait_until(Duration::from_secs(20), "the service is gone", || {
            Ok(all.iter().all(|&process| !is_alive(process)))
        })
    }

    /// Starts a service that was killed, where it was, and waits until it answers.
    pub fn start(&self, service: Service) -> anyhow::Result<()> {
        self.script(&["start".to_owned(), service.name().to_owned()])
    }

    /// Where they keep what is theirs.
    pub fn folder(&self) -> PathBuf {
        self.folder.join("services")
    }

    fn script(&self, args: &[String]) -> anyhow::Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let output = Command::new(script)
            .args(args)
            .arg("--dir")
            .arg(self.folder())
            .env_remove("KAFKA_BROKERS")
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdin(Stdio::null())
            // Not pipes: the services inherit them, and they would never end.
            .stdout(std::fs::File::create(self.folder.join("script.out"))?)
            .stderr(std::fs::File::create(self.folder.join("script.err"))?)
            .status()?;
        if !output.success() {
            let said = std::fs::read_to_string(self.folder.join("script.err"))?;
            bail!("scripts/services {} failed: {said}", args.join(" "));
        }
        Ok(())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // A frozen service hears of its end only when it goes on.
        for service in [Service::Kafka, Service::Postgres, Service::Redis] {
            let _ = self.signal(service, Signal::SIGCONT);
        }
        if let Err(error) = self.script(&["down".to_owned()]) {
            eprintln!("{error:#}");
        }
        if let Ok(disk) = &self.disk {
            let unmounted = Command::new("umount").arg(disk).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{} remains mounted", disk.display());
            }
        }
    }
}

fn mount_disk(folder: &Path) -> Result<PathBuf, String> {
    let disk = folder.join("disk");
    let mounted = (|| {
        std::fs::create_dir(&disk)?;
        let size = format!("size={DISK},mode=755");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "adflux-chaos"])
            .arg(&disk)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        anyhow::Ok(())
    })();
    match mounted {
        Ok(()) => Ok(disk),
        Err(error) => Err(format!("no tmpfs could be mounted: {error:#}")),
    }
}

fn children(parent: Pid) -> anyhow::Result<Vec<Pid>> {
    let output = Command::new("pgrep")
        .args(["-P", &parent.to_string()])
        .output()
        .context("pgrep is needed (package procps)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect())
}

fn is_alive(pid: Pid) -> bool {
    // Who started it may not have waited for it yet: it is over all the same.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    match state {
        Ok(stat) => !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => kill(pid, None).is_ok(),
    }
}
