//! The same bytes in other pieces: cut at every offset, byte by byte, and at random.

use super::{Stage, address, log_in};
use crate::wire::{
    Until, Wire, bind, close, copy_data, copy_done, describe, execute, flush, parse, query, run, sync,
};

/// A conversation that leaves its session as it found it, so that it can be had again on the same connection.
struct Talk {
    name: &'static str,
    bytes: Vec<u8>,
    readies: usize,
}

fn talks() -> Vec<Talk> {
    let read = "SELECT name FROM items WHERE id = $1";
    let transaction = [query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK")].concat();
    let extended = [
        parse("s", read),
        describe('S', "s"),
        flush(),
        bind("", "s", &["1"]),
        execute("", 0),
        sync(),
        run(read, &["x"]),
        sync(),
        close('S', "s"),
        sync(),
    ]
    .concat();
    let copy = [
        query("BEGIN; COPY scratch (id, name) FROM STDIN"),
        sync(),
        copy_data(b"7\tx\n"),
        copy_data(b"8\ty\n"),
        copy_done(),
        query("ROLLBACK"),
    ]
    .concat();
    vec![
        Talk {
            name: "queries",
            bytes: [query("SELECT 1"), query(""), query("SELECT * FROM items")].concat(),
            readies: 3,
        },
        Talk { name: "transaction", bytes: transaction, readies: 3 },
        Talk { name: "extended", bytes: extended, readies: 3 },
        Talk { name: "copy", bytes: copy, readies: 2 },
    ]
}

#[tokio::test]
async fn cuts_make_no_difference() {
    let stage = Stage::start().await;
    // Its answer says that pgweir, which has one worker here, has seen what was sent before.
    let (mut beacon, _) = log_in(&address(&stage.wide), &[]).await;
    for talk in talks() {
        let until = Until::Tags(b'Z', talk.readies);
        let (mut direct, _) = log_in(&stage.direct(), &[]).await;
        let expected = direct.exchange(&[&talk.bytes], until).await;
        let (mut wire, _) = log_in(&address(&stage.wide), &[]).await;
        for at in 1..talk.bytes.len() {
            let (front, rest) = talk.bytes.split_at(at);
            let mut heard = wire.exchange(&[front], Until::Sent).await;
            pass(&mut beacon).await;
            let due = until_rest(talk.readies, &heard);
            heard.extend(wire.exchange(&[rest], due).await);
            assert_eq!(expected, heard, "{}, cut at {at}", talk.name);
        }
        let single: Vec<&[u8]> = talk.bytes.chunks(1).collect();
        assert_eq!(expected, wire.exchange(&single, until).await, "{}, byte by byte", talk.name);
    }
}

/// What is still to come.
fn until_rest(readies: usize, heard: &[crate::wire::Message]) -> Until {
    Until::Tags(b'Z', readies - heard.iter().filter(|message| message.tag == b'Z').count())
}

async fn pass(beacon: &mut Wire) {
    beacon.exchange(&[&query("SELECT 1")], Until::Tags(b'Z', 1)).await;
}

/// Long messages between short ones, cut at random places by a seeded generator.
#[tokio::test]
async fn random_cuts_make_no_difference() {
    let stage = Stage::start().await;
    let long = "x".repeat(150_000);
    let all: Vec<u8> = talks().into_iter().flat_map(|talk| talk.bytes).collect();
    let readies = talks().iter().map(|talk| talk.readies).sum::<usize>();
    let (value, text) = (run("SELECT length($1)", &[&long]), query(&format!("SELECT length('{long}')")));
    let rows = query("SELECT repeat('x', 100000) FROM items");
    let bytes = [all.clone(), value, sync(), all.clone(), text, rows, all].concat();
    let until = Until::Tags(b'Z', 3 * readies + 3);

    let (mut direct, _) = log_in(&stage.direct(), &[]).await;
    let expected = direct.exchange(&[&bytes], until).await;
    let (mut wire, _) = log_in(&address(&stage.wide), &[]).await;
    for seed in 1..=40 {
        let mut random = Random(seed);
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // Small pieces as likely as large ones.
            let size = (1 << (random.next() % 16)) + random.next() % 7;
            let (piece, after) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let heard = wire.exchange(&pieces, until).await;
        assert!(expected == heard, "seed {seed}: {} and {} messages", expected.len(), heard.len());
    }
}

/// The generator of Knuth's MMIX: enough to cut bytes, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as usize
    }
}
