//! A connection of pgweir's own to a server, by tokio-postgres, driven in the task that asks.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow, Socket};

use crate::auth::Secret;
use crate::net::Address;
use crate::server::Login;

/// Why a server did not answer, or not rightly.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// PostgreSQL or the network said no.
    #[error("{}", innermost(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// It says not where to connect.
    #[error(
        "this is no connection string ({}): say a URL, as postgres://user@host:5432/database, or key=value pairs, as libpq takes them",
        innermost(.0)
    )]
    Unreadable(#[source] tokio_postgres::Error),
    /// Neither said anything.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection was closed without a word.
    #[error("the server closed the connection")]
    Closed,
    /// There is none, or another one by now.
    #[error("there is no primary to ask, or another one than before")]
    NoPrimary,
    /// The answer has another form than asked for.
    #[error("the server's answer makes no sense")]
    Nonsense,
}

impl LinkError {
    /// The SQLSTATE, if the server said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Postgres(error) => Some(error.as_db_error()?.code().code()),
            _ => None,
        }
    }

    /// Whether somebody has cancelled the question.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.code() == Some("57014")
    }

    /// Whether the server itself is to blame: it cannot be reached, it is starting or stopping, or there is none.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().map_or_else(
                || error.is_closed() || error.source().is_some_and(<dyn Error>::is::<io::Error>),
                |db| db.code().code().starts_with("57P"),
            ),
            Self::TimedOut(_) | Self::Closed | Self::NoPrimary => true,
            Self::Unreadable(_) | Self::Nonsense => false,
        }
    }

    /// Whether somebody is there who speaks the protocol, and says no.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.as_db_error().is_some())
    }
}

/// tokio-postgres says "error connecting to server" and keeps the interesting part as the source.
pub(super) fn innermost(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// An open connection and the future that moves its bytes.
pub(super) struct Link {
    client: Client,
    connection: Connection<Socket, NoTlsStream>,
}

impl Link {
    /// Connects and logs in. A host name is resolved anew.
    pub(super) async fn open(address: &Address, login: &Login, database: &str) -> Result<Self, LinkError> {
        let (client, connection) = open(address, login, database).await?;
        Ok(Self { client, connection })
    }

    /// The same, from what tokio-postgres wants to know.
    pub(super) async fn connect(config: &Config) -> Result<Self, LinkError> {
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self { client, connection })
    }

    /// The rows of a simple query.
    pub(super) async fn query(&mut self, text: &str) -> Result<Vec<SimpleQueryRow>, LinkError> {
        let Self { client, connection } = self;
        let answer = pin!(client.simple_query(text));
        let messages = tokio::select! {
            biased;
            messages = answer => messages?,
            end = connection => return Err(end.map_or_else(LinkError::from, |()| LinkError::Closed)),
        };
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Ends when the connection does: at once when the server goes away, and it need not be asked for that.
    pub(super) async fn broken(&mut self) -> LinkError {
        match (&mut self.connection).await {
            Err(error) => error.into(),
            Ok(()) => LinkError::Closed,
        }
    }
}

/// Connects and logs in. A host name is resolved anew.
pub(super) async fn open(
    address: &Address,
    login: &Login,
    database: &str,
) -> Result<(Client, Connection<Socket, NoTlsStream>), LinkError> {
    let mut config = Config::new();
    config.user(&*login.user).dbname(database).application_name("pgweir monitor");
    match address {
        Address::Tcp { host, port, name } => {
            if let (Some(name), Ok(ip)) = (name, host.parse()) {
                config.host(&**name).hostaddr(ip).port(*port)
            } else {
                config.host(host).port(*port)
            }
        }
        Address::Unix { folder, port } => config.host_path(folder).port(*port),
    };
    // A verifier cannot prove anything to a server that asks; one that trusts us does not ask.
    if let Some(Secret::Plain(password)) = &login.secret {
        config.password(password);
    }
    Ok(config.connect(NoTls).await?)
}
