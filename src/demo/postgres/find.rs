//! Where PostgreSQL's server programs are. Most systems keep them out of `PATH`, in a folder of
//! their own for each major version.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::store::OLDEST_MAJOR;

/// The variable that names the folder to use, before anything is searched.
pub const BIN_VARIABLE: &str = "ADFLUX_POSTGRES_BIN";

/// Where packages put the programs. A `*` stands for any end of a folder's name.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/lib/postgresql*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A folder that holds `postgres` and `initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub bin: PathBuf,
    pub major: u32,
}

impl Installation {
    fn at(bin: PathBuf) -> Option<Installation> {
        // A relative folder of PATH would mean another place once the server's folder is current.
        if !bin.is_absolute() || !bin.join("initdb").is_file() {
            return None;
        }
        let major = major_of(&output_of(&bin.join("postgres"), "--version")?)?;
        Some(Installation { bin, major })
    }
}

/// There is no server that could be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "no PostgreSQL server ({OLDEST_MAJOR} or newer) found. Looked for `postgres` and `initdb` in: {looked_in}{too_old}
Install it:
  Debian, Ubuntu   apt-get install -y postgresql
  Fedora, RHEL     dnf install -y postgresql-server
  Alpine           apk add postgresql
  macOS            brew install postgresql@17
or set {BIN_VARIABLE} to the folder that holds them."
)]
pub struct NoServer {
    looked_in: String,
    too_old: String,
}

/// Where to look.
pub struct Search<'a> {
    /// The only folder to consider, if somebody named one.
    pub named: Option<PathBuf>,
    /// A list of folders as in the variable `PATH`.
    pub path: OsString,
    /// Further folders, each with at most one `*`.
    pub places: &'a [&'a str],
}

impl Search<'static> {
    /// As this process's environment says.
    pub fn from_env() -> Search<'static> {
        Search {
            named: env::var_os(BIN_VARIABLE)
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from),
            // Without one no folder is searched by it.
            path: env::var_os("PATH").unwrap_or_default(),
            places: USUAL_PLACES,
        }
    }
}

impl Search<'_> {
    /// What there is, best first: what `PATH` leads to, then the newest of the usual places.
    ///
    /// # Errors
    /// [`NoServer`] if nothing usable was found.
    pub fn run(&self) -> Result<Vec<Installation>, NoServer> {
        let found = match &self.named {
            // Not silently something else than what was asked for.
            Some(dir) => absolute(dir)
                .and_then(Installation::at)
                .into_iter()
                .collect(),
            None => self.everywhere(),
        };
        let (usable, old): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|i| i.major >= OLDEST_MAJOR);
        if usable.is_empty() {
            return Err(NoServer {
                looked_in: self.describe(),
                too_old: old
                    .iter()
                    .map(|i| format!("\nToo old: {} (version {})", i.bin.display(), i.major))
                    .collect(),
            });
        }
        Ok(usable)
    }

    fn everywhere(&self) -> Vec<Installation> {
        let in_path: Vec<PathBuf> = env::split_paths(&self.path).collect();
        let told = in_path
            .iter()
            .filter(|dir| dir.is_absolute())
            .find_map(|dir| output_of(&dir.join("pg_config"), "--bindir"))
            .map(|dir| PathBuf::from(dir.trim()));
        let mut found: Vec<Installation> = in_path
            .into_iter()
            .chain(told)
            .filter_map(Installation::at)
            .collect();
        let mut usual: Vec<Installation> = self
            .places
            .iter()
            .flat_map(|place| expand(place))
            .filter_map(Installation::at)
            .collect();
        usual.sort_by_key(|i| Reverse(i.major));
        found.append(&mut usual);
        found
    }

    fn describe(&self) -> String {
        match &self.named {
            Some(dir) => format!("{} ({BIN_VARIABLE})", dir.display()),
            None => format!("PATH, `pg_config --bindir`, {}", self.places.join(", ")),
        }
    }
}

/// The folders that a place with at most one `*` stands for.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else {
        return vec![PathBuf::from(place)];
    };
    let (parent, start_of_name) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(Path::new("/").join(parent)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|n| n.starts_with(start_of_name))
        })
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

fn absolute(dir: &Path) -> Option<PathBuf> {
    std::path::absolute(dir).ok()
}

/// What a program prints, if it can be run and succeeds.
fn output_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian …)`, `18beta1` and the like.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that prints one line. A shell writes it: were it open for writing here, another
    /// test that starts a process at that moment would inherit it and make it "busy" (ETXTBSY).
    fn fake_program(path: &Path, line: &str) {
        let script = "printf '#!/bin/sh\\necho \"%s\"\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let written = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(path)
            .arg(line)
            .status();
        assert!(written.unwrap().success());
    }

    /// A folder with programs that answer like those of a server of this version.
    fn fake(bin: &Path, version: &str) {
        fs::create_dir_all(bin).unwrap();
        for name in ["postgres", "initdb"] {
            fake_program(&bin.join(name), &format!("{name} (PostgreSQL) {version}"));
        }
    }

    fn majors(found: Result<Vec<Installation>, NoServer>) -> Vec<u32> {
        found.unwrap().iter().map(|i| i.major).collect()
    }

    #[test]
    fn reads_the_major_version() {
        let debian = "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n";
        assert_eq!(major_of(debian), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 19devel"), Some(19));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn takes_the_path_first_and_then_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fake(&root.join("path"), "14.2");
        fake(&root.join("pg-9/bin"), "9.6.1");
        fake(&root.join("pg-15/bin"), "15.1");
        fake(&root.join("pg-17/bin"), "17.0");
        fs::create_dir_all(root.join("pg-18/bin")).unwrap();
        let place = format!("{}/pg-*/bin", root.display());
        let mut search = Search {
            named: None,
            path: root.join("path").into(),
            places: &[&place],
        };
        assert_eq!(majors(search.run()), [14, 17, 15]);

        search.named = Some(root.join("pg-15/bin"));
        assert_eq!(majors(search.run()), [15]);

        search.named = Some(root.join("pg-9/bin"));
        let error = search.run().unwrap_err().to_string();
        assert!(error.contains("Too old"), "{error}");
    }

    #[test]
    fn asks_pg_config() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let server = root.join("server");
        fake(&server, "16.3");
        fake_program(&root.join("pg_config"), &server.display().to_string());
        let search = Search {
            named: None,
            path: root.into(),
            places: &[],
        };
        assert_eq!(majors(search.run()), [16]);
    }

    #[test]
    fn says_where_it_looked_and_how_to_install() {
        let nothing = Search {
            named: None,
            path: OsString::new(),
            places: &["/nonexistent/*/bin"],
        };
        let error = nothing.run().unwrap_err().to_string();
        for part in [
            "PATH, `pg_config --bindir`, /nonexistent/*/bin\n",
            "apt-get install -y postgresql",
            BIN_VARIABLE,
        ] {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
        let named = Search {
            named: Some("/nonexistent".into()),
            ..Search::from_env()
        };
        let error = named.run().unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent (ADFLUX_POSTGRES_BIN)"),
            "{error}"
        );
    }
}
