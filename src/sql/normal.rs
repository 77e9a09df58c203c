//! A text as people compare statements: literals and comments out, one space where there were several.

use std::borrow::Cow;

use super::lex::{Kind, Lexer};

/// Longest normalised text, in bytes; what is cut off shows as an ellipsis.
pub const NORMAL_LIMIT: usize = 1024;

/// Stands for what is cut off.
const CUT: &str = " …";

/// The text with `?` for each literal, without comments, with single spaces; at most [`NORMAL_LIMIT`] bytes. Texts of
/// one [`super::Shape`] are the same then. What is not closed may be a literal, and is shown as one.
#[must_use]
pub fn normalise(text: &[u8]) -> String {
    let mut out = String::new();
    let mut space = false;
    for token in Lexer::new(text) {
        let raw = text.get(token.start..token.end).unwrap_or_default();
        let shown = match token.kind {
            Kind::Space | Kind::Comment => {
                space = !out.is_empty();
                continue;
            }
            Kind::String | Kind::Number | Kind::Unterminated => Cow::Borrowed("?"),
            _ if raw.len() > NORMAL_LIMIT => return cut(out),
            _ => String::from_utf8_lossy(raw),
        };
        if out.len() + usize::from(space) + shown.len() + CUT.len() > NORMAL_LIMIT {
            return cut(out);
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push_str(&shown);
    }
    out
}

fn cut(mut out: String) -> String {
    out.push_str(if out.is_empty() { CUT.trim_start() } else { CUT });
    out
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use ahash::RandomState;
    use proptest::prelude::*;

    use super::super::{Effect, Name, Names, Seeds, scan};
    use super::*;

    #[test]
    fn literals_comments_and_blanks_are_out() {
        let normal = |text: &str| normalise(text.as_bytes());
        assert_eq!(
            normal(" SELECT a,\n\t-- who\n b FROM \"My t\" /* x */ WHERE id=12 AND c = E'it\\'s'  "),
            "SELECT a, b FROM \"My t\" WHERE id=? AND c = ?"
        );
        assert_eq!(normal("SELECT $1, $$x$$, '{\"a\":1}'::jsonb"), "SELECT $1, ?, ?::jsonb");
        assert_eq!(normal("SELECT 'secret"), "SELECT ?");
        assert_eq!(normal("/* nothing */"), "");
    }

    #[test]
    fn it_is_bounded() {
        let mut text = "SELECT ".to_owned();
        for nth in 0..1_000 {
            write!(text, "column_{nth}, ").unwrap();
        }
        for text in [text, format!("SELECT \"{}\"", "é".repeat(2_000)), "x".repeat(5_000)] {
            let normal = normalise(text.as_bytes());
            assert!(normal.len() <= NORMAL_LIMIT && normal.ends_with('…'), "{normal}");
            assert_eq!(normalise(normal.as_bytes()), normal);
        }
    }

    struct Nobody;

    impl Names for Nobody {
        fn function(&self, _: Name<'_>) -> Effect {
            Effect::Safe
        }
    }

    const PARTS: &[&str] = &[
        "SELECT", "a", "\"b c\"", "'x'", "12", ".5", "1e3", "$1", "$$y$$", "$t$", "E'\\''", "/* c */",
        "-- d\n", "\n", " ", "  ", "(", ")", ",", ".", "..", "::", "[", ":", "=", "-", "?", "/", "*", "'",
        "\"", "é", "…", "u&", "$", ";",
    ];

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(PARTS), 0..20).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn twice_is_once(text in texts()) {
            let once = normalise(text.as_bytes());
            prop_assert_eq!(normalise(once.as_bytes()), once);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let once = normalise(&bytes);
            prop_assert!(once.len() <= NORMAL_LIMIT);
            prop_assert_eq!(normalise(once.as_bytes()), once);
        }

        /// Texts that differ in literals and in what comments say.
        #[test]
        fn one_shape_is_one_text(
            parts in prop::collection::vec(prop::sample::select(PARTS), 0..12),
            numbers in prop::collection::vec((0u32..1000, 0u32..1000), 12),
        ) {
            let text = |second: bool| {
                let part = |(part, (one, other)): (&&str, &(u32, u32))| {
                    let number = if second { other } else { one };
                    match *part {
                        "12" => number.to_string(),
                        "'x'" => format!("'{number}'"),
                        "/* c */" => format!("/* {number} */"),
                        other => other.to_owned(),
                    }
                };
                parts.iter().zip(&numbers).map(part).collect::<Vec<_>>().concat()
            };
            let seeds = Seeds { high: RandomState::with_seed(1), low: RandomState::with_seed(2) };
            let (one, other) = (text(false), text(true));
            let shape = |text: &str| scan(text.as_bytes(), &Nobody, &seeds, |_| {}).shape;
            if shape(&one) == shape(&other) {
                prop_assert_eq!(normalise(one.as_bytes()), normalise(other.as_bytes()));
            }
        }
    }
}
