//! Cuts a psql script into what psql would send: meta-commands and the data of COPY taken out, variables put in.

use std::collections::HashMap;
use std::path::Path;

use pgweir::sql::{Kind, Lexer};

/// What psql would send as one Query, and the lines behind it if it is a COPY FROM STDIN.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) data: Option<String>,
}

/// Meta-commands that send what stands before them.
const SENDS: [&str; 7] = ["g", "gx", "gset", "gexec", "crosstabview", "watch", "bind"];

struct Cut<'a> {
    script: &'a str,
    at: usize,
    piece: String,
    words: Vec<String>,
    depth: usize,
    /// BEGIN and CASE that are open in the body of a function.
    blocks: usize,
    variables: HashMap<String, String>,
    /// In the part of an `\if` that is taken to be false.
    skips: bool,
    pieces: Vec<Piece>,
}

/// The pieces of a script. Conditions are taken to be false; `folder` stands for the variable `abs_srcdir`.
pub(super) fn pieces(script: &str, folder: &Path) -> Vec<Piece> {
    let variables = HashMap::from([("abs_srcdir".to_owned(), folder.display().to_string())]);
    let mut cut = Cut {
        script,
        at: 0,
        piece: String::new(),
        words: Vec::new(),
        depth: 0,
        blocks: 0,
        variables,
        skips: false,
        pieces: Vec::new(),
    };
    while cut.step() {}
    cut.pieces
}

impl<'a> Cut<'a> {
    /// Takes the next token; false at the end.
    fn step(&mut self) -> bool {
        let rest = &self.script[self.at..];
        let Some(token) = Lexer::new(rest.as_bytes()).next() else { return false };
        let text = &rest[..token.end];
        self.at += token.end;
        match token.kind {
            // What is cut off is no statement of psql's.
            Kind::Unterminated => return false,
            Kind::Other if text == "\\" => return self.meta(),
            Kind::Other if text == ":" => self.variable(),
            Kind::Semicolon if self.depth == 0 && self.blocks == 0 => self.send(),
            kind => {
                match kind {
                    Kind::Open => self.depth += 1,
                    Kind::Close => self.depth = self.depth.saturating_sub(1),
                    Kind::Word => self.word(text.to_ascii_lowercase()),
                    _ => {}
                }
                self.piece.push_str(text);
            }
        }
        true
    }

    /// As psql does it: a semicolon between BEGIN and END of a function's body ends nothing.
    fn word(&mut self, word: String) {
        let defines = self.words.first().is_some_and(|first| first == "create")
            && self.words.iter().take(4).any(|word| word == "function" || word == "procedure");
        match word.as_str() {
            "begin" if defines => self.blocks += 1,
            "case" if self.blocks > 0 => self.blocks += 1,
            "end" => self.blocks = self.blocks.saturating_sub(1),
            _ => {}
        }
        self.words.push(word);
    }

    /// The rest of the line.
    fn line(&mut self) -> &'a str {
        let rest = &self.script[self.at..];
        let line = rest.split_inclusive('\n').next().unwrap_or_default();
        self.at += line.len();
        line.trim_end()
    }

    /// A meta-command; false if it ends the script.
    fn meta(&mut self) -> bool {
        if self.script[self.at..].starts_with(';') {
            self.at += 1;
            self.piece.push(';');
            return true;
        }
        let line = self.line();
        let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match name {
            "if" => self.skips = true,
            "else" => self.skips = !self.skips,
            "endif" => self.skips = false,
            "q" | "quit" if !self.skips => return false,
            "set" => {
                if let Some((name, value)) = arguments.trim().split_once(char::is_whitespace) {
                    let value = self.value(value);
                    self.variables.insert(name.to_owned(), value);
                }
            }
            "gdesc" | "r" | "reset" => self.clear(),
            name if SENDS.contains(&name) => self.send(),
            _ => {}
        }
        self.piece.push('\n');
        true
    }

    /// The words of `\set`, joined, quotes and variables resolved.
    fn value(&self, words: &str) -> String {
        let word = |word: &str| match word.strip_prefix(':') {
            Some(name) => self.variables.get(name).cloned().unwrap_or_default(),
            None => word.trim_matches('\'').to_owned(),
        };
        words.split_whitespace().map(word).collect()
    }

    /// `:name`, `:'name'`, `:"name"`, where such a variable is known.
    fn variable(&mut self) {
        let rest = &self.script[self.at..];
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
        let name = quote.map_or(rest, |quote| rest.trim_start_matches(quote));
        let length = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        match self.variables.get(&name[..length]) {
            Some(value) => {
                let quote = quote.map(String::from).unwrap_or_default();
                self.piece += &format!("{quote}{value}{quote}");
                self.at += length + 2 * quote.len();
            }
            None => self.piece.push(':'),
        }
    }

    fn clear(&mut self) {
        self.piece.clear();
        self.words.clear();
        (self.depth, self.blocks) = (0, 0);
    }

    /// The piece is complete.
    fn send(&mut self) {
        let text = self.piece.trim().to_owned();
        let follows = |pair: &[String]| pair[0] == "from" && pair[1] == "stdin";
        let copies =
            self.words.first().is_some_and(|first| first == "copy") && self.words.windows(2).any(follows);
        let words = !self.words.is_empty();
        self.clear();
        let mut data = None;
        if copies {
            self.line();
            let rest = &self.script[self.at..];
            let end = rest.find("\\.\n").filter(|&at| at == 0 || rest[..at].ends_with('\n')).unwrap_or(0);
            data = Some(rest[..end].to_owned());
            self.at += end;
            self.line();
        }
        if words && !self.skips {
            self.pieces.push(Piece { text, data });
        }
    }
}

#[test]
fn a_script_is_cut_as_psql_does() {
    let script = "\\set file :abs_srcdir '/x'\nSELECT 1; -- a; b\nSELECT 2 \\gset\n\\d t\n\
        COPY t FROM stdin;\n1\t;\n\\.\nCOPY t FROM :'file';\n\\if :x\nSELECT 'never';\n\\else\nSELECT ';';\\endif\n\
        \\endif\nSELECT a[1:b]\\; SELECT 3;\nCREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END;\n\
        CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\nSELECT $$;$$;";
    let texts: Vec<_> = pieces(script, Path::new("/src")).into_iter().map(|p| (p.text, p.data)).collect();
    let expected = [
        ("SELECT 1", None),
        ("-- a; b\nSELECT 2", None),
        ("COPY t FROM stdin", Some("1\t;\n")),
        ("COPY t FROM '/src/x'", None),
        ("SELECT ';'", None),
        ("SELECT a[1:b]; SELECT 3", None),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END", None),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", None),
        ("SELECT $$;$$", None),
    ];
    let found: Vec<_> = texts.iter().map(|(text, data)| (text.as_str(), data.as_deref())).collect();
    assert_eq!(found, expected);
}
