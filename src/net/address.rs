//! Where a server or a listener is: `host:port`, `[::1]:port`, or the folder of a Unix socket.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// PostgreSQL's port, used where none is given.
const DEFAULT_PORT: u16 = 5432;

/// A place to connect to or to listen on. Two are equal that are the same place.
#[derive(Clone, Debug)]
pub enum Address {
    /// A host name or an IP address, and a port. A name is resolved again for each connection.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// The host name that `host` is one address of: a certificate is for that.
        name: Option<Arc<str>>,
    },
    /// A Unix socket in `folder`, named `.s.PGSQL.<port>` as PostgreSQL names it.
    Unix {
        /// The folder that holds the socket.
        folder: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

/// Why a text is not an [`Address`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is nothing before the port.
    #[error("the host is empty")]
    NoHost,
    /// What follows the last colon is not 1 to 65535.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// An opening bracket without its closing one, or text after it that is no port.
    #[error("an IPv6 address with a port is written [::1]:5432")]
    Bracket,
}

impl Address {
    /// That host and port.
    #[must_use]
    pub fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.to_owned(), port, name: None }
    }

    /// The name that stands there and is to be resolved; none: there is none.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } if host.parse::<IpAddr>().is_err() && !host.contains('%') => Some(host),
            Self::Tcp { .. } | Self::Unix { .. } => None,
        }
    }

    /// The host name that it is one address of.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Tcp { name, .. } => name.as_deref(),
            Self::Unix { .. } => None,
        }
    }

    /// One address of its host name.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Self {
        match self {
            Self::Tcp { host, port, .. } => {
                Self::Tcp { host: ip.to_string(), port: *port, name: Some(host.as_str().into()) }
            }
            Self::Unix { .. } => self.clone(),
        }
    }

    /// Whether it is an address that `named` has been resolved to.
    #[must_use]
    pub fn is_one_of(&self, named: &Self) -> bool {
        match (self, named) {
            (Self::Tcp { name: Some(name), port, .. }, Self::Tcp { host, port: same, .. }) => {
                **name == **host && port == same
            }
            _ => false,
        }
    }

    /// What makes the place.
    fn place(&self) -> (Option<&str>, Option<&PathBuf>, u16) {
        match self {
            Self::Tcp { host, port, .. } => (Some(host), None, *port),
            Self::Unix { folder, port } => (None, Some(folder), *port),
        }
    }

    /// The path of the Unix socket, if it is one.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { folder, port } => Some(folder.join(format!(".s.PGSQL.{port}"))),
        }
    }

    /// Whether only this machine can reach it: a Unix socket, `localhost`, or a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

fn port_of(text: &str) -> Result<u16, AddressError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| AddressError::Port(text.to_owned()))
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            return Ok(match text.rsplit_once(':') {
                Some((folder, port)) => Self::Unix { folder: folder.into(), port: port_of(port)? },
                None => Self::Unix { folder: text.into(), port: DEFAULT_PORT },
            });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(AddressError::Bracket)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port_of(port)?),
                None if rest.is_empty() => (host, DEFAULT_PORT),
                None => return Err(AddressError::Bracket),
            }
        } else {
            match text.split_once(':') {
                // More than one colon and no brackets: a bare IPv6 address.
                Some((_, rest)) if rest.contains(':') => (text, DEFAULT_PORT),
                Some((host, port)) => (host, port_of(port)?),
                None => (text, DEFAULT_PORT),
            }
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        Ok(Self::tcp(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["10.0.0.1:5432", "[::1]:6432", "db.example:1", "/run/postgresql:5433"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("::1".parse::<Address>().unwrap().to_string(), "[::1]:5432");
        assert_eq!(
            "/tmp".parse::<Address>().unwrap().socket_path().unwrap().to_str(),
            Some("/tmp/.s.PGSQL.5432")
        );
    }

    #[test]
    fn an_address_of_a_name_is_that_address() {
        let named: Address = "db.example:5433".parse().unwrap();
        let one = named.at("10.0.0.1".parse().unwrap());
        assert_eq!((one.to_string().as_str(), &one), ("10.0.0.1:5433", &"10.0.0.1:5433".parse().unwrap()));
        assert!(one.is_one_of(&named) && !one.is_one_of(&one) && !named.is_one_of(&named));
        assert!(!one.is_one_of(&"db.example:5432".parse().unwrap()));
        assert_eq!((named.host_name(), one.host_name()), (Some("db.example"), None));
        for text in ["::1", "fe80::1%eth0", "/tmp"] {
            assert_eq!(text.parse::<Address>().unwrap().host_name(), None, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(":1".parse::<Address>(), Err(AddressError::NoHost));
        assert_eq!("a:b".parse::<Address>(), Err(AddressError::Port("b".into())));
        assert_eq!("a:0".parse::<Address>(), Err(AddressError::Port("0".into())));
        assert_eq!("[::1".parse::<Address>(), Err(AddressError::Bracket));
    }
}
