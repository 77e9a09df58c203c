//! Bytes that no driver sends: the connection ends with PostgreSQL's code, and nobody else notices. And clients that leave
//! in the middle of something: what they did not finish is not done.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SOON, Script, Stage, address, log_in, play, query, steps};
use crate::wire::{Message, Until, bind, copy_data, execute, flush, message, parse, run, sync, terminate};

#[tokio::test]
async fn broken_bytes_end_the_connection_alike() {
    let stage = Stage::start().await;
    stage.compare_all(&scripts()).await;
    stage.compare_all(&[steps("afterwards", vec![(query("SELECT 1"), Until::Tags(b'Z', 1))])]).await;
}

fn closed(name: &'static str, bytes: Vec<u8>) -> Script {
    steps(name, vec![(bytes, Until::Closed)]).codes_only()
}

fn scripts() -> Vec<Script> {
    vec![
        closed("an unknown tag", message(b'!', b"x")),
        closed("an unknown tag behind a query", [query("SELECT 1"), message(b'y', b"")].concat()),
        closed(
            "an unknown tag behind queries of both kinds",
            [
                query("SELECT * FROM items"),
                query("INSERT INTO scratch (name) VALUES ('a')"),
                message(b'y', b""),
            ]
            .concat(),
        ),
        closed("a server's tag", message(b'Z', b"I")),
        closed(
            "a password out of turn",
            [message(b'p', b"secret\0"), query("SELECT 1"), terminate()].concat(),
        ),
        closed("goodbye", terminate()),
        closed(
            "goodbye behind queries",
            [query("SELECT 1"), query("SELECT * FROM items"), terminate()].concat(),
        ),
        closed("goodbye in the middle of a unit", [run("SELECT 1", &[]), terminate()].concat()),
        steps(
            "goodbye behind a Flush",
            vec![
                ([run("SELECT 1", &[]), flush()].concat(), Until::Tags(b'C', 1)),
                (terminate(), Until::Closed),
            ],
        ),
        steps(
            "a query in the middle of a copy",
            vec![
                (query("COPY scratch FROM STDIN"), Until::Tags(b'G', 1)),
                (query("SELECT 1"), Until::Closed),
            ],
        )
        .codes_only(),
        steps(
            "a unit in the middle of a copy",
            vec![
                (query("COPY scratch FROM STDIN"), Until::Tags(b'G', 1)),
                ([run("SELECT 1", &[]), sync()].concat(), Until::Closed),
            ],
        )
        .codes_only(),
    ]
}

/// A length that cannot be: PostgreSQL closes without a word, pgweir says why.
#[tokio::test]
async fn impossible_lengths_end_the_connection() {
    let stage = Stage::start().await;
    let length = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes(), b"SELECT 1\0"].concat();
    for bytes in [
        length(b'Q', 0),
        length(b'Q', 3),
        length(b'Q', 0x7fff_ffff),
        length(b'P', 0xffff_ffff),
        length(b'S', 20_000),
        length(b'D', 70_000),
    ] {
        let name = bytes.escape_ascii().to_string();
        let bytes = [query("SELECT 1"), bytes].concat();
        let direct = play(&stage.direct(), &closed("", bytes.clone())).await;
        let heard = play(&address(&stage.wide), &closed("", bytes)).await;
        assert_eq!(direct.last(), Some(&Message::CLOSED), "{name}");
        assert_eq!(tags(&direct), "TDCZ\0", "{name}");
        assert_eq!(tags(&heard), "TDCZE\0", "{name}");
        assert_eq!(heard[4].body, b"08P01", "{name}");
    }
}

/// A Terminate before anything else, as from drivers that are closed at once: nothing is answered, as by PostgreSQL.
#[tokio::test]
async fn who_leaves_before_it_has_opened_is_told_nothing() {
    let stage = Stage::start().await;
    let direct = ("127.0.0.1", stage.cluster.primary().port());
    for mut stream in [
        TcpStream::connect(direct).await.unwrap(),
        TcpStream::connect(stage.wide.addresses()[0]).await.unwrap(),
    ] {
        stream.write_all(b"X\0\0\0\x04").await.unwrap();
        let mut said = Vec::new();
        timeout(SOON, stream.read_to_end(&mut said)).await.unwrap().unwrap();
        assert_eq!(said, b"");
    }
}

fn tags(heard: &[Message]) -> String {
    heard.iter().map(|message| message.tag as char).collect()
}

/// A body without the shape that its tag asks for: PostgreSQL's code; pgweir closes, where PostgreSQL goes on.
#[tokio::test]
async fn malformed_bodies_have_the_same_code() {
    let stage = Stage::start().await;
    for (tag, body) in [
        (b'Q', &b"SELECT 1"[..]),
        (b'Q', b"SELECT 1\0x\0"),
        (b'P', b"\0SELECT 1"),
        (b'B', b"\0"),
        (b'B', b"\0\0\0\x01"),
        (b'D', b"X\0"),
        (b'D', b""),
        (b'C', b"Xx\0"),
        (b'E', b"\0"),
        (b'S', b"x"),
        (b'H', b"x"),
        (b'F', b"x"),
    ] {
        let name = format!("{} {}", tag as char, body.escape_ascii());
        let talk = closed("", [message(tag, body), sync(), terminate()].concat());
        let error = |heard: Vec<Message>| heard.into_iter().find(|message| message.tag == b'E');
        let direct = error(play(&stage.direct(), &talk).await);
        assert_eq!(direct, error(play(&address(&stage.wide), &talk).await), "{name}");
    }
}

/// A client leaves before its Sync, with a goodbye and without: the unit is not committed, as it would not be directly.
#[tokio::test]
async fn what_a_leaving_client_did_not_finish_is_not_done() {
    let stage = Stage::start().await;
    let write = run("INSERT INTO scratch (name) VALUES ('half')", &[]);
    let half = [write.clone(), flush()].concat();
    let in_transaction = [query("BEGIN"), write, sync(), flush()].concat();
    let copy = [
        parse("", "COPY scratch FROM STDIN"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        copy_data(b"1\tx\n"),
    ]
    .concat();
    for bytes in [half, in_transaction, copy] {
        let until = if bytes[0] == b'Q' {
            Until::Tags(b'C', 2)
        } else {
            Until::Tags(if bytes.ends_with(b"x\n") { b'G' } else { b'C' }, 1)
        };
        for goodbye in [true, false] {
            for pgweir in [&stage.wide, &stage.narrow] {
                let (mut wire, _) = log_in(&address(pgweir), &[]).await;
                wire.exchange(&[&bytes], until).await;
                if goodbye {
                    wire.exchange(&[&terminate()], Until::Sent).await;
                }
                drop(wire);
                // With one connection, this waits for what the client left behind.
                let next = steps(
                    "next",
                    vec![(query("BEGIN; SELECT count(*) FROM scratch; END"), Until::Tags(b'Z', 1))],
                );
                let heard = play(&address(pgweir), &next).await;
                assert!(
                    heard.iter().any(|message| message.tag == b'D' && message.body.ends_with(b"0")),
                    "{heard:?}"
                );
            }
            let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
            stage.cluster.primary().wait_value(idle, "0", SOON).await.unwrap();
            assert_eq!(stage.cluster.primary().value("SELECT count(*) FROM scratch").await.unwrap(), "0");
        }
    }
}
