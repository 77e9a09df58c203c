//! What judging a statement costs, by layer.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pgweir::route::{Judge, JudgeOptions, Memo, Scope};
use pgweir::sql::{Effect, Name, Names, Seeds, scan};

/// 59 bytes, no literal.
const EXACT: &str = "SELECT id, title, votes FROM photos WHERE id = $1 LIMIT $2;";

/// A statement of an ORM, 1 KB, as one comes with literals.
fn long(id: u32) -> String {
    let columns: Vec<String> = (0..18).map(|n| format!("\"shop_order\".\"column_number_{n}\"")).collect();
    format!(
        "SELECT {}, COUNT(DISTINCT \"shop_line\".\"id\") AS \"lines\" FROM \"shop_order\" INNER JOIN \"shop_line\" ON \
         (\"shop_order\".\"id\" = \"shop_line\".\"order_id\") LEFT OUTER JOIN \"shop_user\" ON (\"shop_order\".\"user_id\" = \
         \"shop_user\".\"id\") WHERE (\"shop_order\".\"id\" = {id} AND \"shop_order\".\"state\" IN ('paid', 'sent') AND \
         UPPER(\"shop_user\".\"email\") LIKE UPPER('%example%')) GROUP BY \"shop_order\".\"id\" ORDER BY \
         \"shop_order\".\"created_at\" DESC LIMIT 21",
        columns.join(", ")
    )
}

/// For the second opinion alone: knows every function.
struct All;

impl Names for All {
    fn function(&self, _name: Name<'_>) -> Effect {
        Effect::Safe
    }
}

fn route(c: &mut Criterion) {
    let (judge, scope) = (Judge::new(JudgeOptions::default()), Scope::without_catalog());
    let _ = judge.facts(EXACT.as_bytes(), &scope);
    c.bench_function("exact hit, 59 B", |b| b.iter(|| judge.facts(black_box(EXACT.as_bytes()), &scope)));

    // With a literal and short: never remembered as it is, so scanned each time; its shape is remembered.
    let short = "SELECT id, title, votes FROM photos WHERE id = 12345";
    c.bench_function("scan and shape, 52 B", |b| b.iter(|| judge.facts(black_box(short.as_bytes()), &scope)));

    // What the same client said a moment ago, with another number.
    let (mut memo, other) = (Memo::default(), "SELECT id, title, votes FROM photos WHERE id = 67890");
    let mut turn = false;
    c.bench_function("a client's own memory, 52 B", |b| {
        b.iter(|| {
            turn = !turn;
            memo.facts(black_box(if turn { short } else { other }).as_bytes(), &judge, &scope)
        });
    });

    let write = "UPDATE photos SET votes = votes + 1 WHERE id = 12345";
    c.bench_function("scan of a write, 52 B", |b| {
        b.iter(|| judge.facts(black_box(write.as_bytes()), &scope))
    });

    // Ever new texts of 1 KB: each misses the memory of texts, is scanned, and is put there.
    let mut id = 0;
    c.bench_function("scan and shape, 1 KB, and remembered", |b| {
        b.iter_batched(
            || {
                id += 1;
                long(id)
            },
            |text| judge.facts(black_box(text.as_bytes()), &scope),
            criterion::BatchSize::SmallInput,
        );
    });

    let text = long(7);
    c.bench_function("exact hit, 1 KB", |b| {
        let _ = judge.facts(text.as_bytes(), &scope);
        b.iter(|| judge.facts(black_box(text.as_bytes()), &scope));
    });

    let seeds = Seeds { high: ahash::RandomState::new(), low: ahash::RandomState::new() };
    for (name, text) in [("scan alone, 52 B", short), ("scan alone, 1 KB", text.as_str())] {
        c.bench_function(name, |b| b.iter(|| scan(black_box(text.as_bytes()), &All, &seeds, |_| {})));
    }

    let list = format!("SELECT * FROM photos WHERE id IN (1{})", ", 123456789".repeat((10 << 20) / 11));
    c.bench_function("scan of an IN list of 10 MB", |b| {
        b.iter(|| judge.facts(black_box(list.as_bytes()), &scope))
    });

    let insert = format!("INSERT INTO t VALUES {}", vec!["(1234, 'some text', 5.5, NULL)"; 2_000].join(", "));
    c.bench_function("scan of an INSERT of 2,000 rows, 62 KB", |b| {
        b.iter(|| judge.facts(black_box(insert.as_bytes()), &scope));
    });

    c.bench_function("second opinion, 52 B", |b| {
        b.iter(|| pgweir::sql::opinion(black_box(short.as_bytes()), &All));
    });
    c.bench_function("second opinion, 1 KB", |b| {
        b.iter(|| pgweir::sql::opinion(black_box(text.as_bytes()), &All));
    });
}

criterion_group!(benches, route);
criterion_main!(benches);
