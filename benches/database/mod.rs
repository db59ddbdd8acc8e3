//! A database of a benchmark's own, on the server that `DATABASE_URL` names.

use adflux::store::{self, Limits};
use diesel::PgConnection;
use diesel::connection::SimpleConnection;

/// What the environment says of a service; without it there is nothing to measure against.
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        eprintln!(
            "{variable} is not set. `make bench` starts the services and sets it; to use your own, set it and run again"
        );
        std::process::exit(2);
    })
}

/// A migrated database; dropped with this value.
pub struct Database {
    server: String,
    name: String,
    pub url: String,
}

impl Database {
    /// Creates `adflux_bench_{name}_{process id}`.
    pub fn create(name: &str) -> Database {
        let server = service("DATABASE_URL");
        let name = format!("adflux_bench_{name}_{}", std::process::id());
        let (address, query) = match server.split_once('?') {
            Some((address, query)) => (address, format!("?{query}")),
            None => (server.as_str(), String::new()),
        };
        let (address, _) = address
            .rsplit_once('/')
            .expect("DATABASE_URL names a database");
        let url = format!("{address}/{name}{query}");
        store::migrate(&url).expect("the database can be created");
        Database { server, name, url }
    }

    pub fn connect(&self) -> PgConnection {
        store::connect(&self.url, Limits::MAINTENANCE).expect("PostgreSQL answers")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = store::connect(&self.server, Limits::MAINTENANCE).and_then(|mut server| {
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            Ok(server.batch_execute(&drop)?)
        });
        if let Err(error) = dropped {
            eprintln!("database {} was left behind: {error}", self.name);
        }
    }
}
