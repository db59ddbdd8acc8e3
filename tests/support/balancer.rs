//! Balancers before servers, configured as `docs/operating.md` says. All end with their value.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::ports::free_address;
use super::wait::wait_until;

const OPERATING: &str = include_str!("../../docs/operating.md");

/// What is to be copied from the section on several servers, for servers at these addresses and a balancer at its own.
fn documented(language: &str, listens: (&str, String), servers: [&str; 2]) -> String {
    let (_, section) = OPERATING
        .split_once("\n## Several servers\n")
        .expect("a section");
    let (_, block) = section
        .split_once(&format!("```{language}\n"))
        .expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let mut text = block.to_owned();
    let theirs = ["10.0.1.11:8080", "10.0.1.12:8080"];
    let addresses = theirs
        .into_iter()
        .zip(servers.map(str::to_owned))
        .chain([listens]);
    for (documented, ours) in addresses {
        assert!(text.contains(documented), "{language}: {documented}");
        text = text.replace(documented, &ours);
    }
    text
}

/// See the module.
pub struct Balancer {
    child: Child,
    pub address: String,
    _folder: TempDir,
}

impl Balancer {
    pub fn haproxy(servers: [&str; 2]) -> Balancer {
        let address = free_address();
        let listens = (":443 ssl crt /etc/haproxy/adflux.pem", address.clone());
        let text = documented("haproxy", listens, servers);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("haproxy");
        // In the foreground, and without a line for each server that comes and goes.
        command.args(["-db", "-q", "-f"]).arg(file);
        Balancer::start(command, address, folder)
    }

    pub fn nginx(servers: [&str; 2]) -> Balancer {
        let address = free_address();
        let listens = ("443 ssl", address.clone());
        let text = documented("nginx", listens, servers);
        let plain = text
            .lines()
            .filter(|line| !line.contains("ssl_certificate"));
        let plain: Vec<&str> = plain.collect();
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().display();
        let files = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"));
        let user = if nix::unistd::geteuid().is_root() {
            "user root;\n"
        } else {
            ""
        };
        let text = format!(
            "{user}daemon off;\npid {place}/pid;\nerror_log stderr crit;\nevents {{}}\n\
             http {{\naccess_log off;\n{}{}\n}}\n",
            files.concat(),
            plain.join("\n")
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c"]).arg(file);
        Balancer::start(command, address, folder)
    }

    fn start(mut command: Command, address: String, folder: TempDir) -> Balancer {
        // Where Debian has what only administrators run.
        let path = std::env::var("PATH").unwrap_or_default();
        let child = command
            .env("PATH", format!("{path}:/usr/sbin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it is installed (scripts/prerequisites test)");
        let balancer = Balancer {
            child,
            address,
            _folder: folder,
        };
        wait_until("the balancer listens", || {
            TcpStream::connect(&balancer.address).is_ok()
        });
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Its workers end with it.
        let pid = i32::try_from(self.child.id()).expect("a pid is an i32");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
