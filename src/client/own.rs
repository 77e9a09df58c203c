//! pgweir's own settings in a session: SET, RESET and SHOW of `pgweir.NAME` are answered here, and what a client asks for
//! when it connects is taken out of what servers see.

use super::desk::{Answers, Refusal, Table};
use super::fail::Failure;
use super::plan::Place;
use super::relay::told;
use super::session::{Leave, Next, Session};
use super::unit::{Kind, Piece};
use crate::metrics::{Origin, TargetLabel};
use crate::route::{Class, Own, OwnCommand, OwnError, OwnText, Reason, Setting, own_text};
use crate::wire::frame::{HEADER, Side};
use crate::wire::frontend::{self, Named};
use crate::wire::{SqlState, TransactionStatus, frame, write};

impl From<OwnError> for Refusal {
    fn from(error: OwnError) -> Refusal {
        let message = error.to_string();
        match error {
            OwnError::Name { nearest, .. } => Refusal::new(
                SqlState::UNDEFINED_OBJECT,
                message,
                format!("Perhaps you meant \"pgweir.{nearest}\"."),
            ),
            OwnError::ReadOnly { .. } => {
                let hint = "It can only be shown.";
                Refusal::new(SqlState::INVALID_PARAMETER_VALUE, message, hint)
            }
            OwnError::Value { allowed, .. } => {
                Refusal::new(SqlState::INVALID_PARAMETER_VALUE, message, format!("It may be: {allowed}."))
            }
        }
    }
}

/// What is said of a statement about a setting that stands beside others.
const MIXED: &str = "a setting of pgweir's own cannot stand beside other statements";

impl Answers for Own {
    fn answer(&mut self, text: &str, run: bool) -> Result<Table, Refusal> {
        let not = |what: &str| {
            let hint = "Send SET, RESET or SHOW of it alone, for the whole session.";
            Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, what, hint)
        };
        let done = |tag| Table { tag, ..Table::default() };
        match own_text(text.as_bytes()) {
            OwnText::Command(OwnCommand::Set(name, value)) => {
                let mut changed = *self;
                changed.set(Setting::find(&name)?, value.as_deref())?;
                if run {
                    *self = changed;
                }
                Ok(done("SET"))
            }
            OwnText::Command(OwnCommand::Reset(name)) => {
                let setting = Setting::find(&name)?;
                if run {
                    self.set(setting, None)?;
                }
                Ok(done("RESET"))
            }
            OwnText::Command(OwnCommand::Show(name)) => {
                let setting = Setting::find(&name)?;
                if run && setting == Setting::Position && self.position.is_none() {
                    let hint = "The primary did not say in time where it is: try again.";
                    return Err(Refusal::new(
                        SqlState::CANNOT_CONNECT_NOW,
                        "the position is not known",
                        hint,
                    ));
                }
                let column = match setting {
                    Setting::Route => "pgweir.route",
                    Setting::Explain => "pgweir.explain",
                    Setting::Consistency => "pgweir.consistency",
                    Setting::MinPosition => "pgweir.min_position",
                    Setting::Position => "pgweir.position",
                };
                let rows = vec![vec![Some(self.value(setting).into_owned())]];
                Ok(Table { columns: vec![column], rows, tag: "SHOW" })
            }
            OwnText::Command(OwnCommand::Not(why)) => Err(not(why)),
            OwnText::Mixed | OwnText::None => Err(not(MIXED)),
        }
    }
}

impl Session {
    /// Whether the piece is for pgweir itself: it is about its settings, or goes on with a unit that is.
    #[inline]
    pub(super) fn is_own(&mut self, piece: &Piece) -> bool {
        piece.facts.class == Class::Own || self.desk.is_some() && !self.leaves_desk(piece)
    }

    /// Whether a piece goes its own way, though pgweir has answered what came before it in its unit.
    #[cold]
    fn leaves_desk(&mut self, piece: &Piece) -> bool {
        let only_prepares = self.desk.as_ref().is_some_and(|desk| desk.only_prepares());
        let leaves = only_prepares && piece.kind == Kind::Unit && piece.facts.class != Class::Empty;
        if leaves && self.is_about_channels(piece).is_none() {
            self.desk = None;
        }
        leaves
    }

    /// A piece about pgweir's own settings. Nothing is owed: the answer comes in its turn.
    pub(super) fn answer_own(&mut self, piece: Piece) -> Result<Place, Leave> {
        let reason = piece.facts.reason;
        let fits = match piece.facts.class {
            Class::Own => reason == Reason::OwnSetting && piece.rest == 0,
            Class::Empty => piece.kind == Kind::Unit,
            _ => false,
        };
        if piece.facts.class == Class::Own {
            self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        }
        if fits && self.lacks_position(&piece) {
            self.next = Some(Next::Position);
            return Ok(Place::Wait);
        }
        self.fresh.told = false;
        self.piece = None;
        if !fits {
            self.desk = None;
            self.refuse_mixed(piece);
            return Ok(Place::Done);
        }
        let mut own = self.own;
        let answered = self.answer_at_desk(piece, &mut own);
        // It was true for this answer alone.
        self.own = Own { position: None, ..own };
        answered
    }

    /// Answers the messages of a piece in place of a server.
    pub(super) fn answer_at_desk(
        &mut self,
        piece: Piece,
        answers: &mut impl Answers,
    ) -> Result<Place, Leave> {
        let status = self.status();
        let mut desk = self.desk.take().unwrap_or_default();
        let mut at = 0;
        while at < piece.size {
            let message = self
                .window
                .as_ref()
                .and_then(|window| window.bytes().get(at..piece.size))
                .unwrap_or_default();
            let Ok(Some(head)) = frame::header(message, Side::Frontend) else { break };
            let message = message.get(..head.size).unwrap_or_default();
            let body = message.get(HEADER..).unwrap_or_default();
            if let Some(name) = statement_of(head.tag, body)
                && let Some((_, text)) = self
                    .statements
                    .find(name)
                    .and_then(|statement| frontend::parse(statement.parse.as_deref()?.get(HEADER..)?))
            {
                desk.know(name, text);
            }
            let skipped = desk.has_failed();
            let refusal = desk.take(head.tag, body, status, answers, &mut self.back.own).map_err(told)?;
            if let Some(refusal) = &refusal {
                let code = refusal.code.as_str().as_bytes().first_chunk().copied().unwrap_or(*b"XX000");
                self.identity.database.metrics.error(&code, Origin::Pgweir);
            }
            if matches!(head.tag, b'P' | b'C' | b'Q' | b'S') {
                self.statements.answered((!skipped && refusal.is_none()).then_some(message));
            }
            at += head.size;
        }
        if let Some(window) = &mut self.window {
            window.consume(piece.size);
        }
        self.desk = (!piece.ends).then_some(desk);
        if piece.ends {
            self.mail_first();
            self.identity.cancel.settle();
        }
        Ok(Place::Done)
    }

    /// What stands beside others is not carried out, and nor are those: an open transaction must not go on without them.
    fn refuse_mixed(&mut self, piece: Piece) {
        if self.active.is_none() || self.status() == TransactionStatus::Idle || !piece.ends || piece.rest > 0
        {
            return self.refuse(piece, &Failure::OwnMixed);
        }
        if let Some(held) = self.held() {
            held.running.begin(piece.facts.shape, None);
        }
        self.raise(piece, &Failure::OwnMixed);
    }

    /// Says where a unit goes, and why, before its answer. Nothing is owed: the notice is in its place.
    #[cold]
    pub(super) fn explain(&mut self, piece: &Piece, reason: Reason) {
        let answers = self.answers(piece) && piece.facts.class != Class::Empty;
        let Some(target) = self.active.filter(|_| answers) else {
            return;
        };
        let cluster = self.identity.database.cluster.clone();
        let address = self.held().and_then(|held| cluster.address(held.node));
        let Some(address) = address else { return };
        let what = format!("pgweir: {} {address} ({})", target.code(), reason.code());
        write::notice(&mut self.back.own, SqlState::SUCCESSFUL_COMPLETION, &what, reason.sentence());
    }

    /// Whether a piece has a result. What only prepares has none; of what is only begun, it is not known.
    pub(super) fn answers(&self, piece: &Piece) -> bool {
        let first = self.window.as_ref().and_then(|window| window.bytes().first());
        piece.executes || !piece.ends || matches!(first, Some(b'Q' | b'F'))
    }

    /// What a ReadyForQuery of pgweir's own says: an open transaction stays open.
    pub(super) fn status(&mut self) -> TransactionStatus {
        if let Some(begun) = &self.begun {
            return begun.status();
        }
        self.held().map_or(TransactionStatus::Idle, |held| held.lease.owed.status())
    }
}

/// The statement that a message needs.
fn statement_of(tag: u8, body: &[u8]) -> Option<&[u8]> {
    match tag {
        b'B' => Some(frontend::bind(body)?.1),
        b'D' => match frontend::named(body)? {
            Named::Statement(name) => Some(name),
            Named::Portal(_) => None,
        },
        _ => None,
    }
}

/// Takes `pgweir.NAME` out of the parameters of a startup packet, and out of the `options` among them.
///
/// # Errors
/// A setting that there is not, or a value that it cannot have.
pub(super) fn take_out(parameters: &mut Vec<(String, String)>) -> Result<Own, Refusal> {
    let mut own = Own::default();
    let mut set = |name: &str, value: &str| own.set(Setting::find(&name.to_ascii_lowercase())?, Some(value));
    for (_, options) in parameters.iter_mut().filter(|(name, _)| name == "options") {
        if options.contains("pgweir.") {
            *options = without_own(options, &mut set)?;
        }
    }
    for (name, value) in parameters.iter() {
        if let Some(name) = name.strip_prefix("pgweir.") {
            set(name, value)?;
        }
    }
    parameters.retain(|(name, value)| {
        !name.starts_with("pgweir.") && (name != "options" || !value.trim().is_empty())
    });
    Ok(own)
}

/// Command-line options without those that set something of pgweir's: `-c pgweir.x=y`, `-cpgweir.x=y`, `--pgweir.x=y`.
fn without_own(
    options: &str,
    set: &mut impl FnMut(&str, &str) -> Result<(), OwnError>,
) -> Result<String, OwnError> {
    let words = words(options);
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let apart = *word == "-c";
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some(_) if apart => rest.as_slice().first().copied(),
            attached => attached,
        };
        let ours =
            assignment.and_then(|text| text.strip_prefix("pgweir.")).and_then(|text| text.split_once('='));
        match ours {
            Some((name, value)) => set(name, &value.replace('\\', ""))?,
            None => {
                kept.push(word);
                if apart && let Some(value) = assignment {
                    kept.push(value);
                }
            }
        }
        if apart {
            rest.next();
        }
    }
    Ok(kept.join(" "))
}

/// The words of command-line options, as PostgreSQL splits them (`pg_split_opts`): at blanks without a backslash before
/// them. Backslashes stay.
fn words(options: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut escaped) = (None, false);
    for (at, c) in options.char_indices() {
        let blank = c.is_ascii_whitespace() && !escaped;
        escaped = c == '\\' && !escaped;
        match (start, blank) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                words.extend(options.get(from..at));
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.and_then(|from| options.get(from..)));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Wish;

    fn taken(parameters: &[(&str, &str)]) -> (Result<Own, Refusal>, Vec<(String, String)>) {
        let mut list: Vec<_> = parameters.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        (take_out(&mut list), list)
    }

    #[test]
    fn what_is_ours_is_taken_out_of_a_startup_packet() {
        let (own, left) =
            taken(&[("user", "a"), ("pgweir.explain", "on"), ("options", "-c pgweir.route=primary")]);
        assert_eq!(own, Ok(Own { route: Some(Wish::Primary), explain: true, ..Own::default() }));
        assert_eq!(left, [("user".to_owned(), "a".to_owned())]);
        for (options, kept) in [
            ("-c a=b --pgweir.route=replica  -c c=d\\ e", "-c a=b -c c=d\\ e"),
            ("-cpgweir.route=Replica -cwork_mem=1MB", "-cwork_mem=1MB"),
            (
                "--search_path=x\\ --pgweir.route=1 -c pgweir.route=replica",
                "--search_path=x\\ --pgweir.route=1",
            ),
        ] {
            let (own, left) = taken(&[("options", options)]);
            assert_eq!(own, Ok(Own { route: Some(Wish::Replica), ..Own::default() }), "{options}");
            assert_eq!(left, [("options".to_owned(), kept.to_owned())]);
        }
        let (own, left) = taken(&[("options", "-c")]);
        assert_eq!((own, left.len()), (Ok(Own::default()), 1));
        assert_eq!(taken(&[("pgweir.rout", "x")]).0.unwrap_err().code, SqlState::UNDEFINED_OBJECT);
        assert_eq!(taken(&[("pgweir.route", "x")]).0.unwrap_err().code, SqlState::INVALID_PARAMETER_VALUE);
    }

    #[test]
    fn a_statement_that_is_only_described_changes_nothing() {
        let mut own = Own::default();
        assert_eq!(own.answer("SET pgweir.route = primary", false).unwrap().tag, "SET");
        assert_eq!(own, Own::default());
        own.answer("SET pgweir.route = primary", true).unwrap();
        assert_eq!(
            own.answer("SHOW pgweir.route", true).unwrap(),
            Table {
                columns: vec!["pgweir.route"],
                rows: vec![vec![Some("primary".to_owned())]],
                tag: "SHOW"
            }
        );
        assert_eq!(own.answer("SET LOCAL pgweir.route = x", true).unwrap_err().code.as_str(), "0A000");
        assert_eq!(own.answer("SELECT 1", true).unwrap_err().message, MIXED);
    }
}
