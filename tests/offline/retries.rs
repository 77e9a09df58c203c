//! Reads that a replica loses or cancels at a moment that no real one hits on command: the client sees the primary's answer
//! alone, or, once it was shown a result, what the replica said.

use std::time::Duration;

use pgweir::app::Pgweir;

use crate::fake::{
    Client, Fake, Plan, Then, assert_nothing_panicked, error, eventually, message, pgweir, query, rows,
};

/// A primary and a replica, and a client that is served by the replica.
struct Stage {
    primary: Fake,
    replica: Fake,
    pgweir: Pgweir,
    client: Client,
}

impl Stage {
    /// With reads that go alone.
    fn start() -> Self {
        Self::with("max_shared_reads = 1")
    }

    fn with(settings: &str) -> Self {
        let (primary, replica) = (Fake::start(), Fake::replica());
        primary.plan(Plan::Reply(rows(&["primary"]), Then::GoOn));
        let pgweir = pgweir(&[primary.address, replica.address], settings);
        let client = Client::login(&pgweir);
        let mut stage = Self { primary, replica, pgweir, client };
        stage.returns();
        stage
    }

    /// Waits until the replica serves reads.
    fn returns(&mut self) {
        self.replica.plan(Plan::Reply(rows(&["replica"]), Then::GoOn));
        let client = &mut self.client;
        eventually("reads go to the replica", || {
            let there = heard(client) == rows(&["replica"]);
            if !there {
                std::thread::sleep(Duration::from_millis(10));
            }
            there
        });
    }

    /// What the client hears when the replica answers like that.
    fn when(&mut self, says: &[u8], then: Then) -> Vec<u8> {
        self.replica.plan(Plan::Reply(says.to_vec(), then));
        heard(&mut self.client)
    }
}

/// All that comes in answer to a read, up to ReadyForQuery.
fn heard(client: &mut Client) -> Vec<u8> {
    client.say(&query("SELECT 1"));
    let mut bytes = Vec::new();
    loop {
        let (tag, body) = client.message().expect("pgweir closed the connection");
        bytes.extend(message(tag, &body));
        if tag == b'Z' {
            return bytes;
        }
    }
}

fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Some((tag, rest)) = bytes.split_first() {
        tags.push(char::from(*tag));
        let length = u32::from_be_bytes(*rest.first_chunk().unwrap());
        bytes = &rest[length as usize..];
    }
    tags
}

/// The messages of [`rows`]: description, row, end, ready.
fn parts() -> [Vec<u8>; 4] {
    let whole = rows(&["replica"]);
    let mut rest = &whole[..];
    std::array::from_fn(|_| {
        let length = u32::from_be_bytes(*rest[1..].first_chunk().unwrap()) as usize + 1;
        let (part, after) = rest.split_at(length);
        rest = after;
        part.to_vec()
    })
}

#[test]
fn an_error_before_the_first_result_is_not_seen() {
    let mut stage = Stage::start();
    let [description, row, end, ready] = parts();
    let long_row = message(b'D', &vec![0; 70_000]);
    let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhear\0\0");
    let setting = message(b'S', b"application_name\0other\0");
    let long = message(b'T', &vec![0; 60_000]);
    let longer = message(b'T', &vec![0; 70_000]);
    let second = rows(&["primary"]);
    let codes = [
        ("40001", true),
        ("40P01", true),
        ("42P01", true),
        ("57014", false),
        ("22012", false),
        ("XX000", false),
    ];
    for (code, again) in codes {
        let says = [&description[..], &error(code), &ready].concat();
        assert_eq!(stage.when(&says, Then::GoOn), if again { &second } else { &says }[..], "{code}");
    }
    let failed = [error("40001"), ready.clone()].concat();
    let cases = [
        ("at once", Vec::new(), Some(second.clone())),
        ("after a notice", [&notice[..], &description, &notice].concat(), Some(second.clone())),
        ("after a setting", [&setting[..], &description].concat(), Some([&setting[..], &second].concat())),
        ("after a long description", long, Some(second.clone())),
        ("after one that is longer than a window", longer, None),
        ("after more notices than a window holds", notice.repeat(3000), None),
        ("in one packet with a row", [&description[..], &row].concat(), Some(second.clone())),
        ("in one packet with an end", [&description[..], &row, &end].concat(), Some(second.clone())),
        ("after a row that was shown", [&description[..], &long_row].concat(), None),
    ];
    for (when, before, expected) in cases {
        let says = [&before[..], &failed].concat();
        let heard = stage.when(&says, Then::GoOn);
        let expected = expected.unwrap_or(says);
        assert!(heard == expected, "{when}: {} instead of {}", tags(&heard), tags(&expected));
    }
    // This one is learned: the replica is not asked again.
    for _ in 0..2 {
        assert_eq!(stage.when(&[error("25006"), ready.clone()].concat(), Then::GoOn), second);
    }
    assert_eq!(stage.when(&rows(&["replica"]), Then::GoOn), second);
    assert_nothing_panicked();
}

#[test]
fn a_connection_that_breaks_at_any_byte() {
    let mut stage = Stage::start();
    let [description, row, ..] = parts();
    let whole = rows(&["replica"]);
    let second = rows(&["primary"]);
    let first_result = description.len() + row.len();
    for cut in 0..=whole.len() {
        stage.returns();
        let heard = stage.when(&whole[..cut], Then::Close);
        if cut < first_result {
            assert_eq!(heard, second, "cut at {cut}: {}", tags(&heard));
        } else if cut < whole.len() {
            assert!(heard.starts_with(&whole[..first_result]), "cut at {cut}: {}", tags(&heard));
            assert!(tags(&heard).ends_with("EZ"), "cut at {cut}: {}", tags(&heard));
        } else {
            assert_eq!(heard, whole);
        }
    }
    // The primary's own errors are nobody else's affair.
    stage.primary.plan(Plan::Reply([error("40001"), message(b'Z', b"I")].concat(), Then::GoOn));
    stage.returns();
    assert_eq!(tags(&stage.when(&[error("40001"), message(b'Z', b"I")].concat(), Then::GoOn)), "EZ");
    assert_nothing_panicked();
}

/// What is wrong on a connection that others may use, too, is nobody's answer: the read goes alone then, to the same replica or
/// to the primary.
#[test]
fn a_shared_connection_answers_whole_or_not_at_all() {
    let mut stage = Stage::with("");
    let whole = rows(&["replica"]);
    let [description, row, end, _] = parts();
    let second = rows(&["primary"]);
    let first_result = description.len() + row.len();
    // Until the shape is known to be short.
    for _ in 0..5 {
        stage.returns();
    }
    for cut in 0..whole.len() {
        let heard = stage.when(&whole[..cut], Then::Close);
        let alone =
            cut >= first_result && heard.starts_with(&whole[..first_result]) && tags(&heard).ends_with("EZ");
        assert!(heard == second || alone, "cut at {cut}: {}", tags(&heard));
        stage.returns();
    }
    let status = |status: &[u8]| [&description[..], &row, &end, &message(b'Z', status)].concat();
    let huge = [&[b'D'][..], &i32::MAX.to_be_bytes()].concat();
    let hostile = [
        ("an open transaction", status(b"T")),
        ("a status that is none", status(b"?")),
        ("a status that says nothing", status(b"")),
        ("two answers", [&whole[..], &whole].concat()),
        ("an unknown message", [&description[..], &message(b'~', b"x"), &whole].concat()),
        ("a length that cannot be", [&description[..], &[b'D', 0, 0, 0, 1]].concat()),
        ("a row that never ends", [&description[..], &huge].concat()),
        ("a setting", [&message(b'S', b"TimeZone\0UTC\0")[..], &whole].concat()),
        ("a wish for data", [&message(b'G', &[0; 3])[..], &whole].concat()),
        ("an answer to nothing", [&message(b'2', b"")[..], &whole].concat()),
    ];
    for (what, says) in hostile {
        stage.replica.plan(Plan::Reply(says, Then::Close));
        stage.client.say(&query("SELECT 1"));
        // Alone it may end the session: somebody else is served then.
        let mut heard = String::new();
        while !heard.ends_with('Z')
            && let Some((tag, _)) = stage.client.message()
        {
            heard.push(char::from(tag));
        }
        assert!(!heard.is_empty(), "{what}: not a word");
        stage.client = Client::login(&stage.pgweir);
        stage.returns();
    }
    assert_nothing_panicked();
}

/// The FATAL error with which a server ends a connection, in any place before a result is shown.
#[test]
fn last_words_before_the_first_result_are_not_seen() {
    let mut stage = Stage::start();
    let [description, row, ..] = parts();
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoodbye\0\0");
    let with_row = [&description[..], &row].concat();
    for before in [&b""[..], &description, &with_row] {
        assert_eq!(stage.when(&[before, &fatal].concat(), Then::Close), rows(&["primary"]));
        stage.returns();
    }
}
