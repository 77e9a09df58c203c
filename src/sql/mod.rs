//! What the text of a statement says. Pure: bytes in, values out; nothing here knows where a statement will run.

mod fingerprint;
mod folded;
mod increment;
mod lex;
mod listen;
mod lone;
mod named;
mod normal;
mod opening;
mod outline;
mod parse;
mod reader;
mod recall;
mod scan;
mod signal;
mod tables;
mod words;

pub use fingerprint::fingerprint;
pub use increment::{Add, Increment, Operand, increment};
pub use lex::{Kind, Lexer, Token};
pub use listen::{Listen, apart, asks_channels, lone_listen, lone_notify};
pub use lone::{lone_begin, lone_end};
pub use named::{LONGEST_PREPARE, NamedStatement, Use, lone_execute, lone_prepare, named};
pub use normal::{NORMAL_LIMIT, normalise};
pub use outline::{Effect, Mark, Name, Names, Outline, Set, Shape, Statement, Verb};
pub use parse::{Opinion, PARSE_LIMIT, opinion, tables};
pub use recall::{asks_prepared, recalls};
pub use scan::{SCAN_LIMIT, Seeds, scan};
pub use signal::{Signal, asks_own_process, lone_signal};
pub use words::is_server_view;
