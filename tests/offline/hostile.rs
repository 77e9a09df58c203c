//! Peers that do not behave, against a real listener: each gets one clear error or a closed socket in time, nothing
//! panics, and the next client is served.

use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use crate::fake::{
    Client, Dice, Fake, Plan, SOON, Then, assert_nothing_panicked, assert_serves, error, eventually,
    greeting, message, pgweir, query, rows, startup,
};

#[test]
fn any_bytes_as_first_packet() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let mut dice = Dice(7);
    for round in 0..300 {
        let mut bytes = dice.bytes(60);
        if round % 2 == 0 && bytes.len() >= 4 {
            // A length that can be, so that what follows is looked at.
            let length = (bytes.len() as u32).to_be_bytes();
            bytes[..4].copy_from_slice(&length);
        }
        if round % 4 == 0 && bytes.len() >= 8 {
            bytes[4..8].copy_from_slice(&[0, 3, 0, 0]);
        }
        let mut client = Client::connect(&pgweir);
        client.say(&bytes);
        client.stream.shutdown(Shutdown::Write).unwrap();
        let answer = client.answer();
        let expected = ["08P01", "0A000", "28000"];
        assert!(answer.closed && answer.errors.len() <= 1, "{answer:?} to {bytes:?}");
        assert!(
            answer.errors.iter().all(|code| expected.contains(&code.as_str())),
            "{answer:?} to {bytes:?}"
        );
    }
    assert_serves(&pgweir);
}

#[test]
fn a_startup_packet_in_two_parts_and_one_that_never_ends() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let packet = startup();
    for cut in 0..packet.len() {
        let mut gone = Client::connect(&pgweir);
        gone.say(&packet[..cut]);
        gone.stream.shutdown(Shutdown::Write).unwrap();
        assert!(gone.answer().closed, "cut at {cut}");

        let mut slow = Client::connect(&pgweir);
        slow.say(&packet[..cut]);
        std::thread::sleep(Duration::from_millis(1));
        slow.say(&packet[cut..]);
        assert!(slow.answer().tags.ends_with('Z'), "cut at {cut}");
    }
    assert_serves(&pgweir);
}

#[test]
fn silent_clients_are_sent_away_and_keep_nobody_out() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "client_login_timeout = \"1500ms\"");
    assert_serves(&pgweir);
    let number = 500.min((open_files() - 200) / 2);
    let before = resident();
    let start = Instant::now();
    let mut silent: Vec<Client> = (0..number).map(|_| Client::connect(&pgweir)).collect();
    assert_serves(&pgweir);
    if start.elapsed() < Duration::from_secs(1) {
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{number} silent clients cost {grown} bytes");
    }
    for client in &mut silent {
        let answer = client.answer();
        assert_eq!((answer.errors, answer.closed), (vec!["08P01".to_owned()], true));
    }
    assert!(start.elapsed() < SOON);
    assert_serves(&pgweir);
}

/// The soft limit of open files.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).unwrap_or(4096)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn too_many_clients() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "max_client_conn = 2");
    let (one, two) = (Client::login(&pgweir), Client::login(&pgweir));
    let mut three = Client::connect(&pgweir);
    three.say(&startup());
    let answer = three.answer();
    assert_eq!((answer.errors, answer.closed), (vec!["53300".to_owned()], true));
    drop((one, two));
    eventually("a place becomes free", || {
        let mut client = Client::connect(&pgweir);
        client.say(&startup());
        !client.answer().closed
    });
    assert_nothing_panicked();
}

#[test]
fn impossible_lengths_for_every_tag() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    for tag in *b"QPBDECSHFdcfXp!\0\xff" {
        for length in [0_u32, 3, 0x7fff_ffff, 0xffff_ffff] {
            let mut client = Client::login(&pgweir);
            client.say(&[&[tag][..], &length.to_be_bytes(), b"abc"].concat());
            let answer = client.answer();
            assert_eq!(answer.errors, ["08P01"], "{tag:#04x} {length:#x}");
            assert!(answer.closed, "{tag:#04x} {length:#x}");
        }
    }
    assert_serves(&pgweir);
}

#[test]
fn the_longest_query_that_never_comes_costs_nothing() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    for _ in 0..3 {
        let mut client = Client::login(&pgweir);
        client.say(&[&b"Q"[..], &0x3fff_fffe_u32.to_be_bytes(), &[b' '; 300_000]].concat());
        client.stream.shutdown(Shutdown::Both).unwrap();
    }
    assert!(resident() < 1 << 30, "a length was believed");
    assert_serves(&pgweir);
}

/// Messages with the right frame and anything inside, in any order.
#[test]
fn any_messages_in_any_order() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "query_wait_timeout = \"1s\"");
    let mut dice = Dice(11);
    for _ in 0..200 {
        let mut client = Client::login(&pgweir);
        let mut soup = Vec::new();
        for _ in 0..dice.roll(30) {
            let tag = b"QPBDECSHFdcfpPBDES"[dice.roll(18)];
            let body = match dice.roll(4) {
                0 => dice.bytes(40),
                1 => b"S\0".to_vec(),
                2 => b"a\0SELECT 1\0\0\0\0\0\0\0".to_vec(),
                _ => b"\0\0\0\0\0\0\0\0".to_vec(),
            };
            soup.extend(message(tag, &body));
        }
        client.say(&soup);
        client.stream.shutdown(Shutdown::Write).unwrap();
        while !client.answer().closed {}
    }
    assert_serves(&pgweir);
}

/// Backpressure: pgweir stops reading from the server, so the server cannot write either.
#[test]
fn a_client_that_does_not_read_holds_the_server_up() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let mut deaf = Client::login(&pgweir);
    fake.plan(Plan::Flood);
    deaf.say(&query("SELECT everything"));
    eventually("the rows begin", || fake.flooded() > 0);
    let mut seen = 0;
    eventually("the rows stop", || {
        std::thread::sleep(Duration::from_millis(200));
        std::mem::replace(&mut seen, fake.flooded()) == fake.flooded()
    });
    // Socket buffers of three hops, and two windows.
    assert!(seen < 48 << 20, "{seen} bytes went out to nobody");
    fake.plan(Plan::Behave);
    assert_serves(&pgweir);
    drop(deaf);
    assert_serves(&pgweir);
}

/// The same in the other direction: requests whose answers are not read are not read for ever.
#[test]
fn a_client_that_only_asks_is_held_up() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let mut deaf = Client::login(&pgweir);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let many = query("SELECT 1").repeat(1000);
    let mut sent = 0;
    while std::io::Write::write_all(&mut deaf.stream, &many).is_ok() {
        sent += many.len();
        assert!(sent < 256 << 20, "{sent} bytes of queries were taken without an answer being read");
    }
    assert_serves(&pgweir);
    drop(deaf);
    assert_serves(&pgweir);
}

/// A reply of a server that breaks off, or is no reply.
#[test]
fn bad_replies() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let lost = |what: &str, bytes: Vec<u8>, then: Then| {
        fake.plan(Plan::Reply(bytes, then));
        let mut client = Client::login(&pgweir);
        let answer = client.ask("SELECT 1");
        assert_eq!(
            (answer.errors, answer.closed),
            (vec!["08006".to_owned()], false),
            "{what}: {}",
            answer.tags
        );
        fake.plan(Plan::Behave);
        // The session goes on, with another connection.
        assert_eq!(client.ask("SELECT 1").tags, "TDCZ", "{what}");
    };
    let whole = rows(&["1"]);
    for cut in 0..whole.len() {
        lost(&format!("cut at {cut}"), whole[..cut].to_vec(), Then::Close);
    }
    for tag in *b"RKvWsn!\0\xff" {
        lost("not now", message(tag, &[0; 4]), Then::Wait);
    }
    for length in [0_u32, 3, 0x8000_0000, 0xffff_ffff] {
        lost("an impossible length", [&b"D"[..], &length.to_be_bytes(), b"abc"].concat(), Then::Wait);
    }
    lost("an unknown status", message(b'Z', b"?"), Then::Wait);
    lost("a long ReadyForQuery", message(b'Z', &[b'I'; 100_000]), Then::Close);
    assert_serves(&pgweir);
}

/// Where half a message is on its way to the client nothing can be said: the connection ends.
#[test]
fn a_long_row_that_breaks_off() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    for length in [100_000_u32, 0x7fff_ffff] {
        fake.plan(Plan::Reply([&b"D"[..], &length.to_be_bytes(), &[b'x'; 90_000]].concat(), Then::Close));
        let answer = Client::login(&pgweir).ask("SELECT 1");
        assert!(answer.closed && answer.errors.is_empty(), "{answer:?}");
        fake.plan(Plan::Behave);
        assert_serves(&pgweir);
    }
}

/// An error and then the end: the client has its one error already.
#[test]
fn a_server_that_says_why_it_goes() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    fake.plan(Plan::Reply(error("57P01"), Then::Close));
    let answer = Client::login(&pgweir).ask("SELECT 1");
    assert_eq!((answer.errors, answer.tags), (vec!["57P01".to_owned()], "EZ".to_owned()));
    fake.plan(Plan::Behave);
    assert_serves(&pgweir);
}

/// In a transaction the loss of the server is the end of the session: what was done is not known.
#[test]
fn a_server_lost_in_a_transaction() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "");
    let mut client = Client::login(&pgweir);
    fake.plan(Plan::Reply([message(b'C', b"BEGIN\0"), message(b'Z', b"T")].concat(), Then::Close));
    let answer = client.ask("SELECT 1");
    assert_eq!(answer.tags, "CZ");
    let answer = client.ask("SELECT 2");
    assert_eq!((answer.errors, answer.closed), (vec!["08006".to_owned()], true));
    fake.plan(Plan::Behave);
    assert_serves(&pgweir);
}

#[test]
fn bad_greetings() {
    let fake = Fake::start();
    let pgweir = pgweir(&[fake.address], "server_connect_timeout = \"300ms\"");
    fake.plan(Plan::Greet(error("53300"), Then::Close));
    // The servers have to be known first.
    let refused = |bytes: Vec<u8>, then: Then| {
        fake.plan(Plan::Greet(bytes, then));
        let mut client = Client::connect(&pgweir);
        client.say(&startup());
        let answer = client.answer();
        assert!(answer.closed && answer.errors.len() == 1, "{answer:?}");
        answer.errors.into_iter().next().unwrap()
    };
    // A server's own refusal is passed on as it is.
    eventually("the server is known", || refused(error("53300"), Then::Close) == "53300");
    let whole = greeting();
    for cut in 0..whole.len() {
        assert_eq!(refused(whole[..cut].to_vec(), Then::Close), "08000", "cut at {cut}");
    }
    let mut dice = Dice(13);
    for _ in 0..20 {
        let garbage = [&b"!"[..], &dice.bytes(50)].concat();
        assert_eq!(refused(garbage.clone(), Then::Close), "08000", "{garbage:?}");
    }
    assert_eq!(refused([&b"R"[..], &0x7fff_ffff_u32.to_be_bytes()].concat(), Then::Close), "08000");
    assert_eq!(refused(Vec::new(), Then::Wait), "08000", "silence");
    fake.plan(Plan::Behave);
    assert_serves(&pgweir);
}

#[test]
fn a_server_that_answers_probes_with_garbage() {
    let fake = Fake::start();
    let garbage = [b"garbage and more of it".to_vec(), message(b'Z', b"I"), rows(&["?", "?", "?", "?"])];
    fake.plan(Plan::Probe(garbage[0].clone()));
    let pgweir = pgweir(&[fake.address], "query_wait_timeout = \"300ms\"");
    for bytes in garbage {
        fake.plan(Plan::Probe(bytes));
        // While it waits, the server is probed several times.
        let mut client = Client::connect(&pgweir);
        client.say(&startup());
        assert_eq!(client.answer().errors, ["57P03"]);
    }
    fake.plan(Plan::Behave);
    eventually("the server is up", || {
        let mut client = Client::connect(&pgweir);
        client.say(&startup());
        !client.answer().closed
    });
    assert_serves(&pgweir);
}

#[test]
fn no_server_at_all() {
    // A port that nobody listens on: it was ours a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pgweir = pgweir(&[closed], "query_wait_timeout = \"100ms\"");
    for _ in 0..3 {
        let mut client = Client::connect(&pgweir);
        client.say(&startup());
        let answer = client.answer();
        assert_eq!((answer.errors, answer.closed), (vec!["57P03".to_owned()], true));
    }
    assert_nothing_panicked();
}
