//! The queue against PostgreSQL's rules.

use super::*;

fn owed(sent: &[u8]) -> Owed {
    let mut owed = Owed::new();
    for tag in sent {
        owed.sent(*tag, Show::Forward);
    }
    owed
}

fn replies(owed: &mut Owed, tags: &[u8]) {
    for tag in tags {
        owed.reply(*tag, b"I").unwrap_or_else(|error| panic!("{}: {error}", *tag as char));
    }
}

#[test]
fn a_simple_query_ends_with_ready() {
    let mut owed = owed(b"Q");
    replies(&mut owed, b"TDDC");
    assert!(!owed.is_free());
    replies(&mut owed, b"Z");
    assert!(owed.is_free());
    assert!(owed.reply(b'D', b"").is_err());
}

#[test]
fn an_extended_unit() {
    let mut owed = owed(b"PBDES");
    replies(&mut owed, b"12TDDCZ");
    assert!(owed.is_free());
}

#[test]
fn a_unit_without_sync_is_not_free() {
    let mut owed = owed(b"PD");
    replies(&mut owed, b"1tT");
    assert!(owed.is_empty() && !owed.is_free());
    owed.sent(b'S', Show::Forward);
    replies(&mut owed, b"Z");
    assert!(owed.is_free());
}

#[test]
fn an_error_skips_to_sync() {
    let mut owed = owed(b"PBEPBES");
    replies(&mut owed, b"1E");
    assert_eq!(owed.len(), 1);
    replies(&mut owed, b"Z");
    assert!(owed.is_free());
}

#[test]
fn an_error_before_the_sync_was_sent() {
    let mut owed = owed(b"PBE");
    replies(&mut owed, b"E");
    for tag in *b"PBEQ" {
        owed.sent(tag, Show::Forward);
    }
    assert_eq!(owed.len(), 0);
    assert!(!owed.is_free());
    owed.sent(b'S', Show::Forward);
    owed.sent(b'Q', Show::Forward);
    replies(&mut owed, b"ZCZ");
    assert!(owed.is_free());
}

#[test]
fn the_next_units_of_a_pipeline_survive_an_error() {
    let mut owed = owed(b"PBESPBES");
    replies(&mut owed, b"12EZ12DCZ");
    assert!(owed.is_free());
}

#[test]
fn copy_in_by_simple_query() {
    let mut owed = owed(b"Q");
    replies(&mut owed, b"G");
    assert!(owed.is_copy_in());
    owed.sent(b'd', Show::Forward);
    owed.sent(b'c', Show::Forward);
    replies(&mut owed, b"CZ");
    assert!(owed.is_free());
}

#[test]
fn copy_in_by_execute_eats_the_first_sync() {
    let mut owed = owed(b"PBES");
    replies(&mut owed, b"12G");
    assert!(owed.is_copy_in());
    for tag in *b"dcS" {
        owed.sent(tag, Show::Forward);
    }
    replies(&mut owed, b"CZ");
    assert!(owed.is_free());
}

#[test]
fn copy_in_sent_in_one_go() {
    let mut owed = owed(b"PBESdcS");
    replies(&mut owed, b"12GCZ");
    assert!(owed.is_free());
}

#[test]
fn copy_in_that_never_starts() {
    let mut owed = owed(b"PBESdcS");
    replies(&mut owed, b"1EZZ");
    assert!(owed.is_free());
}

#[test]
fn copy_in_that_fails_in_the_middle() {
    let mut owed = owed(b"PBES");
    replies(&mut owed, b"12G");
    owed.sent(b'd', Show::Forward);
    replies(&mut owed, b"E");
    assert!(!owed.is_copy_in());
    owed.sent(b'd', Show::Forward);
    owed.sent(b'c', Show::Forward);
    owed.sent(b'S', Show::Forward);
    replies(&mut owed, b"Z");
    assert!(owed.is_free());
}

#[test]
fn swallowed_replies_do_not_show() {
    let mut owed = Owed::new();
    owed.sent(b'Q', Show::Swallow);
    owed.sent(b'P', Show::Swallow);
    owed.sent(b'B', Show::Forward);
    owed.sent(b'S', Show::Forward);
    assert_eq!(owed.readies(), 1);
    let seen: Vec<_> = b"CSZ12Z".iter().map(|tag| owed.reply(*tag, b"I").unwrap().show).collect();
    let (swallow, forward) = (Show::Swallow, Show::Forward);
    assert_eq!(seen, [swallow, swallow, swallow, swallow, forward, forward]);
    assert!(owed.is_free());
}

#[test]
fn a_portal_is_suspended() {
    let mut owed = owed(b"PBEH");
    replies(&mut owed, b"12DDs");
    owed.sent(b'E', Show::Forward);
    owed.sent(b'S', Show::Forward);
    replies(&mut owed, b"DDCZ");
    assert!(owed.is_free());
}

#[test]
fn an_open_transaction_is_settled_but_not_free() {
    let mut owed = owed(b"Q");
    replies(&mut owed, b"C");
    owed.reply(b'Z', b"T").unwrap();
    assert!(owed.is_settled() && !owed.is_free());
}

#[test]
fn a_ready_that_says_nothing_is_still_owed() {
    let mut owed = owed(b"Q");
    assert!(owed.reply(b'Z', b"?").is_err());
    assert_eq!(owed.readies(), 1);
}
