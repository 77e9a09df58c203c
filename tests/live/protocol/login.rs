//! From the first byte to the first ReadyForQuery.

use std::collections::BTreeSet;

use super::{SOON, Stage, address, log_in};
use crate::wire::{Message, Until, Wire, packet, query, startup};

const VERSION: u32 = 0x0003_0000;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// A greeting in a form that can be compared.
fn greeting(heard: &[Message]) -> (Vec<Message>, BTreeSet<Vec<u8>>) {
    let settings = heard.iter().filter(|message| message.tag == b'S').map(|message| message.body.clone());
    let others = heard.iter().filter(|message| message.tag != b'S').cloned().map(|mut message| {
        if message.tag == b'K' {
            message.body.clear();
        }
        if message.tag == b'N' {
            // Where in its source a server says it is its own matter.
            let said = [b'S', b'C', b'M'].map(|field| message.field(field).unwrap_or_default());
            message.body = said.concat().into_bytes();
        }
        message
    });
    (others.collect(), settings.collect())
}

/// Sends the first packet, and gives what comes until the first ReadyForQuery or the end.
async fn first(address: &str, bytes: &[u8]) -> Vec<Message> {
    Wire::connect(address).await.exchange(&[bytes], Until::Tags(b'Z', 1)).await
}

#[tokio::test]
async fn logins_are_answered_alike() {
    let stage = Stage::start().await;
    stage.cluster.primary().sql("CREATE ROLE \"späth\" LOGIN SUPERUSER").await.unwrap();
    stage.cluster.wait_replayed(SOON).await.unwrap();
    settings(&stage).await;
    versions(&stage).await;
    encryption(&stage).await;
    refused(&stage).await;
    cut(&stage).await;
}

/// Parameters change what the greeting and the statements after it say, also for a client whose server connection was
/// opened for another.
async fn settings(stage: &Stage) {
    let asks = [
        "SHOW search_path",
        "SHOW application_name",
        "SELECT '2001-02-03 04:05:06+00'::timestamptz",
        "SELECT 0.1::float8 + 0.2, current_user",
        "SHOW client_encoding",
    ]
    .map(query)
    .concat();
    let long = "x".repeat(80);
    let cases: [&[(&str, &str)]; 14] = [
        &[],
        &[("application_name", "somebody's \\ app")],
        &[("options", "-c search_path=pg_catalog,items"), ("application_name", "x")],
        &[("options", "-c DateStyle=German,\\ DMY --TimeZone=Asia/Tokyo -c work_mem=5MB")],
        &[("client_encoding", "LATIN1")],
        &[("client_encoding", "utf-8")],
        &[("client_encoding", "SJIS")],
        &[("DateStyle", "German, DMY"), ("TimeZone", "Europe/Vienna")],
        &[("extra_float_digits", "-5"), ("datestyle", "ISO")],
        &[("application_name", ""), ("search_path", "\"$user\"")],
        &[("application_name", "grüße")],
        &[("application_name", &long)],
        &[("standard_conforming_strings", "off"), ("IntervalStyle", "iso_8601")],
        &[("application_name", "one"), ("application_name", "two"), ("TimeZone", "UTC"), ("TimeZone", "GMT")],
    ];
    for parameters in cases {
        let (mut direct, expected) = log_in(&stage.direct(), parameters).await;
        let said = direct.exchange(&[&asks], Until::Tags(b'Z', 5)).await;
        for pgweir in [&stage.wide, &stage.narrow, &stage.wide] {
            let (mut wire, heard) = log_in(&address(pgweir), parameters).await;
            assert_eq!(greeting(&expected), greeting(&heard), "{parameters:?}");
            assert_eq!(said, wire.exchange(&[&asks], Until::Tags(b'Z', 5)).await, "{parameters:?}");
        }
    }
}

/// Newer minor versions and options of the protocol are answered as PostgreSQL 18 does, with one message, whatever the servers
/// are; all else is said as a server says it.
async fn versions(stage: &Stage) {
    let names = [("user", "postgres"), ("database", "postgres")];
    let with = |version, more: &[(&str, &str)]| startup(version, &[&names[..], more].concat());
    let both = b"\0\0\0\x02_pq_.one\0_pq_.two\0";
    let one = b"\0\0\0\x01_pq_.one\0";
    for (bytes, minor, unknown) in [
        (with(VERSION, &[]), 0, None),
        (with(VERSION + 1, &[]), 1, None),
        (with(VERSION + 2, &[]), 2, None),
        (with(VERSION + 3, &[]), 2, Some(&[0; 4][..])),
        (with(VERSION + 9999, &[]), 2, Some(&[0; 4])),
        (with(VERSION, &[("_pq_.one", "1"), ("_pq_.two", "")]), 0, Some(both)),
        (with(VERSION + 2, &[("_pq_.one", "1"), ("application_name", "x")]), 2, Some(one)),
        (with(VERSION, &[("replication", "off")]), 0, None),
        (with(VERSION, &[("replication", "0"), ("options", "")]), 0, None),
        (startup(VERSION, &[("user", "postgres")]), 0, None),
        (startup(VERSION, &[("user", "postgres"), ("database", "")]), 0, None),
        (startup(VERSION, &[("database", "postgres"), ("user", "späth")]), 0, None),
    ] {
        let shown = bytes.escape_ascii();
        let mut expected = first(&stage.direct(), &bytes).await;
        let mut heard = first(&address(&stage.wide), &bytes).await;
        let key = heard.iter().find(|message| message.tag == b'K').unwrap();
        assert_eq!(key.body.len(), if minor == 2 { 36 } else { 8 }, "{shown}");
        let said: Vec<_> =
            heard.extract_if(.., |message| message.tag == b'v').map(|message| message.body).collect();
        let should: Vec<_> =
            unknown.map(|unknown| [&[0, 3, 0, minor][..], unknown].concat()).into_iter().collect();
        assert_eq!(said, should, "{shown}");
        expected.retain(|message| message.tag != b'v');
        assert_eq!(greeting(&expected), greeting(&heard), "{shown}");
    }
}

/// Requests for encryption are answered N, once each, and the login goes on. A PostgreSQL that has GSSAPI says G to that.
async fn encryption(stage: &Stage) {
    let login = startup(VERSION, &[("user", "postgres")]);
    let expected = greeting(&first(&stage.direct(), &login).await);
    for asks in [&[SSL][..], &[GSSENC], &[SSL, GSSENC], &[GSSENC, SSL]] {
        let mut wire = Wire::connect(&address(&stage.wide)).await;
        for code in asks {
            wire.exchange(&[&packet(*code, b"")], Until::Sent).await;
            assert_eq!(wire.byte().await, b'N', "{asks:?}");
        }
        assert_eq!(expected, greeting(&wire.exchange(&[&login], Until::Tags(b'Z', 1)).await), "{asks:?}");
    }
}

fn codes(heard: &[Message]) -> Vec<String> {
    heard.iter().filter_map(|message| if message.tag == b'E' { message.field(b'C') } else { None }).collect()
}

/// Logins that come to nothing: PostgreSQL's own words where it is asked, its code where pgweir answers itself.
async fn refused(stage: &Stage) {
    let user = ("user", "postgres");
    for parameters in [
        vec![user, ("nonsense", "1")],
        vec![user, ("DateStyle", "nonsense")],
        vec![user, ("client_encoding", "KLINGON")],
        vec![user, ("options", "-c nonsense=1")],
        vec![user, ("options", "--nonsense")],
        vec![user, ("options", "-Z")],
        vec![user, ("database", "nowhere")],
        vec![("user", "nobody"), ("database", "postgres")],
    ] {
        let bytes = startup(VERSION, &parameters);
        let errors =
            |heard: Vec<Message>| heard.into_iter().filter(|message| message.tag == b'E').collect::<Vec<_>>();
        let expected = errors(first(&stage.direct(), &bytes).await);
        assert_eq!(expected.len(), 1, "{parameters:?}");
        assert_eq!(expected, errors(first(&address(&stage.wide), &bytes).await), "{parameters:?}");
    }
    let replication = |value| startup(VERSION, &[user, ("replication", value)]);
    for value in ["true", "database", "on", "1", "maybe"] {
        assert_eq!(codes(&first(&address(&stage.wide), &replication(value)).await), ["0A000"], "{value}");
    }
    // To versions before 3 PostgreSQL answers in their own form.
    for version in [0, 0x0002_0000] {
        assert_eq!(codes(&first(&address(&stage.wide), &startup(version, &[user])).await), ["0A000"]);
    }
    let asked_twice = [packet(SSL, b""), startup(VERSION, &[user])].concat();
    let direct_or_not = [stage.direct(), address(&stage.wide)];
    for bytes in [
        startup(VERSION, &[]),
        startup(VERSION, &[("database", "postgres")]),
        startup(VERSION, &[("user", "")]),
        startup(0x0004_0000, &[user]),
        packet(VERSION, b"user\0postgres\0"),
        packet(VERSION, b"user\0postgres\0\0more"),
        packet(VERSION, b"user\0postgres\0database\0"),
        packet(VERSION, b"user"),
        packet(VERSION, b""),
        startup(VERSION, &[user, ("options", &"x".repeat(20_000))]),
        b"\0\0\0\x03".to_vec(),
        b"\0\0\0\x07\0\0\0".to_vec(),
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        asked_twice,
    ] {
        let mut heard = Vec::new();
        for address in &direct_or_not {
            heard.push(codes(&first_or_n(address, &bytes).await));
        }
        // Of packets that are none PostgreSQL says nothing.
        let expected = if heard[0].is_empty() { &vec![String::from("08P01")] } else { &heard[0] };
        assert_eq!(*expected, heard[1], "{}", &bytes[..bytes.len().min(60)].escape_ascii());
    }
}

/// As `first`; the first byte may be an N.
async fn first_or_n(address: &str, bytes: &[u8]) -> Vec<Message> {
    let mut wire = Wire::connect(address).await;
    if bytes.get(4..8) == Some(&SSL.to_be_bytes()[..]) {
        wire.exchange(&[bytes], Until::Sent).await;
        if wire.byte().await != b'N' {
            return Vec::new();
        }
        return wire.exchange(&[], Until::Closed).await;
    }
    wire.exchange(&[bytes], Until::Closed).await
}

/// The startup packet in two pieces, cut anywhere.
async fn cut(stage: &Stage) {
    let bytes = startup(VERSION, &[("user", "postgres")]);
    let expected = greeting(&first(&stage.direct(), &bytes).await);
    for at in 1..bytes.len() {
        let (front, rest) = bytes.split_at(at);
        let mut wire = Wire::connect(&address(&stage.wide)).await;
        let heard = wire.exchange(&[front, rest], Until::Tags(b'Z', 1)).await;
        assert_eq!(expected, greeting(&heard), "cut at {at}");
    }
}
