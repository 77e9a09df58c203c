//! The first words of a statement: which verb they make. A machine fed with one token at a time.

use super::lex::Kind;
use super::outline::{Mark, Set, Verb};
use super::words::{is_server_setting, verb};

/// Where the machine stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Before the first word; perhaps behind parentheses, or behind EXPLAIN.
    Start,
    /// Behind EXPLAIN, before its statement.
    Explain,
    /// Directly behind `EXPLAIN (`: options, or a query in parentheses.
    ExplainParenthesis,
    /// In the options of EXPLAIN; is the present one ANALYZE, and has its name been read?
    ExplainOption { analyze: bool, named: bool },
    /// Behind SET.
    Set,
    /// Behind SET SESSION.
    SetSession,
    /// Behind PREPARE.
    Prepare,
    /// Behind PREPARE TRANSACTION: a string must come.
    PrepareTransaction,
    /// Behind COMMIT, END, ROLLBACK, ABORT.
    Finish,
    /// Behind START.
    StartTransaction,
    /// In the modes of BEGIN.
    Modes { read: bool, not: bool },
    /// Behind CREATE.
    Create,
    /// Behind ALTER.
    Alter,
    /// Behind SHOW.
    Show,
    /// Behind COPY: names, a list of columns or a query, up to FROM or TO.
    Copy,
    /// Behind COPY .. TO.
    CopyTo,
    /// In the options behind COPY .. TO STDOUT: words, not calls.
    CopyOptions,
    /// The verb is known.
    Done,
}

/// A token that is neither blank nor comment, as the machine needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// A word or the name in quotes, in lower case unless quoted; a string or number as written.
    pub(super) text: &'a [u8],
    /// How many parentheses are open before it.
    pub(super) depth: usize,
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    phase: Phase,
    verb: Option<Verb>,
    explain: bool,
    analyze: bool,
    modes: Modes,
}

/// What the modes of BEGIN have come to.
#[derive(Clone, Copy, Debug)]
struct Modes {
    read_only: bool,
    refused_by_replicas: bool,
}

impl Opening {
    /// Before the first token.
    pub(super) const NEW: Opening = Opening {
        phase: Phase::Start,
        verb: None,
        explain: false,
        analyze: false,
        modes: Modes { read_only: false, refused_by_replicas: false },
    };

    /// No token has been seen.
    pub(super) fn is_new(&self) -> bool {
        self.verb.is_none() && self.phase == Phase::Start
    }

    /// The statement is an EXPLAIN.
    pub(super) fn is_explain(&self) -> bool {
        self.explain
    }

    /// It needs no more tokens.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// A word before a parenthesis is a call, not a table with its columns or an option with its values.
    pub(super) fn has_calls(&self, depth: usize) -> bool {
        match self.phase {
            Phase::Copy => depth > 0,
            Phase::Start
            | Phase::Explain
            | Phase::CopyTo
            | Phase::CopyOptions
            | Phase::ExplainParenthesis
            | Phase::ExplainOption { .. } => false,
            Phase::Set
            | Phase::SetSession
            | Phase::Prepare
            | Phase::PrepareTransaction
            | Phase::Finish
            | Phase::StartTransaction
            | Phase::Modes { .. }
            | Phase::Create
            | Phase::Alter
            | Phase::Show
            | Phase::Done => true,
        }
    }

    /// What the first words came to.
    pub(super) fn verb(&self) -> Verb {
        match (self.verb, self.phase) {
            (Some(Verb::Begin), _) if self.modes.read_only && !self.modes.refused_by_replicas => {
                Verb::BeginReadOnly
            }
            (Some(verb), _) => verb,
            (None, _) => Verb::Unknown,
        }
    }

    /// Takes the next token.
    pub(super) fn step(&mut self, seen: Seen<'_>, marks: &mut Set<Mark>) {
        let word = if seen.kind == Kind::Word { seen.text } else { &[][..] };
        self.phase = match self.phase {
            Phase::Start => self.start(seen, word, marks),
            Phase::Explain => self.explain(seen, word, marks),
            Phase::ExplainParenthesis => self.parenthesis(seen, word, marks),
            Phase::ExplainOption { analyze, named } => self.option(seen, analyze, named, marks),
            Phase::Set => match word {
                b"local" | b"transaction" | b"constraints" => self.settle(Verb::SetLocal),
                b"session" => Phase::SetSession,
                _ => Phase::Done,
            },
            Phase::SetSession if word == b"transaction" => self.settle(Verb::SetLocal),
            Phase::Prepare if word == b"transaction" => Phase::PrepareTransaction,
            Phase::PrepareTransaction if seen.kind == Kind::String => self.settle(Verb::PrepareTransaction),
            Phase::SetSession | Phase::Prepare | Phase::PrepareTransaction => Phase::Done,
            Phase::Finish => match word {
                b"work" | b"transaction" => Phase::Finish,
                b"prepared" => self.settle(Verb::FinishPrepared),
                b"to" => self.settle(Verb::Savepoint),
                _ => Phase::Done,
            },
            Phase::StartTransaction if word == b"transaction" => Phase::Modes { read: false, not: false },
            Phase::StartTransaction => self.settle(Verb::Unknown),
            Phase::Modes { read, not } => self.mode(word, seen.kind, read, not),
            Phase::Create => match word {
                b"or" | b"replace" | b"global" | b"local" => Phase::Create,
                b"temp" | b"temporary" => self.settle(Verb::CreateTemporary),
                _ => Phase::Done,
            },
            Phase::Alter if word == b"system" => self.settle(Verb::System),
            Phase::Alter => Phase::Done,
            Phase::Show => {
                if is_server_setting(seen.text) {
                    marks.insert(Mark::Server);
                }
                Phase::Done
            }
            Phase::Copy => self.copy(seen, word),
            Phase::CopyTo if matches!(word, b"stdout" | b"stdin") => {
                self.verb = Some(Verb::CopyOut);
                Phase::CopyOptions
            }
            Phase::CopyTo => Phase::Done,
            Phase::CopyOptions => Phase::CopyOptions,
            Phase::Done => Phase::Done,
        };
    }

    fn settle(&mut self, verb: Verb) -> Phase {
        self.verb = Some(verb);
        Phase::Done
    }

    /// The first word. Behind a parenthesis only a query can stand, behind EXPLAIN only what has a plan.
    fn start(&mut self, seen: Seen<'_>, word: &[u8], marks: &mut Set<Mark>) -> Phase {
        if seen.kind == Kind::Open {
            return Phase::Start;
        }
        if word == b"explain" && !self.explain && seen.depth == 0 {
            self.explain = true;
            return Phase::Explain;
        }
        let verb = verb(word);
        if seen.depth > 0 && verb != Verb::Query {
            return self.settle(Verb::Unknown);
        }
        if self.explain {
            return match verb {
                Verb::Query | Verb::Write | Verb::Execute => self.settle(verb),
                _ => self.settle(Verb::Unknown),
            };
        }
        self.verb = Some(verb);
        if word == b"load" {
            marks.insert(Mark::Load);
        }
        match word {
            b"set" => Phase::Set,
            b"prepare" => Phase::Prepare,
            b"commit" | b"end" | b"rollback" | b"abort" => Phase::Finish,
            b"begin" => Phase::Modes { read: false, not: false },
            b"start" => Phase::StartTransaction,
            b"create" => Phase::Create,
            b"alter" => Phase::Alter,
            b"show" => Phase::Show,
            b"copy" => Phase::Copy,
            _ => Phase::Done,
        }
    }

    fn explain(&mut self, seen: Seen<'_>, word: &[u8], marks: &mut Set<Mark>) -> Phase {
        match word {
            b"analyze" | b"analyse" => self.analyze = true,
            b"verbose" => {}
            _ if seen.kind == Kind::Open && !self.analyze => return Phase::ExplainParenthesis,
            _ => return self.explained(seen, word, marks),
        }
        Phase::Explain
    }

    /// The statement that EXPLAIN is about begins with this token.
    fn explained(&mut self, seen: Seen<'_>, word: &[u8], marks: &mut Set<Mark>) -> Phase {
        if !self.analyze {
            marks.insert(Mark::PlanOnly);
        }
        self.start(seen, word, marks)
    }

    fn parenthesis(&mut self, seen: Seen<'_>, word: &[u8], marks: &mut Set<Mark>) -> Phase {
        if seen.kind == Kind::Open || verb(word) == Verb::Query {
            return self.explained(seen, word, marks);
        }
        self.option(seen, false, false, marks)
    }

    /// The options of EXPLAIN: the last ANALYZE counts. A value that is not plainly "no" is a yes.
    fn option(&mut self, seen: Seen<'_>, analyze: bool, named: bool, marks: &mut Set<Mark>) -> Phase {
        match seen.kind {
            Kind::Close => {
                // Until its statement comes, nothing is known to run; `explained` is not asked again.
                if !self.analyze {
                    marks.insert(Mark::PlanOnly);
                }
                Phase::Start
            }
            Kind::Comma => Phase::ExplainOption { analyze: false, named: false },
            _ if !named => {
                let analyze = matches!(seen.text, b"analyze" | b"analyse");
                self.analyze |= analyze;
                Phase::ExplainOption { analyze, named: true }
            }
            _ => {
                if analyze {
                    let text = seen.text.trim_ascii();
                    let text = text.strip_prefix(b"'").and_then(|t| t.strip_suffix(b"'")).unwrap_or(text);
                    self.analyze =
                        ![&b"off"[..], b"false", b"0"].iter().any(|no| text.eq_ignore_ascii_case(no));
                }
                Phase::ExplainOption { analyze, named }
            }
        }
    }

    /// The modes of a transaction. A word that is no mode makes it one for the primary, which will say what is wrong.
    fn mode(&mut self, word: &[u8], kind: Kind, read: bool, not: bool) -> Phase {
        match word {
            b"only" if read => self.modes.read_only = true,
            // A replica refuses READ WRITE even with READ ONLY behind it.
            b"write" | b"serializable" => self.modes.refused_by_replicas = true,
            b"deferrable" => self.modes.refused_by_replicas |= !not,
            b"work" | b"transaction" | b"isolation" | b"level" | b"read" | b"committed" | b"uncommitted"
            | b"repeatable" | b"not" => {}
            _ => self.modes.refused_by_replicas |= kind != Kind::Comma,
        }
        Phase::Modes { read: word == b"read", not: word == b"not" }
    }

    fn copy(&mut self, seen: Seen<'_>, word: &[u8]) -> Phase {
        match word {
            b"from" if seen.depth == 0 => self.settle(Verb::CopyIn),
            b"to" if seen.depth == 0 => Phase::CopyTo,
            _ => Phase::Copy,
        }
    }
}
