//! Units as drivers send them, byte for byte, and units that no server would carry out.

use super::{heard, merged, start, sums_up, typed};
use crate::raw::{Raw, query};
use crate::wire::{bind, bind_as, describe, execute, parse, sync};

const VOTE: &str = "UPDATE photos SET votes = votes + $1 WHERE id = $2";

/// What drivers send for an increment with two whole numbers, outside of a transaction, the first time and later. With each: whether
/// it is merged.
fn drivers() -> Vec<(&'static str, Vec<u8>, bool)> {
    let four: [Option<&[u8]>; 2] = [Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 7])];
    let two: [Option<&[u8]>; 2] = [Some(&[0, 1]), Some(&[0, 7])];
    let text: [Option<&[u8]>; 2] = [Some(b"1"), Some(b"7")];
    let (int4, int2) = (typed(VOTE, &[23, 23]), typed(VOTE, &[21, 21]));
    let end = |rows| [describe('P', ""), execute("", rows), sync()].concat();
    let named = |name: &str, typed: &[u8]| {
        // The name stands before the text.
        let body = [name.as_bytes(), &typed[5..]].concat();
        crate::wire::message(b'P', &body)
    };
    vec![
        // executeUpdate asks for one row; from the fifth time on with a name, and in binary.
        ("JDBC", [&int4[..], &bind_as("", "", 0, &text, 0), &end(1)].concat(), true),
        (
            "JDBC, described",
            [&int4[..], &describe('S', ""), &bind_as("", "", 1, &four, 0), &end(1)].concat(),
            true,
        ),
        (
            "JDBC, the name is given",
            [&named("S_1", &int4)[..], &bind_as("", "S_1", 1, &four, 0), &end(1)].concat(),
            false,
        ),
        ("JDBC, by name", [&bind_as("", "S_1", 1, &four, 0)[..], &execute("", 1), &sync()].concat(), true),
        // Small numbers are smallint; PQsendQueryParams.
        ("psycopg 3", [&int2[..], &bind_as("", "", 1, &two, 0), &end(0)].concat(), true),
        ("psycopg 3, prepares", [named("_pg3_0", &int2), sync()].concat(), false),
        ("psycopg 3, prepared", [&bind_as("", "_pg3_0", 1, &two, 0)[..], &end(0)].concat(), true),
        ("node-postgres", [&parse("", VOTE)[..], &bind("", "", &["1", "7"]), &end(0)].concat(), true),
        ("pgx, prepares", [parse("stmt_1", VOTE), describe('S', "stmt_1"), sync()].concat(), false),
        ("pgx", [&bind_as("", "stmt_1", 1, &four, 1)[..], &end(0)].concat(), true),
        ("lib/pq, asks", [parse("", VOTE), describe('S', ""), sync()].concat(), false),
        ("lib/pq", [bind("", "", &["1", "7"]), execute("", 0), sync()].concat(), true),
    ]
}

#[tokio::test]
async fn what_drivers_send_is_merged() {
    let (cluster, proxy) = start(0, "").await;
    let (plain, _other) = start(0, "").await;
    let mut client = proxy.client().await;
    let mut direct = Raw::login(plain.primary().address().parse().unwrap(), &[]).await.unwrap();
    for (who, unit, merges) in drivers() {
        let before = merged(&proxy).await;
        let (through, plainly) = (heard(&mut client, &unit).await, heard(&mut direct, &unit).await);
        assert_eq!(through, plainly, "{who}");
        assert_eq!(merged(&proxy).await - before, usize::from(merges), "{who}");
    }
    let votes = "SELECT votes FROM photos WHERE id = 7";
    let there = cluster.primary().value(votes).await.unwrap();
    assert_eq!(there, plain.primary().value(votes).await.unwrap());
    assert_eq!(there, "9");
}

/// A unit that is wrong is the server's: its error, and nothing is merged.
#[tokio::test]
async fn what_is_wrong_gets_the_servers_error() {
    let (_cluster, proxy) = start(0, "").await;
    let (plain, _other) = start(0, "").await;
    let mut client = proxy.client().await;
    let mut direct = Raw::login(plain.primary().address().parse().unwrap(), &[]).await.unwrap();
    let (parsed, values, end) =
        (parse("", VOTE), bind("", "", &["1", "7"]), [execute("", 0), sync()].concat());
    let gap = "UPDATE photos SET votes = votes + $1 WHERE id = $3";
    let units = [
        ("a value too many", [&parsed[..], &bind("", "", &["1", "7", "9"]), &end].concat(), "08P01"),
        ("a value too few", [&parsed[..], &bind("", "", &["1"]), &end].concat(), "08P01"),
        (
            "none for the third",
            [&parse("", gap)[..], &bind("", "", &["1", "7", "7"]), &end].concat(),
            "42P18",
        ),
        ("another portal", [&parsed[..], &values, &execute("p", 0), &sync()].concat(), "34000"),
        ("another portal described", [&parsed[..], &values, &describe('P', "p"), &end].concat(), "34000"),
        ("another statement described", [&parsed[..], &values, &describe('S', "s"), &end].concat(), "26000"),
        (
            "a type that does not fit",
            [&typed(VOTE, &[23, 25])[..], &describe('S', ""), &values, &end].concat(),
            "42883",
        ),
        ("one that a query has taken away", [&values[..], &end].concat(), "26000"),
    ];
    for (what, unit, code) in units {
        for client in [&mut client, &mut direct] {
            heard(client, &[parse("", VOTE), sync()].concat()).await;
            heard(client, &query("SELECT 1")).await;
        }
        let (through, plainly) = (heard(&mut client, &unit).await, heard(&mut direct, &unit).await);
        let tags =
            |heard: &[(u8, Vec<u8>)]| heard.iter().map(|(tag, _)| char::from(*tag)).collect::<String>();
        assert_eq!(tags(&through), tags(&plainly), "{what}");
        assert_eq!(sums_up(&through), sums_up(&plainly), "{what}");
        assert_eq!(sums_up(&plainly), code, "{what}");
    }
    assert_eq!(merged(&proxy).await, 0);
}
