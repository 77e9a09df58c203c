//! diesel-async over tokio-postgres: tasks that share a deadpool; queries in pipelines, streams, transactions.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::result::Error;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::{StreamExt, TryStreamExt};

use crate::{Outcome, Transcript, tasks, url, workers};

diesel::table! {
    diesel_async_books (client, id) {
        client -> Integer,
        id -> Integer,
        title -> Text,
    }
}

use diesel_async_books::dsl as books;

async fn exercise(t: Arc<Transcript>, pool: Pool<AsyncPgConnection>) -> Outcome {
    let client = t.number as i32;
    let mine = books::diesel_async_books.filter(books::client.eq(client));
    let row = |id: i32| (books::client.eq(client), books::id.eq(id), books::title.eq(format!("t{id}")));
    for id in 0..20 {
        let mut conn = pool.get().await?;
        let insert = diesel::insert_into(books::diesel_async_books).values(row(id)).returning(books::id);
        t.say("returning", insert.get_result::<i32>(&mut conn).await?);
        t.say("cached", mine.filter(books::id.eq(id)).select(books::title).first::<String>(&mut conn).await?);
    }
    let mut conn = pool.get().await?;
    let batch: Vec<_> = (100..200).map(row).collect();
    t.say("batch", diesel::insert_into(books::diesel_async_books).values(batch).execute(&mut conn).await?);
    {
        // Through shared references, queries are sent without waiting for each other.
        let get = |id: i32| {
            let mut shared: &AsyncPgConnection = &conn;
            async move { mine.filter(books::id.eq(id)).select(books::title).first::<String>(&mut shared).await.optional() }
        };
        t.say("pipeline", futures_util::future::try_join_all((90..110).map(get)).await?);
        let divide = |by: i32| {
            let mut shared: &AsyncPgConnection = &conn;
            async move {
                let divided = diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT 6 / ").bind::<diesel::sql_types::Integer, _>(by);
                divided.get_result::<i32>(&mut shared).await.map_err(|error| error.to_string())
            }
        };
        t.say("pipeline error", futures_util::future::join_all([1, 0, 2].map(divide)).await);
    }
    let all = mine.select(books::id).load_stream::<i32>(&mut conn).await?;
    t.say("stream", all.try_fold(0, |sum, id| async move { Ok(sum + id) }).await?);
    let some: Vec<_> = mine.select(books::id).order(books::id).load_stream::<i32>(&mut conn).await?.take(3).try_collect().await?;
    t.say("some of it", some);
    let said = t.clone();
    let outcome = conn.transaction::<_, Error, _>(async |conn| {
        diesel::delete(mine.filter(books::id.eq(1))).execute(conn).await?;
        let inner = conn.transaction::<_, Error, _>(async |conn| {
            diesel::delete(mine.filter(books::id.eq(2))).execute(conn).await?;
            diesel::insert_into(books::diesel_async_books).values(row(3)).execute(conn).await
        });
        said.say("inner", inner.await.map_err(|error| error.to_string()));
        mine.filter(books::id.lt(5)).select(books::id).order(books::id).load::<i32>(conn).await
    });
    t.say("outer", outcome.await?);
    let lost = conn.transaction::<(), Error, _>(async |conn| {
        diesel::delete(mine).execute(conn).await?;
        Err(Error::RollbackTransaction)
    });
    t.say("lost", lost.await.map_err(|error| error.to_string()));
    let mut reading = conn.build_transaction().read_only();
    let refused = reading.run::<_, Error, _>(async |conn| diesel::delete(mine).execute(conn).await).await;
    t.say("read only", refused.map_err(|error| error.to_string()));
    conn.batch_execute("SET timezone TO 'Asia/Tokyo'; SELECT 1; RESET timezone").await?;
    t.say("count", mine.count().get_result::<i64>(&mut conn).await?);
    Ok(())
}

pub async fn main() -> Outcome {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url());
    let pool = Pool::builder(manager).max_size(workers()).build()?;
    let create = "DROP TABLE IF EXISTS diesel_async_books; \
        CREATE TABLE diesel_async_books (client int, id int, title text NOT NULL, PRIMARY KEY (client, id))";
    pool.get().await?.batch_execute(create).await?;
    tasks(|transcript| exercise(transcript, pool.clone())).await;
    pool.get().await?.batch_execute("DROP TABLE diesel_async_books").await?;
    Ok(())
}
