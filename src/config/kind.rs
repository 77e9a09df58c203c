//! What the value of a setting may be, and how the documentation says that.

use std::fmt;
use std::time::Duration;

use super::value;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A text that is not empty.
    Text,
    /// A text that is never shown.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A span of time: a text such as `"250ms"`.
    Duration {
        /// The least.
        least: Duration,
        /// The most.
        most: Duration,
        /// Whether `"0s"` is allowed too, and means that there is no limit.
        off: bool,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words: one, or an array of them.
    Words(&'static [&'static str]),
    /// A TCP port, or an array of them.
    Ports,
    /// A log level, or several by module.
    Level,
    /// Where clients connect: an address, or an array of them.
    Listen,
    /// An array of servers.
    Servers,
    /// The same, each with what else is said of it.
    Members,
    /// An IP address and a port, or `"off"`.
    Metrics,
    /// An array of function names.
    Functions,
    /// A text, or an array of them.
    Texts,
    /// An array of user names.
    Users,
}

impl fmt::Display for Kind {
    /// In words, for the documentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Secret => f.write_str("secret text"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Count { least, most } => write!(f, "number, {least} to {most}"),
            Self::Duration { least, most, off } => {
                let or_off = if *off { ", or `\"0s\"`" } else { "" };
                write!(
                    f,
                    "duration, `\"{}\"` to `\"{}\"`{or_off}",
                    value::written(*least),
                    value::written(*most)
                )
            }
            Self::Choice(words) => f.write_str(&listed(words)),
            Self::Words(words) => write!(f, "array of {}", listed(words)),
            Self::Ports => f.write_str("port, or array of ports"),
            Self::Level => f.write_str("level, or levels by module"),
            Self::Listen => f.write_str("address, or array of addresses"),
            Self::Servers => f.write_str("array of addresses"),
            Self::Members => f.write_str("array of addresses, or of tables with one"),
            Self::Metrics => f.write_str("IP address and port, or `\"off\"`"),
            Self::Functions | Self::Users => f.write_str("array of names"),
            Self::Texts => f.write_str("text, or array of texts"),
        }
    }
}

fn listed(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    words.join(", ")
}
