//! Texts and numbers as they are printed: whatever a statement holds, it is one line, and says nothing to a terminal.

use std::fmt::Write as _;

use crate::sql::normalise;

/// Most characters of a statement in a table.
const WIDTH: usize = 120;

/// Whether a character could move the cursor, change colours, or turn the direction of what follows.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text that may be printed, at most so many characters of it.
pub(super) fn printable(text: &str, width: usize) -> String {
    let mut out = String::new();
    for (nth, c) in text.chars().enumerate() {
        if nth == width {
            out.push('…');
            break;
        }
        out.push(if is_harmful(c) { '\u{fffd}' } else { c });
    }
    out
}

/// A statement on one line: without comments, with `?` for what is constant.
pub(super) fn statement(text: Option<&str>) -> String {
    match text {
        Some(text) => printable(&normalise(text.as_bytes()), WIDTH),
        None => "(too long)".to_owned(),
    }
}

/// A string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_harmful(c) => {
                // Writing to a String does not fail.
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key of TOML.
pub(super) fn key(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { quoted(text) }
}

/// JSON that a terminal may show: outside of strings it has no such characters.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Milliseconds, in a unit that suits them.
pub(super) fn time(millis: f64) -> String {
    match millis {
        ..1_000.0 => format!("{millis:.2} ms"),
        ..600_000.0 => format!("{:.2} s", millis / 1_000.0),
        ..36_000_000.0 => format!("{:.1} min", millis / 60_000.0),
        _ => format!("{:.1} h", millis / 3_600_000.0),
    }
}

/// What part of the whole that is, in percent; nothing of nothing.
pub(super) fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

/// The time of one call.
#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
pub(super) fn mean(time: f64, calls: u64) -> f64 {
    if calls == 0 { 0.0 } else { time / calls as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_statement_is_one_line_that_a_terminal_may_show() {
        assert_eq!(statement(Some("SELECT $1 -- x\n FROM\tt")), "SELECT $1 FROM t");
        let hostile = "SELECT \"a\u{1b}[2J\nb\u{9b}1m\u{202e}c\" /* \u{7} */";
        assert_eq!(statement(Some(hostile)), "SELECT \"a\u{fffd}[2J\u{fffd}b\u{fffd}1m\u{fffd}c\"");
        let long = statement(Some(&"SELECT a, b, ".repeat(10_000)));
        assert!(long.chars().count() == WIDTH + 1 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn times_and_shares() {
        let times = [0.0, 999.99, 1_500.0, 90_000.0, 900_000.0, 72_000_000.0].map(time);
        assert_eq!(times, ["0.00 ms", "999.99 ms", "1.50 s", "90.00 s", "15.0 min", "20.0 h"]);
        assert_eq!((percent(1.0, 4.0) as u32, percent(1.0, 0.0) as u32, mean(4.0, 0) as u32), (25, 0, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_quoted_so_that_it_comes_back(text: String) {
            let quoted = quoted(&text);
            prop_assert!(!quoted.chars().any(is_harmful));
            let read: toml::Table = toml::from_str(&format!("{} = {quoted}", key(&text))).unwrap();
            prop_assert_eq!(read.get(&text).and_then(|value| value.as_str()), Some(&*text));
        }

        #[test]
        fn any_bytes_are_printable(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(!statement(Some(&text)).chars().any(is_harmful));
            let shown = json(&serde_json::Value::from(&*text).to_string());
            prop_assert!(!shown.chars().any(is_harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
