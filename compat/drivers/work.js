// node-postgres: named and unnamed statements, pg-cursor, queries in a queue, notifications, cancel.
const Module = require("module");
// pg-cursor wants pg as its neighbour, and both lie beside the build.
const load = Module.createRequire(process.env.LOGIN_MODULES + "/");
const { Client, types } = load("pg");
const Cursor = load("pg-cursor");

const env = process.env;
const place = { host: env.LOGIN_HOST, port: Number(env.LOGIN_PORT), user: env.LOGIN_USER, password: env.LOGIN_PASSWORD, database: env.LOGIN_DATABASE, connectionTimeoutMillis: 15000 };
const say = (...words) => console.log(words.map((w) => (typeof w === "string" ? w : JSON.stringify(w))).join("|"));
const section = (name) => console.log("== " + name);
const failed = (error) => say("error", error.code || "", error.message, error.position || "");
const later = (ms) => new Promise((done) => setTimeout(done, ms));
// Dates as the server writes them.
for (const oid of [1082, 1114, 1184, 1186]) types.setTypeParser(oid, (text) => text);

async function connect() {
  const client = new Client(place);
  client.on("error", (error) => say("connection", error.message));
  await client.connect();
  return client;
}

function told(result) {
  for (const one of Array.isArray(result) ? result : [result]) {
    say(one.command || "", one.rowCount === null ? "" : one.rowCount, one.fields.map((f) => [f.name, f.dataTypeID, f.format]));
    for (const row of one.rows) say("  ", row);
  }
}

async function run(client, text, values, name) {
  try {
    // Without values the driver would take the simple protocol; here it does so only if none are given.
    told(await client.query({ text, values, name, rowMode: "array", queryMode: values && "extended" }));
  } catch (error) {
    failed(error);
  }
}

async function types_and_parameters(db) {
  section("types and parameters");
  await run(db, "SELECT true AS b, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.25::float8, 12.340::numeric, 'c'::char(3), 'é'::text, '\\xdead'::bytea, '2024-02-29'::date, " +
    "'2024-01-02 03:04:05'::timestamp, '1 day'::interval, '{\"a\": 1}'::json, '{1,2,NULL}'::int[], ARRAY['x', NULL], '10.0.0.1'::inet, NULL::int");
  await run(db, "SELECT $1::bool, $2::int, $3::text, $4::jsonb, $5::int[], $6::bytea, $7::date, $8::text", [true, 7, "té'xt", { a: [1] }, [1, null], Buffer.from([0, 255]), "2024-02-29", null]);
  await run(db, "SELECT $1::int / $2::int", [1, 0]);
  await run(db, "SELECT nothing FROM items");
  await run(db, "SELECT 1; SELECT 2 AS two; SELECT 3 WHERE false");
  await run(db, "SELECT 1; SELECT 1/0; SELECT 2");
  await run(db, "");
}

const READ = ["SELECT id, name FROM items WHERE id <= $1 ORDER BY id", "read"];
const COUNT = ["SELECT count(*), max(v) FROM work WHERE id > $1", "count"];
const WRITE = ["INSERT INTO work VALUES ($1, $2) RETURNING id", "write"];
const by = (client, [text, name], ...values) => run(client, text, values, name);

async function prepared(db) {
  section("prepared statements in and outside of transactions");
  for (const n of [2, 3]) {
    await by(db, READ, n);
    await by(db, COUNT, 0);
  }
  for (const n of [1, 2]) {
    await run(db, "BEGIN");
    await by(db, COUNT, 0);
    await by(db, WRITE, n, "w" + n);
    await by(db, COUNT, 0);
    await by(db, READ, 1);
    await run(db, "SELECT count(*) FROM work WHERE id = $1", [n]);
    await run(db, "COMMIT");
    await by(db, COUNT, 0);
  }
  await by(db, WRITE, 1, "again");
  await by(db, COUNT, 0);
  await by(db, ["SELECT 1 AS another", "count"]);
}

async function transactions(db) {
  section("savepoints and errors in transactions");
  const steps = ["BEGIN", "SELECT count(*) FROM work", "SAVEPOINT s", "INSERT INTO work VALUES (10, 'gone')", "SELECT count(*) FROM work", "SELECT 1/0", "SELECT 'not run'", "ROLLBACK TO s",
    "SELECT count(*) FROM work", "RELEASE s", "COMMIT", "BEGIN", "SELECT 1/(id - 3) FROM items ORDER BY id", "SELECT 'not run'", "COMMIT", "SELECT count(*) FROM work",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT count(*) FROM items", "DELETE FROM work", "ROLLBACK", "BEGIN ISOLATION LEVEL SERIALIZABLE", "SELECT count(*) FROM work", "COMMIT"];
  for (const sql of steps) await run(db, sql);
  for (const sql of steps) await run(db, sql, []);
}

async function queue(db) {
  section("a queue of queries");
  const all = [
    db.query({ text: "SELECT 1", rowMode: "array" }),
    db.query({ text: "INSERT INTO work VALUES ($1, 'queued')", values: [20] }),
    db.query({ text: COUNT[0], name: COUNT[1], values: [0], rowMode: "array" }),
    db.query({ text: "SELECT 1/0 FROM items" }),
    db.query({ text: READ[0], name: READ[1], values: [1], rowMode: "array" }),
    db.query({ text: "DELETE FROM work WHERE id = 20", values: [] }),
    db.query({ text: COUNT[0], name: COUNT[1], values: [19], rowMode: "array" }),
  ];
  for (const one of all) await one.then(told, failed);
}

async function cursors(db) {
  section("cursors, two at once");
  await run(db, "BEGIN");
  const one = db.query(new Cursor("SELECT id, name FROM items ORDER BY id", [], { rowMode: "array" }));
  say(await one.read(3));
  say(await one.read(4));
  await one.close();
  const two = db.query(new Cursor("SELECT name FROM items WHERE id < $1 ORDER BY id", [9], { rowMode: "array" }));
  say(await two.read(2));
  say(await two.read(100));
  say(await two.read(100));
  await two.close();
  await run(db, "INSERT INTO work VALUES (30, 'between')");
  const three = db.query(new Cursor("SELECT count(*) FROM work", [], { rowMode: "array" }));
  say(await three.read(1), await three.read(1));
  await three.close();
  // The driver runs one query at a time, but SQL's cursors stay open.
  await run(db, "DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id");
  await run(db, "DECLARE d CURSOR FOR SELECT count(*) FROM work");
  for (const sql of ["FETCH 3 FROM c", "FETCH 1 FROM d", "FETCH 3 FROM c", "CLOSE d", "FETCH ALL FROM d"]) await run(db, sql, []);
  await run(db, "ROLLBACK");
  const outside = db.query(new Cursor("SELECT id FROM items ORDER BY id", [], { rowMode: "array" }));
  say(await outside.read(5));
  say((await outside.read(100)).length, await outside.read(1));
  await outside.close();
  const bad = db.query(new Cursor("SELECT 1/(id - 5) FROM items ORDER BY id", [], { rowMode: "array" }));
  try {
    say(await bad.read(2));
    say(await bad.read(10));
  } catch (error) {
    failed(error);
  }
  await bad.close().catch(failed);
  await run(db, "SELECT 'still here'");
}

async function large(db) {
  section("large results");
  const rows = (await db.query({ text: "SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g", rowMode: "array" })).rows;
  say(rows.length, rows.reduce((sum, row) => sum + row[0], 0));
  say((await db.query("SELECT repeat('z', 5000000) AS z")).rows[0].z.length);
  const cursor = db.query(new Cursor("SELECT g, repeat('y', 500) FROM generate_series(1, 5000) g", [], { rowMode: "array" }));
  let count = 0;
  for (let part; (part = await cursor.read(300)).length; ) count += part.length;
  say(count);
  await cursor.close();
}

async function session(db) {
  section("parameters of the session, PREPARE");
  for (const sql of ["SHOW work_mem", "SET work_mem = '5MB'", "SHOW work_mem", "RESET work_mem", "SHOW work_mem", "SET work_mem = 'much'", "SET application_name = 'work'", "SHOW application_name",
    "PREPARE one(int) AS SELECT name FROM items WHERE id = $1", "EXECUTE one(4)", "BEGIN", "UPDATE work SET v = 'changed' WHERE id = 1", "EXECUTE one(6)", "COMMIT", "EXECUTE one(7)",
    "DEALLOCATE one", "EXECUTE one(8)", "COPY nowhere TO STDOUT"]) await run(db, sql);
  await run(db, "SHOW work_mem", []);
}

async function notifications(db) {
  section("notifications");
  const listener = await connect();
  const heard = new Promise((done) => listener.on("notification", (n) => done([n.channel, n.payload])));
  await run(listener, "LISTEN news");
  await run(listener, "SELECT count(*) FROM items");
  await run(db, "NOTIFY news, 'hello'");
  say(await heard);
  await listener.end();
}

async function cancel(db) {
  section("cancel");
  for (const sql of ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"]) {
    const query = run(db, sql);
    await later(500);
    const other = new Client(place);
    // What its pool does: a connection that says nothing but the request.
    other.connection.on("connect", () => other.connection.cancel(db.processID, db.secretKey));
    other.connection.on("error", () => {});
    other.connection.connect(place.port, place.host);
    await query;
    await later(500);
  }
  await run(db, "SELECT 1");
}

async function discard(db) {
  section("discard");
  await run(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a");
  await run(db, "SELECT a FROM mine", []);
  await run(db, "DISCARD ALL");
  await run(db, "SELECT a FROM mine", []);
  await run(db, "SELECT count(*) FROM items", []);
}

async function main() {
  const db = await connect();
  for (const part of [types_and_parameters, prepared, transactions, queue, cursors, large, session, notifications, cancel, discard]) await part(db);
  await db.end();
}

main().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
