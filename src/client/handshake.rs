//! From the first byte to the first ReadyForQuery: encryption requests, cancel requests, startup, authentication,
//! greeting (PostgreSQL docs, chapter 53.2.1).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use tokio::time::timeout;

use super::console::{self, CONSOLE, Visitor};
use super::fail::Failure;
use super::own;
use super::session::{Identity, Session};
use super::shared::{Database, Greeting, Seat, Shared};
use crate::auth::Progress;
use crate::clock::{self, Duration};
use crate::metrics::Origin;
use crate::monitor::Live;
use crate::net::{Stream, Window};
use crate::pool::Lease;
use crate::route::Scope;
use crate::route::rules::Who;
use crate::server::{Parameters, Wants};
use crate::wire::frame::{HEADER, Side};
use crate::wire::startup::{self, First, NEWEST_MINOR, Startup};
use crate::wire::write::{self, Severity};
use crate::wire::{ProtocolError, SqlState, TransactionStatus, frame};

/// Most bytes of a message before the login is complete: PostgreSQL's limit for a password packet is not larger.
const MAX_LOGIN_MESSAGE: usize = 65_535;

/// How long a login waits for a cluster of which nothing is known yet: the time of the first probes.
const FIRST_PROBES: Duration = Duration::from_secs(5);

/// A connection that is not logged in yet.
struct Guest {
    stream: Stream,
    window: Window,
}

/// Why a login came to nothing.
enum Stop {
    /// The client is gone, or asked for something that ends here.
    Gone,
    /// It is a client of the console, and greeted.
    Console(Visitor),
    /// The client is told why.
    Told(Failure),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Told(Failure::Protocol(error))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Told(failure)
    }
}

/// Logs a client in. None: it is not to be served, and knows why.
pub(super) async fn handshake(stream: Stream, shared: Arc<Shared>) -> Option<Box<Session>> {
    let mut guest = Guest { stream, window: shared.buffers.take() };
    shared.metrics.client_connected();
    let Some(seat) = shared.seat() else {
        // The startup packet is read first: a client that is refused before it has spoken may not see why.
        let limit = shared.options.max_connections;
        let _ = timeout(Duration::from_secs(1), guest.first(&shared)).await;
        guest.refuse(&shared, &Failure::TooManyClients(limit), "max_client_conn").await;
        return None;
    };
    let outcome = timeout(shared.options.login_timeout, guest.login(&shared, seat)).await;
    match outcome.unwrap_or(Err(Stop::Told(Failure::LoginTimeout))) {
        Ok(identity) => {
            let Guest { stream, window } = guest;
            Some(Box::new(Session::new(stream, window, shared, identity)))
        }
        Err(Stop::Console(visitor)) => {
            console::serve(guest.stream, guest.window, &shared, visitor).await;
            None
        }
        Err(Stop::Gone) => {
            shared.buffers.give(guest.window);
            None
        }
        Err(Stop::Told(failure)) => {
            guest.refuse(&shared, &failure, why(&failure)).await;
            None
        }
    }
}

/// The label under which a refused login is counted.
fn why(failure: &Failure) -> &'static str {
    match failure {
        Failure::Protocol(_) => "protocol",
        Failure::Password(_) => "password",
        Failure::LoginTimeout => "login_timeout",
        Failure::UnknownDatabase(_) => "database",
        Failure::Replication => "replication",
        Failure::NoConsole(_) => "console",
        _ => "server",
    }
}

impl Guest {
    /// Tells the client why it is not let in, and closes.
    async fn refuse(mut self, shared: &Shared, failure: &Failure, why: &'static str) {
        shared.metrics.client_rejected(why);
        tracing::info!(?failure, "a login was refused");
        let mut out = BytesMut::new();
        failure.write(&mut out, Severity::Fatal);
        let _ = timeout(Duration::from_secs(1), self.stream.write_all(&out)).await;
        shared.buffers.give(self.window);
    }

    /// From the first byte to the first ReadyForQuery.
    async fn login(&mut self, shared: &Arc<Shared>, seat: Seat) -> Result<Identity, Stop> {
        let mut startup = self.first(shared).await?;
        if startup.value("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
            return Err(Failure::Replication.into());
        }
        let user: Arc<str> =
            startup.value("user").filter(|user| !user.is_empty()).ok_or(Failure::NoUser)?.into();
        let name: Arc<str> =
            startup.value("database").filter(|name| !name.is_empty()).unwrap_or(&user).into();

        let mut out = BytesMut::new();
        let minor = startup.minor.min(NEWEST_MINOR);
        if minor < startup.minor || !startup.protocol_options.is_empty() {
            write::negotiate_protocol_version(&mut out, minor, &startup.protocol_options);
        }
        self.authenticate(shared, &user, &mut out).await?;
        if &*name == CONSOLE {
            return Err(Stop::Console(self.visit(shared, user, seat, out).await?));
        }
        let own = own::take_out(&mut startup.parameters).map_err(Failure::Refused)?;
        let Some(database) = shared.databases.find(&name) else {
            return Err(Failure::UnknownDatabase(name.to_string()).into());
        };
        let given = startup.value("application_name").unwrap_or_default();
        let mut notices = BytesMut::new();
        let kept = cut_name(given);
        if kept.len() < given.len() {
            let what = format!("identifier \"{given}\" will be truncated to \"{kept}\"");
            write::notice(&mut notices, SqlState::NAME_TOO_LONG, &what, "");
        }
        let application_name = printable(kept, version(&database.cluster.view())).into();
        let mut identity = Identity {
            cancel: shared.cancels.register(&database.cluster, &user, minor == NEWEST_MINOR),
            database,
            name,
            user,
            own,
            wants: Wants { parameters: Arc::new(Parameters::new(&startup.parameters)), application_name },
            text_safe: true,
            strict: false,
            scope: Scope::without_catalog(),
            known: 0,
            search_path: None,
            acts_as: None,
            last_known: None,
            catalog: Live::unused(),
            rules: 0,
            seat,
        };
        let greeting = self.greeting(shared, &identity).await?;
        identity.text_safe = greeting.text_safe;
        identity.search_path = greeting.search_path;
        identity.rules = identity.database.rules.session(&Who {
            user: &identity.user,
            database: &identity.name,
            application_name: &identity.wants.application_name,
            address: self.stream.peer_address(),
        });
        let Identity { database, name, .. } = &identity;
        identity.catalog = database.catalogs.get(database.on_servers(name));
        identity.wants.parameters = greeting.parameters;

        write::authentication_ok(&mut out);
        out.extend_from_slice(&notices);
        out.extend_from_slice(&greeting.messages);
        write::parameter_status(&mut out, "application_name", &identity.wants.application_name);
        write::backend_key_data(&mut out, &identity.cancel.key);
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        self.stream.write_all(&out).await?;
        Ok(identity)
    }

    /// Lets a client that has proven who it is into the console, if it may come in.
    async fn visit(
        &mut self,
        shared: &Shared,
        user: Arc<str>,
        seat: Seat,
        mut out: BytesMut,
    ) -> Result<Visitor, Stop> {
        let role = shared.console.role(&user).ok_or_else(|| Failure::NoConsole(user.to_string()))?;
        console::greet(&mut out);
        self.stream.write_all(&out).await?;
        Ok(Visitor { user, role, seat })
    }

    /// The startup packet; what comes before it is answered here.
    async fn first(&mut self, shared: &Shared) -> Result<Startup, Stop> {
        // PostgreSQL takes one request of each kind of encryption, too.
        let (mut ssl, mut gss) = (false, false);
        loop {
            let size = loop {
                if startup::leaves(self.window.bytes()) {
                    return Err(Stop::Gone);
                }
                match startup::size(self.window.bytes())? {
                    Some(size) if size <= self.window.len() => break size,
                    _ => self.fill().await?,
                }
            };
            let first = startup::read(self.window.bytes().get(..size).unwrap_or_default())?;
            self.window.consume(size);
            match first {
                First::Ssl if !ssl => ssl = true,
                First::Gssenc if !gss => gss = true,
                First::Ssl | First::Gssenc => {
                    return Err(ProtocolError::Startup("encryption was asked for twice").into());
                }
                First::Cancel(key) => {
                    shared.cancels.forward(key).await;
                    return Err(Stop::Gone);
                }
                First::Startup(startup) => return Ok(startup),
            }
            self.stream.write_all(b"N").await?;
            if !self.window.is_empty() {
                return Err(ProtocolError::Startup("bytes after an encryption request").into());
            }
        }
    }

    async fn authenticate(
        &mut self,
        shared: &Shared,
        user: &Arc<str>,
        out: &mut BytesMut,
    ) -> Result<(), Stop> {
        let mut challenge = shared.directory.load().challenge(user);
        let mut progress = challenge.start(out);
        loop {
            match progress {
                Progress::Accepted => return Ok(()),
                Progress::Rejected(rejection) => {
                    tracing::info!(%user, %rejection, "a login was rejected");
                    return Err(Failure::Password(user.to_string()).into());
                }
                Progress::Continue => {
                    self.stream.write_all(out).await?;
                    out.clear();
                    let size = self.password().await?;
                    let body = self.window.bytes().get(HEADER..size).unwrap_or_default();
                    progress = challenge.answer(body, out);
                    self.window.consume(size);
                }
            }
        }
    }

    /// The size of the `p` message at the front of the window.
    async fn password(&mut self) -> Result<usize, Stop> {
        loop {
            if let Some(head) = frame::header(self.window.bytes(), Side::Frontend)? {
                match head.tag {
                    b'p' if head.size > MAX_LOGIN_MESSAGE => return Err(ProtocolError::Body(b'p').into()),
                    b'p' if head.size <= self.window.len() => return Ok(head.size),
                    b'p' => {}
                    b'X' => return Err(Stop::Gone),
                    tag => return Err(ProtocolError::Unexpected(tag).into()),
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        let Self { stream, window } = self;
        match poll_fn(|cx| window.poll_fill(cx, stream)).await? {
            0 => Err(Stop::Gone),
            _ => Ok(()),
        }
    }

    /// What the servers say of their settings to a client like this one: from memory, or from a server connection that is
    /// opened for it and stays in the pool.
    async fn greeting(&mut self, shared: &Arc<Shared>, identity: &Identity) -> Result<Greeting, Stop> {
        let Identity { database, name, user, wants: Wants { parameters, .. }, .. } = identity;
        if let Some(greeting) = database.greetings.known(name, user, parameters) {
            return Ok(greeting);
        }
        let lease = {
            let mut search = pin!(any_server(shared, identity));
            let Self { stream, window } = self;
            let found = poll_fn(|cx| match search.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                // It may have a place in the queue, which is for the living.
                Poll::Pending if super::idle::is_gone(window, stream, cx) => Poll::Ready(Err(Stop::Gone)),
                Poll::Pending => Poll::Pending,
            });
            found.await?.inspect_err(|failure| database.metrics.error(&failure.code(), Origin::Pgweir))?
        };
        let mut messages = BytesMut::new();
        for (name, value) in lease.reported.iter().filter(|(name, _)| name != "application_name") {
            write::parameter_status(&mut messages, name, value);
        }
        let reported = lease.reported.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let text_safe = reported.fold(true, |safe, (name, value)| safe && is_text_safe(name, value));
        let search_path = lease.search_path.clone();
        lease.put_back(clock::now());
        let messages = messages.freeze();
        let greeting = Greeting { messages, text_safe, search_path, parameters: parameters.clone() };
        database.greetings.learn(name, user, parameters, greeting.clone());
        Ok(greeting)
    }
}

/// The version of the primary, as in `server_version_num`; 0: not known.
fn version(view: &crate::cluster::View) -> u32 {
    view.primary().and_then(|node| view.server(node)).map_or(0, |server| server.version)
}

/// As PostgreSQL cuts an application_name (`truncate_identifier`): to whole characters within the 63 bytes of a name.
fn cut_name(name: &str) -> &str {
    (0..=63).rev().find_map(|most| name.get(..most)).filter(|_| name.len() > 63).unwrap_or(name)
}

/// As PostgreSQL of that version cleans an application_name (`pg_clean_ascii`): from 16 on a byte that is not printable is written
/// as `\x` and two digits.
fn printable(name: &str, version: u32) -> String {
    let mut clean = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            32..=126 => clean.push(char::from(byte)),
            _ if version >= 160_000 => clean.push_str(&format!("\\x{byte:02x}")),
            _ => clean.push('?'),
        }
    }
    clean
}

/// Whether that setting leaves statements readable byte by byte: see [`crate::route::Session::text_safe`]. The encodings
/// are those whose second bytes can be a backslash or a quote (PostgreSQL docs, chapter 23.3: "client only").
pub(super) fn is_text_safe(name: &str, value: &str) -> bool {
    match name {
        "standard_conforming_strings" => value == "on",
        "client_encoding" => {
            !matches!(value, "SJIS" | "BIG5" | "GBK" | "UHC" | "GB18030" | "JOHAB" | "SHIFT_JIS_2004")
        }
        _ => true,
    }
}

/// A connection to the primary or, if there is none, to a replica.
async fn any_server(shared: &Arc<Shared>, identity: &Identity) -> Result<Lease, Failure> {
    let database: &Database = &identity.database;
    let deadline = clock::now() + FIRST_PROBES.min(database.pool.query_wait_timeout);
    let usable = |view: &crate::cluster::View| view.primary().is_some() || view.replicas().next().is_some();
    database.cluster.wait_for(deadline, usable).await;
    let nodes: Vec<_> = {
        let view = database.cluster.view();
        view.primary().into_iter().chain(view.replicas()).collect()
    };
    let mut failure = Failure::NoServer;
    for node in nodes {
        let Some(pool) = shared.pool(database, &identity.name, &identity.user, node) else { continue };
        match pool.lease(&identity.wants).await {
            Ok(lease) => return Ok(lease),
            Err(error) => {
                let outage = super::plan::note_outage(database, node, &error);
                failure = Failure::Lease(error);
                // A wrong password or an unknown database is the same on every server.
                if !outage {
                    break;
                }
            }
        }
    }
    Err(failure)
}
