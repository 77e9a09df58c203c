//! Cuts a text into tokens as PostgreSQL does (`src/backend/parser/scan.l`), with `standard_conforming_strings` on.
//!
//! Never fails, never allocates, linear in the text: the tokens tile it from the first byte to the last. What is not
//! closed is one token of kind [`Kind::Unterminated`] that reaches to the end. Where majors differ (`1_000`, `0x1F`,
//! `123abc`), the cut is one under which no major sees a word or a string that we do not see.

use memchr::{memchr, memchr2, memmem};

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Blanks.
    Space,
    /// `-- ..` to the end of the line, or `/* .. */`, nested.
    Comment,
    /// A name or keyword without quotes.
    Word,
    /// `"name"`.
    Quoted,
    /// `U&"name"`: its escapes are not decoded.
    UnicodeQuoted,
    /// Any string constant: `'..'`, `E'..'`, `U&'..'`, `B'..'`, `X'..'`, `N'..'`, `$tag$..$tag$`.
    String,
    /// A number.
    Number,
    /// `$1`.
    Param,
    /// A run of operator characters.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// `::`
    Cast,
    /// `[`, `]`, `:`, and bytes that no statement has.
    Other,
    /// A string, quoted name or comment without its end.
    Unterminated,
}

/// A token: what it is and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// The tokens of a text, in order, blanks and comments included.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

/// What a byte can begin or continue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    Space,
    Letter,
    Digit,
    Operator,
    Quote,
    DoubleQuote,
    Dollar,
    Open,
    Close,
    Comma,
    Semicolon,
    Dot,
    Colon,
    Other,
}

const BYTES: [Byte; 256] = byte_table();

const fn byte_table() -> [Byte; 256] {
    let mut table = [Byte::Other; 256];
    let mut index = 0;
    while index < 256 {
        #[allow(clippy::cast_possible_truncation)] // below 256
        let byte = index as u8;
        table[index] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Byte::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Byte::Letter,
            b'0'..=b'9' => Byte::Digit,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => Byte::Operator,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Byte::Operator,
            b'\'' => Byte::Quote,
            b'"' => Byte::DoubleQuote,
            b'$' => Byte::Dollar,
            b'(' => Byte::Open,
            b')' => Byte::Close,
            b',' => Byte::Comma,
            b';' => Byte::Semicolon,
            b'.' => Byte::Dot,
            b':' => Byte::Colon,
            _ => Byte::Other,
        };
        index += 1;
    }
    table
}

/// The class of a byte. The table has a place for every byte, so the look-up cannot fail.
#[inline]
fn class(byte: u8) -> Byte {
    #[allow(clippy::indexing_slicing)] // 256 places, a byte as index
    BYTES[usize::from(byte)]
}

impl<'a> Lexer<'a> {
    /// The tokens of `text`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    #[inline]
    fn peek(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// The first place from `at` on whose byte does not please.
    #[inline]
    fn run(&self, mut at: usize, pleases: impl Fn(u8) -> bool) -> usize {
        while let Some(&byte) = self.text.get(at) {
            if !pleases(byte) {
                break;
            }
            at += 1;
        }
        at
    }

    /// A word, or the string or quoted name that its one or two letters announce.
    #[inline]
    fn word(&self, start: usize, first: u8) -> (Kind, usize) {
        match (first, self.peek(start + 1)) {
            (b'e' | b'E', Some(b'\'')) => return self.string(start + 2, true),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\'')) => return self.string(start + 2, false),
            (b'u' | b'U', Some(b'&')) => match self.peek(start + 2) {
                Some(b'\'') => return self.string(start + 3, false),
                Some(b'"') => return self.quoted(start + 3, Kind::UnicodeQuoted),
                _ => {}
            },
            _ => {}
        }
        let end =
            self.run(start + 1, |byte| matches!(class(byte), Byte::Letter | Byte::Digit | Byte::Dollar));
        (Kind::Word, end)
    }

    /// A string from the byte after its opening quote. Constants with a line break between them are one, read by the
    /// rules of the first: after `E'a'` and a line break, `'b\'` is not at its end.
    fn string(&self, mut at: usize, escapes: bool) -> (Kind, usize) {
        loop {
            at = match self.string_part(at, escapes) {
                Some(end) => end,
                None => return (Kind::Unterminated, self.text.len()),
            };
            match self.continuation(at) {
                Some(next) => at = next,
                None => return (Kind::String, at),
            }
        }
    }

    /// The place after the closing quote.
    fn string_part(&self, mut at: usize, escapes: bool) -> Option<usize> {
        loop {
            let rest = self.text.get(at..)?;
            at += if escapes { memchr2(b'\'', b'\\', rest)? } else { memchr(b'\'', rest)? };
            match (self.peek(at), self.peek(at + 1)) {
                (Some(b'\\'), _) | (_, Some(b'\'')) => at += 2,
                _ => return Some(at + 1),
            }
        }
    }

    /// The place after the quote that continues a constant: blanks with a line break among them, and perhaps `--`
    /// comments, lie between.
    fn continuation(&self, at: usize) -> Option<usize> {
        let mut here = at;
        let mut broken = false;
        loop {
            match self.peek(here)? {
                b'\n' | b'\r' => broken = true,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if self.peek(here + 1) == Some(b'-') => here = self.line(here + 2) - 1,
                b'\'' if broken => return Some(here + 1),
                _ => return None,
            }
            here += 1;
        }
    }

    /// The end of the line.
    fn line(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        memchr2(b'\n', b'\r', rest).map_or(self.text.len(), |length| at + length)
    }

    /// A quoted name from the byte after its opening quote.
    fn quoted(&self, mut at: usize, kind: Kind) -> (Kind, usize) {
        while let Some(length) = self.text.get(at..).and_then(|rest| memchr(b'"', rest)) {
            at += length;
            if self.peek(at + 1) != Some(b'"') {
                return (kind, at + 1);
            }
            at += 2;
        }
        (Kind::Unterminated, self.text.len())
    }

    /// `$1`, `$tag$..$tag$`, or a stray dollar.
    fn dollar(&self, start: usize) -> (Kind, usize) {
        if self.peek(start + 1).is_some_and(|byte| byte.is_ascii_digit()) {
            return (Kind::Param, self.run(start + 2, |byte| byte.is_ascii_digit()));
        }
        let tag = self.run(start + 1, |byte| matches!(class(byte), Byte::Letter | Byte::Digit)) + 1;
        match self.text.get(start..tag) {
            Some(opening) if opening.ends_with(b"$") => {
                let rest = self.text.get(tag..).unwrap_or_default();
                match memmem::find(rest, opening) {
                    Some(length) => (Kind::String, tag + length + opening.len()),
                    None => (Kind::Unterminated, self.text.len()),
                }
            }
            _ => (Kind::Other, start + 1),
        }
    }

    /// A number that starts with a digit, or with a dot before a digit. One of a form that only newer majors know must stand
    /// alone: older ones go on with a word where it has its `_` or `x`, and to them `$$` behind it opens no string.
    fn number(&self, start: usize, first: u8) -> (Kind, usize) {
        let (kind, end) = self.number_alone(start, first);
        let is_new = self
            .text
            .get(start..end)
            .is_some_and(|number| number.iter().any(|byte| b"_xXoObB".contains(byte)));
        let goes_on = self.peek(end).is_some_and(|byte| matches!(class(byte), Byte::Letter | Byte::Dollar));
        if is_new && goes_on { (Kind::Unterminated, self.text.len()) } else { (kind, end) }
    }

    fn number_alone(&self, start: usize, first: u8) -> (Kind, usize) {
        let digits = |at| self.digits(at, u8::is_ascii_digit);
        if first == b'0' {
            let end = match self.peek(start + 1) {
                Some(b'x' | b'X') => self.digits(start + 2, u8::is_ascii_hexdigit),
                Some(b'o' | b'O' | b'b' | b'B') => digits(start + 2),
                _ => start + 2,
            };
            if end > start + 2 {
                return (Kind::Number, end);
            }
        }
        let mut end = if first == b'.' { start } else { digits(start) };
        // `1..10` is a number, two dots and a number.
        if self.peek(end) == Some(b'.') && self.peek(end + 1) != Some(b'.') {
            end = digits(end + 1);
        }
        if matches!(self.peek(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(end + 1), Some(b'+' | b'-')));
            if self.peek(end + 1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
                end = digits(end + 1 + sign);
            }
        }
        (Kind::Number, end)
    }

    /// Digits, with single underscores between them.
    fn digits(&self, mut at: usize, is_digit: impl Fn(&u8) -> bool) -> usize {
        loop {
            at = self.run(at, |byte| is_digit(&byte));
            let more = self.peek(at) == Some(b'_') && self.peek(at + 1).is_some_and(|byte| is_digit(&byte));
            if !more {
                return at;
            }
            at += 1;
        }
    }

    /// A comment, or a run of operator characters up to where a comment starts.
    #[inline]
    fn operator(&self, start: usize) -> (Kind, usize) {
        let mut at = start;
        while let Some(&byte) = self.text.get(at) {
            let comment = match (byte, self.peek(at + 1)) {
                (b'-', Some(b'-')) => Some((Kind::Comment, self.line(at))),
                (b'/', Some(b'*')) => Some(self.comment(at)),
                _ => None,
            };
            match comment {
                Some(comment) if at == start => return comment,
                Some(_) => break,
                None if class(byte) == Byte::Operator => at += 1,
                None => break,
            }
        }
        (Kind::Operator, at)
    }

    /// A bracketed comment, which may hold others.
    fn comment(&self, start: usize) -> (Kind, usize) {
        let mut at = start + 2;
        let mut depth = 1usize;
        while let Some(length) = self.text.get(at..).and_then(|rest| memchr2(b'*', b'/', rest)) {
            at += length;
            match (self.peek(at), self.peek(at + 1)) {
                (Some(b'*'), Some(b'/')) => depth -= 1,
                (Some(b'/'), Some(b'*')) => depth += 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
            if depth == 0 {
                return (Kind::Comment, at);
            }
        }
        (Kind::Unterminated, self.text.len())
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let first = self.peek(start)?;
        let one = |kind| (kind, start + 1);
        let (kind, end) = match class(first) {
            Byte::Space => (Kind::Space, self.run(start + 1, |byte| class(byte) == Byte::Space)),
            Byte::Letter => self.word(start, first),
            Byte::Digit => self.number(start, first),
            Byte::Operator => self.operator(start),
            Byte::Quote => self.string(start + 1, false),
            Byte::DoubleQuote => self.quoted(start + 1, Kind::Quoted),
            Byte::Dollar => self.dollar(start),
            Byte::Dot if self.peek(start + 1).is_some_and(|byte| byte.is_ascii_digit()) => {
                self.number(start, first)
            }
            Byte::Dot => one(Kind::Dot),
            Byte::Colon if self.peek(start + 1) == Some(b':') => (Kind::Cast, start + 2),
            Byte::Colon | Byte::Other => one(Kind::Other),
            Byte::Open => one(Kind::Open),
            Byte::Close => one(Kind::Close),
            Byte::Comma => one(Kind::Comma),
            Byte::Semicolon => one(Kind::Semicolon),
        };
        // Escapes at the end of the text may have been stepped over.
        self.at = end.min(self.text.len());
        Some(Token { kind, start, end: self.at })
    }
}
