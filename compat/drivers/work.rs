//! tokio-postgres: pipelines of joined futures, portals, COPY, notifications, cancel.

use std::{env, error::Error, fmt::Debug, process::ExitCode, time::Duration};

use futures_util::{SinkExt, StreamExt, TryStreamExt, future::join_all, pin_mut, stream};
use tokio::{sync::mpsc, time};
use tokio_postgres::{
    AsyncMessage, Client, Config, IsolationLevel, NoTls, Row, SimpleQueryMessage, Statement,
    types::{ToSql, Type},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const READ: &str = "SELECT id, name FROM items WHERE id <= $1 ORDER BY id";
const COUNT: &str = "SELECT count(*), max(v) FROM work WHERE id > $1";
const WRITE: &str = "INSERT INTO work VALUES ($1, $2) RETURNING id";

fn place(name: &str) -> String {
    env::var(format!("LOGIN_{name}")).unwrap_or_default()
}

/// A session, and the notifications that reach it.
async fn connect() -> Outcome<(Client, mpsc::UnboundedReceiver<String>)> {
    let (client, mut connection) = Config::new()
        .host(place("HOST"))
        .port(place("PORT").parse()?)
        .user(place("USER"))
        .password(place("PASSWORD"))
        .dbname(place("DATABASE"))
        .connect(NoTls)
        .await?;
    let (heard, notifications) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(n)) => {
                    let _ = heard.send(format!("{}|{}", n.channel(), n.payload()));
                }
                Ok(AsyncMessage::Notice(n)) => println!("notice|{}", n.message()),
                Ok(_) => {}
                Err(error) => println!("connection|{error}"),
            }
        }
    });
    Ok((client, notifications))
}

fn section(name: &str) {
    println!("== {name}");
}

fn failed(error: &tokio_postgres::Error) {
    match error.as_db_error() {
        Some(db) => println!(
            "error|{}|{}|{:?}",
            db.code().code(),
            db.message(),
            db.position()
        ),
        None => println!("error|{error}"),
    }
}

fn value(row: &Row, n: usize) -> String {
    fn text<T: Debug>(value: Option<T>) -> String {
        value.map_or("NULL".into(), |v| format!("{v:?}"))
    }
    match *row.columns()[n].type_() {
        Type::BOOL => text(row.get::<_, Option<bool>>(n)),
        Type::INT2 => text(row.get::<_, Option<i16>>(n)),
        Type::INT4 => text(row.get::<_, Option<i32>>(n)),
        Type::INT8 => text(row.get::<_, Option<i64>>(n)),
        Type::FLOAT4 => text(row.get::<_, Option<f32>>(n)),
        Type::FLOAT8 => text(row.get::<_, Option<f64>>(n)),
        Type::BYTEA => text(row.get::<_, Option<Vec<u8>>>(n)),
        Type::INT4_ARRAY => text(row.get::<_, Option<Vec<Option<i32>>>>(n)),
        Type::TEXT_ARRAY => text(row.get::<_, Option<Vec<Option<String>>>>(n)),
        Type::INET => text(row.get::<_, Option<std::net::IpAddr>>(n)),
        _ => text(row.get::<_, Option<String>>(n)),
    }
}

/// Says what a query gives, or how it fails.
fn show(result: Result<Vec<Row>, tokio_postgres::Error>) {
    match result {
        Ok(rows) => {
            println!("rows {}", rows.len());
            for row in &rows {
                let values: Vec<String> = (0..row.len())
                    .map(|n| format!("{}={}", row.columns()[n].name(), value(row, n)))
                    .collect();
                println!("  {}", values.join("|"));
            }
        }
        Err(error) => failed(&error),
    }
}

/// A statement that is prepared for this once.
async fn run(db: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) {
    show(db.query(sql, params).await);
}

/// Simple protocol.
async fn simple(db: &Client, sql: &str) {
    match db.simple_query(sql).await {
        Ok(messages) => {
            for message in messages {
                match message {
                    SimpleQueryMessage::Row(row) => {
                        let values: Vec<_> = (0..row.len()).map(|n| row.get(n)).collect();
                        println!("  {values:?}");
                    }
                    SimpleQueryMessage::CommandComplete(count) => println!("complete {count}"),
                    SimpleQueryMessage::RowDescription(columns) => {
                        let names: Vec<_> = columns.iter().map(|c| c.name()).collect();
                        println!("columns {names:?}");
                    }
                    _ => println!("something else"),
                }
            }
        }
        Err(error) => failed(&error),
    }
}

async fn types(db: &Client) -> Outcome<()> {
    section("types and parameters");
    run(db, "SELECT true AS b, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.25::float8, 'c'::char(3), 'é'::text, '\\xdead'::bytea, '{1,2,NULL}'::int[], ARRAY['x', NULL], '10.0.0.1'::inet, NULL::int", &[]).await;
    run(
        db,
        "SELECT $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea, $7::int[], $8::text",
        &[
            &true,
            &7i32,
            &(1i64 << 40),
            &1.5f64,
            &"té'xt",
            &vec![0u8, 255],
            &vec![Some(1i32), None],
            &None::<String>,
        ],
    )
    .await;
    run(db, "SELECT $1::int / $2::int", &[&1i32, &0i32]).await;
    run(db, "SELECT nothing FROM items", &[]).await;
    simple(
        db,
        "SELECT 1 AS one; SELECT 2 WHERE false; SELECT 1/0; SELECT 3",
    )
    .await;
    simple(db, "").await;
    Ok(())
}

async fn prepared(db: &Client) -> Outcome<(Statement, Statement, Statement)> {
    section("prepared statements in and outside of transactions");
    let read = db.prepare(READ).await?;
    let count = db.prepare(COUNT).await?;
    let write = db.prepare(WRITE).await?;
    for n in 1..3i32 {
        show(db.query(&read, &[&(n + 1)]).await);
        show(db.query(&count, &[&0i32]).await);
        simple(db, "BEGIN").await;
        show(db.query(&count, &[&0i32]).await);
        show(db.query(&write, &[&n, &format!("w{n}")]).await);
        show(db.query(&count, &[&0i32]).await);
        show(db.query(&read, &[&1i32]).await);
        simple(db, "COMMIT").await;
        show(db.query(&count, &[&0i32]).await);
    }
    show(db.query(&write, &[&1i32, &"again"]).await);
    show(db.query(&count, &[&0i32]).await);
    println!("{:?}", db.execute("UPDATE work SET v = v", &[]).await?);
    Ok((read, count, write))
}

async fn transactions(db: &mut Client, count: &Statement) -> Outcome<()> {
    section("savepoints and errors in transactions");
    let mut tx = db.transaction().await?;
    show(tx.query(count, &[&0i32]).await);
    let inner = tx.savepoint("s").await?;
    show(
        inner
            .query("INSERT INTO work VALUES (10, 'gone')", &[])
            .await,
    );
    show(inner.query(count, &[&0i32]).await);
    show(inner.query("SELECT 1/0 FROM items", &[]).await);
    show(inner.query(count, &[&0i32]).await);
    inner.rollback().await?;
    show(tx.query(count, &[&0i32]).await);
    tx.commit().await?;
    let tx = db.transaction().await?;
    show(
        tx.query("SELECT 1/(id - 3) FROM items ORDER BY id", &[])
            .await,
    );
    show(tx.query(count, &[&0i32]).await);
    tx.commit().await?;
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let tx = db
            .build_transaction()
            .isolation_level(level)
            .read_only(true)
            .start()
            .await?;
        show(tx.query(count, &[&0i32]).await);
        show(tx.query("DELETE FROM work", &[]).await);
        drop(tx);
        show(db.query(count, &[&0i32]).await);
    }
    Ok(())
}

async fn portals(db: &mut Client, read: &Statement, count: &Statement) -> Outcome<()> {
    section("portals, two at once");
    let tx = db.transaction().await?;
    let one = tx.bind(read, &[&50i32]).await?;
    let two = tx
        .bind("SELECT name FROM items WHERE id < $1 ORDER BY id", &[&9i32])
        .await?;
    show(tx.query_portal(&one, 3).await);
    show(tx.query_portal(&two, 2).await);
    show(
        tx.query("INSERT INTO work VALUES (20, 'between')", &[])
            .await,
    );
    show(tx.query(count, &[&0i32]).await);
    show(tx.query_portal(&one, 3).await);
    show(tx.query_portal(&two, 0).await);
    let three = tx.bind(count, &[&0i32]).await?;
    show(tx.query_portal(&three, 0).await);
    println!("{}", tx.query_portal(&one, 0).await?.len());
    show(tx.query_portal(&one, 0).await);
    tx.rollback().await?;
    Ok(())
}

async fn ask(
    db: &Client,
    statement: &Statement,
    n: i32,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    db.query(statement, &[&n]).await
}

async fn pipelines(db: &Client, read: &Statement, count: &Statement) -> Outcome<()> {
    section("pipelines");
    let write = db.prepare("INSERT INTO work VALUES ($1, 'piped')").await?;
    let fails = db
        .prepare("SELECT 1/(id - 3) FROM items ORDER BY id")
        .await?;
    // Each future is a sequence with a Sync of its own; all are sent before the first is answered.
    let mut answers = Vec::new();
    for n in 30..36i32 {
        let (a, b, c, d, e) = tokio::join!(
            ask(db, read, 1),
            ask(db, &write, n),
            ask(db, count, 0),
            db.query(&fails, &[]),
            ask(db, count, n),
        );
        answers.extend([a, b, c, d, e]);
    }
    answers.into_iter().for_each(show);
    let many = (0..200i32).map(|n| async move {
        if n % 7 == 3 {
            db.query("SELECT name FROM items WHERE id = $1", &[&(n % 50)])
                .await
        } else {
            ask(db, if n % 2 == 0 { count } else { read }, n % 5).await
        }
    });
    for (n, rows) in join_all(many).await.into_iter().enumerate() {
        println!("{n}: {}", rows?.len());
    }
    let (begin, before, deleted, after, undone, last) = tokio::join!(
        db.batch_execute("BEGIN"),
        ask(db, count, 0),
        db.execute("DELETE FROM work", &[]),
        ask(db, count, 0),
        db.batch_execute("ROLLBACK"),
        ask(db, count, 0),
    );
    begin?;
    show(before);
    println!("{}", deleted?);
    show(after);
    undone?;
    show(last);
    let (a, b) = tokio::join!(db.prepare("SELECT 1 AS a"), db.prepare("SELEC"));
    println!("{}", a?.columns().len());
    if let Err(error) = b {
        failed(&error);
    }
    Ok(())
}

async fn copy(db: &Client) -> Outcome<()> {
    section("copy, large results");
    let sink = db.copy_in("COPY work FROM STDIN").await?;
    pin_mut!(sink);
    for n in 1000..1300 {
        sink.feed(bytes::Bytes::from(format!("{n}\tcopied\n")))
            .await?;
    }
    println!("{}", sink.finish().await?);
    let sink = db.copy_in("COPY work FROM STDIN").await?;
    pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"no number\n")).await?;
    if let Err(error) = sink.finish().await {
        failed(&error);
    }
    // Dropped without an end: the driver says CopyFail.
    drop(Box::pin(
        db.copy_in::<_, bytes::Bytes>("COPY work FROM STDIN")
            .await?,
    ));
    run(db, "SELECT count(*) FROM work WHERE id >= 1000", &[]).await;
    let out = db
        .copy_out("COPY (SELECT * FROM work WHERE id BETWEEN 1000 AND 1002 ORDER BY id) TO STDOUT")
        .await?;
    let lines: Vec<_> = out.try_collect().await?;
    println!("{lines:?}");
    let out = db
        .copy_out("COPY (SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g) TO STDOUT")
        .await?;
    let size = out
        .try_fold(0, |size, part| async move { Ok(size + part.len()) })
        .await?;
    println!("{size}");
    println!(
        "{}",
        db.execute("DELETE FROM work WHERE id >= 1000", &[]).await?
    );
    let rows = db
        .query_raw(
            "SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g",
            Vec::<i32>::new(),
        )
        .await?;
    let sum = rows
        .try_fold(0i64, |sum, row| async move {
            Ok(sum + i64::from(row.get::<_, i32>(0)))
        })
        .await?;
    println!("{sum}");
    Ok(())
}

async fn session(db: &Client) -> Outcome<()> {
    section("parameters of the session, PREPARE");
    for sql in [
        "SHOW work_mem",
        "SET work_mem = '5MB'",
        "SHOW work_mem",
        "RESET work_mem",
        "SHOW work_mem",
        "PREPARE one(int) AS SELECT name FROM items WHERE id = $1",
        "EXECUTE one(4)",
        "BEGIN",
        "UPDATE work SET v = 'changed' WHERE id = 1",
        "EXECUTE one(6)",
        "COMMIT",
        "EXECUTE one(7)",
        "DEALLOCATE one",
        "EXECUTE one(8)",
    ] {
        simple(db, sql).await;
    }
    run(db, "SHOW work_mem", &[]).await;
    Ok(())
}

async fn notifications(db: &Client) -> Outcome<()> {
    section("notifications");
    let (listener, mut heard) = connect().await?;
    simple(&listener, "LISTEN news").await;
    run(&listener, "SELECT count(*) FROM items", &[]).await;
    simple(db, "NOTIFY news, 'hello'").await;
    println!(
        "{:?}",
        time::timeout(Duration::from_secs(20), heard.recv()).await?
    );
    Ok(())
}

async fn cancel(db: &Client) -> Outcome<()> {
    section("cancel");
    for sql in [
        "SELECT pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b",
    ] {
        let token = db.cancel_token();
        let (answer, sent) = tokio::join!(db.query(sql, &[]), async {
            time::sleep(Duration::from_millis(500)).await;
            token.cancel_query(NoTls).await
        });
        show(answer);
        sent?;
        time::sleep(Duration::from_millis(500)).await;
    }
    run(db, "SELECT 1", &[]).await;
    Ok(())
}

async fn discard(db: &Client) -> Outcome<()> {
    section("discard");
    simple(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a").await;
    run(db, "SELECT a FROM mine", &[]).await;
    simple(db, "DISCARD ALL").await;
    run(db, "SELECT a FROM mine", &[]).await;
    run(db, "SELECT count(*) FROM items", &[]).await;
    Ok(())
}

async fn work() -> Outcome<()> {
    let (mut db, _) = connect().await?;
    types(&db).await?;
    let (read, count, write) = prepared(&db).await?;
    transactions(&mut db, &count).await?;
    portals(&mut db, &read, &count).await?;
    pipelines(&db, &read, &count).await?;
    // Closes the statement at the server, by the way.
    drop(write);
    copy(&db).await?;
    session(&db).await?;
    notifications(&db).await?;
    cancel(&db).await?;
    discard(&db).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match work().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error} {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}
