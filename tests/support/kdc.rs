//! A realm of Kerberos with a KDC of its own, MIT's. It ends with its value.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::ports::free_address;
use super::wait::wait_until;

const REALM: &str = "ADFLUX.TEST";

/// See the module.
pub struct Kdc {
    address: String,
    folder: TempDir,
    /// None while it is away.
    process: Option<Child>,
}

impl Kdc {
    pub fn start() -> Kdc {
        let mut kdc = Kdc {
            address: free_address(),
            folder: tempfile::tempdir().expect("a folder"),
            process: None,
        };
        kdc.write("krb5.conf", &kdc.address.clone());
        // Where a client would look in vain.
        kdc.write("away.conf", &free_address());
        let at = |name: &str| kdc.in_folder(name).display().to_string();
        let settings = format!(
            "[kdcdefaults]\nkdc_listen = {0}\nkdc_tcp_listen = {0}\n
[realms]\n{REALM} = {{\ndatabase_name = {1}\nkey_stash_file = {2}\nacl_file = {3}\n}}\n
[logging]\nkdc = FILE:{4}\n",
            kdc.address,
            at("principals"),
            at("stash"),
            at("acl"),
            at("kdc.log")
        );
        std::fs::write(at("kdc.conf"), settings).expect("written");
        let create = ["create", "-s", "-r", REALM, "-P", "a master password"];
        kdc.run("kdb5_util", &create);
        kdc.start_again();
        kdc
    }

    fn write(&self, name: &str, address: &str) {
        let settings = format!(
            "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
             dns_canonicalize_hostname = false\nrdns = false\nudp_preference_limit = 1\n
[realms]\n{REALM} = {{\nkdc = {address}\n}}\n"
        );
        std::fs::write(self.in_folder(name), settings).expect("written");
    }

    /// Which clients are to have as KRB5_CONFIG.
    pub fn settings(&self) -> PathBuf {
        self.in_folder("krb5.conf")
    }

    /// The same, with a KDC that nobody answers for.
    pub fn settings_of_one_away(&self) -> PathBuf {
        self.in_folder("away.conf")
    }

    /// A new principal with these attributes, as kadmin takes them, and its keytab.
    pub fn add(&self, name: &str, attributes: &str) -> PathBuf {
        self.administer(&format!("addprinc -randkey {attributes} {name}"));
        self.keytab_of(name, &name.replace('/', "-"))
    }

    /// A keytab with a new key of the principal: those before it hold no longer.
    pub fn keytab_of(&self, name: &str, file: &str) -> PathBuf {
        let path = self.in_folder(&format!("{file}.keytab"));
        self.administer(&format!("ktadd -k {} {name}", path.display()));
        path
    }

    /// Has kadmin do something on the KDC's own machine.
    pub fn administer(&self, what: &str) {
        self.run("kadmin.local", &["-r", REALM, "-q", what]);
    }

    /// How many tickets it has given to a principal on account of its key.
    pub fn logins(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(self.in_folder("kdc.log"));
        let log = log.unwrap_or_default();
        let client = format!(" {name}@{REALM} for krbtgt/");
        let issued = |line: &&str| line.contains("AS_REQ") && line.contains("ISSUE");
        let lines = log.lines().filter(issued);
        lines.filter(|line| line.contains(&client)).count()
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    pub fn start_again(&mut self) {
        let process = self.command("krb5kdc", &["-n", "-r", REALM]).spawn();
        self.process = Some(process.expect("krb5kdc runs"));
        wait_until("the KDC listens", || {
            TcpStream::connect(&self.address).is_ok()
        });
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ended = self
            .command(program, arguments)
            .stderr(Stdio::piped())
            .output();
        let ended =
            ended.unwrap_or_else(|error| panic!("{program}: {error}: see `make test-logins`"));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{program} {arguments:?}: {said}");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            // Where Debian has them.
            .env("PATH", format!("{path}:/usr/sbin"))
            .env("KRB5_CONFIG", self.settings())
            .env("KRB5_KDC_PROFILE", self.in_folder("kdc.conf"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn in_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
