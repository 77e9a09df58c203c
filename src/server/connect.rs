//! Opening a server connection: dial, start up, authenticate, and read on to the first ReadyForQuery.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Shelf;
use super::owed::Owed;
use super::{Login, Server, Wants};
use crate::auth::{Answer, AnswerError, Done};
use crate::clock;
use crate::ids::CancelKey;
use crate::net::{Address, Buffers, Stream, Window};
use crate::wire::frame::{HEADER, Side};
use crate::wire::{Header, ProtocolError, backend, frame, write};

/// Why a server connection could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The system could not connect, or the connection broke.
    #[error("could not connect to {address}: {source}")]
    Io {
        /// Where to.
        address: Arc<Address>,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// It took longer than `server_connect_timeout`.
    #[error("connecting to {0} took too long")]
    Timeout(Arc<Address>),
    /// The server answered with an ErrorResponse.
    #[error("{address} refused the login: {} (SQLSTATE {})", refusal.message, refusal.code)]
    Refused {
        /// Who refused.
        address: Arc<Address>,
        /// What it said.
        refusal: Refusal,
    },
    /// The server asks for a proof that pgweir cannot give.
    #[error("could not log in to {address}: {source}")]
    Auth {
        /// Who asked.
        address: Arc<Address>,
        /// What is missing.
        source: AnswerError,
    },
    /// The server does not speak the protocol.
    #[error("{address} broke the protocol: {source}")]
    Protocol {
        /// Who.
        address: Arc<Address>,
        /// How.
        source: ProtocolError,
    },
}

impl ConnectError {
    /// Whether the server itself is to blame, not the login: it cannot be reached, or it is starting or stopping.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout(_) | Self::Protocol { .. } => true,
            Self::Refused { refusal, .. } => refusal.code.starts_with("57P"),
            Self::Auth { .. } => false,
        }
    }
}

/// An ErrorResponse that a server gave to a login.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its SQLSTATE.
    pub code: String,
    /// Its message.
    pub message: String,
    /// The whole message, to be passed on.
    pub response: Bytes,
}

/// What stops a login: mapped to [`ConnectError`] with the address.
enum Stop {
    Io(io::Error),
    Refused(Refusal),
    Auth(AnswerError),
    Protocol(ProtocolError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// Opens a connection to `database` at `address`.
///
/// # Errors
/// Whatever stops it; nothing is retried here.
pub async fn connect(
    address: Arc<Address>,
    login: &Login,
    database: &str,
    wants: &Wants,
    buffers: &Buffers,
) -> Result<Server, ConnectError> {
    let mut window = buffers.take();
    let opened = open(&address, login, database, wants, &mut window).await;
    buffers.give(window);
    let Opened { stream, key, reported, search_path } = opened.map_err(|stop| match stop {
        Stop::Io(source) => ConnectError::Io { address: address.clone(), source: Arc::new(source) },
        Stop::Refused(refusal) => ConnectError::Refused { address: address.clone(), refusal },
        Stop::Auth(source) => ConnectError::Auth { address: address.clone(), source },
        Stop::Protocol(source) => ConnectError::Protocol { address: address.clone(), source },
    })?;
    let now = clock::now();
    Ok(Server {
        stream,
        window: None,
        owed: Owed::new(),
        address,
        key,
        parameters: wants.parameters.clone(),
        application_name: Some(wants.application_name.clone()),
        reported,
        search_path,
        settings: None,
        shared: Shelf::default(),
        prepared: HashMap::default(),
        unnamed: 0,
        term: 0,
        drawn: 0,
        drawn_alone: true,
        since: now,
        idle_since: now,
    })
}

/// What a login has come to.
struct Opened {
    stream: Stream,
    key: CancelKey,
    reported: Vec<(String, String)>,
    search_path: Option<Arc<str>>,
}

async fn open(
    address: &Address,
    login: &Login,
    database: &str,
    wants: &Wants,
    window: &mut Window,
) -> Result<Opened, Stop> {
    let mut stream = Stream::connect(address).await?;
    let mut out = BytesMut::new();
    let names =
        [("user", &*login.user), ("database", database), ("application_name", &*wants.application_name)];
    write::startup(&mut out, names.into_iter().chain(wants.parameters.iter()));
    stream.write_all(&out).await?;

    let mut answer = Answer::new(&login.user, login.secret.as_ref());
    let mut authenticated = false;
    let mut key = CancelKey::default();
    let mut reported = Vec::new();
    loop {
        let head = next(&mut stream, window).await?;
        let body = window.bytes().get(HEADER..head.size).unwrap_or_default();
        match head.tag {
            b'R' if !authenticated => {
                out.clear();
                authenticated = answer.reply(body, &mut out).map_err(Stop::Auth)? == Done::Ok;
                stream.write_all(&out).await?;
            }
            b'E' => return Err(Stop::Refused(refusal(window.bytes(), head))),
            b'S' if authenticated => {
                let (name, value) = backend::parameter_status(body)?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                reported.push((text(name), text(value)));
            }
            b'K' if authenticated => key = backend::backend_key_data(body)?,
            b'N' | b'v' => {}
            b'Z' if authenticated => {
                backend::ready_for_query(body)?;
                window.consume(head.size);
                break;
            }
            tag => return Err(ProtocolError::Unexpected(tag).into()),
        }
        window.consume(head.size);
    }
    // Reported from PostgreSQL 18 on.
    let told = reported.iter().find(|(name, _)| name == "search_path").map(|(_, path)| path.as_str().into());
    let search_path = match told {
        Some(path) => Some(path),
        None => search_path(&mut stream, window).await?,
    };
    Ok(Opened { stream, key, reported, search_path })
}

/// Asks for the search path. None: the server would not say.
async fn search_path(stream: &mut Stream, window: &mut Window) -> Result<Option<Arc<str>>, Stop> {
    let mut out = BytesMut::new();
    write::query(&mut out, "SHOW search_path");
    stream.write_all(&out).await?;
    let mut path = None;
    loop {
        let head = next(stream, window).await?;
        let body = window.bytes().get(HEADER..head.size).unwrap_or_default();
        match head.tag {
            b'D' => path = backend::first_column(body).map(|path| String::from_utf8_lossy(path).into()),
            b'Z' => {
                backend::ready_for_query(body)?;
                window.consume(head.size);
                return Ok(path);
            }
            _ => {}
        }
        window.consume(head.size);
    }
}

fn refusal(bytes: &[u8], head: Header) -> Refusal {
    let message = bytes.get(..head.size).unwrap_or_default();
    let fields = backend::fields(message.get(HEADER..).unwrap_or_default());
    Refusal {
        code: String::from_utf8_lossy(fields.code).into_owned(),
        message: String::from_utf8_lossy(fields.message).into_owned(),
        response: Bytes::copy_from_slice(message),
    }
}

/// Reads until a whole message stands at the front of the window.
async fn next(stream: &mut Stream, window: &mut Window) -> Result<Header, Stop> {
    loop {
        if let Some(head) = frame::header(window.bytes(), Side::Backend)? {
            if head.size <= window.len() {
                return Ok(head);
            }
            if window.is_full() {
                return Err(ProtocolError::Body(head.tag).into());
            }
        }
        if poll_fn(|cx| window.poll_fill(cx, stream)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Asks the server at `address` to cancel what the session with that key is doing, and waits until it has taken note.
///
/// # Errors
/// It could not be asked.
pub async fn cancel(address: &Address, key: &CancelKey) -> io::Result<()> {
    let mut stream = Stream::connect(address).await?;
    let mut out = BytesMut::new();
    write::cancel_request(&mut out, key);
    stream.write_all(&out).await?;
    // The server closes the connection once it has sent the signal.
    let mut end = [0; 1];
    poll_fn(|cx| stream.poll_read(cx, &mut end)).await.map(drop)
}
