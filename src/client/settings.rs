//! The settings of a client's session: where a statement may have changed them, the server is asked when the transaction is
//! over; what it says is put onto every server connection that the client gets after that.
//!
//! From the statement to the answer the connection is the client's, and all that it sends goes there. The answer also says
//! whether something is left that lives on that connection alone (temporary objects, session locks, cursors, LISTEN, SQL's
//! PREPARE): as long as there is, the client keeps it.

use std::sync::Arc;

use super::handshake::is_text_safe;
use super::options::SettingLimits;
use super::prepared::NOBODY;
use super::session::{Held, Session};
use super::unit::{Gather, Piece, Residue, primary_only};
use crate::pool::{Lease, PoolMode};
use crate::route::{Class, Facts, Reason, Sets};
use crate::server::owed::Show;
use crate::server::settings::{self, Answer, Haste, Login, Settings, SqlPrepared};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{Header, backend, write};

/// Whether a connection may have been changed by what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// No, or its server has said how.
    None,
    /// It may: the server is asked.
    Open,
    /// The server is being asked.
    Asked,
    /// It may, and the server did not say: the connection is kept until it does.
    Unanswered,
}

/// What of pgweir's own about settings is under way on a connection.
#[derive(Debug)]
pub(super) enum Under {
    /// Nothing.
    Nothing,
    /// The client's `application_name` is put onto it.
    Named,
    /// The server is asked.
    Asked(Box<Answer>),
    /// Nothing; the Sync with that number ends the replica's part of a unit that moves to the primary.
    Moves(u32),
}

/// How often a server is asked what is in force before its client goes on.
const MOST_QUESTIONS: u8 = 3;

/// Names of settings that the client may have made up.
#[derive(Debug, Default)]
pub(super) struct Custom {
    names: Vec<Box<str>>,
    bytes: usize,
    /// There were more: they are not known.
    over: bool,
}

impl Custom {
    /// A text that sets something may spell a name with escapes: it is not known then.
    fn mind_escapes(&mut self, mut messages: &[u8]) {
        while let Ok(Some(head)) = frame::header(messages, Side::Frontend) {
            let body = messages.get(HEADER..head.size.min(messages.len())).unwrap_or_default();
            let unicode = body.windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"u&'"));
            self.over |= matches!(head.tag, b'Q' | b'P') && (unicode || body.contains(&b'\\'));
            messages = messages.get(head.size..).unwrap_or_default();
        }
    }

    fn collect(&mut self, message: &[u8], limits: SettingLimits) {
        settings::dotted(message, |name| {
            if self.names.iter().any(|known| **known == *name) {
                return;
            }
            // Most are those of tables and columns.
            if self.names.len() >= 4 * limits.count || self.bytes + name.len() > limits.bytes {
                self.over = true;
                return;
            }
            self.bytes += name.len();
            self.names.push(name.into());
        });
    }
}

/// Whether a statement may end what keeps a connection.
fn may_end(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Ddl
            | Reason::Temporary
            | Reason::Cursor
            | Reason::Prepare
            | Reason::AdvisoryLock
            | Reason::Listen
            | Reason::Session
            | Reason::MultiStatementWrite
    )
}

impl Held {
    /// Whether its server is being asked what is in force on it.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.under, Under::Asked(_))
    }

    /// Its server did not say what is in force, because the question was cancelled, most likely: it is asked once more.
    #[cold]
    fn asked_in_vain(&mut self) {
        if self.doubt == Change::Asked {
            self.vain = self.vain.saturating_add(1);
            self.doubt = if self.vain < MOST_QUESTIONS { Change::Open } else { Change::Unanswered };
        }
    }

    /// Whether the client would miss what lives on it.
    pub(super) fn is_missed(&self) -> bool {
        self.has_state() && (self.changed || self.pin_counted)
    }
}

impl Session {
    /// A piece that may change the session is about to be sent.
    pub(super) fn note_state(&mut self, piece: &Piece) {
        let facts = piece.facts;
        let has_state = self.held().is_some_and(|held| held.has_state());
        if facts.pins || has_state && may_end(facts.reason) || self.may_set_inside(facts) {
            self.doubt(piece);
        }
    }

    /// Whether what a statement calls may change settings in turn.
    fn may_set_inside(&self, facts: Facts) -> bool {
        if facts.class != Class::Write {
            return false;
        }
        match self.identity.last_known.as_ref().map_or(Sets::Nothing, |catalog| catalog.sets()) {
            Sets::Nothing => false,
            Sets::Calls => matches!(
                facts.reason,
                Reason::UserFunction | Reason::View | Reason::VolatileOperator | Reason::MultiStatementWrite
            ),
            Sets::Writes => true,
        }
    }

    #[cold]
    fn doubt(&mut self, piece: &Piece) {
        if self.ears.is_some() {
            self.may_unlisten(piece);
        }
        let limits = self.shared.options.settings;
        if let Some(window) = &self.window {
            let messages = window.bytes().get(..piece.size).unwrap_or_default();
            self.custom.collect(messages, limits);
            if piece.facts.class == Class::Session {
                self.custom.mind_escapes(messages);
            }
        }
        if piece.facts.reason == Reason::Listen {
            self.hears_itself();
        }
        let unseen = piece.facts.unseen;
        let Some(held) = self.held() else { return };
        held.unseen |= unseen;
        held.doubt = Change::Open;
        let session = held.lease.pool().options().mode == PoolMode::Session;
        held.changed |= unseen || session || piece.facts.class == Class::Session;
        if !held.has_state() {
            held.residue = Residue::State;
            if session {
                let reason = piece.facts.reason;
                self.identity.database.metrics.pin(reason.index(), reason.code());
                self.identity.cancel.pins(Some(reason));
            }
        }
        self.pinned = true;
    }

    /// The active connection has nothing more to do. True: its server is asked first.
    pub(super) fn asks(&mut self) -> bool {
        match self.held() {
            Some(held) if held.doubt == Change::Open => self.ask(),
            _ => false,
        }
    }

    #[cold]
    fn ask(&mut self) -> bool {
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return false;
        };
        if held.lease.pool().options().mode == PoolMode::Session {
            // It stays the client's as it is.
            held.doubt = Change::Unanswered;
            return false;
        }
        if self.statements.needs(&held.lease) {
            // The question would end the client's unnamed statement. The connection stays its own as long as it has that.
            return false;
        }
        held.doubt = Change::Asked;
        let known = held.lease.settings.clone();
        let custom = self.custom.names.iter().map(|name| &**name);
        let more = known.iter().flat_map(|known| known.custom());
        let of_functions = self.identity.last_known.as_ref().map(|catalog| catalog.custom());
        let more = more.chain(of_functions.into_iter().flatten());
        let more = more.filter(|name| !self.custom.names.iter().any(|known| **known == **name));
        for name in std::mem::take(&mut held.made) {
            // Some may have made way already.
            if held.lease.prepared.get(name.as_bytes()) == Some(&NOBODY) {
                held.lease.owed.sent(b'C', Show::Swallow);
                write::close_statement(&mut self.forth.own, name.as_bytes());
                self.statements.send_own_close(name.as_bytes());
            }
        }
        let shared = (!held.lease.shared.is_empty()).then(|| self.shared.prepared.prefix());
        let haste = match held.vain {
            0 if known.as_ref().is_some_and(|known| known.hurry()) => Haste::Exempt,
            0 => Haste::Heeded,
            1 => Haste::Exempt,
            _ => Haste::ExemptAtOnce,
        };
        let question = settings::question(custom.chain(more), shared, haste);
        held.lease.query(&mut self.forth.own, &question);
        held.under = Under::Asked(Box::default());
        true
    }

    /// Takes a message that the client does not see out of the server's window.
    pub(super) fn swallow(&mut self, at: usize, there: usize, head: Header) {
        if head.tag == b'D' {
            self.heard_row(at, head);
        }
        if let Some(window) = self.held().and_then(|held| held.lease.window.as_mut()) {
            window.cut_out(at, there);
        }
        self.back.hold = at;
    }

    /// A row that only pgweir sees stands in the server's window at `at`.
    #[cold]
    pub(super) fn heard_row(&mut self, at: usize, head: Header) {
        let role = self.identity.wants.parameters.iter().any(|(name, _)| matches!(name, "options" | "role"));
        let user = match &self.identity.database.login {
            Some(login) => login.user.clone(),
            None => self.identity.user.clone(),
        };
        let Some(Held { under: Under::Asked(answer), lease, .. }) = self.held() else { return };
        let message = lease.window.as_ref().and_then(|window| window.bytes().get(at..)).unwrap_or_default();
        match message.get(HEADER..head.size) {
            Some(body) => answer.row(backend::three_columns(body), Login { user: &user, role }),
            // Longer than a window.
            None => answer.failed = true,
        }
    }

    /// An error that only pgweir sees. True: that is all there is to it.
    #[cold]
    pub(super) fn heard_error(&mut self, at: usize, head: Header) -> bool {
        let Some(held) = self.held() else { return false };
        match &mut held.under {
            Under::Nothing | Under::Moves(_) if held.lease.owed.is_prefaced() => self.hear_refusal(at, head),
            Under::Nothing | Under::Moves(_) => return false,
            Under::Asked(answer) => answer.failed = true,
            Under::Named => {
                held.lease.application_name = None;
                return false;
            }
        }
        true
    }

    /// A ReadyForQuery that only pgweir sees.
    #[cold]
    pub(super) fn heard_ready(&mut self, number: u32) {
        if let Some((statements, server)) = self.statements_on_server() {
            statements.ended(number, server);
        }
        let Some(held) = self.held() else { return };
        match std::mem::replace(&mut held.under, Under::Nothing) {
            Under::Moves(sync) if sync == number => self.moved(),
            Under::Moves(sync) => held.under = Under::Moves(sync),
            Under::Nothing | Under::Named => {}
            Under::Asked(answer) if answer.failed => held.asked_in_vain(),
            Under::Asked(answer) => self.told_settings(*answer),
        }
    }

    /// The server has said what is in force.
    fn told_settings(&mut self, mut answer: Answer) {
        let limits = self.shared.options.settings;
        let unseen = self.custom.over || self.held().is_some_and(|held| held.unseen);
        let list = answer.settings(limits.count, limits.bytes);
        let left = match answer.left.as_bytes().first() {
            _ if unseen || list.is_none() => Some(Reason::Session),
            Some(b't') => Some(Reason::Temporary),
            Some(b'a') => Some(Reason::AdvisoryLock),
            Some(b'c') => Some(Reason::Cursor),
            Some(b'n') => Some(Reason::Listen),
            Some(_) => Some(Reason::Prepare),
            None => None,
        };
        let list = list.filter(|list| *list != Settings::default()).map(Arc::new);
        self.adopt(&answer, list.as_deref());
        self.settings.clone_from(&list);
        let name: Arc<str> = self.identity.wants.application_name.clone();
        let Some(held) = self.held() else { return };
        if answer.shared.is_some_and(|there| there < held.lease.shared.len()) {
            held.lease.shared.doubt();
        }
        held.vain = 0;
        held.lease.settings = list;
        held.lease.application_name = answer.application_name.1.then_some(name);
        if held.doubt != Change::Asked {
            // More has been sent since: the server is asked again.
            return;
        }
        if !unseen && self.share_made(answer.prepared) {
            return;
        }
        let Some(held) = self.held() else { return };
        held.doubt = Change::None;
        held.changed = false;
        held.residue = if left.is_some() { Residue::State } else { held.floor };
        let listens = answer.left.contains('n');
        held.hearer.take_if(|_| !listens);
        let fresh = left.filter(|_| !std::mem::replace(&mut held.pin_counted, left.is_some()));
        self.pinned = left.is_some();
        if listens {
            self.hears_itself();
            self.hears_by_itself(&answer.channels);
        }
        if let Some(reason) = fresh {
            self.identity.database.metrics.pin(reason.index(), reason.code());
            self.identity.cancel.pins(Some(reason));
        } else if !self.pinned {
            self.identity.cancel.pins(None);
        }
    }

    /// What SQL has prepared becomes a statement that clients share, as if the protocol had. True: the server is asked once
    /// more, and drops it before that.
    fn share_made(&mut self, made: Option<SqlPrepared>) -> bool {
        let Some(made) = made else { return false };
        let path = self.identity.search_path.clone();
        let registry = &self.shared.prepared;
        let epoch = self.definitions();
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return false;
        };
        let shares = self
            .statements
            .made_shared(&made, &mut held.lease, || registry.statement(&made.tail, path.as_ref(), epoch));
        if shares {
            held.doubt = Change::Open;
            held.made.push(made.name);
            if self.forth.run == 0 && self.piece.is_some_and(|piece| piece.facts.names) {
                // What was cut may name it.
                self.judge_again();
            }
        }
        shares
    }

    /// What was cut, and not sent, is cut again and judged by what is known now.
    pub(super) fn judge_again(&mut self) {
        self.piece = None;
        self.gather = Gather::default();
        self.statements.forget_read();
    }

    /// What the settings mean for what is judged, and for connections to come.
    fn adopt(&mut self, answer: &Answer, list: Option<&Settings>) {
        let (name, set) = &answer.application_name;
        if *set && **name != *self.identity.wants.application_name {
            self.identity.wants.application_name = name.as_str().into();
        } else if !*set {
            self.identity.wants.application_name = self.application_name.clone();
        }
        let safe = is_text_safe("standard_conforming_strings", &answer.strings)
            && is_text_safe("client_encoding", &answer.encoding);
        self.identity.strict = list
            .and_then(|list| list.value("default_transaction_isolation"))
            .is_some_and(|level| level == "serializable");
        let acts_as: Option<Arc<str>> = list.and_then(Settings::acts_as).map(Into::into);
        let path = self.identity.search_path.as_deref();
        if path != Some(&answer.search_path)
            || acts_as != self.identity.acts_as
            || safe != self.identity.text_safe
        {
            self.identity.search_path = Some(answer.search_path.as_str().into());
            self.identity.acts_as = acts_as;
            self.identity.text_safe = safe;
            self.identity.known = 0;
            // What was judged before by other names.
            if let Some(piece) = &mut self.piece
                && piece.facts.class != Class::Own
            {
                piece.facts = piece.facts.and(primary_only(Reason::SessionState));
            }
            self.gather.distrust();
        }
    }

    /// The client's search path is that of a connection that it gets, unless it has set another.
    pub(super) fn follow_path(&mut self, lease: &Lease) {
        let own_path = self.settings.as_ref().is_some_and(|settings| settings.value("search_path").is_some());
        if !own_path && lease.search_path != self.identity.search_path {
            // The role's setting has changed since: later statements are judged by the newer one.
            self.identity.search_path.clone_from(&lease.search_path);
            self.identity.known = 0;
        }
    }

    /// A unit is about to begin on the active connection: it gets the client's settings first.
    #[inline]
    pub(super) fn dress(&mut self) {
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return;
        };
        if held.doubt == Change::Unanswered {
            (held.doubt, held.vain) = (Change::Open, 1);
        }
        let named = held.lease.application_name.as_ref() == Some(&self.identity.wants.application_name);
        if !named || !settings::are_same(held.lease.settings.as_ref(), self.settings.as_ref()) {
            self.put_on(named);
        }
    }

    #[cold]
    fn put_on(&mut self, named: bool) {
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return;
        };
        let owed = &held.lease.owed;
        if held.doubt != Change::None || !owed.is_free() {
            return;
        }
        let name = &self.identity.wants.application_name;
        if settings::are_same(held.lease.settings.as_ref(), self.settings.as_ref()) {
            let sql = format!("SET application_name = {}", write::quote_literal(name));
            held.lease.query(&mut self.forth.own, &sql);
            held.under = Under::Named;
        } else {
            let name = (!named).then_some(&**name);
            let texts = settings::difference(held.lease.settings.as_deref(), self.settings.as_deref(), name);
            held.lease.preface_transaction(&mut self.forth.own, &texts);
            held.lease.settings.clone_from(&self.settings);
        }
        held.lease.application_name = Some(name.clone());
    }
}
