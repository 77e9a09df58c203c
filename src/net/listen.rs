//! Listening: TCP (IPv4, IPv6) and Unix sockets as one type.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener, lookup_host};

use super::{Address, Stream};

/// Connections that the system keeps for us until we accept them; the system caps it further.
const BACKLOG: i32 = 4096;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, and its path, which is removed in the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds. A host name may stand for several addresses, hence several listeners. Call it inside a runtime.
    ///
    /// # Errors
    /// What the system says: taken, not ours, not allowed.
    pub async fn bind(address: &Address) -> io::Result<Vec<Self>> {
        match address {
            Address::Tcp { host, port, .. } => {
                let addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
                addresses.into_iter().map(Self::tcp).collect()
            }
            Address::Unix { .. } => Ok(vec![Self::unix(address.socket_path().unwrap_or_default())?]),
        }
    }

    fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // An IPv6 address means just that: IPv4 is listed beside it where it is wanted.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    fn unix(path: PathBuf) -> io::Result<Self> {
        // A socket file that nobody answers on was left by a process that died.
        if path.exists() && std::os::unix::net::UnixStream::connect(&path).is_err() {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
        Ok(Self::Unix(listener, path))
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the system says; the listener itself stays usable.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }

    /// The TCP address it is bound to: the real port, when port 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}
