//! A byte stream to a peer: TCP or a Unix socket as one type. TLS will be a third.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP, with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A connected socket that belongs to no runtime.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Puts the socket into the runtime that this is called in.
    ///
    /// # Errors
    /// What the system says.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl Stream {
    /// Connects. A host name is resolved now, and each of its addresses is tried in turn.
    ///
    /// # Errors
    /// What the system says of the last address tried.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                Self::tcp(stream)
            }
            Address::Unix { .. } => {
                let path = address.socket_path().unwrap_or_default();
                Ok(Self::Unix(UnixStream::connect(path).await?))
            }
        }
    }

    /// Takes over a TCP connection: no Nagle delay, and keepalive so that a peer that vanished is noticed.
    ///
    /// # Errors
    /// What the system says of the socket options.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_keepalive(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Where the peer is; none: not over TCP, or gone.
    #[must_use]
    pub fn peer_address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Takes the socket out of the present runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Unix(stream) => Detached::Unix(stream.into_std()?),
        })
    }

    /// Whether a read would tell something: bytes, the end, or an error. No system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether something has arrived that nobody has asked for: bytes, the end, or an error. A byte that is there is
    /// taken: a stream that is disturbed is of no use to anybody. No waiting, and no system call while it is quiet.
    #[must_use]
    pub fn is_disturbed(&self) -> bool {
        if self.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending() {
            return false;
        }
        // Readiness may be a moment old: of a reply in two segments the second can be read before it is announced.
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut [0; 1]),
            Self::Unix(stream) => stream.try_read(&mut [0; 1]),
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether there are bytes to read, of which the runtime may not know yet. A system call.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let there = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        there.is_ok_and(|there| there > 0)
    }

    /// Reads into `buffer`; zero bytes: the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Mostly there is room: the runtime is asked to watch for it only when there is none.
        let written = match &*self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).send(bytes),
            Self::Unix(stream) => socket2::SockRef::from(stream).send(bytes),
        };
        let written = match (written, self) {
            (Err(error), Self::Tcp(stream)) if is_passing(&error) => Pin::new(stream).poll_write(cx, bytes),
            (Err(error), Self::Unix(stream)) if is_passing(&error) => Pin::new(stream).poll_write(cx, bytes),
            (written, _) => Poll::Ready(written),
        };
        match written {
            Poll::Ready(Ok(0)) if !bytes.is_empty() => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The peer is gone.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = bytes.get(n..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Whether it may go well another time.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
