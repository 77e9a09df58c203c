//! A reader of SQL that shares no code with pgweir's, and is written otherwise: characters to words, words to suspicion. It knows
//! little, and says of a text only that it should not leave the primary.

/// A word without quotes in lower case, a name in quotes, a mark, or the place where a literal was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    Word(String),
    Name(String),
    Escaped,
    Mark(char),
    Literal,
    Open(usize),
}

/// What a text consists of, blanks and comments left out. Bytes above ASCII belong to words.
pub(crate) fn words(text: &[u8]) -> Vec<Item> {
    let chars: Vec<char> = text.iter().map(|&byte| if byte < 128 { char::from(byte) } else { 'é' }).collect();
    let mut items = Vec::new();
    let mut rest = &chars[..];
    while let Some((&first, tail)) = rest.split_first() {
        let second = tail.first().copied().unwrap_or(' ');
        rest = match (first, second) {
            ('-', '-') => {
                let end = rest.iter().position(|&c| c == '\n' || c == '\r').unwrap_or(rest.len());
                &rest[end..]
            }
            ('/', '*') => comment(rest, &mut items),
            ('\'', _) => string(tail, escapes(&items, chars.len() - rest.len(), &chars), &mut items),
            ('"', _) => {
                let at = chars.len() - rest.len();
                // U&"..": what it says is not known.
                let escaped = at > 1 && chars[at - 1] == '&' && matches!(chars[at - 2], 'u' | 'U');
                name(tail, escaped && items.iter().rev().nth(1) == Some(&word_of("u")), &mut items)
            }
            ('$', _) => dollar(rest, &mut items),
            (c, _) if c.is_alphabetic() || c == '_' => {
                let end = rest
                    .iter()
                    .position(|&c| !(c.is_alphanumeric() || c == '_' || c == '$'))
                    .unwrap_or(rest.len());
                items.push(Item::Word(rest[..end].iter().collect::<String>().to_ascii_lowercase()));
                &rest[end..]
            }
            (c, _) => {
                if !c.is_whitespace() {
                    items.push(Item::Mark(c));
                }
                tail
            }
        };
    }
    items
}

/// Whether the quote at `at` has an `E` of its own directly before it: then backslashes escape. The `E` is taken out.
fn escapes(items: &[Item], at: usize, chars: &[char]) -> bool {
    at > 0 && matches!(chars[at - 1], 'e' | 'E') && items.last() == Some(&Item::Word("e".to_owned()))
}

fn comment<'a>(chars: &'a [char], items: &mut Vec<Item>) -> &'a [char] {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return &chars[at..];
        }
    }
    items.push(Item::Open(chars.len()));
    &[]
}

/// Constants that a line break separates are one, by the rules of the first.
fn string<'a>(mut chars: &'a [char], escapes: bool, items: &mut Vec<Item>) -> &'a [char] {
    loop {
        match (chars.first(), chars.get(1)) {
            (None, _) => {
                items.push(Item::Open(0));
                return chars;
            }
            (Some('\\'), _) if escapes => chars = chars.get(2..).unwrap_or(&[]),
            (Some('\''), Some('\'')) => chars = &chars[2..],
            (Some('\''), _) => match continued(&chars[1..]) {
                Some(more) => chars = more,
                None => {
                    items.push(Item::Literal);
                    return &chars[1..];
                }
            },
            _ => chars = &chars[1..],
        }
    }
}

/// What follows the quote that goes on with a constant after a line break.
fn continued(chars: &[char]) -> Option<&[char]> {
    let mut rest = chars;
    let mut broken = false;
    loop {
        match rest {
            ['-', '-', ..] => {
                let end = rest.iter().position(|&c| c == '\n' || c == '\r').unwrap_or(rest.len());
                rest = &rest[end..];
            }
            ['\n' | '\r', tail @ ..] => {
                broken = true;
                rest = tail;
            }
            [' ' | '\t' | '\u{b}' | '\u{c}', tail @ ..] => rest = tail,
            ['\'', tail @ ..] if broken => return Some(tail),
            _ => return None,
        }
    }
}

fn name<'a>(chars: &'a [char], escaped: bool, items: &mut Vec<Item>) -> &'a [char] {
    let mut found = String::new();
    let mut rest = chars;
    loop {
        match rest {
            [] => {
                items.push(Item::Open(0));
                return rest;
            }
            ['"', '"', tail @ ..] => {
                found.push('"');
                rest = tail;
            }
            ['"', tail @ ..] => {
                items.push(if escaped { Item::Escaped } else { Item::Name(found) });
                return tail;
            }
            [c, tail @ ..] => {
                found.push(*c);
                rest = tail;
            }
        }
    }
}

fn dollar<'a>(chars: &'a [char], items: &mut Vec<Item>) -> &'a [char] {
    let tag =
        chars[1..].iter().position(|&c| !(c.is_alphanumeric() || c == '_')).map_or(chars.len(), |at| at + 1);
    let numbered = chars.get(1).is_some_and(char::is_ascii_digit);
    if numbered || chars.get(tag) != Some(&'$') {
        items.push(Item::Mark('$'));
        return &chars[1..];
    }
    let quote = &chars[..=tag];
    let body = &chars[tag + 1..];
    match body.windows(quote.len()).position(|window| window == quote) {
        Some(end) => {
            items.push(Item::Literal);
            &body[end + quote.len()..]
        }
        None => {
            items.push(Item::Open(0));
            &[]
        }
    }
}

/// Functions that write, lock, notify, or belong to one session or one server.
const DANGEROUS: [&str; 33] = [
    "nextval",
    "setval",
    "currval",
    "lastval",
    "set_config",
    "setseed",
    "pg_notify",
    "txid_current",
    "pg_current_xact_id",
    "pg_export_snapshot",
    "pg_switch_wal",
    "pg_create_restore_point",
    "pg_logical_emit_message",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_promote",
    "pg_stat_reset",
    "pg_create_physical_replication_slot",
    "pg_drop_replication_slot",
    "pg_wal_replay_pause",
    "lo_create",
    "lo_creat",
    "lo_unlink",
    "lo_open",
    "lo_import",
    "lo_export",
    "lo_put",
    "lo_from_bytea",
    "lowrite",
    "query_to_xml",
    "ts_stat",
];

fn is_dangerous(name: &str) -> bool {
    let lock = name.strip_prefix("pg_advisory_").or_else(|| name.strip_prefix("pg_try_advisory_"));
    let lock = lock.map(|lock| lock.strip_prefix("xact_").unwrap_or(lock));
    let lock = lock.map(|lock| lock.strip_suffix("_shared").unwrap_or(lock));
    DANGEROUS.contains(&name) || lock.is_some_and(|lock| ["lock", "unlock", "unlock_all"].contains(&lock))
}

/// Why a text must not leave the primary; none: nothing was noticed.
pub(crate) fn danger(items: &[Item]) -> Option<String> {
    for (at, item) in items.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| items.get(before));
        let after = items.get(at + 1);
        match item {
            Item::Open(_) => return Some("something is not closed".to_owned()),
            Item::Escaped => return Some("a name with escapes".to_owned()),
            Item::Word(word) if before != Some(&Item::Mark('.')) => {
                if ["insert", "update", "delete", "merge", "into"].contains(&word.as_str()) {
                    return Some(word.clone());
                }
                if word == "for" && locks(&items[at + 1..]) {
                    return Some("a row lock".to_owned());
                }
            }
            _ => {}
        }
        let (Item::Word(name) | Item::Name(name)) = item else { continue };
        if after == Some(&Item::Mark('('))
            && is_dangerous(name)
            && !is_type(items, at)
            && !is_option(items, at)
        {
            return Some(format!("a call of {name}"));
        }
    }
    let statements = items.split(|item| *item == Item::Mark(';'));
    statements.filter(|statement| !statement.is_empty()).find_map(begins_badly)
}

/// A place where no call can stand, only an error: the table of a COPY with its columns, options behind it, options of EXPLAIN.
fn is_option(items: &[Item], at: usize) -> bool {
    let start = items[..at].iter().rposition(|item| *item == Item::Mark(';')).map_or(0, |before| before + 1);
    let before = &items[start..at];
    match before {
        [Item::Word(copy), rest @ ..] if copy == "copy" => {
            depths(rest).last().is_none_or(|depth| depth == 0) || has_target(rest)
        }
        [Item::Word(explain), rest @ ..] if explain == "explain" => {
            let verbose = |item: &&Item| matches!(item, Item::Word(word) if word == "verbose");
            let rest = &rest[rest.iter().take_while(verbose).count()..];
            // Nothing but a query or an option can stand behind the parenthesis.
            let query = |word: &str| ["select", "values", "table", "with"].contains(&word);
            let options = match items[start..].iter().filter(|item| !verbose(item)).nth(2) {
                Some(Item::Word(word)) => !query(word),
                Some(Item::Name(_)) => true,
                _ => false,
            };
            options
                && rest.first() == Some(&Item::Mark('('))
                && depths(rest).min().is_none_or(|least| least > 0)
        }
        _ => false,
    }
}

/// How many parentheses are open after each.
fn depths(items: &[Item]) -> impl Iterator<Item = i32> {
    items.iter().scan(0, |depth, item| {
        *depth += i32::from(*item == Item::Mark('(')) - i32::from(*item == Item::Mark(')'));
        Some(*depth)
    })
}

/// A name behind `::`, with its schema: a type with its modifiers.
fn is_type(items: &[Item], mut at: usize) -> bool {
    while at > 1 && items[at - 1] == Item::Mark('.') {
        at -= 2;
    }
    at > 1 && items[at - 2..at] == [Item::Mark(':'), Item::Mark(':')]
}

/// `TO STDOUT`, which COPY takes to be the same as `TO STDIN`.
fn has_target(items: &[Item]) -> bool {
    let to =
        |two: &[Item]| two[0] == word_of("to") && [word_of("stdout"), word_of("stdin")].contains(&two[1]);
    items.windows(2).any(to)
}

fn locks(after: &[Item]) -> bool {
    let words: Vec<&str> =
        after.iter().take(3).map(|item| if let Item::Word(word) = item { word } else { "" }).collect();
    matches!(words.as_slice(), ["update" | "share", ..] | ["no", "key", "update", ..] | ["key", "share", ..])
}

/// The first word decides what a statement can be.
fn begins_badly(statement: &[Item]) -> Option<String> {
    let first = statement.iter().find(|item| **item != Item::Mark('('));
    let Some(Item::Word(word)) = first else { return Some(format!("begins with {first:?}")) };
    match word.as_str() {
        "select" | "values" | "table" | "with" | "show" | "explain" => None,
        "copy" if has_target(statement) => None,
        "begin" | "start" if statement.windows(2).any(|two| two == [word_of("read"), word_of("only")]) => {
            None
        }
        other => Some(format!("begins with {other}")),
    }
}

fn word_of(word: &str) -> Item {
    Item::Word(word.to_owned())
}

#[test]
fn the_naive_reader_notices() {
    for text in [
        "SELECT 1; DELETE FROM t",
        "WITH x AS (UPDATE t SET a = 1 RETURNING 1) TABLE x",
        "SELECT * INTO x FROM t",
        "SELECT 1 FOR  NO KEY UPDATE",
        "SELECT \"nextval\" ('s')",
        "SELECT U&\"x\"(1)",
        "SELECT 'a",
        "COPY t FROM STDIN",
        "SELECT E'\\'' , nextval('s')",
        "SELECT $a$ $a$ , lo_unlink(1)",
        "BEGIN",
        "SELECT 1 /* /* */",
        "SELECT pg_catalog.pg_advisory_lock(1)",
        "SELECT 'a'--\n'b', setval('s', 1)",
        "",
    ] {
        assert!(text.is_empty() || danger(&words(text.as_bytes())).is_some(), "{text}");
    }
    for text in [
        "SELECT 'DELETE', \"update\", $$INTO$$ -- FOR UPDATE\n /* nextval('s') */",
        "SELECT t.update FROM t",
        "COPY t TO STDOUT",
        "BEGIN READ ONLY",
        "SELECT 'it''s', E'\\'; DELETE FROM t'",
        "EXPLAIN SELECT 1",
        "(SELECT 1)",
    ] {
        assert_eq!(danger(&words(text.as_bytes())), None, "{text}");
    }
}
