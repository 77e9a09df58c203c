//! One look at a server, for an operator who asks on the command line.

use tokio::time::timeout;
use tokio_postgres::Config;

use crate::clock::Duration;
use crate::cluster::ProbeResult;
use crate::net::Address;

use super::Options;
use super::ask::Session;
use super::catalog::{Reader, Seen};
use super::link::{Link, LinkError};

/// Longest that a server may take to let somebody in who does not say how long in the URL.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection.
pub struct Visit {
    reader: Reader,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("version", &self.reader.version()).finish_non_exhaustive()
    }
}

impl Visit {
    /// Connects and logs in. `connection` is a URL or `key=value` pairs, as libpq takes them; `database` stands for the one that it
    /// names.
    ///
    /// # Errors
    /// What is wrong with `connection`, or what the server or the network says.
    pub async fn begin(
        connection: &str,
        database: Option<&str>,
        application_name: &str,
    ) -> Result<Self, LinkError> {
        let (config, limit) = configured(connection, database, application_name)?;
        let open = async { Reader::over(Link::connect(&config).await?).await };
        let reader = timeout(limit, open).await.unwrap_or(Err(LinkError::TimedOut(limit)))?;
        Ok(Self { reader })
    }

    /// The same as the monitor does it, in a database of that name.
    ///
    /// # Errors
    /// As the server or the network says.
    pub async fn as_monitor(address: &Address, options: &Options, database: &str) -> Result<Self, LinkError> {
        let limit = options.timeout;
        let open = timeout(limit, Reader::open(address, &options.login, database)).await;
        Ok(Self { reader: open.unwrap_or(Err(LinkError::TimedOut(limit)))? })
    }

    /// The server's version as a number: `150006`.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.reader.version()
    }

    /// The rows of a simple query, as text.
    ///
    /// # Errors
    /// As the server says.
    pub async fn rows(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>, LinkError> {
        cells(&self.reader.link().query(text).await?)
    }

    /// The catalog as the login sees it.
    ///
    /// # Errors
    /// As the server says.
    pub async fn catalog(&mut self) -> Result<Seen, LinkError> {
        self.reader.seen().await
    }
}

fn configured(
    connection: &str,
    database: Option<&str>,
    application_name: &str,
) -> Result<(Config, Duration), LinkError> {
    let mut config: Config = connection.parse().map_err(LinkError::Unreadable)?;
    config.application_name(application_name);
    if let Some(database) = database {
        config.dbname(database);
    }
    let limit = *config.get_connect_timeout().unwrap_or(&CONNECT_TIMEOUT);
    Ok((config, limit))
}

fn cells(rows: &[tokio_postgres::SimpleQueryRow]) -> Result<Vec<Vec<Option<String>>>, LinkError> {
    let cells = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|at| Ok(row.try_get(at)?.map(str::to_owned))).collect()
    };
    rows.iter().map(cells).collect()
}

/// The database that `connection` names, and the user.
///
/// # Errors
/// What is wrong with it.
pub fn named(connection: &str) -> Result<(Option<String>, Option<String>), LinkError> {
    let config: Config = connection.parse().map_err(LinkError::Unreadable)?;
    Ok((config.get_dbname().map(str::to_owned), config.get_user().map(str::to_owned)))
}

/// The rows of one simple query to whoever speaks the protocol in the database of that name: it may be no PostgreSQL.
///
/// # Errors
/// As [`Visit::begin`], and there was no answer in time.
pub async fn ask_once(
    connection: &str,
    database: &str,
    text: &str,
) -> Result<Vec<Vec<Option<String>>>, LinkError> {
    let (config, limit) = configured(connection, Some(database), "pgweir")?;
    let asked = async { cells(&Link::connect(&config).await?.query(text).await?) };
    timeout(limit, asked).await.unwrap_or(Err(LinkError::TimedOut(limit)))
}

/// Reads the catalog that one login sees, once. `connection` is a URL or `key=value` pairs, as libpq takes them.
///
/// # Errors
/// What is wrong with `connection`, or what the server or the network says.
pub async fn read_once(connection: &str) -> Result<Seen, LinkError> {
    Visit::begin(connection, None, "pgweir route").await?.catalog().await
}

/// Asks a server who it is and how it is, once, as its probe does.
///
/// # Errors
/// As the server or the network says, or there was no answer in time.
pub async fn probe_once(address: &Address, options: &Options) -> Result<ProbeResult, LinkError> {
    let asked = async {
        // That it may not read all is seen by what the result lacks.
        Session::open(address, options).await?.ask(address, &mut true).await
    };
    timeout(options.timeout, asked).await.unwrap_or(Err(LinkError::TimedOut(options.timeout)))
}
