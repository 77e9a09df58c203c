//! The channels that clients listen on: one connection to the primary for each database hears for all of them.
//!
//! A channel counts as listened on only when the server has confirmed it, so nothing that is sent after that is missed. When the
//! connection is lost or its server is no longer the primary, what was sent meanwhile is lost too: all who listened are told, as
//! PostgreSQL tells them by closing their connections.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};

use super::inbox::{Inbox, Missed};
use super::link::{LinkError, innermost, open};
use super::said::{Hearer, LONGEST_WAY, Log, MOST};
use super::{Cluster, Options};
use crate::clock::{Duration, Instant};
use crate::ids::Node;
use crate::wire::write::{self, quote_identifier};

/// A connection that nobody needs is closed after this long.
const UNUSED: Duration = Duration::from_secs(10);

/// Most databases of one entry that are listened to.
const MOST_HUBS: usize = 1_000;

/// After so many in a row that others were to hear and that did not come in time, nobody waits for such any more until one is known
/// again: something between pgweir and the server changes its process numbers.
const MOST_LATE: u8 = 3;

/// Which of its own notifications a client waits for.
pub type Ticket = u64;

#[derive(Debug, Default)]
struct Channel {
    /// The server has confirmed it.
    live: bool,
    inboxes: Vec<Arc<Inbox>>,
}

/// Which client sent a notification that is on its way: its listeners are told the process number that this client was told.
#[derive(Debug)]
struct Author {
    /// The server's process that carries it out.
    server: u32,
    channel: Box<str>,
    payload: Box<str>,
    client: u32,
    /// Who waits for it to be heard.
    own: Option<Own>,
    /// It may have been rolled back.
    void: bool,
    since: Instant,
}

impl Author {
    fn is(&self, inbox: &Arc<Inbox>, tickets: &[Ticket]) -> bool {
        self.own.as_ref().is_some_and(|own| tickets.contains(&own.ticket) && Arc::ptr_eq(&own.inbox, inbox))
    }

    /// It is not heard, or too late: who waits for it goes on.
    fn lets_go(&mut self) {
        if let Some(own) = self.own.take() {
            let mut message = BytesMut::new();
            write::notification(&mut message, self.client.cast_signed(), &self.channel, &self.payload);
            own.inbox.receipt(message.freeze());
        }
    }
}

/// A notification that whoever sends it waits for.
#[derive(Debug)]
pub struct Own {
    /// Its number among those of that inbox.
    pub ticket: Ticket,
    /// Where it comes, or a receipt for it if whoever sends it does not listen there.
    pub inbox: Arc<Inbox>,
}

/// Why nobody listens on a channel.
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("{why}")]
pub struct Unheard {
    why: String,
    /// There is no primary, or it was lost: the next one may be listened to.
    pub outage: bool,
}

#[derive(Debug, Default)]
struct Inner {
    channels: HashMap<Box<str>, Channel>,
    authors: VecDeque<Author>,
    /// Who waits for all that was said until now, and what they are told then.
    marks: Vec<(Arc<Inbox>, Bytes)>,
    /// So many in a row that others were to hear were not heard in time.
    late: u8,
    /// Somebody drives the connection.
    running: bool,
    /// Why the last one ended.
    failure: Unheard,
}

impl Inner {
    /// The number by which clients know who said that: the client's, or that of the server's process. And who waits for it.
    fn author(&mut self, server: i32, channel: &str, payload: &str) -> (i32, Option<Own>) {
        let is = |author: &Author| {
            author.server.cast_signed() == server
                && *author.channel == *channel
                && *author.payload == *payload
        };
        let certain = self.authors.iter().position(|author| is(author) && !author.void);
        let place = certain.or_else(|| self.authors.iter().position(is));
        let author = place.and_then(|place| self.authors.remove(place));
        if author.is_some() {
            self.late = 0;
        }
        author.map_or((server, None), |author| (author.client.cast_signed(), author.own))
    }

    /// What was said on a channel while it was not listened on is hardly heard.
    fn void(&mut self, channel: &str) {
        for author in self.authors.iter_mut().filter(|author| *author.channel == *channel) {
            author.lets_go();
            author.void = true;
        }
    }
}

/// Who hears for all clients of one database.
pub struct Hub {
    monitor: Options,
    cluster: Arc<Cluster>,
    database: String,
    inner: Mutex<Inner>,
    log: Arc<Log>,
    /// There is something to do.
    wake: Notify,
    /// Something was done.
    changed: Notify,
}

/// Those of all databases of one entry.
pub struct Hubs {
    monitor: Options,
    cluster: Arc<Cluster>,
    hubs: Mutex<HashMap<String, Arc<Hub>>>,
}

impl Hubs {
    /// None yet.
    #[must_use]
    pub fn new(monitor: Options, cluster: Arc<Cluster>) -> Self {
        Self { monitor, cluster, hubs: Mutex::default() }
    }

    /// That of a database, by its name on the servers. None: there are too many.
    #[must_use]
    pub fn get(&self, database: &str) -> Option<Arc<Hub>> {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(database) {
            return Some(hub.clone());
        }
        if hubs.len() >= MOST_HUBS {
            return None;
        }
        let hub = Arc::new(Hub {
            monitor: self.monitor.clone(),
            cluster: self.cluster.clone(),
            database: database.to_owned(),
            inner: Mutex::default(),
            log: Arc::default(),
            wake: Notify::new(),
            changed: Notify::new(),
        });
        hubs.insert(database.to_owned(), hub.clone());
        Some(hub)
    }
}

impl Hubs {
    /// That of a database, if anybody has ever listened there.
    #[must_use]
    pub fn known(&self, database: &str) -> Option<Arc<Hub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner).get(database).cloned()
    }
}

type Wire = Connection<Socket, NoTlsStream>;

impl Hub {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes on that channel goes into that inbox from when the future is ready.
    ///
    /// # Errors
    /// Why that cannot be.
    pub async fn listen(self: &Arc<Self>, channel: &str, inbox: &Arc<Inbox>) -> Result<(), Unheard> {
        {
            let mut inner = self.inner();
            let listeners = &mut inner.channels.entry(channel.into()).or_default().inboxes;
            if !listeners.iter().any(|known| Arc::ptr_eq(known, inbox)) {
                listeners.push(inbox.clone());
            }
            if !std::mem::replace(&mut inner.running, true) {
                Handle::current().spawn(self.clone().run());
            }
        }
        self.wake.notify_one();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let inner = self.inner();
                let known = inner.channels.get(channel);
                match known.filter(|known| known.inboxes.iter().any(|known| Arc::ptr_eq(known, inbox))) {
                    Some(known) if known.live => return Ok(()),
                    Some(_) => {}
                    None => return Err(inner.failure.clone()),
                }
            }
            changed.await;
        }
    }

    /// Nothing more that comes on that channel goes into that inbox.
    pub fn leave(&self, channel: &str, inbox: &Arc<Inbox>) {
        if let Some(known) = self.inner().channels.get_mut(channel) {
            known.inboxes.retain(|known| !Arc::ptr_eq(known, inbox));
        }
        self.wake.notify_one();
    }

    /// A client is about to say that on that channel, by that process of the server. `own`: whether it waits for that to be heard,
    /// where it is told whether others listen there.
    pub fn says(
        &self,
        (client, server): (u32, u32),
        (channel, payload): (&str, &str),
        since: Instant,
        own: impl FnOnce(bool) -> Option<Own>,
    ) {
        self.log.note(client, server, channel, payload, since);
        let mut inner = self.inner();
        let Some(known) = inner.channels.get(channel) else { return };
        let own = own(known.live && !known.inboxes.is_empty() && inner.late < MOST_LATE);
        if let Some(own) = &own {
            // What a transaction says twice comes once.
            inner.authors.retain(|author| !author.is(&own.inbox, &[own.ticket]));
        }
        let late = |author: &Author| since.duration_since(author.since) > LONGEST_WAY;
        while inner.authors.len() >= MOST || inner.authors.front().is_some_and(late) {
            inner.authors.pop_front().iter_mut().for_each(Author::lets_go);
        }
        let (channel, payload) = (channel.into(), payload.into());
        inner.authors.push_back(Author { server, channel, payload, client, own, void: false, since });
    }

    /// A client that listens waits until all is heard that the server has been told until now: by a trigger, say. The message that
    /// says so has no channel, and the number as its payload.
    pub fn mark(&self, inbox: &Arc<Inbox>, ticket: Ticket) {
        let mut message = BytesMut::new();
        write::notification(&mut message, 0, "", &ticket.to_string());
        let mut inner = self.inner();
        if inner.running {
            inner.marks.push((inbox.clone(), message.freeze()));
            drop(inner);
            self.wake.notify_one();
        } else {
            inbox.mark(message.freeze());
        }
    }

    /// What a client has said to others was not heard in time.
    pub fn is_late(&self) {
        let mut inner = self.inner();
        inner.late = inner.late.saturating_add(1);
    }

    /// A client listens on a connection of its own.
    #[must_use]
    pub fn hearer(&self, client: u32) -> Hearer {
        Hearer::new(self.log.clone(), client)
    }

    /// What a client has said under these numbers was rolled back, or part of it was.
    pub fn takes_back(&self, inbox: &Arc<Inbox>, tickets: &[Ticket]) {
        for author in self.inner().authors.iter_mut().filter(|author| author.is(inbox, tickets)) {
            author.own = None;
            author.void = true;
        }
    }

    /// What a client has said since then was rolled back, or part of it was: others have rather said the same.
    pub fn doubts(&self, client: u32, since: Instant) {
        self.log.doubt(client, since);
        let mut inner = self.inner();
        let said = inner.authors.iter_mut().filter(|author| author.client == client && author.since >= since);
        // What it waits for itself it takes back by number.
        said.filter(|author| author.own.is_none()).for_each(|author| author.void = true);
    }

    async fn run(self: Arc<Self>) {
        let failure = self.serve().await.err();
        let mut inner = self.inner();
        inner.running = false;
        if let Some(failure) = &failure {
            tracing::warn!(database = %self.database, %failure, "the connection that listens for clients ended");
        }
        let unheard = |error: LinkError| Unheard { why: error.to_string(), outage: error.is_outage() };
        inner.failure = failure.map(unheard).unwrap_or_default();
        inner.authors.drain(..).for_each(|mut author| author.lets_go());
        inner.marks.drain(..).for_each(|(inbox, mark)| inbox.mark(mark));
        let heard = inner.channels.drain().filter(|(_, channel)| channel.live);
        heard.flat_map(|(_, channel)| channel.inboxes).for_each(|inbox| inbox.miss(Missed::Lost));
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Hears until nobody listens.
    async fn serve(&self) -> Result<(), LinkError> {
        let Some((node, address)) = self.primary() else { return Err(LinkError::NoPrimary) };
        let end = self.hear(node, &address).await;
        match &end {
            Err(LinkError::NoPrimary) => {}
            Err(error) if error.is_outage() => self.cluster.lost(node, error.to_string()),
            _ => {}
        }
        end
    }

    async fn hear(&self, node: Node, address: &crate::net::Address) -> Result<(), LinkError> {
        let opening = open(address, &self.monitor.login, &self.database);
        let opened = timeout(self.monitor.timeout, opening).await;
        let (client, mut wire) = opened.map_err(|_| LinkError::TimedOut(self.monitor.timeout))??;
        let encoding = self.ask(&client, &mut wire, "SHOW server_encoding").await?;
        if encoding.as_deref() != Some("UTF8") {
            return Err(LinkError::Nonsense);
        }
        loop {
            let (text, names) = self.due();
            let marks = std::mem::take(&mut self.inner().marks);
            if !text.is_empty() || !marks.is_empty() {
                // The server tells what has been said before it answers anything, if that is nothing.
                let limit = self.monitor.timeout;
                let done = timeout(limit, self.drive(&mut wire, client.batch_execute(&text))).await;
                marks.into_iter().for_each(|(inbox, mark)| inbox.mark(mark));
                done.map_err(|_| LinkError::TimedOut(limit))???;
                self.confirm(&names);
                continue;
            }
            let idle = self.inner().channels.is_empty();
            let epoch = self.cluster.epoch();
            if self.cluster.view().primary() != Some(node) {
                return Err(LinkError::NoPrimary);
            }
            tokio::select! {
                heard = poll_fn(|cx| wire.poll_message(cx)) => self.heard(heard)?,
                () = self.wake.notified() => {}
                () = self.cluster.changed(epoch) => {}
                () = tokio::time::sleep(UNUSED), if idle => {
                    let inner = self.inner();
                    if inner.channels.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn primary(&self) -> Option<(Node, crate::net::Address)> {
        let view = self.cluster.view();
        let node = view.primary()?;
        Some((node, crate::net::Address::clone(self.cluster.address(node)?)))
    }

    /// What the server is to be told, and the channels that it confirms by it.
    fn due(&self) -> (String, Vec<Box<str>>) {
        let (mut text, mut names) = (String::new(), Vec::new());
        let mut inner = self.inner();
        let mut left = Vec::new();
        inner.channels.retain(|name, channel| {
            let wanted = !channel.inboxes.is_empty();
            if wanted && !channel.live {
                text += &format!("LISTEN {};", quote_identifier(name));
                names.push(name.clone());
            } else if !wanted && channel.live {
                text += &format!("UNLISTEN {};", quote_identifier(name));
                left.push(name.clone());
            }
            wanted
        });
        left.iter().for_each(|name| inner.void(name));
        (text, names)
    }

    fn confirm(&self, names: &[Box<str>]) {
        let mut inner = self.inner();
        for name in names {
            inner.void(name);
            if let Some(channel) = inner.channels.get_mut(name) {
                channel.live = true;
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Waits for an answer, and hears meanwhile.
    async fn drive<T>(&self, wire: &mut Wire, answer: impl Future<Output = T>) -> Result<T, LinkError> {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                heard = poll_fn(|cx| wire.poll_message(cx)) => self.heard(heard)?,
            }
        }
    }

    async fn ask(&self, client: &Client, wire: &mut Wire, text: &str) -> Result<Option<String>, LinkError> {
        let limit = self.monitor.timeout;
        let rows = timeout(limit, self.drive(wire, client.simple_query(text))).await;
        let rows = rows.map_err(|_| LinkError::TimedOut(limit))???;
        Ok(rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    fn heard(&self, heard: Option<Result<AsyncMessage, tokio_postgres::Error>>) -> Result<(), LinkError> {
        match heard {
            None => Err(LinkError::Closed),
            Some(Err(error)) => {
                tracing::debug!(error = %innermost(&error), "the connection that listens broke");
                Err(error.into())
            }
            Some(Ok(AsyncMessage::Notification(heard))) => {
                let mut message = BytesMut::new();
                let (channel, payload) = (heard.channel(), heard.payload());
                let mut inner = self.inner();
                let (process, own) = inner.author(heard.process_id(), channel, payload);
                write::notification(&mut message, process, channel, payload);
                let message = message.freeze();
                let mut comes = false;
                for inbox in inner.channels.get(channel).into_iter().flat_map(|known| &known.inboxes) {
                    let is_own = own.as_ref().is_some_and(|own| Arc::ptr_eq(&own.inbox, inbox));
                    comes |= is_own;
                    inbox.put(&message, is_own);
                }
                // Once all others have it.
                if let Some(own) = own.filter(|_| !comes) {
                    own.inbox.receipt(message);
                }
                Ok(())
            }
            Some(Ok(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::super::InboxLimits;
    use super::*;

    #[test]
    fn who_waits_for_what_is_not_heard_goes_on() {
        let inbox = Inbox::new(InboxLimits { count: 1, bytes: 100 });
        let mut inner = Inner { late: MOST_LATE, ..Inner::default() };
        let since = crate::clock::now();
        for (ticket, channel, payload) in [(1, "a", "x"), (2, "b", "x"), (3, "a", "y"), (4, "a", "x")] {
            let own = Some(Own { ticket, inbox: inbox.clone() });
            let (channel, payload) = (channel.into(), payload.into());
            inner.authors.push_back(Author {
                server: 7,
                channel,
                payload,
                client: 9,
                own,
                void: false,
                since,
            });
        }
        // Each once, and first what was said first.
        let (number, own) = inner.author(7, "a", "x");
        assert_eq!((number, own.map(|own| own.ticket), inner.late), (9, Some(1), 0));
        inner.void("a");
        let mut receipts = Vec::new();
        let cx = Context::from_waker(Waker::noop());
        let taken = inbox.take(&cx, &mut BytesMut::new(), 0, |message| receipts.push(message.to_vec()));
        assert_eq!((taken, receipts.len()), (Ok(false), 2));
        assert!(receipts[0].ends_with(b"a\0y\0") && receipts[1].ends_with(b"a\0x\0"));
        // It is still known who said it, but not that somebody waits.
        for (channel, payload, ticket) in [("a", "y", None), ("b", "x", Some(2))] {
            let (number, own) = inner.author(7, channel, payload);
            assert_eq!((number, own.map(|own| own.ticket)), (9, ticket));
        }
        inner.late = MOST_LATE;
        assert_eq!((inner.author(8, "a", "x").0, inner.late), (8, MOST_LATE));
    }
}
