//! Freshness as tables of examples, and against a model of servers that replay.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::position::Flushed;

fn at(node: u16, replayed: u64, lag: u64) -> Progress {
    let lag = Some(Duration::from_millis(lag));
    Progress { node: Node(node), replayed: Some(Lsn(replayed)), received: None, asked: None, lag, late: lag }
}

fn choice(replicas: &[Progress], need: Need) -> Choice {
    choose(replicas.iter().copied(), &need, Duration::from_millis(5))
}

#[test]
fn who_may_serve() {
    let nothing = Need::default();
    let here = [at(1, 50, 0), at(2, 40, 900)];
    assert_eq!(choice(&here, nothing), Choice::Among(0b110));
    assert_eq!(choice(&here, Need { least: Lsn(45), ..nothing }), Choice::Among(0b010));
    assert_eq!(choice(&here, Need { least: Lsn(60), ..nothing }), Choice::Wait);
    assert_eq!(choice(&here[1..], Need { least: Lsn(60), ..nothing }), Choice::Primary, "it never makes it");
    assert_eq!(choice(&here, Need { pending: true, ..nothing }), Choice::Wait);
    let most = |millis| Need { max_lag: Some(Duration::from_millis(millis)), ..nothing };
    assert_eq!(choice(&here, most(899)), Choice::Among(0b010));
    let unknown = Progress { replayed: None, lag: None, late: None, ..at(1, 0, 0) };
    assert_eq!(choice(&[unknown], most(899)), Choice::Primary, "unknown is never zero");
    assert_eq!(choice(&[unknown], Need { least: Lsn(1), ..nothing }), Choice::Wait);
    assert_eq!(choice(&[], nothing), Choice::Primary);
}

#[test]
fn without_a_primary_the_best_will_do() {
    let best = |need: Need| best([at(1, 50, 0), at(2, 40, 0), at(3, 50, 900)].into_iter(), &need);
    let nothing = Need::default();
    assert_eq!(best(nothing), 0b1110);
    assert_eq!(best(Need { least: Lsn(45), ..nothing }), 0b1010);
    assert_eq!(best(Need { least: Lsn(60), ..nothing }), 0b1010, "nobody has all of it");
    assert_eq!(best(Need { pending: true, ..nothing }), 0b1010, "nobody knows how much");
    assert_eq!(best(Need { last: Some((Node(2), None)), ..nothing }), 0b0100, "a session stays where it was");
    assert_eq!(best(Need { last: Some((Node(2), None)), pending: true, ..nothing }), 0b0100);
    assert_eq!(best(Need { last: Some((Node(9), Some(Lsn(45)))), ..nothing }), 0b1010);
    assert_eq!(best(Need { max_lag: Some(Duration::ZERO), ..nothing }), 0b1110);
    assert_eq!(super::best(std::iter::empty(), &nothing), 0);
}

#[test]
fn without_a_primary_what_was_received_is_replayed_first() {
    let since = clock::now();
    let said = |node, received: Option<u64>, replayed| Progress {
        asked: Some(since),
        received: received.map(Lsn),
        ..at(node, replayed, 0)
    };
    let complete = |replicas: &[Progress]| complete(replicas.iter().copied(), since);
    assert_eq!(complete(&[said(1, Some(50), 50), said(2, Some(40), 40)]), 0b0010);
    assert_eq!(complete(&[said(1, Some(50), 50), said(2, Some(50), 50)]), 0b0110);
    assert_eq!(
        complete(&[said(1, Some(50), 45), said(2, Some(40), 40)]),
        0,
        "the second lacks what the first has"
    );
    assert_eq!(complete(&[said(1, None, 45), said(2, Some(40), 40)]), 0b0010);
    let before = Progress { asked: since.checked_sub(Duration::from_micros(1)), ..said(2, Some(40), 40) };
    assert_eq!(complete(&[said(1, Some(50), 50), before]), 0, "it may have received more");
    assert_eq!(complete(&[said(1, Some(50), 50), at(2, 40, 0)]), 0);
    assert_eq!(complete(&[]), 0);
}

#[test]
fn a_session_does_not_go_back() {
    let nothing = Need::default();
    let here = [at(1, 50, 0), at(2, 40, 0)];
    let after = |node, known: Option<u64>| Need { last: Some((Node(node), known.map(Lsn))), ..nothing };
    assert_eq!(choice(&here, after(1, None)), Choice::Among(0b010));
    assert_eq!(choice(&here, after(1, Some(50))), Choice::Among(0b010));
    assert_eq!(choice(&here, after(2, Some(45))), Choice::Among(0b110));
    assert_eq!(choice(&here[1..], after(1, Some(50))), Choice::Wait);
}

/// A commit is on disk by the time that PostgreSQL promises: what was written since and is not on disk keeps no read from a replica.
#[test]
fn what_is_not_on_disk_after_a_while_was_not_acknowledged() {
    let track = Track::default();
    let millis = Duration::from_millis;
    let answer = |position: u64, sent: u64, flushed: u64| {
        let flushed = Flushed { lsn: Lsn(flushed), within: millis(700) };
        track.answer_flushed(track.ask(), Lsn(position), [millis(sent), millis(sent + 10)], flushed);
    };
    answer(10, 0, 10);
    let written = track.now();
    assert_eq!(track.bound(written), None);
    answer(20, 100, 15);
    assert_eq!(track.bound(written), Some((Lsn(20), false)));
    let later = track.now();
    answer(20, 809, 15);
    assert_eq!(track.bound(written), Some((Lsn(20), false)), "a commit may not be on disk yet");
    answer(20, 810, 15);
    assert_eq!(track.bound(written), Some((Lsn(15), true)));
    assert_eq!(track.bound(later), Some((Lsn(15), true)), "nothing was written in between");
    let last = track.now();
    answer(30, 820, 15);
    assert_eq!(track.bound(last), Some((Lsn(30), false)), "now it was");
    // On a busy server more is on disk than had been written.
    answer(90, 1600, 80);
    assert_eq!((track.bound(later), track.bound(last)), (Some((Lsn(20), true)), Some((Lsn(30), true))));
}

#[test]
fn a_question_asked_before_does_not_answer() {
    let track = Track::default();
    let early = track.ask();
    let written = track.now();
    track.answer(early, Lsn(10));
    assert_eq!((track.after(written), track.last()), (None, Some(Lsn(10))));
    let (second, third) = (track.ask(), track.ask());
    track.answer(third, Lsn(20));
    track.answer(second, Lsn(15));
    assert_eq!(track.after(written), Some(Lsn(20)), "a lost question is answered by the next");
    for n in 0..3000 {
        let number = track.ask();
        track.answer(number, Lsn(100 + n));
    }
    assert!(track.after(written) > Some(Lsn(100)) && track.after(track.now()).is_none());
}

#[test]
fn lag_is_by_our_own_clock() {
    let (start, step) = (clock::now(), Duration::from_millis(100));
    let mut history = History::default();
    assert_eq!(history.lag(Lsn(5), start), None, "unknown is never zero");
    for n in 1..=10 {
        history.add(start + step * n, Lsn(u64::from(n) * 10));
    }
    let now = start + step * 10;
    assert_eq!(history.lag(Lsn(100), now), Some(Duration::ZERO));
    assert_eq!(history.lag(Lsn(100), now + Duration::from_secs(600)), Some(Duration::ZERO), "idle");
    assert_eq!(history.lag(Lsn(75), now), Some(step * 3));
    assert_eq!(history.late(Lsn(75), now), Some(step * 2));
    assert_eq!(history.late(Lsn(95), now), Some(Duration::ZERO), "it was asked just after the primary");
    assert_eq!(history.lag(Lsn(1), now), Some(step * 9), "at least");
    history.add(now + step, Lsn(90));
    assert_eq!(history.lag(Lsn(80), now + step), Some(Duration::ZERO), "of another primary nothing is known");
}

#[test]
fn tables_and_levels() {
    let (a, b) = (Tables::named(b"photos"), Tables::named(b"users"));
    assert!(a != b && Tables::NONE.is_none() && Tables::ALL.and(a) == Tables::ALL);
    let writes = Writes::default();
    let track = Track::default();
    writes.note(a, track.now());
    assert_eq!((writes.last(a), writes.last(b)), (Some(track.now()), None));
    track.ask();
    writes.note(Tables::ALL, track.now());
    assert_eq!(writes.last(b), Some(track.now()));
    for name in Level::NAMES {
        assert_eq!(Level::parse(&name.to_uppercase()).unwrap().code(), *name);
    }
    assert!(Level::parse("strict").is_none() && Level::Eventual < Level::Primary);
}

/// What happens to a primary with two replicas and a session.
#[derive(Clone, Debug)]
enum Step {
    Write,
    /// Somebody else's, elsewhere.
    Stranger,
    Replay(u16, u64),
    AskPrimary,
    AnswerPrimary,
    Sample(u16),
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Write),
        1 => Just(Step::Stranger),
        3 => (1..3_u16, 0..40_u64).prop_map(|(node, by)| Step::Replay(node, by)),
        2 => Just(Step::AskPrimary),
        2 => Just(Step::AnswerPrimary),
        3 => (1..3_u16).prop_map(Step::Sample),
        4 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever comes between, a read sees the session's last write, and nothing older than the read before it.
    #[test]
    fn reads_see_writes_and_do_not_go_back(steps in steps(), pick: bool) {
        let (mut head, mut replayed, mut sampled) = (0_u64, [0_u64; 3], [0_u64; 3]);
        let (primary, writes) = (Track::default(), Writes::default());
        let nodes = [Track::default(), Track::default(), Track::default()];
        // A question under way: its number, and what it will be answered.
        let mut asked: Option<(u64, u64)> = None;
        let (mut written, mut seen, mut last) = (0, 0, None::<(usize, Ticket)>);
        let table = Tables::named(b"t");
        for step in steps {
            match step {
                Step::Write => {
                    head += 10;
                    written = head;
                    writes.note(table, primary.now());
                }
                Step::Stranger => head += 10,
                Step::Replay(node, by) => {
                    let node = usize::from(node);
                    replayed[node] = (replayed[node] + by).min(head);
                }
                Step::AskPrimary => asked = asked.or_else(|| Some((primary.ask(), head))),
                Step::AnswerPrimary => if let Some((number, position)) = asked.take() {
                    primary.answer(number, Lsn(position));
                },
                Step::Sample(node) => {
                    let node = usize::from(node);
                    sampled[node] = replayed[node];
                    nodes[node].answer(nodes[node].ask(), Lsn(replayed[node]));
                }
                Step::Read => {
                    let ticket = writes.last(table);
                    let known = ticket.and_then(|ticket| primary.after(ticket));
                    let need = Need {
                        least: known.unwrap_or_default(),
                        pending: ticket.is_some() && known.is_none(),
                        last: last.map(|(node, ticket)| (Node(node as u16), nodes[node].after(ticket))),
                        max_lag: None,
                    };
                    let replicas = [1, 2].map(|node| at(node, sampled[usize::from(node)], 0));
                    let Choice::Among(fresh) = choice(&replicas, need) else { continue };
                    let order = if pick { [1, 2] } else { [2, 1] };
                    let node = order.into_iter().find(|node| fresh & (1 << node) != 0).unwrap();
                    prop_assert!(replayed[node] >= written, "missed its write");
                    prop_assert!(replayed[node] >= seen, "went back");
                    seen = replayed[node];
                    last = Some((node, nodes[node].now()));
                }
            }
        }
    }
}
