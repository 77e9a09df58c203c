//! Reads a short text token by token, where its whole spelling has to be known.

use super::folded::Folded;
use super::increment::Operand;
use super::lex::{Kind, Lexer, Token};

/// The tokens of a text that are left to read.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    tokens: Vec<Token>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the front of a statement; none: it has more tokens than that.
    pub(super) fn new(text: &'a [u8], most: usize) -> Option<Self> {
        let mut tokens = Vec::new();
        for token in Lexer::new(text).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment)) {
            if tokens.len() >= most {
                return None;
            }
            tokens.push(token);
        }
        while tokens.last().is_some_and(|last| last.kind == Kind::Semicolon) {
            tokens.pop();
        }
        Some(Self { text, tokens, at: 0 })
    }

    /// Nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn raw(&self, token: Token) -> &'a [u8] {
        self.text.get(token.start..token.end).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// Takes the next token if that holds for it.
    fn takes(&mut self, is: impl FnOnce(&Self, Token) -> bool) -> bool {
        let is = self.peek().is_some_and(|token| is(self, token));
        self.at += usize::from(is);
        is
    }

    /// Takes the next token if it is that keyword.
    pub(super) fn word(&mut self, word: &[u8]) -> bool {
        self.takes(|this, token| token.kind == Kind::Word && this.raw(token).eq_ignore_ascii_case(word))
    }

    pub(super) fn operator(&mut self, operator: &[u8]) -> bool {
        self.takes(|this, token| token.kind == Kind::Operator && this.raw(token) == operator)
    }

    pub(super) fn kind(&mut self, kind: Kind) -> bool {
        self.takes(|_, token| token.kind == kind)
    }

    /// Takes the name of a function and its parenthesis.
    pub(super) fn calls(&mut self, name: &[u8]) -> bool {
        let before = self.at;
        let calls = self.word(name) && self.kind(Kind::Open);
        if !calls {
            self.at = before;
        }
        calls
    }

    /// What comes next is a name with another one behind it.
    pub(super) fn is_prefixed(&self) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|token| token.kind == Kind::Dot)
    }

    /// An identifier, as PostgreSQL folds it.
    pub(super) fn name(&mut self) -> Option<Box<str>> {
        let token = self.next().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
        let name = Folded::new(self.text, token);
        let name = str::from_utf8(name.as_bytes()).ok()?;
        (!name.is_empty()).then(|| name.into())
    }

    /// A constant or a parameter.
    pub(super) fn operand(&mut self) -> Option<Operand> {
        let minus = self.operator(b"-");
        let token = self.next()?;
        let raw = str::from_utf8(self.raw(token)).ok()?;
        match token.kind {
            Kind::Number if raw.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number: i64 = raw.parse().ok()?;
                Some(Operand::Number(if minus { -number } else { number }))
            }
            Kind::Param if !minus => Some(Operand::Param(raw.strip_prefix('$')?.parse().ok()?)),
            // No escapes, whatever `standard_conforming_strings` says.
            Kind::String if !minus => {
                let inside = raw.strip_prefix('\'')?.strip_suffix('\'')?;
                (!inside.contains(['\'', '\\'])).then(|| Operand::Text(inside.into()))
            }
            _ => None,
        }
    }
}
