//! tokio-postgres: statements in pipelines, portals, row streams, COPY both ways, notifications and cancels.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut, stream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error, IsolationLevel, NoTls, SimpleQueryMessage};

use crate::{Outcome, Transcript, tasks, url};

fn code<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().into()),
    }
}

/// A client, and the payloads it is notified of.
async fn connect() -> Result<(Client, UnboundedReceiver<String>), Error> {
    let (client, mut connection) = tokio_postgres::connect(&url(), NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(heard) = message {
                drop(sender.send(heard.payload().to_owned()));
            }
        }
    });
    Ok((client, receiver))
}

async fn statements(t: &Transcript, client: &Client, table: &str) -> Outcome {
    let create = format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int PRIMARY KEY, name text, tags text[])");
    client.batch_execute(&create).await?;
    let insert = client.prepare(&format!("INSERT INTO {table} VALUES ($1, $2, $3) RETURNING id")).await?;
    let select = client.prepare(&format!("SELECT name, tags FROM {table} WHERE id = $1")).await?;
    for id in 0..20 {
        let tags = vec!["a".to_owned(), id.to_string()];
        t.say("returning", client.query_one(&insert, &[&id, &format!("n{id}"), &tags]).await?.get::<_, i32>(0));
    }
    for id in 0..20 {
        let row = client.query_one(&select, &[&id]).await?;
        t.say("prepared", (row.get::<_, String>(0), row.get::<_, Vec<String>>(1)));
    }
    let get = |id: i32| {
        let select = &select;
        async move { client.query_opt(select, &[&id]).await.map(|row| row.map(|row| row.get::<_, String>(0))) }
    };
    t.say("pipeline", future::try_join_all((10..30).map(get)).await?);
    let divide = |by: i32| async move { code(client.query_one("SELECT 6 / $1::int", &[&by]).await) };
    t.say("pipeline error", future::join_all([1, 0, 2, 0, 3].map(divide)).await);
    t.say("typed", client.query_typed("SELECT $1 + $2", &[(&1i32, Type::INT4), (&2i32, Type::INT4)]).await?[0].get::<_, i32>(0));
    t.say("error", code(client.execute(&insert, &[&1, &"again", &Vec::<String>::new()]).await));
    let simple = client.simple_query(&format!("SELECT id FROM {table} WHERE id < 2; DELETE FROM {table} WHERE id = 19; SELECT 7")).await?;
    let said = simple.iter().map(|message| match message {
        SimpleQueryMessage::Row(row) => format!("row {:?}", row.get(0)),
        SimpleQueryMessage::CommandComplete(count) => format!("{count} done"),
        _ => "columns".into(),
    });
    t.say("simple", said.collect::<Vec<_>>());
    for round in 0..3 {
        // A statement that is dropped is closed with the next that is sent.
        t.say("closed", client.query_one(&format!("SELECT {round} + $1"), &[&1i32]).await?.get::<_, i32>(0));
    }
    let rows = client.query_raw("SELECT generate_series(1, $1)", [50_000i32]).await?;
    let some: Vec<_> = rows.take(3).map_ok(|row| row.get::<_, i32>(0)).try_collect().await?;
    t.say("some of it", some);
    let all = client.query_raw("SELECT generate_series(1, $1)", [5000i32]).await?;
    t.say("stream", all.try_fold(0, |sum, row| async move { Ok(sum + row.get::<_, i32>(0)) }).await?);
    Ok(())
}

async fn transactions(t: &Transcript, client: &mut Client, table: &str) -> Outcome {
    let delete = client.prepare(&format!("DELETE FROM {table} WHERE id = $1")).await?;
    let count = client.prepare(&format!("SELECT count(*) FROM {table}")).await?;
    let tx = client.transaction().await?;
    tx.execute(&delete, &[&1]).await?;
    drop(tx);
    let mut tx = client.transaction().await?;
    tx.execute(&delete, &[&2]).await?;
    let inner = tx.transaction().await?;
    inner.execute(&delete, &[&3]).await?;
    t.say("inner", code(inner.query_one("SELECT 1 / $1::int", &[&0]).await));
    t.say("aborted", code(inner.query_one(&count, &[]).await));
    inner.rollback().await?;
    tx.commit().await?;
    t.say("left", client.query_one(&count, &[]).await?.get::<_, i64>(0));
    let reading = client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
    t.say("read only", code(reading.execute(&delete, &[&4]).await));
    reading.rollback().await?;
    let tx = client.transaction().await?;
    let portal = tx.bind("SELECT generate_series(1, $1)", &[&25i32]).await?;
    let other = tx.bind(&count, &[]).await?;
    let mut sizes = Vec::new();
    loop {
        let rows = tx.query_portal(&portal, 10).await?;
        sizes.push(rows.len());
        if rows.len() < 10 {
            break;
        }
    }
    t.say("portal", (sizes, tx.query_portal(&other, 0).await?.len()));
    tx.commit().await?;
    Ok(())
}

async fn copies(t: &Transcript, client: &Client, table: &str) -> Outcome {
    let sink = client.copy_in(&format!("COPY {table} (id, name) FROM STDIN")).await?;
    pin_mut!(sink);
    for id in 1000..1100 {
        sink.send(bytes(format!("{id}\tcopied\n"))).await?;
    }
    t.say("copied", sink.finish().await?);
    let sink = client.copy_in(&format!("COPY {table} (id, name) FROM STDIN")).await?;
    pin_mut!(sink);
    sink.send(bytes("not a number\n".into())).await?;
    t.say("copy error", code(sink.finish().await));
    // Dropped: given up.
    drop(client.copy_in::<_, std::io::Cursor<Vec<u8>>>(&format!("COPY {table} (id, name) FROM STDIN")).await?);
    let out = client.copy_out(&format!("COPY (SELECT id FROM {table} WHERE id >= 1000) TO STDOUT")).await?;
    t.say("copied out", out.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await?);
    Ok(())
}

fn bytes(text: String) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(text.into_bytes())
}

async fn exercise(t: Arc<Transcript>, few: Arc<Semaphore>) -> Outcome {
    let table = format!("tokio_postgres_{}", t.number);
    let (mut client, mut heard) = connect().await?;
    statements(&t, &client, &table).await?;
    transactions(&t, &mut client, &table).await?;
    copies(&t, &client, &table).await?;
    client.batch_execute(&format!("LISTEN {table}; SET timezone TO 'Asia/Tokyo'")).await?;
    client.execute("SELECT pg_notify($1, 'hello')", &[&table]).await?;
    t.say("notified", tokio::time::timeout(Duration::from_secs(20), heard.recv()).await?);
    t.say("set", client.query_one("SELECT '2020-01-01 00:00+00'::timestamptz::text", &[]).await?.get::<_, String>(0));
    client.batch_execute(&format!("DROP TABLE {table}; UNLISTEN *")).await?;
    let _permit = few.acquire().await?;
    let token = client.cancel_token();
    let sleeping = client.batch_execute("SELECT pg_sleep(30)");
    pin_mut!(sleeping);
    let cancelled = loop {
        tokio::select! {
            ended = &mut sleeping => break ended,
            () = tokio::time::sleep(Duration::from_millis(50)) => token.cancel_query(NoTls).await?,
        }
    };
    t.say("cancelled", code(cancelled));
    // The last cancel may still be on its way.
    let mut after = client.query_one("SELECT $1::int", &[&1]).await;
    while matches!(&after, Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED)) {
        after = client.query_one("SELECT $1::int", &[&1]).await;
    }
    t.say("after it", after?.get::<_, i32>(0));
    Ok(())
}

pub async fn main() -> Outcome {
    // So many clients at once open a second connection.
    let few = Arc::new(Semaphore::new(5));
    tasks(|transcript| exercise(transcript, few.clone())).await;
    Ok(())
}
