//! diesel over libpq: threads that share an r2d2 pool; statements cached by query, rows one by one, COPY, migrations.

use std::io::BufRead;
use std::time::{Duration, Instant};

use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Integer, Text};
use diesel::upsert::excluded;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};

use crate::{Outcome, Transcript, migrations, threads, url, workers};

diesel::table! {
    diesel_books (client, id) {
        client -> Integer,
        id -> Integer,
        title -> Text,
        tags -> Array<Text>,
        pages -> Nullable<Integer>,
    }
}

use diesel_books::dsl as books;

#[derive(Clone, Debug, Identifiable, Insertable, Queryable, Selectable, AsChangeset)]
#[diesel(table_name = diesel_books, primary_key(client, id), check_for_backend(diesel::pg::Pg))]
struct Book {
    client: i32,
    id: i32,
    title: String,
    tags: Vec<String>,
    pages: Option<i32>,
}

#[derive(Debug, QueryableByName)]
struct Count {
    #[diesel(sql_type = Integer)]
    many: i32,
}

fn book(client: i32, id: i32) -> Book {
    Book { client, id, title: format!("t{id}"), tags: vec!["a".into(), id.to_string()], pages: (id % 2 == 0).then_some(id) }
}

fn kind<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(Error::DatabaseError(DatabaseErrorKind::Unknown, info)) => info.message().to_owned(),
        Err(Error::DatabaseError(kind, _)) => format!("{kind:?}"),
        Err(other) => format!("{other}"),
    }
}

fn statements(t: &Transcript, conn: &mut PgConnection, client: i32) -> Outcome {
    let mine = || books::diesel_books.filter(books::client.eq(client));
    diesel::delete(mine()).execute(conn)?;
    for id in 0..20 {
        let insert = diesel::insert_into(books::diesel_books).values(book(client, id));
        t.say("returning", insert.returning((books::id, books::title)).get_result::<(i32, String)>(conn)?);
    }
    let batch: Vec<_> = (100..200).map(|id| book(client, id)).collect();
    t.say("batch", diesel::insert_into(books::diesel_books).values(&batch).returning(books::id).get_results::<i32>(conn)?.len());
    for id in 0..20 {
        let found: Book = mine().filter(books::id.eq(id)).select(Book::as_select()).first(conn)?;
        t.say("cached", (found.id, found.title, found.tags, found.pages));
    }
    t.say("any", mine().filter(books::id.eq_any(vec![7, 3, 999])).order(books::id).select(books::title).load::<String>(conn)?);
    let upsert = |id: i32, title: &str| {
        let row = Book { title: title.into(), ..book(client, id) };
        diesel::insert_into(books::diesel_books).values(row)
            .on_conflict((books::client, books::id)).do_update().set(books::title.eq(excluded(books::title)))
            .returning(books::title)
    };
    t.say("upsert", (upsert(1, "new").get_result::<String>(conn)?, upsert(500, "first").get_result::<String>(conn)?));
    let nothing = diesel::insert_into(books::diesel_books).values(&batch).on_conflict_do_nothing().execute(conn)?;
    t.say("nothing", nothing);
    let updated = diesel::update(mine().filter(books::id.lt(3))).set(books::pages.eq(9)).returning(books::id);
    let mut ids = updated.get_results::<i32>(conn)?;
    ids.sort();
    t.say("updated", ids);
    t.say("saved", book(client, 4).save_changes::<Book>(conn)?.pages);
    t.say("count", mine().count().get_result::<i64>(conn)?);
    t.say("missing", mine().filter(books::id.eq(-1)).first::<Book>(conn).optional()?.is_none());
    let own = diesel::sql_query("SELECT $1 + length($2) AS many").bind::<Integer, _>(1).bind::<Text, _>("four");
    t.say("sql", own.get_result::<Count>(conn)?.many);
    t.say("error", kind(diesel::insert_into(books::diesel_books).values(book(client, 1)).execute(conn)));
    t.say("error", kind(diesel::sql_query("SELECT 1 / 0").execute(conn)));
    let mut sum = 0;
    for row in mine().select(books::id).load_iter::<i32, PgRowByRowLoadingMode>(conn)? {
        sum += row?;
    }
    t.say("row by row", sum);
    // Not read to its end.
    let first = mine().select(books::id).order(books::id).load_iter::<i32, PgRowByRowLoadingMode>(conn)?.next().transpose()?;
    t.say("the first", first);
    Ok(())
}

fn transactions(t: &Transcript, conn: &mut PgConnection, client: i32) -> Outcome {
    let mine = books::diesel_books.filter(books::client.eq(client));
    let outcome = conn.transaction(|conn| {
        diesel::delete(mine.filter(books::id.eq(1))).execute(conn)?;
        let inner = conn.transaction(|conn| {
            diesel::delete(mine.filter(books::id.eq(2))).execute(conn)?;
            diesel::insert_into(books::diesel_books).values(book(client, 3)).execute(conn)
        });
        t.say("inner", kind(inner));
        conn.transaction(|conn| diesel::delete(mine.filter(books::id.eq(4))).execute(conn))
    });
    t.say("outer", outcome?);
    let lost: Result<(), Error> = conn.transaction(|conn| {
        diesel::delete(mine).execute(conn)?;
        Err(Error::RollbackTransaction)
    });
    t.say("lost", kind(lost));
    t.say("left", mine.filter(books::id.lt(6)).select(books::id).order(books::id).load::<i32>(conn)?);
    let reading = conn.build_transaction().read_only().repeatable_read().run(|conn| {
        t.say("reading", mine.count().get_result::<i64>(conn)?);
        diesel::delete(mine).execute(conn)
    });
    t.say("read only", kind(reading));
    let mut serializable = conn.build_transaction().serializable().deferrable().read_write();
    t.say("serializable", serializable.run(|conn| mine.count().get_result::<i64>(conn))?);
    let tried = conn.test_transaction::<_, Error, _>(|conn| {
        diesel::delete(mine).execute(conn)?;
        mine.count().get_result::<i64>(conn)
    });
    t.say("tried", tried);
    t.say("and not done", mine.count().get_result::<i64>(conn)?);
    Ok(())
}

fn copies(t: &Transcript, conn: &mut PgConnection, client: i32) -> Outcome {
    let row = |id: i32| {
        let title = books::title.eq(format!("t{id}"));
        (books::client.eq(client), books::id.eq(id), title, books::tags.eq(vec!["copied".to_owned()]), books::pages.eq(id))
    };
    let rows: Vec<_> = (1000..1100).map(row).collect();
    t.say("copied", diesel::copy_from(books::diesel_books).from_insertable(&rows).execute(conn)?);
    t.say("copy error", kind(diesel::copy_from(books::diesel_books).from_insertable(&rows).execute(conn)));
    // `load` of diesel 2.3.14 leaves the COPY unfinished, also where its rows are read to the end.
    let lines = diesel::copy_to(books::diesel_books).load_raw(conn)?.lines();
    let own = format!("{client}\t");
    t.say("copied out", lines.filter(|line| line.as_ref().is_ok_and(|line| line.starts_with(&own))).count());
    Ok(())
}

fn notifications(t: &Transcript, conn: &mut PgConnection, client: i32) -> Outcome {
    let channel = format!("diesel_{client}");
    diesel::sql_query(format!("LISTEN {channel}")).execute(conn)?;
    diesel::sql_query("SELECT pg_notify($1, 'hello')").bind::<Text, _>(&channel).execute(conn)?;
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if let Some(heard) = conn.notifications_iter().next() {
            t.say("notified", heard?.payload);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    diesel::sql_query("UNLISTEN *").execute(conn)?;
    Ok(())
}

fn migrate(t: &Transcript, client: i32) -> Outcome {
    let schema = format!("diesel_{client}");
    let mut conn = PgConnection::establish(&format!("{}?options=-csearch_path%3D{schema}", url()))?;
    let begin = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    diesel::connection::SimpleConnection::batch_execute(&mut conn, &begin)?;
    let from = FileBasedMigrations::from_path(migrations("diesel"))?;
    t.say("pending", conn.has_pending_migration(from.clone())?);
    t.say("migrated", conn.run_pending_migrations(from.clone())?.iter().map(ToString::to_string).collect::<Vec<_>>());
    t.say("reverted", conn.revert_last_migration(from.clone())?.to_string());
    t.say("again", conn.run_pending_migrations(from)?.len());
    diesel::sql_query("INSERT INTO books VALUES (1, 'title', 3)").execute(&mut conn)?;
    diesel::sql_query(format!("DROP SCHEMA {schema} CASCADE")).execute(&mut conn)?;
    Ok(())
}

/// As a test of an application has it: one connection, whose transaction never ends.
fn tested(t: &Transcript, client: i32) -> Outcome {
    let mut conn = PgConnection::establish(&url())?;
    conn.begin_test_transaction()?;
    diesel::delete(books::diesel_books.filter(books::client.eq(client))).execute(&mut conn)?;
    let inner: Result<(), Error> = conn.transaction(|_| Err(Error::RollbackTransaction));
    t.say("in a test", kind(inner));
    t.say("in a test", books::diesel_books.filter(books::client.eq(client)).count().get_result::<i64>(&mut conn)?);
    Ok(())
}

pub fn main() -> Outcome {
    let manager = ConnectionManager::<PgConnection>::new(url());
    let pool = Pool::builder().max_size(workers() as u32).min_idle(Some(0)).build(manager)?;
    let create = "SET client_min_messages = warning; DROP TABLE IF EXISTS diesel_books; CREATE TABLE diesel_books (client int, \
        id int, title text NOT NULL, tags text[] NOT NULL, pages int, PRIMARY KEY (client, id))";
    diesel::connection::SimpleConnection::batch_execute(&mut pool.get()?, create)?;
    threads(|t| {
        let client = t.number as i32;
        migrate(t, client)?;
        statements(t, &mut *pool.get()?, client)?;
        transactions(t, &mut *pool.get()?, client)?;
        copies(t, &mut *pool.get()?, client)?;
        tested(t, client)?;
        notifications(t, &mut *pool.get()?, client)
    });
    diesel::sql_query("DROP TABLE diesel_books").execute(&mut pool.get()?)?;
    Ok(())
}
