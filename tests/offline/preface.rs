//! What goes before a unit on pgweir's account, and fails: nothing of the unit happens.

use crate::fake::{Client, Fake, Plan, assert_nothing_panicked, message, pgweir, query};

const COMMITS: &str = "INSERT INTO t VALUES (3)";

fn parse(text: &str) -> Vec<u8> {
    message(b'P', format!("\0{text}\0\0\0").as_bytes())
}

fn bind() -> Vec<u8> {
    message(b'B', &[0; 8])
}

fn execute() -> Vec<u8> {
    message(b'E', &[0; 5])
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// A BEGIN that was held back is cancelled: the client hears that of its first statement, its transaction has failed, and nothing
/// is carried out until it has ended that.
#[test]
fn a_begin_that_is_cancelled() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "pool_size = 1");
    let text = "INSERT INTO t VALUES (1)";
    let many: Vec<u8> = (0..2_000).flat_map(|_| [parse(text), bind(), execute()].concat()).collect();
    for (name, unit) in [
        ("a query", query(text)),
        ("an extended unit", [parse(text), bind(), execute(), sync()].concat()),
        ("a long one", [many, sync()].concat()),
        ("a long query", query(&format!("{text} -- {}", "x".repeat(100_000)))),
        ("one that names a statement", query("EXECUTE s")),
        ("one that asks for statements", query("SELECT * FROM pg_prepared_statements")),
        ("a function", message(b'F', &[0, 0, 4, 210, 0, 0, 0, 0, 0, 0])),
    ] {
        let mut client = Client::login(&pgweir);
        assert_eq!(client.ask("BEGIN").tags, "CZ", "{name}");
        fake.ran();
        fake.plan(Plan::CancelBegin);
        client.say(&unit);
        let refused = client.answer();
        assert_eq!((&*refused.tags, &*refused.errors), ("EZ", &["57014".to_owned()][..]), "{name}");
        // Whatever the server would say to it.
        fake.plan(Plan::Behave);
        assert_eq!(client.ask(text).errors, ["25P02"], "{name}");
        assert_eq!(fake.ran(), Vec::<String>::new(), "{name}");
        assert_eq!(client.ask("COMMIT").tags, "CZ", "{name}");
        assert_eq!(client.ask(COMMITS).errors, Vec::<String>::new(), "{name}");
        assert_eq!(fake.ran(), [COMMITS], "{name}");
    }
    assert_nothing_panicked();
}

/// The same, where all was sent at once.
#[test]
fn a_begin_that_is_cancelled_in_a_pipeline() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "pool_size = 1");
    let write = |id: u32| format!("INSERT INTO t VALUES ({id})");
    let unit = |id: u32| [parse(&write(id)), bind(), execute(), sync()].concat();
    for extended in [false, true] {
        let mut client = Client::login(&pgweir);
        fake.plan(Plan::CancelBegin);
        let one = |id| if extended { unit(id) } else { query(&write(id)) };
        client.say(&[query("BEGIN"), one(1), one(2), query("COMMIT"), one(3)].concat());
        assert_eq!(client.answer().tags, "CZ");
        assert_eq!(client.answer().errors, ["57014"]);
        assert_eq!(client.answer().errors, ["25P02"]);
        assert_eq!(client.answer().tags, "CZ");
        assert_eq!(client.answer().errors, Vec::<String>::new());
        assert_eq!(fake.ran(), [COMMITS]);
    }
    assert_nothing_panicked();
}

/// A client that flushes sees the error at once, and what it sends before its Sync is thrown away.
#[test]
fn a_begin_that_is_cancelled_before_a_flush() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "pool_size = 1");
    let mut client = Client::login(&pgweir);
    fake.plan(Plan::CancelBegin);
    assert_eq!(client.ask("BEGIN").tags, "CZ");
    client.say(&[parse(COMMITS), message(b'H', b"")].concat());
    assert_eq!(client.message().map(|(tag, _)| tag), Some(b'E'));
    client.say(&[bind(), execute(), sync()].concat());
    assert_eq!(client.message(), Some((b'Z', b"E".to_vec())));
    assert_eq!(client.ask("ROLLBACK").tags, "CZ");
    assert_eq!(fake.ran(), Vec::<String>::new());
    assert_nothing_panicked();
}
