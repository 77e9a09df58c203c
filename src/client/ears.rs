//! LISTEN without a server connection of one's own: one that listens for all clients of the database hears for this one, too.
//!
//! So it is where a unit is made of LISTEN and UNLISTEN alone, one or several, outside a transaction, in `pool_mode = "transaction"`; anywhere else the
//! client is pinned to a connection that listens for it. What comes is told when nothing is under way, as PostgreSQL does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;

use tokio::time::sleep_until;

use super::begin::Begun;
use super::desk::{Answers, Refusal, Table};
use super::echo::Echo;
use super::fail::Failure;
use super::plan::Place;
use super::session::{Leave, Next, Session};
use super::unit::{Kind, Piece};
use crate::clock::{self, Duration};
use crate::metrics::{DatabaseMetrics, TargetLabel};
use crate::monitor::{Hearer, Hub, Inbox, Own, Ticket};
use crate::net::Window;
use crate::pool::PoolMode;
use crate::route::Class;
use crate::sql::{Listen, apart, asks_channels, lone_listen, lone_notify};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::cstr;
use crate::wire::{SqlState, TransactionStatus, frontend};

/// Longest that LISTEN waits for the server to confirm it; longer only if more is allowed to find a primary.
const CONFIRM: Duration = Duration::from_secs(10);

/// As much is told at once.
const AT_ONCE: usize = 32 * 1024;

/// A ReadyForQuery outside transactions. None of pgweir's own messages ends as it does.
pub(super) const READY: &[u8] = b"Z\0\0\0\x05I";

/// What one client listens on, and what it waits for of what it has said.
pub(super) struct Ears {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    channels: Vec<Box<str>>,
    /// While it listens on any.
    listens: Option<Listens>,
    /// Why the piece that is being placed could not listen.
    refusal: Option<String>,
    /// What it says itself on these channels, and where others listen.
    pub(super) echo: Echo,
}

/// A client that listens: it counts.
struct Listens(Arc<DatabaseMetrics>);

impl Listens {
    fn new(metrics: &Arc<DatabaseMetrics>) -> Self {
        metrics.listeners().increment(1.0);
        Self(metrics.clone())
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        self.0.listeners().decrement(1.0);
    }
}

impl Ears {
    fn new(hub: Arc<Hub>, inbox: Arc<Inbox>) -> Box<Self> {
        let (channels, echo) = (Vec::new(), Echo::default());
        Box::new(Self { hub, inbox, channels, listens: None, refusal: None, echo })
    }

    /// Whether the client does not listen, and waits for nothing that it has said.
    fn is_over(&self) -> bool {
        self.channels.is_empty() && self.refusal.is_none() && self.echo.is_over()
    }

    fn listens_on(&self, channel: &str) -> bool {
        self.channels.iter().any(|known| **known == *channel)
    }

    /// A unit has ended. Whether its end waits.
    pub(super) fn keeps(&mut self, status: TransactionStatus) -> bool {
        let hears = status == TransactionStatus::Idle && !self.channels.is_empty();
        let mail = if hears { self.inbox.last() } else { None };
        self.echo.keeps(status, mail)
    }

    /// Whether the client was told what has that number in its inbox.
    pub(super) fn has_told(&self, mail: u64) -> bool {
        self.inbox.has_given(mail)
    }

    /// What others were to hear of this client has not come in time.
    pub(super) fn others_are_late(&self) {
        self.hub.is_late();
    }

    /// What the unit that is being answered, and its transaction, have said is not waited for any more.
    pub(super) fn take_back(&mut self) {
        let tickets = self.echo.take_back();
        self.gives_up(&tickets);
    }

    /// What was committed may have told what the client listens to: by a trigger, or as its text does not say.
    pub(super) fn marks(&mut self) {
        if let Some(ticket) = self.listens.as_ref().and_then(|_| self.echo.mark()) {
            self.hub.mark(&self.inbox, ticket);
        }
    }

    /// The client is told of the end of a unit.
    pub(super) fn next(&mut self) {
        let tickets = self.echo.next();
        self.gives_up(&tickets);
    }

    fn gives_up(&self, tickets: &[Ticket]) {
        if !tickets.is_empty() {
            self.hub.takes_back(&self.inbox, tickets);
        }
    }

    fn leave(&mut self, gone: impl Fn(&str) -> bool) {
        let (hub, inbox) = (&self.hub, &self.inbox);
        self.channels.retain(|channel| {
            let gone = gone(channel);
            if gone {
                hub.leave(channel, inbox);
            }
            !gone
        });
        self.listens.take_if(|_| self.channels.is_empty());
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.leave(|_| true);
    }
}

impl Answers for Ears {
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        apart(text.as_bytes()).into_iter().filter_map(|part| str::from_utf8(part).ok()).collect()
    }

    fn answer(&mut self, text: &str, run: bool) -> Result<Table, Refusal> {
        let done = |tag| Ok(Table { tag, ..Table::default() });
        if asks_channels(text.as_bytes()) {
            let rows = self.channels.iter().map(|channel| vec![Some(channel.to_string())]).collect();
            return Ok(Table { columns: vec!["pg_listening_channels"], rows, tag: "SELECT" });
        }
        match lone_listen(text.as_bytes()) {
            Some(Listen::On(name)) if run && !self.channels.contains(&name) => {
                let why = self.refusal.as_deref().unwrap_or("the server did not answer in time");
                let message = format!("cannot listen on \"{name}\": {why}");
                Err(Refusal::new(SqlState::CANNOT_CONNECT_NOW, message, "Try again."))
            }
            Some(Listen::On(_)) => done("LISTEN"),
            Some(Listen::Off(name)) => {
                if run {
                    self.leave(|channel| *channel == *name);
                }
                done("UNLISTEN")
            }
            Some(Listen::AllOff) | None => {
                if run {
                    self.leave(|_| true);
                }
                done("UNLISTEN")
            }
        }
    }
}

impl Session {
    /// What a piece wants that is about channels alone, and can be answered without a connection of the client's own; nothing, if it
    /// only asks. None: it goes the way of all others.
    #[inline]
    pub(super) fn is_about_channels(&self, piece: &Piece) -> Option<Vec<Listen>> {
        if piece.facts.pins {
            return self.listens(piece);
        }
        let listens = self.ears.as_ref().is_some_and(|ears| ears.listens.is_some());
        (listens && self.asks_channels(piece)).then(Vec::new)
    }

    /// What a piece wants that is made of LISTEN and UNLISTEN alone, and can be answered without a connection of the client's
    /// own; none: it goes the way of all others.
    #[cold]
    fn listens(&self, piece: &Piece) -> Option<Vec<Listen>> {
        // Or what a driver asks first of a statement, with a Flush: nothing is carried out yet.
        let asks = piece.flush && !piece.ends && !piece.executes;
        let whole = piece.kind == Kind::Unit && piece.rest == 0 && (asks || piece.ends && !piece.flush);
        let free = self.active.is_none() && self.held.iter().all(Option::is_none) && self.begun.is_none();
        let mode = self.identity.database.pool.mode;
        let fits = whole && free && !self.pinned && self.identity.text_safe && mode == PoolMode::Transaction;
        if !fits || piece.facts.class != Class::Session || self.speaks_other() {
            return None;
        }
        let texts = self.texts(piece, |text| lone_listen(text).is_some())?;
        let wants: Vec<_> = texts.into_iter().map(lone_listen).collect::<Option<_>>()?;
        // What is listened on is so before the first is answered: a channel that is left first would be left for good.
        let in_order = wants.is_sorted_by_key(|want| !matches!(want, Listen::On(_)));
        in_order.then_some(wants)
    }

    /// Whether a client that is listened for asks for nothing but its channels. A connection of its own would not know of them.
    #[cold]
    fn asks_channels(&self, piece: &Piece) -> bool {
        !self.pinned
            && piece.kind == Kind::Unit
            && piece.ends
            && piece.rest == 0
            && self.held.iter().flatten().all(|held| held.lease.owed.status() != TransactionStatus::Failed)
            && !matches!(self.begun, Some(Begun::Failed | Begun::TimedOut))
            && self.texts(piece, asks_channels).is_some_and(|texts| !texts.is_empty())
    }

    /// The texts that a piece runs, if they and all that it prepares are such.
    fn texts(&self, piece: &Piece, is: impl Fn(&[u8]) -> bool) -> Option<Vec<&[u8]>> {
        let bytes = self.window.as_ref()?.bytes().get(..piece.size)?;
        let (mut texts, mut rest) = (Vec::new(), bytes);
        let mut unnamed = None;
        while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
            let (message, after) = rest.split_at_checked(head.size)?;
            let body = message.get(HEADER..)?;
            let text = match head.tag {
                b'Q' => {
                    for text in apart(frontend::query(body)?) {
                        texts.push(is(text).then_some(text)?);
                    }
                    None
                }
                b'P' => {
                    let (name, text) = frontend::parse(body)?;
                    if name.is_empty() {
                        unnamed = Some(text);
                    }
                    is(text).then_some(None)?
                }
                b'B' if !piece.flush => {
                    let name = frontend::bind(body)?.1;
                    let known =
                        || frontend::parse(self.statements.meant(name)?.parse.as_deref()?.get(HEADER..)?);
                    let own = || parsed(bytes, name);
                    Some(unnamed.filter(|_| name.is_empty()).or_else(own).or_else(|| Some(known()?.1))?)
                }
                b'D' | b'E' | b'S' | b'H' | b'C' => None,
                _ => return None,
            };
            if let Some(text) = text {
                texts.push(is(text).then_some(text)?);
            }
            rest = after;
        }
        Some(texts)
    }

    /// Whether its texts are in another encoding than those that are heard.
    fn speaks_other(&self) -> bool {
        let utf8 = |value: &str| {
            let plain = value.replace(['-', '_', '\''], "").to_ascii_lowercase();
            plain == "utf8" || plain == "unicode"
        };
        let set = self.settings.as_ref().and_then(|settings| settings.value("client_encoding"));
        let mut asked = self.identity.wants.parameters.iter();
        let asked = asked.find(|(name, _)| *name == "client_encoding").map(|(_, value)| value);
        !set.or(asked).is_none_or(utf8)
    }

    /// Answers a piece of LISTEN and UNLISTEN, once the channels are listened on.
    pub(super) fn answer_listen(&mut self, piece: Piece, wants: &[Listen]) -> Result<Place, Leave> {
        let has = |name: &str| self.ears.as_ref().is_some_and(|ears| ears.listens_on(name));
        let runs = piece.executes || self.first() == Some(b'Q');
        let lacks = runs && wants.iter().any(|want| matches!(want, Listen::On(name) if !has(name)));
        if lacks && self.ears.as_ref().is_none_or(|ears| ears.refusal.is_none()) {
            self.next = Some(Next::Listen);
            return Ok(Place::Wait);
        }
        let Some(mut ears) = self.ears.take().or_else(|| self.new_ears()) else {
            return Err(Leave::Told(Failure::NoServer));
        };
        let reason = piece.facts.reason;
        self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        self.piece = None;
        let prepared = self.prepares(&piece);
        let answered = self.answer_at_desk(piece, &mut *ears);
        // In a transaction a server has to carry them out.
        let epoch = self.definitions();
        for name in prepared {
            let (registry, path) = (&self.shared.prepared, self.identity.search_path.as_ref());
            self.statements.share(&name, |tail| registry.statement(tail, path, epoch));
        }
        ears.refusal = None;
        self.ears = Some(ears);
        self.drop_ears();
        self.mail_first();
        answered
    }

    /// The names of the statements that a piece prepares.
    fn prepares(&self, piece: &Piece) -> Vec<Box<[u8]>> {
        let mut names = Vec::new();
        let bytes = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size));
        let mut rest = bytes.unwrap_or_default();
        while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
            let Some((message, after)) = rest.split_at_checked(head.size) else { break };
            let name = message.get(HEADER..).filter(|_| head.tag == b'P').and_then(frontend::parse_name);
            names.extend(name.filter(|name| !name.is_empty()).map(Box::from));
            rest = after;
        }
        names
    }

    fn new_ears(&self) -> Option<Box<Ears>> {
        let database = &self.identity.database;
        let hub = database.hubs.get(database.on_servers(&self.identity.name))?;
        Some(Ears::new(hub, Inbox::new(self.shared.options.inbox)))
    }

    /// Nothing is kept for who neither listens nor waits.
    pub(super) fn drop_ears(&mut self) {
        self.ears.take_if(|ears| ears.is_over());
    }

    /// Waits until the channels of the piece are listened on.
    pub(super) async fn wait_listen(&mut self) -> Result<(), Leave> {
        let Some(piece) = self.piece else { return Ok(()) };
        let wants = self.listens(&piece).unwrap_or_default();
        if self.ears.is_none() {
            self.ears = self.new_ears();
        }
        for want in wants {
            let Some(ears) = &mut self.ears else { return Ok(()) };
            let Listen::On(name) = want else { continue };
            if ears.channels.contains(&name) {
                continue;
            }
            // It is left again when the client goes, whatever comes of this.
            ears.channels.push(name.clone());
            ears.listens.get_or_insert_with(|| Listens::new(&self.identity.database.metrics));
            let (hub, inbox) = (ears.hub.clone(), ears.inbox.clone());
            let database = self.identity.database.clone();
            let limit = CONFIRM.max(database.failover.options().wait);
            let mut listening = pin!(database.listen(&hub, &name, &inbox, piece.size));
            let mut late = pin!(sleep_until(clock::now() + limit));
            let outcome = poll_fn(|cx| self.poll_wait(cx, &mut listening, &mut late)).await?;
            let outcome = outcome.map(|outcome| outcome.map_err(|unheard| unheard.to_string()));
            let outcome = outcome.unwrap_or_else(|| Err("the server did not answer in time".to_owned()));
            if let (Err(why), Some(ears)) = (outcome, &mut self.ears) {
                ears.leave(|channel| *channel == *name);
                ears.refusal = Some(why);
            }
        }
        Ok(())
    }

    /// Tells what has come, if nothing is under way. True: there was something.
    #[cold]
    pub(super) fn tell_heard(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        let (idle, holds) = (self.is_idle(), self.holds_ready());
        let shown = self.back.run == 0 && self.back.own.is_empty() && self.sharing.ride.is_none();
        let Some(ears) = &mut self.ears else { return Ok(false) };
        if !holds && ears.channels.is_empty() {
            return Ok(false);
        }
        let most = if idle || holds && shown { AT_ONCE } else { 0 };
        let echo = &mut ears.echo;
        let told = ears.inbox.take(cx, &mut self.back.own, most, |message| echo.told(message));
        match told {
            Err(why) if idle => Err(Leave::Told(Failure::Missed(why))),
            told if holds => Ok(self.may_end_unit(cx, told.is_err()) || told.unwrap_or(false)),
            told => Ok(told.unwrap_or(false)),
        }
    }

    /// What has come for the client goes before the end of the unit that pgweir has answered itself.
    pub(super) fn mail_first(&mut self) {
        let Some(before) = self.ears.as_ref().and_then(|_| self.back.own.strip_suffix(READY)) else { return };
        let before = before.len();
        self.back.own.truncate(before);
        self.tell_ready(TransactionStatus::Idle);
    }

    /// Those who listen are to know a notification that the piece sends as this client's, where its text says which that is.
    #[cold]
    pub(super) fn says(&mut self, piece: &Piece) -> Option<()> {
        let database = &self.identity.database;
        let hub = database.hubs.known(database.on_servers(&self.identity.name))?;
        let unit = self.window.as_ref()?.bytes().get(..piece.size)?;
        let run = self.run_of(unit, true)?;
        let (channel, payload) = lone_notify(run.text)?;
        let (channel, payload) = (run.text_of(&channel)?, run.text_of(&payload)?);
        let said = (&*channel, &*payload);
        let server = self.held.get(self.active?.index())?.as_ref()?.lease.key.process;
        let (client, since) = (self.identity.cancel.key.process, clock::now());
        hub.says((client, server), said, since, |others| self.foresee(&hub, said, others));
        self.said.get_or_insert((hub, since));
        Some(())
    }

    /// What the client is about to say comes to itself, too, if it listens there; `others`: to others.
    fn foresee(&mut self, hub: &Arc<Hub>, said: (&str, &str), others: bool) -> Option<Own> {
        let own = self.ears.as_ref().is_some_and(|ears| ears.listens_on(said.0));
        if !(own || others) || !self.identity.text_safe || self.speaks_other() {
            return None;
        }
        let behind = self.held()?.lease.owed.readies();
        let limits = self.shared.options.inbox;
        let ears = self.ears.get_or_insert_with(|| Ears::new(hub.clone(), Inbox::new(limits)));
        let ticket = ears.echo.foresee(said, behind, own)?;
        Some(Own { ticket, inbox: ears.inbox.clone() })
    }

    /// The connection that works for the client may listen for it.
    #[cold]
    pub(super) fn hears_itself(&mut self) {
        let database = &self.identity.database;
        let hub = database.hubs.get(database.on_servers(&self.identity.name));
        let client = self.identity.cancel.key.process;
        let Some(held) = self.held().filter(|held| held.hearer.is_none()) else { return };
        held.hearer = hub.map(|hub| Box::new(hub.hearer(client)));
    }

    /// The connection that works for the client listens on these channels: nobody else needs to.
    #[cold]
    pub(super) fn hears_by_itself(&mut self, channels: &[String]) {
        if let Some(ears) = &mut self.ears {
            ears.leave(|channel| channels.iter().any(|known| known == channel));
        }
        self.drop_ears();
    }

    /// The piece may have an UNLISTEN * or a DISCARD ALL among others, as what drivers send before a connection goes back to
    /// their pool.
    #[cold]
    pub(super) fn may_unlisten(&mut self, piece: &Piece) {
        let bytes = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size));
        let text = bytes.unwrap_or_default().to_ascii_lowercase();
        let says = |word: &[u8]| memchr::memmem::find(&text, word).is_some();
        if says(b"unlisten *") || says(b"discard all") {
            self.ears.iter_mut().for_each(|ears| ears.leave(|_| true));
            self.drop_ears();
        }
    }
}

/// A notification that the connection's own process has sent was sent by its client, under the number that this one knows; one of
/// another process by whoever is known to have said that there.
#[cold]
pub(super) fn sign(
    window: &mut Window,
    (at, there): (usize, usize),
    server: u32,
    client: u32,
    hearer: Option<&mut Hearer>,
) {
    let body = window.bytes().get(at + HEADER..at + there).unwrap_or_default();
    let Some((process, said)) = body.split_first_chunk() else { return };
    let process = u32::from_be_bytes(*process);
    let author = if process == server {
        Some(client)
    } else {
        cstr(said).and_then(|(channel, rest)| hearer?.author(process, channel, cstr(rest)?.0, clock::now()))
    };
    for (nth, byte) in author.map(u32::to_be_bytes).into_iter().flatten().enumerate() {
        window.replace(at + HEADER + nth, byte);
    }
}

/// The text that the unit itself has prepared under that name.
fn parsed<'a>(unit: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = unit;
    let mut found = None;
    while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
        let (message, after) = rest.split_at_checked(head.size)?;
        if head.tag == b'P' {
            let (new, text) = frontend::parse(message.get(HEADER..)?)?;
            found = Some(text).filter(|_| new == name).or(found);
        }
        rest = after;
    }
    found
}
