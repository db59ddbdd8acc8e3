//! `adflux doctor`: is everything there, and if not, what to do.

mod restored;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Text;
use reqwest::Url;

use crate::cache::cause::explained;
use crate::cache::redis::try_writing;
use crate::cache::servers::{BadSetting, Servers};
use crate::event::Count;
use crate::kafka::{Cluster, logs, replicas, topic};
use crate::processor::range;
use crate::schema_registry::{self, Client, own};
use crate::shard::Shard;
use crate::store::{self, Limits, Schema, StoreError, periods, positions, states, write};
use crate::time::{Length, rfc3339_seconds};

/// What one check found.
struct Finding {
    what: String,
    /// What is there, or what is wrong and what to do.
    result: Result<String, String>,
}

/// What is checked.
pub struct Settings {
    pub cluster: Cluster,
    pub topic: String,
    pub database_url: String,
    pub redis: Result<Option<Servers>, BadSetting>,
    /// The company's own registry, and what our schemas are called there.
    pub registry: anyhow::Result<Option<(schema_registry::Settings, own::Finding)>>,
    pub listen: SocketAddr,
    /// Of a database that was restored: the consumer group that counts into it.
    pub restored: Option<String>,
}

/// Checks the broker, the topic, the registry, the database, the cache and the port, and prints each; of a database that was
/// restored, what that means too, and gives it an identity of its own. `true` if all is well.
///
/// # Errors
/// When it cannot be printed.
pub fn run(out: &mut impl Write, settings: Settings) -> io::Result<bool> {
    let Settings {
        cluster,
        topic,
        database_url,
        redis: redis_servers,
        registry: registry_set,
        listen,
        restored,
    } = settings;
    let (of_database, shard) = database(&database_url, restored.is_some());
    let (broker, log) = kafka(&cluster, &topic, shard);
    let mut findings = vec![broker, log];
    findings.extend(registry(registry_set));
    findings.extend(of_database);
    findings.push(redis(redis_servers));
    findings.push(port(listen));
    let mut to_look_at = Vec::new();
    if let Some(group) = restored {
        let group = shard.map_or_else(|| group.clone(), |shard| shard.group(&group));
        let restored = restored::check(&cluster, &topic, (&group, shard), &database_url);
        findings.extend(restored.findings);
        to_look_at = restored.to_look_at;
    }
    let named = findings.iter().map(|f| f.what.len());
    let width = named.chain(to_look_at.iter().map(|(what, _)| what.len()));
    let width = width.max().unwrap_or_default();
    for finding in &findings {
        match &finding.result {
            Ok(fine) => writeln!(out, "ok      {:width$}  {fine}", finding.what)?,
            Err(wrong) => writeln!(out, "PROBLEM {:width$}  {wrong}", finding.what)?,
        }
    }
    for (what, why) in &to_look_at {
        writeln!(out, "look    {what:width$}  {why}")?;
    }
    Ok(findings.iter().all(|f| f.result.is_ok()))
}

fn kafka(cluster: &Cluster, topic: &str, shard: Option<Shard>) -> (Finding, Finding) {
    let asked = logs::describe(cluster, topic);
    let broker = Finding {
        what: "Kafka".into(),
        result: match &asked {
            Ok((id, _)) => Ok(format!("{} answers, cluster {id}", cluster.brokers)),
            Err(why) => {
                let otherwise = ". If nothing runs there, start it (docker compose up redpanda) or set KAFKA_BROKERS";
                let otherwise = why.advice.as_ref().map_or(otherwise, |_| "");
                Err(format!("{}: {why}{otherwise}", cluster.brokers))
            }
        },
    };
    let log = Finding {
        what: format!("topic {topic}"),
        result: match asked {
            Ok((_, partitions)) if partitions.is_empty() => Err(
                "does not exist. `adflux simulate` creates it, or create it with your own tools"
                    .into(),
            ),
            // Whoever may not ask how it is set up may be right to use it.
            Ok(_) if topic::is_compacted(cluster, topic).unwrap_or(false) => {
                Err(topic::COMPACTED.into())
            }
            Ok((_, partitions)) => match replicas::missing(cluster, topic) {
                Some(missing) => Err(missing.to_string()),
                None => of_range(topic, partitions.len(), shard),
            },
            Err(_) => Err("unknown: Kafka did not answer".into()),
        },
    };
    (broker, log)
}

/// How many partitions there are, and which of them this database has, if that is one of several.
fn of_range(topic: &str, partitions: usize, shard: Option<Shard>) -> Result<String, String> {
    match shard {
        None => Ok(format!("{partitions} partitions")),
        Some(shard) if shard.of() as usize == partitions => {
            let (first, last) = shard.ends();
            Ok(format!(
                "{partitions} partitions, of which {first} to {last} are counted into this database"
            ))
        }
        Some(shard) => Err(range::divided(topic, partitions, shard).to_string()),
    }
}

/// Whether the registry answers, and under which ids it has our schemas; nothing where there is none.
fn registry(
    set: anyhow::Result<Option<(schema_registry::Settings, own::Finding)>>,
) -> Option<Finding> {
    let result = match set {
        Ok(None) => return None,
        Ok(Some((registry, finding))) => own_schemas(&registry, &finding),
        Err(bad) => Err(format!("{bad:#}")),
    };
    Some(Finding {
        what: "schema registry".into(),
        result,
    })
}

fn own_schemas(
    registry: &schema_registry::Settings,
    finding: &own::Finding,
) -> Result<String, String> {
    let client = Client::new(registry).map_err(|error| format!("{error:#}"))?;
    let mut said = Vec::new();
    let mut advice = "";
    for own in own::schemas(&finding.topic, finding.subjects) {
        let id = client.look_up(&own.subject, own.schema);
        said.push(match id.map_err(|failure| failure.to_string())? {
            Some(id) => format!("{} has id {id}", own.record),
            None => {
                advice = ". Who sends needs that (simulate, import, serve): `adflux schemas register`; a processor does not";
                format!("{} is not registered under {}", own.record, own.subject)
            }
        });
    }
    let servers: Vec<&str> = registry.urls.iter().map(Url::as_str).collect();
    Ok(format!(
        "{} answers; {}{advice}",
        servers.join(", "),
        said.join(", ")
    ))
}

/// What is found of the database, and the range that it has, if it is one of several.
fn database(url: &str, is_restored: bool) -> (Vec<Finding>, Option<Shard>) {
    #[derive(QueryableByName)]
    struct Server {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let shown = store::redact(url);
    let what = || "PostgreSQL".to_owned();
    let mut connection = match store::open(url, Limits::API) {
        Ok(connection) => connection,
        Err(error) => {
            // Where it answers, the error says itself what to do.
            let hint = match error {
                StoreError::Connect(_) => {
                    ". Start it (docker compose up postgres) or set DATABASE_URL"
                }
                _ => "",
            };
            let wrong = format!("{shown}: {error}{hint}");
            let finding = Finding {
                what: what(),
                result: Err(wrong),
            };
            return (vec![finding], None);
        }
    };
    let server: Result<Server, _> =
        diesel::sql_query("SELECT current_setting('server_version') AS version")
            .get_result(&mut connection);
    let result = match server {
        Ok(server) => Ok(format!("{shown} answers, version {}", server.version)),
        Err(error) => Err(format!("{shown}: {error}")),
    };
    let schema = Schema::of(&mut connection).and_then(|schema| {
        schema.is_up_to_date()?;
        Ok(schema.is_newer())
    });
    let schema = match schema {
        Ok(None) => match write::check_rights(&mut connection) {
            Ok(()) => Ok("is there".to_owned()),
            Err(error) => Err(format!(
                "is there, but {error}. A processor needs that (docs/operating.md, Roles); a server does not"
            )),
        },
        Ok(Some(newer)) => Err(newer),
        Err(error) => Err(error.to_string()),
    };
    let schema_is_there = schema.is_ok();
    let mut findings = vec![
        Finding {
            what: what(),
            result,
        },
        Finding {
            what: "schema".into(),
            result: schema,
        },
    ];
    // Whatever else it says of this, such as that it is a standby, is no trouble.
    if let Err(full @ StoreError::Full(_)) = store::check_room(&mut connection) {
        findings.push(Finding {
            what: "room".into(),
            result: Err(format!(
                "{full}. Make room; nothing was lost, and counting goes on by itself"
            )),
        });
    }
    let mut shard = None;
    if schema_is_there {
        match store::shard::read(&mut connection) {
            Ok(range) => shard = range,
            Err(error) => findings.push(Finding {
                what: "range".into(),
                result: Err(format!("cannot be read: {error}")),
            }),
        }
        findings.push(clock(&mut connection));
        let counted = positions(&mut connection, is_restored).unwrap_or_else(|error| {
            vec![Finding {
                what: "positions".into(),
                result: Err(format!("cannot be read: {error}")),
            }]
        });
        findings.extend(counted);
    }
    (findings, shard)
}

/// Whether our clock agrees with the database's.
fn clock(connection: &mut PgConnection) -> Finding {
    let result = match store::skew(connection).map(Length::abs) {
        Ok(skew) if skew > store::SKEW => Err(format!(
            "this machine's and PostgreSQL's differ by {} s: set them right (NTP)",
            skew / Length::SECOND
        )),
        Ok(_) => Ok("this machine's and PostgreSQL's agree".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    Finding {
        what: "clock".into(),
        result,
    }
}

/// How far each partition has come, and those that stand still. That nobody has reported since is no wonder in a backup.
fn positions(connection: &mut PgConnection, is_restored: bool) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    let streams = positions::summary(connection)?;
    if !streams.is_empty() {
        let counted: Count = streams.iter().map(|s| s.events).sum();
        findings.push(Finding {
            what: "positions".into(),
            result: Ok(format!(
                "{} partitions, {counted} events counted",
                streams.len()
            )),
        });
    }
    if let Some(dropped) = periods::dropped(connection)? {
        findings.push(Finding {
            what: "events".into(),
            result: Ok(format!(
                "kept are those counted after {}; of {} before, their sums (adflux retain)",
                rfc3339_seconds(dropped.stored_until),
                dropped.events
            )),
        });
    }
    for skipped in positions::skipped(connection)? {
        findings.push(Finding {
            what: format!("{}[{}]", skipped.topic, skipped.partition),
            result: Ok(format!(
                "{} offsets were given up, the last ones because: {}",
                skipped.offsets, skipped.reason
            )),
        });
    }
    for reported in states::list(connection)? {
        let Some(cause) = &reported.cause else {
            continue;
        };
        if is_restored && cause == states::NOBODY {
            continue;
        }
        findings.push(Finding {
            what: format!("{}[{}]", reported.topic, reported.partition),
            result: Err(format!(
                "{} since {}, says {}: {cause}: {}",
                reported.state,
                rfc3339_seconds(reported.since),
                reported.owner,
                reported.message.as_deref().unwrap_or_default()
            )),
        });
    }
    Ok(findings)
}

fn redis(servers: Result<Option<Servers>, BadSetting>) -> Finding {
    let result = match servers {
        Ok(None) => Ok("none is set (REDIS_URL): each process caches for itself".to_owned()),
        Ok(Some(servers)) => ask_redis(&servers)
            .map_err(|wrong| format!("{wrong}. Insights come from PostgreSQL meanwhile")),
        Err(bad) => Err(bad.to_string()),
    };
    Finding {
        what: "Redis".into(),
        result,
    }
}

/// Whether Redis takes what is written.
fn ask_redis(servers: &Servers) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    match runtime.block_on(try_writing(servers)) {
        Ok(()) => Ok(format!("{servers} takes what is written")),
        Err(error) => Err(format!("{servers}: {}", explained(&error))),
    }
}

fn port(listen: SocketAddr) -> Finding {
    Finding {
        what: format!("port {}", listen.port()),
        result: TcpListener::bind(listen)
            .map(|_| "is free".to_owned())
            .map_err(|error| format!("cannot be listened on ({error}): end what uses it, or choose another with --listen")),
    }
}

/// Asks a server, and says whether it answered with success (a status of 2xx).
///
/// # Errors
/// When the URL is not plain HTTP, or nobody answers.
pub fn answers_with_success(url: &str) -> anyhow::Result<bool> {
    use std::io::{Read, Write};
    use std::net::{TcpStream, ToSocketAddrs};

    const PATIENCE: Duration = Duration::from_secs(3);
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| anyhow::anyhow!("'{url}' does not begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| anyhow::anyhow!("'{host}' has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .map_err(|error| anyhow::anyhow!("nobody answers at {url}: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    // "HTTP/1.1 200": the rest is for others.
    let mut start = [0u8; 12];
    stream.read_exact(&mut start)?;
    Ok(start.get(9) == Some(&b'2'))
}
