//! Which Redis there is: one server, the master that Sentinels name, or a Cluster.
//!
//! Behind a `Connection` the three are alike. After a failure it is thrown away and made anew. Then the Sentinels are
//! asked anew, or the name service, for a name may stand for another server now: so a master that was demoted is left. In a
//! Cluster the client follows slots that move.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncCommands as _, AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo,
    ErrorKind, IntoConnectionInfo as _, Pipeline, RedisError, RedisFuture, RedisResult, Script,
    TlsCertificates, Value,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::tls::TlsFiles;

/// How long connecting to a server, or an answer of it, may take. Who asks for insights does not wait so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a Sentinel may take before the next one is asked.
const SENTINEL_PATIENCE: Duration = Duration::from_millis(500);
/// The ports of those that are given without one.
const SENTINEL_PORT: u16 = 26_379;
const PORT: u16 = 6_379;

/// Settings with which Redis cannot be used. Says nothing of what is in the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    #[error(
        "REDIS_URL {0}; it is of the form redis://user:password@host:port/number, \
         redis+sentinel://user:password@host:port,host:port/service/number or \
         redis+cluster://user:password@host:port,host:port, and with TLS it begins with rediss. In a password, write @ as \
         %40, / as %2F, : as %3A and # as %23"
    )]
    Url(&'static str),
    #[error("{setting}: '{}' {why}", path.display())]
    File {
        setting: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("REDIS_CERTIFICATE_FILE and REDIS_KEY_FILE go together: set both or neither")]
    HalfAnIdentity,
    #[error(
        "REDIS_CA_FILE and REDIS_CERTIFICATE_FILE are for TLS, which REDIS_URL does not ask for: begin it with rediss"
    )]
    NoTls,
    #[error(
        "REDIS_CA_FILE and REDIS_CERTIFICATE_FILE are not for a Cluster: add the authority to the system's, or name its \
         file in SSL_CERT_FILE"
    )]
    ClusterFiles,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Servers(Arc<Kind>);

enum Kind {
    One(Client),
    Sentinels(Sentinels),
    Cluster {
        cluster: Box<ClusterClient>,
        /// Those that were given, each alone.
        nodes: Vec<Client>,
    },
}

impl Servers {
    /// The servers at this URL, which need not be there.
    ///
    /// # Errors
    /// When the URL or a file cannot be used.
    pub fn open(url: &str, files: &TlsFiles) -> Result<Servers, BadSetting> {
        let unreadable = |_| BadSetting::Url("cannot be read");
        let no_scheme = BadSetting::Url("does not begin with redis://");
        let (scheme, rest) = url.split_once("://").ok_or(no_scheme.clone())?;
        let tls = files.read()?;
        if tls.is_some() && !scheme.starts_with("rediss") {
            return Err(BadSetting::NoTls);
        }
        let kind = match scheme {
            "redis" | "rediss" | "redis+unix" | "unix" => {
                let server = url.into_connection_info().map_err(unreadable)?;
                Kind::One(client(server, tls.as_ref()).map_err(unreadable)?)
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let several = Several::of(rest);
                let (service, number) = several.path.split_once('/').unwrap_or((several.path, ""));
                if service.is_empty() {
                    return Err(BadSetting::Url("names no service of the Sentinels"));
                }
                Kind::Sentinels(Sentinels {
                    given: several
                        .servers(scheme, SENTINEL_PORT, number)
                        .map_err(unreadable)?,
                    service: service.to_owned(),
                    tls,
                })
            }
            "redis+cluster" | "rediss+cluster" => {
                if tls.is_some() {
                    return Err(BadSetting::ClusterFiles);
                }
                let several = Several::of(rest);
                if !several.path.is_empty() {
                    return Err(BadSetting::Url(
                        "has a number, which a Cluster does not have",
                    ));
                }
                let given = several.servers(scheme, PORT, "").map_err(unreadable)?;
                let nodes = given.iter().map(|node| client(node.clone(), None));
                Kind::Cluster {
                    nodes: nodes.collect::<Result<_, _>>().map_err(unreadable)?,
                    cluster: Box::new(ClusterClient::new(given).map_err(unreadable)?),
                }
            }
            _ => return Err(no_scheme),
        };
        Ok(Servers(Arc::new(kind)))
    }

    /// A connection to them.
    ///
    /// # Errors
    /// When they are not there, or do not let us in.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        match &*self.0 {
            Kind::One(client) => connect(client).await.map(Connection::One),
            Kind::Sentinels(sentinels) => {
                sentinels.master().await.map(|(_, connection)| connection)
            }
            Kind::Cluster { cluster, .. } => {
                let config = ClusterConfig::new()
                    .set_connection_timeout(PATIENCE)
                    .set_response_timeout(PATIENCE);
                let connection = cluster.get_async_connection_with_config(config).await?;
                Ok(Connection::Cluster(connection))
            }
        }
    }

    /// A connection that hears what is said on a channel. In a Cluster every node tells every other one what it is told.
    ///
    /// # Errors
    /// As [`Servers::connect`].
    pub(super) async fn subscribe(&self, channel: &str) -> RedisResult<PubSub> {
        match &*self.0 {
            Kind::One(client) => subscribe(client, channel).await,
            Kind::Sentinels(sentinels) => subscribe(&sentinels.master().await?.0, channel).await,
            Kind::Cluster { nodes, .. } => {
                let mut subscribed = Err(nobody());
                for node in nodes {
                    subscribed = subscribe(node, channel).await;
                    if subscribed.is_ok() {
                        break;
                    }
                }
                subscribed
            }
        }
    }
}

/// Where they are, without the password.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |info: &ConnectionInfo| info.addr().to_string();
        let list = |all: Vec<String>| all.join(", ");
        match &*self.0 {
            Kind::One(client) => {
                let server = client.get_connection_info();
                let has_tls = matches!(server.addr(), ConnectionAddr::TcpTls { .. });
                let scheme = if has_tls { "rediss" } else { "redis" };
                write!(f, "{scheme}://{}", address(server))
            }
            Kind::Sentinels(Sentinels { given, service, .. }) => {
                let given = list(given.iter().map(address).collect());
                write!(f, "the master '{service}' of the Sentinels {given}")
            }
            Kind::Cluster { nodes, .. } => {
                let nodes = nodes.iter().map(|n| address(n.get_connection_info()));
                write!(f, "the Cluster of {}", list(nodes.collect()))
            }
        }
    }
}

/// What stands behind `://` when there are several servers.
struct Several<'a> {
    /// With its `@`.
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
}

impl Several<'_> {
    fn of(rest: &str) -> Several<'_> {
        let user = rest.rfind('@').and_then(|at| rest.get(..=at));
        let user = user.unwrap_or_default();
        let rest = rest.strip_prefix(user).unwrap_or(rest);
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Several { user, hosts, path }
    }

    fn servers(&self, scheme: &str, port: u16, number: &str) -> RedisResult<Vec<ConnectionInfo>> {
        let scheme = scheme.split('+').next().unwrap_or(scheme);
        let server = |host: &str| {
            // The colons of an IPv6 address are between brackets.
            let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
            let port = if behind.contains(':') {
                String::new()
            } else {
                format!(":{port}")
            };
            let url = format!("{scheme}://{}{host}{port}/{number}", self.user);
            url.into_connection_info()
        };
        self.hosts.split(',').map(server).collect()
    }
}

/// Those that know where the master is.
struct Sentinels {
    /// As they were given, with the user, the password and the number of the master.
    given: Vec<ConnectionInfo>,
    service: String,
    tls: Option<TlsCertificates>,
}

impl Sentinels {
    /// The master, and a connection to it, from the first Sentinel that names one which is it.
    async fn master(&self) -> RedisResult<(Client, Connection)> {
        let mut found = Err(nobody());
        for sentinel in &self.given {
            found = self.master_of(sentinel).await;
            if found.is_ok() {
                break;
            }
        }
        found
    }

    async fn master_of(&self, sentinel: &ConnectionInfo) -> RedisResult<(Client, Connection)> {
        let asked = timeout(SENTINEL_PATIENCE, self.ask(sentinel)).await;
        let (host, port) = asked.map_err(|_| slow("a Sentinel does not answer"))??;
        let address = match sentinel.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: None,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        let client = client(sentinel.clone().set_addr(address), self.tls.as_ref())?;
        let mut connection = connect(&client).await?;
        // A Sentinel that was away for a while still names the one before.
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        if role.first() != Some(&Value::BulkString(b"master".to_vec())) {
            let error = (
                ErrorKind::Client,
                "a Sentinel names a server that is not the master",
            );
            return Err(error.into());
        }
        Ok((client, Connection::One(connection)))
    }

    /// Where the master is. Most Sentinels want no password, and refuse one; those that do want that of the master.
    async fn ask(&self, sentinel: &ConnectionInfo) -> RedisResult<(String, u16)> {
        let user = sentinel.redis_settings().clone().set_db(0);
        let mut named = self
            .ask_as(sentinel, redis::RedisConnectionInfo::default())
            .await;
        if named
            .as_ref()
            .is_err_and(|error| error.code() == Some("NOAUTH"))
        {
            named = self.ask_as(sentinel, user).await;
        }
        named?.ok_or_else(|| {
            let unknown = "the Sentinels know no service of the name in REDIS_URL";
            (ErrorKind::MasterNameNotFoundBySentinel, unknown).into()
        })
    }

    async fn ask_as(
        &self,
        sentinel: &ConnectionInfo,
        user: redis::RedisConnectionInfo,
    ) -> RedisResult<Option<(String, u16)>> {
        let sentinel = sentinel.clone().set_redis_settings(user);
        let mut sentinel = connect(&client(sentinel, self.tls.as_ref())?).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        ask.query_async(&mut sentinel).await
    }
}

/// A connection to whatever there is. Cheap to clone: all clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The key of a run of a script, and its arguments.
pub(super) type Run = (String, (i64, String, u64));

impl Connection {
    /// Runs a script once for each key, and then says something on a channel. Gives what the script answered, in any order.
    ///
    /// # Errors
    /// When one of it does not succeed.
    pub(super) async fn run_and_tell(
        &mut self,
        script: &Arc<Script>,
        runs: Vec<Run>,
        channel: String,
        message: String,
    ) -> RedisResult<Vec<i64>> {
        match self {
            Connection::One(connection) => {
                let mut pipeline = redis::pipe();
                pipeline.load_script(script).ignore();
                for (key, arguments) in runs {
                    pipeline.invoke_script(script.key(key).arg(arguments));
                }
                pipeline.publish(channel, message).ignore();
                pipeline.query_async(connection).await
            }
            // Each key is where its slot is.
            Connection::Cluster(connection) => {
                script.load_async(connection).await?;
                let mut running = JoinSet::new();
                for (key, arguments) in runs {
                    let (script, mut connection) = (Arc::clone(script), connection.clone());
                    running.spawn(async move {
                        let mut run = script.key(key);
                        run.arg(arguments).invoke_async(&mut connection).await
                    });
                }
                let answers = running.join_all().await;
                let answers = answers.into_iter().collect::<RedisResult<_>>()?;
                connection.publish::<_, _, ()>(channel, message).await?;
                Ok(answers)
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(connection) => connection.req_packed_command(command),
            Connection::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(connection) => connection.req_packed_commands(commands, offset, count),
            Connection::Cluster(connection) => {
                connection.req_packed_commands(commands, offset, count)
            }
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(connection) => connection.get_db(),
            Connection::Cluster(connection) => connection.get_db(),
        }
    }
}

fn client(server: ConnectionInfo, tls: Option<&TlsCertificates>) -> RedisResult<Client> {
    // A right less that the user needs.
    let settings = server.redis_settings().clone().set_skip_set_lib_name();
    let server = server.set_redis_settings(settings);
    match tls {
        Some(tls) => Client::build_with_tls(server, tls.clone()),
        None => Client::open(server),
    }
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

async fn subscribe(client: &Client, channel: &str) -> RedisResult<PubSub> {
    let subscribing = async {
        let mut connection = client.get_async_pubsub().await?;
        connection.subscribe(channel).await?;
        Ok(connection)
    };
    let subscribed = timeout(PATIENCE, subscribing).await;
    subscribed.map_err(|_| slow("Redis does not answer"))?
}

fn slow(who: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, who).into()
}

fn nobody() -> RedisError {
    (ErrorKind::Client, "REDIS_URL names no server").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_which_servers_and_none_says_its_password() {
        for (url, place) in [
            ("redis://:hunter2@cache:6379/2", "redis://cache:6379"),
            ("rediss://ada:hunter2@cache", "rediss://cache:6379"),
            (
                "redis+sentinel://ada:hunter2@one,[::1]:7,three:8/main/2",
                "the master 'main' of the Sentinels one:26379, ::1:7, three:8",
            ),
            (
                "rediss+cluster://ada:hunter2@one:1,two",
                "the Cluster of one:1, two:6379",
            ),
        ] {
            let servers = Servers::open(url, &TlsFiles::default());
            assert_eq!(
                servers.map(|s| s.to_string()),
                Ok(place.to_owned()),
                "{url}"
            );
        }
        for url in [
            "127.0.0.1:6379/hunter2",
            "http://:hunter2@cache",
            "redis://:hunter2@cache:port",
            "redis://:hunter2@cache/number",
            "redis+sentinel://:hunter2@one:1,two:2",
            "redis+sentinel://:hunter2@one:1,two:port/main",
            "redis+sentinel://:hunter2@one:1/main/number",
            "redis+cluster://:hunter2@one:1,two:2/1",
            "redis+cluster://:hunter2@",
        ] {
            let refused = Servers::open(url, &TlsFiles::default()).err();
            let said = refused.map(|e| e.to_string()).unwrap_or_default();
            assert!(
                said.starts_with("REDIS_URL ") && !said.contains("hunter2"),
                "{url}: {said}"
            );
        }
    }
}
