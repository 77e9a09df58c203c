//! What is known of a statement, or of a unit of several: its class, the reason for it, and what it leaves behind.

use crate::fresh::{Level, Tables};
use crate::sql::{Effect, Mark, Statement, Verb};

use super::hint::Wish;
use super::reason::Reason;
use super::shapes::ShapeId;

/// What a statement does, as far as routing cares. The order is that of strength: see [`Facts::and`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// No statement at all.
    Empty,
    /// Proven to read only: a replica may run it.
    Read,
    /// Opens a transaction that a replica can run whole.
    BeginReadOnly,
    /// Belongs to the open transaction: SAVEPOINT, RELEASE, ROLLBACK TO, SET LOCAL, SET TRANSACTION, cursors.
    InTransaction,
    /// Ends the whole transaction: COMMIT, ROLLBACK, PREPARE TRANSACTION.
    End,
    /// Opens a transaction for the primary.
    Begin,
    /// Changes the session: SET, LISTEN, PREPARE, DISCARD, temporary objects, session locks.
    Session,
    /// Writes, locks, changes definitions, or cannot be seen through.
    Write,
    /// Is about a setting of pgweir's own: no server gets it.
    Own,
}

/// What the text of a statement, or of a unit of several statements, says.
// Four independent axes that callers read one at a time; an enum each would only spell "yes" and "no" differently.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// What it does.
    pub class: Class,
    /// Why it goes to the primary, or [`Reason::Read`] if it need not.
    pub reason: Reason,
    /// It may leave state on the server connection that no other client may meet: the server is asked when its transaction
    /// is over.
    pub pins: bool,
    /// A replica would accept it without an error although it must not run there.
    pub silent: bool,
    /// It has a COPY.
    pub copy: bool,
    /// It has transaction control.
    pub transaction: bool,
    /// It may change what names mean: definitions, or a DO block, which may hold any.
    pub defines: bool,
    /// The rules that one of its statements is matched by.
    pub any: u64,
    /// The rules that all of its statements are matched by.
    pub all: u64,
    /// Where its comments wish it to go.
    pub hint: Option<Wish>,
    /// It has RESET ALL or DISCARD ALL.
    pub resets: bool,
    /// What it leaves behind cannot all be asked for afterwards.
    pub unseen: bool,
    /// It names prepared statements: PREPARE, EXECUTE, DEALLOCATE.
    pub names: bool,
    /// It asks which prepared statements its session has.
    pub roll: bool,
    /// It does nothing but ask for a signal to a session.
    pub signals: bool,
    /// It is no write, and asks what its session has drawn from sequences. What it calls besides may draw.
    pub recalls: bool,
    /// The tables that it reads or writes.
    pub tables: Tables,
    /// What its comments wish its reads to see.
    pub level: Option<Level>,
    /// Where it is counted.
    pub shape: ShapeId,
}

impl Facts {
    /// No statement.
    pub const EMPTY: Facts = Facts {
        class: Class::Empty,
        reason: Reason::Empty,
        pins: false,
        silent: false,
        copy: false,
        transaction: false,
        defines: false,
        any: 0,
        all: u64::MAX,
        hint: None,
        resets: false,
        unseen: false,
        names: false,
        roll: false,
        signals: false,
        recalls: false,
        tables: Tables::NONE,
        level: None,
        shape: ShapeId::OTHER,
    };

    /// The facts of a unit that holds both: the stronger class with its reason, and the effects of both. Only reads
    /// joined with reads stay a read; a transaction opened READ ONLY beside anything else becomes one for the primary.
    #[must_use]
    pub fn and(self, other: Facts) -> Facts {
        let (weak, strong) = if other.class > self.class { (self, other) } else { (other, self) };
        let opens = weak.class == Class::BeginReadOnly || strong.class == Class::BeginReadOnly;
        let (class, reason) = if opens && weak.class != Class::Empty && strong.class < Class::Begin {
            (Class::Begin, Reason::Begin)
        } else if strong.class == Class::Own && !matches!(weak.class, Class::Own | Class::Empty) {
            (Class::Own, Reason::OwnMixed)
        } else {
            (strong.class, strong.reason)
        };
        Facts {
            class,
            reason,
            pins: self.pins || other.pins,
            silent: self.silent || other.silent,
            copy: self.copy || other.copy,
            transaction: self.transaction || other.transaction,
            defines: self.defines || other.defines,
            any: self.any | other.any,
            all: self.all & other.all,
            hint: Wish::stronger(self.hint, other.hint),
            resets: self.resets || other.resets,
            unseen: self.unseen || other.unseen,
            names: self.names || other.names,
            roll: self.roll || other.roll,
            signals: self.signals || other.signals,
            recalls: strong.recalls && weak.class <= Class::Read,
            tables: self.tables.and(other.tables),
            level: self.level.max(other.level),
            shape: strong.shape,
        }
    }
}

impl Facts {
    /// Of a text that is not looked at, because it is too long: everything that could be in it.
    pub(super) const TOO_LONG: Facts = Facts {
        class: Class::Write,
        reason: Reason::ParseBudget,
        pins: true,
        silent: true,
        copy: false,
        transaction: true,
        defines: true,
        any: 0,
        all: 0,
        hint: None,
        resets: false,
        unseen: true,
        names: false,
        roll: false,
        signals: false,
        recalls: false,
        tables: Tables::ALL,
        level: None,
        shape: ShapeId::OTHER,
    };

    /// Of a text about a setting of pgweir's own.
    pub(super) fn own(mixed: bool) -> Facts {
        let reason = if mixed { Reason::OwnMixed } else { Reason::OwnSetting };
        Facts { class: Class::Own, reason, ..Facts::EMPTY }
    }

    /// What one statement's outline means.
    pub(super) fn of(statement: Statement) -> Facts {
        let (class, reason) = judgement(statement);
        let runs = !statement.marks.has(Mark::PlanOnly);
        Facts {
            class,
            reason,
            pins: runs && pins(statement),
            silent: runs && silent(statement),
            copy: matches!(statement.verb, Verb::CopyIn | Verb::CopyOut | Verb::CopyServer),
            transaction: matches!(
                statement.verb,
                Verb::Begin
                    | Verb::BeginReadOnly
                    | Verb::End
                    | Verb::Savepoint
                    | Verb::PrepareTransaction
                    | Verb::FinishPrepared
            ),
            defines: runs && defines(statement),
            unseen: runs && unseen(statement),
            names: matches!(statement.verb, Verb::Prepare | Verb::Execute | Verb::Deallocate),
            ..Facts::EMPTY
        }
    }
}

/// The class, and the reason for it. What the verb does not settle, marks and functions do.
fn judgement(statement: Statement) -> (Class, Reason) {
    if statement.marks.has(Mark::Unterminated) {
        return (Class::Write, Reason::Unterminated);
    }
    if statement.marks.has(Mark::Stray) {
        return (Class::Write, Reason::StrayCharacter);
    }
    match statement.verb {
        Verb::Query | Verb::Show | Verb::CopyOut => query(statement).unwrap_or((Class::Read, Reason::Read)),
        Verb::Declare if statement.marks.has(Mark::Hold) => (Class::Session, Reason::Cursor),
        Verb::Declare => query(statement)
            .filter(|(class, _)| *class == Class::Write)
            .unwrap_or((Class::InTransaction, Reason::Cursor)),
        Verb::Cursor => (Class::InTransaction, Reason::Cursor),
        Verb::CopyIn => (Class::Write, Reason::CopyIn),
        Verb::CopyServer => (Class::Write, Reason::CopyServer),
        Verb::Write => (Class::Write, Reason::Write),
        Verb::Lock => (Class::Write, Reason::Lock),
        Verb::Define if statement.marks.has(Mark::Temporary) => (Class::Session, Reason::Temporary),
        Verb::Define => (Class::Write, Reason::Ddl),
        Verb::CreateTemporary if statement.marks.has(Mark::Write) => (Class::Write, Reason::Temporary),
        Verb::CreateTemporary => (Class::Session, Reason::Temporary),
        Verb::Maintain | Verb::System => (Class::Write, Reason::Maintenance),
        Verb::Do => (Class::Write, Reason::Do),
        Verb::Call => (Class::Write, Reason::Call),
        Verb::Execute => (Class::Write, Reason::Execute),
        Verb::Notify => (Class::Write, Reason::Notify),
        Verb::Listen => (Class::Session, Reason::Listen),
        Verb::Set => (Class::Session, Reason::Session),
        Verb::SetLocal | Verb::Savepoint => (Class::InTransaction, Reason::TransactionControl),
        Verb::Prepare | Verb::Deallocate => (Class::Session, Reason::Prepare),
        Verb::Begin => (Class::Begin, Reason::Begin),
        Verb::BeginReadOnly => (Class::BeginReadOnly, Reason::BeginReadOnly),
        Verb::End => (Class::End, Reason::End),
        Verb::PrepareTransaction => (Class::End, Reason::TwoPhase),
        Verb::FinishPrepared => (Class::Write, Reason::TwoPhase),
        Verb::Unknown => (Class::Write, Reason::UnknownStatement),
    }
}

/// What keeps a query from being a read, the gravest first.
fn query(statement: Statement) -> Option<(Class, Reason)> {
    const MARKS: [(Mark, Class, Reason); 7] = [
        (Mark::Unicode, Class::Write, Reason::UnicodeName),
        (Mark::Write, Class::Write, Reason::Write),
        (Mark::IntoTemporary, Class::Session, Reason::Temporary),
        (Mark::Into, Class::Write, Reason::Into),
        (Mark::Lock, Class::Write, Reason::Lock),
        (Mark::Temporary, Class::Write, Reason::Temporary),
        (Mark::Server, Class::Write, Reason::ServerState),
    ];
    const EFFECTS: [(Effect, Class, Reason); 23] = [
        (Effect::Volatile, Class::Write, Reason::VolatileFunction),
        (Effect::Listed, Class::Write, Reason::ListedFunction),
        (Effect::Learned, Class::Write, Reason::Learned),
        (Effect::Loading, Class::Write, Reason::CatalogLoading),
        (Effect::LoadingCall, Class::Write, Reason::CatalogLoading),
        (Effect::Unknown, Class::Write, Reason::UnknownFunction),
        (Effect::User, Class::Write, Reason::UserFunction),
        (Effect::UserSets, Class::Write, Reason::UserFunction),
        (Effect::UserHides, Class::Write, Reason::UserFunction),
        (Effect::View, Class::Write, Reason::View),
        (Effect::Operator, Class::Write, Reason::VolatileOperator),
        (Effect::Unlogged, Class::Write, Reason::Unlogged),
        (Effect::Foreign, Class::Write, Reason::ForeignTable),
        (Effect::NoRelation, Class::Write, Reason::UnknownRelation),
        (Effect::Text, Class::Write, Reason::QueryText),
        (Effect::Primary, Class::Write, Reason::PrimaryFunction),
        (Effect::Server, Class::Write, Reason::ServerState),
        (Effect::AdvisorySession, Class::Session, Reason::AdvisoryLock),
        (Effect::Advisory, Class::Session, Reason::AdvisoryLock),
        (Effect::Config, Class::Session, Reason::Session),
        (Effect::ConfigHidden, Class::Session, Reason::Session),
        (Effect::Session, Class::Session, Reason::Session),
        (Effect::ConfigLocal, Class::InTransaction, Reason::TransactionControl),
    ];
    let mark = MARKS.iter().find(|(mark, ..)| statement.marks.has(*mark));
    let effect = EFFECTS.iter().find(|(effect, ..)| statement.effects.has(*effect));
    mark.map(|&(_, class, reason)| (class, reason))
        .into_iter()
        .chain(effect.map(|&(_, class, reason)| (class, reason)))
        // The stronger class; of equals the mark, which stands first.
        .reduce(|first, second| if second.0 > first.0 { second } else { first })
}

/// Whether it leaves state on the server connection that no other client may meet.
fn pins(statement: Statement) -> bool {
    let by_verb = match statement.verb {
        Verb::Set | Verb::Listen | Verb::Prepare => true,
        // Settings, and whatever else cannot be seen from here.
        Verb::Do | Verb::Call | Verb::Execute => true,
        Verb::CreateTemporary => !statement.marks.has(Mark::DropOnCommit),
        Verb::Define => statement.marks.has(Mark::Temporary),
        Verb::Declare => statement.marks.has(Mark::Hold),
        Verb::Query
        | Verb::Show
        | Verb::CopyOut
        | Verb::CopyIn
        | Verb::CopyServer
        | Verb::Write
        | Verb::Lock
        | Verb::Maintain
        | Verb::System
        | Verb::Deallocate
        | Verb::Notify
        | Verb::SetLocal
        | Verb::Cursor
        | Verb::Begin
        | Verb::BeginReadOnly
        | Verb::End
        | Verb::Savepoint
        | Verb::PrepareTransaction
        | Verb::FinishPrepared
        | Verb::Unknown => false,
    };
    by_verb
        || statement.marks.has(Mark::IntoTemporary)
        || statement.effects.has_any(&[
            Effect::Config,
            Effect::ConfigHidden,
            Effect::UserSets,
            Effect::UserHides,
            // Nobody knows what it does.
            Effect::LoadingCall,
            Effect::Session,
            Effect::AdvisorySession,
        ])
}

/// Whether what it leaves behind cannot all be asked for: a library, or settings whose names are not in the text. Only those
/// of PostgreSQL are listed by the server.
fn unseen(statement: Statement) -> bool {
    statement.marks.has(Mark::Load) || statement.effects.has_any(&[Effect::ConfigHidden, Effect::UserHides])
}

/// Whether it may change what names mean. Functions and procedures may, too, but few do, and they are called often: that is
/// left to the catalog's own checks.
fn defines(statement: Statement) -> bool {
    match statement.verb {
        // COMMIT PREPARED: what was prepared may be definitions.
        Verb::Define | Verb::Do | Verb::FinishPrepared => true,
        // SELECT INTO.
        Verb::Query => statement.marks.has(Mark::Into) && !statement.marks.has(Mark::IntoTemporary),
        _ => false,
    }
}

/// Whether a replica would accept it without an error although it must not run there. Unknown functions do not count:
/// in a transaction READ ONLY they may do no more on the primary.
fn silent(statement: Statement) -> bool {
    let by_verb = match statement.verb {
        Verb::Set
        | Verb::Listen
        | Verb::Prepare
        | Verb::Deallocate
        | Verb::Lock
        | Verb::Do
        | Verb::Call
        | Verb::System
        | Verb::CopyServer
        | Verb::Unknown => true,
        Verb::Declare => statement.marks.has(Mark::Hold),
        Verb::Query
        | Verb::Show
        | Verb::CopyOut
        | Verb::CopyIn
        | Verb::Write
        | Verb::Define
        | Verb::CreateTemporary
        | Verb::Maintain
        | Verb::Execute
        | Verb::Notify
        | Verb::SetLocal
        | Verb::Cursor
        | Verb::Begin
        | Verb::BeginReadOnly
        | Verb::End
        | Verb::Savepoint
        | Verb::PrepareTransaction
        | Verb::FinishPrepared => false,
    };
    by_verb
        || statement.marks.has(Mark::Unicode)
        || statement.effects.has_any(&[
            Effect::Volatile,
            Effect::Listed,
            Effect::Config,
            Effect::ConfigHidden,
            Effect::UserSets,
            Effect::UserHides,
            Effect::Session,
            Effect::Advisory,
            Effect::AdvisorySession,
        ])
}
