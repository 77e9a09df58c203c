//! sqlx: one pool for all tasks, its statement cache, transactions in transactions, streams, COPY, notifications, migrations.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgAdvisoryLock, PgConnectOptions, PgListener, PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::types::{Json, JsonValue};
use sqlx::{Acquire, Column, Connection, Either, Executor, Row, Statement, TypeInfo};
use tokio::sync::Semaphore;

use crate::{Outcome, Transcript, migrations, tasks, url, workers};

/// The SQLSTATE of an error.
fn code<T>(result: Result<T, sqlx::Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => match error.as_database_error().and_then(|error| error.code()) {
            Some(code) => code.into_owned(),
            None => error.to_string(),
        },
    }
}

async fn statements(t: &Transcript, pool: &PgPool, table: &str) -> Outcome {
    let create = format!(
        "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int PRIMARY KEY, name text NOT NULL, tags text[], doc jsonb)"
    );
    sqlx::raw_sql(&create).execute(pool).await?;
    let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3, $4) RETURNING id");
    for id in 0..20 {
        let tags = vec!["a".to_owned(), id.to_string()];
        let doc = Json(JsonValue::from_iter([("id", id)]));
        let query = sqlx::query_scalar::<_, i32>(&insert).bind(id).bind(format!("n{id}")).bind(tags).bind(doc);
        t.say("returning", query.fetch_one(pool).await?);
    }
    let select = format!("SELECT name, tags, doc FROM {table} WHERE id = $1");
    for id in 0..20 {
        let row: (String, Vec<String>, JsonValue) = sqlx::query_as(&select).bind(id).fetch_one(pool).await?;
        t.say("cached", row);
    }
    let few = format!("SELECT id FROM {table} WHERE id = ANY($1) ORDER BY id");
    t.say("array", sqlx::query_scalar::<_, i32>(&few).bind(vec![3, 1, 77]).fetch_all(pool).await?);
    let many = format!("INSERT INTO {table} SELECT * FROM unnest($1::int[], $2::text[])");
    let names: Vec<_> = (100..200).map(|id| format!("n{id}")).collect();
    let done = sqlx::query(&many).bind((100..200).collect::<Vec<i32>>()).bind(names).execute(pool).await?;
    t.say("unnest", done.rows_affected());
    let upsert = format!("INSERT INTO {table} VALUES ($1, 'new') ON CONFLICT (id) DO UPDATE SET name = 'old' RETURNING name");
    for id in [1, 300] {
        t.say("upsert", sqlx::query_scalar::<_, String>(&upsert).bind(id).fetch_one(pool).await?);
    }
    t.say("optional", sqlx::query(&select).bind(999).fetch_optional(pool).await?.is_none());
    t.say("not kept", sqlx::query(&select).persistent(false).bind(2).fetch_one(pool).await?.get::<String, _>(0));
    t.say("error", code(sqlx::query(&insert).bind(1).bind("again").bind(vec![""]).bind(Json(0)).fetch_one(pool).await));
    t.say("error", code(sqlx::query("SELECT 1 / $1").bind(0).execute(pool).await));
    t.say("error", code(sqlx::query("SELEC").execute(pool).await));
    let mut counted = Vec::new();
    let several = format!("SELECT id FROM {table} WHERE id < 3; DELETE FROM {table} WHERE id = 300; SELECT 7");
    let mut results = sqlx::raw_sql(&several).fetch_many(pool);
    while let Some(either) = results.try_next().await? {
        counted.push(match either {
            Either::Left(done) => format!("{} affected", done.rows_affected()),
            Either::Right(row) => format!("row {}", row.get::<i32, _>(0)),
        });
    }
    t.say("several", counted);
    Ok(())
}

async fn transactions(t: &Transcript, pool: &PgPool, table: &str) -> Outcome {
    let count = format!("SELECT count(*) FROM {table}");
    let delete = format!("DELETE FROM {table} WHERE id = $1");
    let mut tx = pool.begin().await?;
    sqlx::query(&delete).bind(1).execute(&mut *tx).await?;
    // Rolled back by being dropped: with the next statement of its connection.
    drop(tx);
    let mut outer = pool.begin().await?;
    sqlx::query(&delete).bind(2).execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    sqlx::query(&delete).bind(3).execute(&mut *inner).await?;
    t.say("inner", code(sqlx::query(&format!("INSERT INTO {table} VALUES ($1, 'again')")).bind(4).execute(&mut *inner).await));
    t.say("aborted", code(sqlx::query(&count).execute(&mut *inner).await));
    inner.rollback().await?;
    let mut inner = outer.begin().await?;
    sqlx::query(&delete).bind(5).execute(&mut *inner).await?;
    inner.commit().await?;
    outer.commit().await?;
    let left = format!("SELECT id FROM {table} WHERE id < 7 ORDER BY id");
    t.say("left", sqlx::query_scalar::<_, i32>(&left).fetch_all(pool).await?);
    let mut reading = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    t.say("reading", sqlx::query_scalar::<_, i64>(&count).fetch_one(&mut *reading).await?);
    t.say("read only", code(sqlx::query(&delete).bind(6).execute(&mut *reading).await));
    reading.rollback().await?;
    let mut conn = pool.acquire().await?;
    let sum = conn.transaction(|tx| {
        Box::pin(async move { sqlx::query_scalar::<_, i32>("SELECT $1 + $2").bind(1).bind(2).fetch_one(&mut **tx).await })
    });
    t.say("closure", sum.await?);
    let mut tx = conn.begin().await?;
    sqlx::query("SET LOCAL statement_timeout = '50ms'").execute(&mut *tx).await?;
    t.say("timeout", code(sqlx::query("SELECT pg_sleep(30)").execute(&mut *tx).await));
    Ok(())
}

async fn streams(t: &Transcript, pool: &PgPool, table: &str) -> Outcome {
    let series = "SELECT generate_series(1, $1)";
    let all = sqlx::query_scalar::<_, i32>(series).bind(5000).fetch(pool);
    t.say("stream", all.try_fold(0, |sum, n| async move { Ok(sum + n) }).await?);
    let some: Vec<_> = sqlx::query_scalar::<_, i32>(series).bind(50_000).fetch(pool).take(3).try_collect().await?;
    t.say("some of it", some);
    let mut copy = pool.copy_in_raw(&format!("COPY {table} (id, name) FROM STDIN")).await?;
    for id in 1000..1100 {
        copy.send(format!("{id}\tcopied\n").into_bytes()).await?;
    }
    t.say("copied", copy.finish().await?);
    let copy = pool.copy_in_raw(&format!("COPY {table} (id, name) FROM STDIN")).await?;
    t.say("given up", copy.abort("no more").await.is_ok());
    let mut copy = pool.copy_in_raw(&format!("COPY {table} (id, name) FROM STDIN")).await?;
    copy.send(b"not a number\n".as_slice()).await?;
    t.say("copy error", code(copy.finish().await));
    let out = pool.copy_out_raw(&format!("COPY (SELECT id FROM {table} WHERE id >= 1000) TO STDOUT")).await?;
    let bytes = out.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await?;
    t.say("copied out", bytes);
    Ok(())
}

async fn descriptions(t: &Transcript, pool: &PgPool, table: &str) -> Outcome {
    let text = format!("SELECT id, name, doc, count(*) OVER () FROM {table} WHERE id = $1");
    // What is null is found by an EXPLAIN EXECUTE of the statement that has just been prepared.
    let described = pool.describe(&text).await?;
    let columns: Vec<_> = (described.columns().iter().enumerate())
        .map(|(nth, column)| (column.name().to_owned(), column.type_info().name().to_owned(), described.nullable(nth)))
        .collect();
    t.say("described", columns);
    let kind = format!("{table}_mood");
    sqlx::raw_sql(&format!("DROP TYPE IF EXISTS {kind}; CREATE TYPE {kind} AS ENUM ('sad', 'happy')")).execute(pool).await?;
    // A type that is not known yet is looked up while its statement is under way.
    let row = sqlx::query(&format!("SELECT 'happy'::{kind}, ARRAY['sad'::{kind}]")).fetch_one(pool).await?;
    let known = |nth: usize| row.column(nth).type_info().name().replace(&kind, "mood");
    t.say("types", (known(0), known(1), row.try_get_raw(0)?.as_str().unwrap_or("?")));
    let mut conn = pool.acquire().await?;
    let prepared = conn.prepare("SELECT $1::int + 1").await?;
    t.say("prepared", prepared.query_scalar::<i32>().bind(4).fetch_one(&mut *conn).await?);
    for round in 0..150 {
        // More texts than the cache holds: the eldest are closed.
        let sum = sqlx::query_scalar::<_, i32>(&format!("SELECT $1 + {round}")).bind(1).fetch_one(&mut *conn).await?;
        if round % 50 == 0 {
            t.say("many", sum);
        }
    }
    t.say("kept", conn.cached_statements_size());
    conn.clear_cached_statements().await?;
    t.say("cleared", sqlx::query_scalar::<_, i32>("SELECT $1 + 0").bind(1).fetch_one(&mut *conn).await?);
    sqlx::query(&format!("DROP TYPE {kind}")).execute(&mut *conn).await?;
    Ok(())
}

async fn session(t: &Transcript, pool: &PgPool) -> Outcome {
    let mut conn = pool.acquire().await?.detach();
    sqlx::query("SET timezone TO 'Asia/Tokyo'").execute(&mut conn).await?;
    let time = "SELECT '2020-01-01 00:00+00'::timestamptz::text";
    t.say("set", sqlx::query_scalar::<_, String>(time).fetch_one(&mut conn).await?);
    sqlx::query("CREATE TEMP TABLE scratch AS SELECT generate_series(1, $1) AS n").bind(5).execute(&mut conn).await?;
    t.say("temporary", sqlx::query_scalar::<_, i64>("SELECT sum(n) FROM scratch").fetch_one(&mut conn).await?);
    sqlx::query("DROP TABLE scratch").execute(&mut conn).await?;
    let lock = PgAdvisoryLock::new("sqlx");
    let guard = lock.acquire(&mut conn).await?;
    guard.release_now().await?;
    conn.ping().await?;
    conn.close().await?;
    Ok(())
}

async fn notifications(t: &Transcript, pool: &PgPool, channel: &str) -> Outcome {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([channel, "sqlx_unused"]).await?;
    let notify = "SELECT pg_notify($1, $2)";
    for payload in ["one", "two"] {
        sqlx::query(notify).bind(channel).bind(payload).execute(pool).await?;
        let heard = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await??;
        t.say("notified", heard.payload());
    }
    listener.unlisten("sqlx_unused").await?;
    // The listener's own connection serves for other statements as well.
    t.say("by it", sqlx::query_scalar::<_, i32>("SELECT $1").bind(3).fetch_one(&mut listener).await?);
    Ok(())
}

/// The migrator holds an advisory lock on the database, whoever else migrates a schema of it.
async fn migrate(t: &Transcript, schema: &str) -> Outcome {
    let options = PgConnectOptions::from_str(&url())?.options([("search_path", schema)]);
    let mut conn = sqlx::PgConnection::connect_with(&options).await?;
    conn.execute(format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}").as_str()).await?;
    let migrator = Migrator::new(migrations("sqlx")).await?;
    for _ in 0..2 {
        migrator.run(&mut conn).await?;
        let applied = "SELECT version, description, success FROM _sqlx_migrations ORDER BY 1";
        t.say("migrated", sqlx::query_as::<_, (i64, String, bool)>(applied).fetch_all(&mut conn).await?);
    }
    sqlx::query("INSERT INTO books VALUES ($1, $2, $3)").bind(1).bind("title").bind(3).execute(&mut conn).await?;
    conn.execute(format!("DROP SCHEMA {schema} CASCADE").as_str()).await?;
    conn.close().await?;
    Ok(())
}

async fn exercise(t: Arc<Transcript>, pool: PgPool, few: Arc<Semaphore>) -> Outcome {
    let table = format!("sqlx_{}", t.number);
    statements(&t, &pool, &table).await?;
    transactions(&t, &pool, &table).await?;
    streams(&t, &pool, &table).await?;
    descriptions(&t, &pool, &table).await?;
    sqlx::query(&format!("DROP TABLE {table}")).execute(&pool).await?;
    // These hold a connection and take another.
    let _permit = few.acquire().await?;
    session(&t, &pool).await?;
    notifications(&t, &pool, &table).await?;
    migrate(&t, &table).await
}

pub async fn main() -> Outcome {
    let more = 5;
    let pool = PgPoolOptions::new().max_connections((workers() + more) as u32).connect(&url()).await?;
    let few = Arc::new(Semaphore::new(more));
    tasks(|transcript| exercise(transcript, pool.clone(), few.clone())).await;
    pool.close().await;
    Ok(())
}
