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
fn a_query_behind_what_failed_is_skipped_and_leaves_the_unit_open() {
    for tag in *b"QF" {
        let mut owed = owed(&[b'P', b'B', b'E', tag]);
        replies(&mut owed, b"E");
        assert!(owed.is_empty() && owed.is_open());
        for tag in *b"PBE" {
            assert_eq!(owed.sent(tag, Show::Forward), None);
        }
        owed.sent(b'S', Show::Forward);
        replies(&mut owed, b"Z");
        assert!(owed.is_free());
    }
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
fn a_query_fails_once() {
    let (swallow, forward) = (Show::Swallow, Show::Forward);
    let mut owed = Owed::new();
    owed.sent(b'P', swallow);
    owed.sent(b'S', swallow);
    owed.sent(b'Q', forward);
    owed.sent(b'Q', forward);
    let seen: Vec<_> = b"EZEZEZ".iter().map(|tag| owed.reply(*tag, b"I").unwrap().show).collect();
    assert_eq!(seen, [forward, swallow, swallow, forward, forward, forward]);
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

#[test]
fn what_is_sent_to_fail_fails_the_unit() {
    let mut owed = owed(b"P");
    let asked = owed.sent(b'D', Show::Swallow).unwrap();
    assert!(owed.owes(asked));
    let event = |owed: &mut Owed, tag| owed.reply(tag, b"I").unwrap().event;
    assert_eq!(event(&mut owed, b'1'), Event::Parsed);
    assert_eq!(event(&mut owed, b't'), Event::Described { number: asked });
    assert!(owed.owes(asked), "its columns are to come");
    assert_eq!(event(&mut owed, b'T'), Event::Described { number: asked });
    assert!(!owed.owes(asked) && owed.is_open());
    owed.sent_refusal();
    for tag in *b"BES" {
        owed.sent(tag, Show::Forward);
    }
    assert_eq!(owed.reply(b'E', b""), Ok(Verdict { show: Show::Forward, event: Event::Refused }));
    replies(&mut owed, b"Z");
    assert!(owed.is_free());
}

/// PostgreSQL's rules for what it answers, with outcomes at will.
#[derive(Default)]
struct Model {
    /// What was sent to it, with the number that the queue gave.
    inbox: VecDeque<(u8, Option<u32>)>,
    /// Its replies, with the number of what a ReadyForQuery answers.
    outbox: VecDeque<(u8, Option<u32>)>,
    skips: bool,
    /// A COPY from the client runs, for a simple query with that number or for an Execute.
    copy: Option<Option<u32>>,
    /// It gave the connection up.
    dead: bool,
}

impl Model {
    fn say(&mut self, tags: &[u8]) {
        self.outbox.extend(tags.iter().map(|tag| (*tag, None)));
    }

    fn fail(&mut self, query: Option<u32>) {
        self.say(b"E");
        match query {
            Some(_) => self.outbox.push_back((b'Z', query)),
            None => self.skips = true,
        }
    }

    /// Works on the next message; `luck` chooses among what may come of it.
    fn step(&mut self, luck: u8) {
        let Some((tag, number)) = self.inbox.pop_front() else { return };
        if let Some(query) = self.copy {
            return self.step_in_copy(tag, query, luck);
        }
        if self.skips && tag != b'S' {
            return;
        }
        match (tag, luck % 6) {
            (b'S', _) => {
                self.skips = false;
                self.outbox.push_back((b'Z', number));
            }
            (b'd' | b'c' | b'f' | b'H', _) => {}
            (b'C', _) => self.say(b"3"),
            (b'Q', 0) => self.fail(number),
            (b'P' | b'B' | b'D' | b'E', 0) => self.fail(None),
            (b'P', _) => self.say(b"1"),
            (b'B', _) => self.say(b"2"),
            (b'D', 1) => self.say(b"tT"),
            (b'D', 2) => self.say(b"NT"),
            (b'D', _) => self.say(b"n"),
            (b'Q' | b'E', 1) => {
                self.say(b"G");
                self.copy = Some(number.filter(|_| tag == b'Q'));
            }
            (b'E', 2) => self.say(b"DDs"),
            (b'E', 3) => self.say(b"HddcC"),
            (b'E', 4) => self.say(b"I"),
            (b'E', _) => self.say(b"DNC"),
            (b'Q', more) => {
                self.say(if more == 2 { b"I" } else { b"TDCHdcCSC" });
                self.outbox.push_back((b'Z', number));
            }
            _ => unreachable!("not sent by the test"),
        }
    }

    fn step_in_copy(&mut self, tag: u8, query: Option<u32>, luck: u8) {
        match (tag, luck % 6) {
            (b'H' | b'S', _) | (b'd', 1..) => {}
            (b'c', 1) if query.is_some() => self.say(b"CG"),
            (b'c', 2..) => {
                self.say(b"C");
                self.outbox.extend(query.map(|number| (b'Z', Some(number))));
                self.copy = None;
            }
            (b'd' | b'c' | b'f', _) => {
                self.copy = None;
                self.fail(query);
            }
            _ => self.dead = true,
        }
    }

    fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.outbox.is_empty() && !self.skips && self.copy.is_none()
    }
}

/// Takes the next reply, as the relay does.
fn take_reply(owed: &mut Owed, model: &mut Model) {
    let Some((tag, number)) = model.outbox.pop_front() else { return };
    let verdict = owed.reply(tag, b"I").unwrap_or_else(|error| panic!("{}: {error}", tag as char));
    if let Event::Ready { number: found, .. } = verdict.event {
        assert_eq!(Some(found), number);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    /// Whatever is sent, and however sending, work and replies take turns: each reply is expected, and in the end nothing
    /// is owed; and while the queue says that the server is free, it is.
    #[test]
    fn the_queue_agrees_with_a_model_of_the_server(turns: Vec<(u8, u8)>) {
        let (mut owed, mut model) = (Owed::new(), Model::default());
        let send = |owed: &mut Owed, model: &mut Model, tag: u8| {
            let number = owed.sent(tag, Show::Forward);
            model.inbox.push_back((tag, number));
        };
        // A Sync behind data and before CopyDone counts if the data was bad, and else not: nobody can tell until the
        // ReadyForQuery comes or does not, so that no client does it.
        let mut data = false;
        for (turn, luck) in turns {
            match turn % 4 {
                0 | 1 => {
                    let tag = b"PBDECSQHdcf"[usize::from(luck) % 11];
                    if owed.is_copy_in() && b"PBDECQ".contains(&tag) {
                        // The client is refused there, and its server connection closed.
                        return Ok(());
                    }
                    if !(data && tag == b'S') {
                        data = tag == b'd' || data && !matches!(tag, b'c' | b'f');
                        send(&mut owed, &mut model, tag);
                    }
                }
                2 => model.step(luck),
                _ => take_reply(&mut owed, &mut model),
            }
            if model.dead {
                return Ok(());
            }
            if owed.is_settled() {
                proptest::prop_assert!(model.outbox.is_empty() && !model.skips && model.copy.is_none());
            }
        }
        // CopyFail ends a COPY that may run, Sync the unit; the model may start one more COPY only before them.
        for luck in [2, 2] {
            send(&mut owed, &mut model, b'f');
            send(&mut owed, &mut model, b'S');
            while !model.inbox.is_empty() && !model.dead {
                model.step(luck);
            }
            if model.dead {
                return Ok(());
            }
            while !model.outbox.is_empty() {
                take_reply(&mut owed, &mut model);
            }
        }
        proptest::prop_assert!(model.is_idle() && owed.is_settled(), "{owed:?}");
    }
}

#[test]
fn where_what_may_fail_fails_nobody_hears_of_it() {
    let mut owed = Owed::new();
    let numbers = [b'P', b'S', b'P', b'S'].map(|tag| owed.sent(tag, Show::Swallow).unwrap());
    owed.may_fail(numbers[0], numbers[3]);
    for tag in *b"QQ" {
        owed.sent(tag, Show::Forward);
    }
    let mut show = |tag, body: &[u8]| owed.reply(tag, body).unwrap().show;
    for (tag, expected) in
        [(b'E', Show::Swallow), (b'Z', Show::Swallow), (b'E', Show::Swallow), (b'Z', Show::Swallow)]
    {
        assert_eq!(show(tag, b"I"), expected);
    }
    for tag in *b"EZEZ" {
        assert_eq!(show(tag, b"I"), Show::Forward);
    }
    assert!(owed.is_free());
}

#[test]
fn a_preface_is_nobodys_and_takes_its_unit_with_it() {
    for unit in [&b"Q"[..], b"PBDES", b"F"] {
        let mut owed = Owed::new();
        owed.sent_preface();
        owed.sent_preface();
        assert!(owed.is_prefaced() && !owed.is_open() && owed.next_show() == Show::Swallow);
        for tag in unit {
            owed.sent(*tag, Show::Forward);
        }
        replies(&mut owed, b"12C12");
        assert!(owed.is_prefaced());
        let last = owed.reply(b'C', b"COMMIT\0").unwrap();
        assert_eq!((last.show, last.event), (Show::Swallow, Event::Prefaced));
        assert!(!owed.is_prefaced() && owed.next_show() == Show::Forward && owed.readies() == 1);
    }
}

#[test]
fn where_a_preface_fails_its_unit_is_skipped() {
    for (unit, readies) in [(&b"Q"[..], 0), (b"PBDES", 1), (b"PBE", 0)] {
        for answered in [&b""[..], b"1", b"12", b"12C", b"12C1", b"12C12"] {
            let mut owed = Owed::new();
            owed.sent_preface();
            owed.sent_preface();
            for tag in unit {
                owed.sent(*tag, Show::Forward);
            }
            replies(&mut owed, answered);
            let Verdict { show, event } = owed.reply(b'E', b"").unwrap();
            assert!(show == Show::Swallow && matches!(event, Event::Error { .. }), "{show:?} {event:?}");
            assert!(owed.is_prefaced(), "whoever asks what the error was about");
            assert_eq!((owed.readies(), owed.is_open()), (readies, unit == b"PBE"));
        }
    }
}

/// A Sync can be cancelled, too: what was prepared before it is there, and the Query behind it is carried out.
#[test]
fn a_sync_of_pgweirs_own_that_fails_is_nobodys() {
    let mut owed = Owed::new();
    for (tag, show) in [(b'P', Show::Swallow), (b'S', Show::Swallow), (b'Q', Show::Forward)] {
        owed.sent(tag, show);
    }
    let shows = b"1EZCZ".map(|tag| owed.reply(tag, b"I").unwrap().show);
    assert_eq!(shows, [Show::Swallow, Show::Swallow, Show::Swallow, Show::Forward, Show::Forward]);
    assert!(owed.is_free());
}

#[test]
fn settings_in_a_preface_end_with_a_ready_of_their_own() {
    let mut owed = Owed::new();
    owed.sent_preface();
    owed.sent_preface_query();
    owed.sent(b'Q', Show::Forward);
    let shows = b"12CCCSZ".map(|tag| owed.reply(tag, b"I").unwrap().show);
    assert!(shows.iter().all(|show| *show == Show::Swallow) && !owed.is_prefaced());
    assert_eq!(owed.reply(b'C', b"SELECT 1\0").unwrap().show, Show::Forward);
    // One is refused: the transaction stays failed, and the client's unit is answered.
    let mut owed = Owed::new();
    owed.sent_preface();
    owed.sent_preface_query();
    owed.sent(b'Q', Show::Forward);
    replies(&mut owed, b"12CC");
    let refused = owed.reply(b'E', b"").unwrap();
    assert_eq!((refused.show, owed.readies(), owed.is_prefaced()), (Show::Swallow, 1, true));
}

#[test]
fn a_preface_that_has_failed_ends_with_the_sync_behind_it() {
    for unit in [&b"Q"[..], b"PBE"] {
        let mut owed = Owed::new();
        owed.sent_preface();
        for tag in unit {
            owed.sent(*tag, Show::Forward);
        }
        owed.sent(b'S', Show::Swallow);
        replies(&mut owed, b"1E");
        assert!(owed.is_prefaced() && !owed.is_free());
        replies(&mut owed, b"Z");
        assert!(!owed.is_prefaced() && owed.is_free());
    }
}

#[test]
fn settings_are_under_way_until_they_are_answered() {
    let mut owed = Owed::new();
    owed.sent_preface();
    assert!(!owed.is_dressing(), "a BEGIN alone");
    owed.sent_preface_query();
    owed.sent_preface();
    owed.sent(b'P', Show::Forward);
    replies(&mut owed, b"12C");
    assert!(owed.is_dressing());
    replies(&mut owed, b"CZ");
    assert!(!owed.is_dressing() && owed.is_prefaced());
}
