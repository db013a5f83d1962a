"""psycopg 3: prepared statements, client and server cursors, pipeline mode, COPY, notifications, cancel."""

import datetime
import decimal
import threading
import time
import uuid

import psycopg
from psycopg.types.json import Jsonb
from transcript import TYPES, place, say, section

ALL = [True, 7, 2**40, 1.5, decimal.Decimal("12.340"), "té'xt", b"\x00\xff", datetime.date(2024, 2, 29), datetime.time(1, 2, 3), datetime.datetime(2024, 1, 2, 3, 4, 5),
       datetime.timedelta(days=1, seconds=2), uuid.UUID(int=5), Jsonb({"a": [1, None]}), [1, 2, None], ["x", None], None]


def connect(**more):
    return psycopg.connect(**place(), connect_timeout=15, autocommit=True, **more)


def show(cursor):
    say(cursor.statusmessage, [(c.name, c.type_code) for c in cursor.description or ()])
    for row in cursor.fetchall() if cursor.description else ():
        say("  ", row)


def run(connection, sql, params=None, **how):
    """Says what a statement gives, or how it fails."""
    try:
        show(connection.execute(sql, params, **how))
    except psycopg.Error as error:
        failed(error)
    say("state", connection.info.transaction_status.name)


def failed(error):
    say("error", type(error).__name__, error.sqlstate, error.diag.message_primary, error.diag.statement_position)


section("types and parameters")
db = connect()
run(db, TYPES)
run(db, "SELECT " + ", ".join(["%s"] * len(ALL)), ALL)
with db.cursor(binary=True) as cursor:
    show(cursor.execute("SELECT %b::int4, %b::text, %b::float8, %b::bytea", (1, "b", 2.5, b"\x01")))
run(db, "SELECT %s::int / %s::int", (1, 0))
run(db, "SELECT nothing FROM items")
run(db, "")

section("prepared statements in and outside of transactions")
READ, COUNT, WRITE = "SELECT id, name FROM items WHERE id <= %s ORDER BY id", "SELECT count(*), max(v) FROM work WHERE id > %s", "INSERT INTO work VALUES (%s, %s) RETURNING id"
for number in (2, 3):
    run(db, READ, (number,), prepare=True)
    run(db, COUNT, (0,), prepare=True)
for number in (1, 2):
    with db.transaction():
        run(db, COUNT, (0,), prepare=True)
        run(db, WRITE, (number, f"w{number}"), prepare=True)
        run(db, COUNT, (0,), prepare=True)
        run(db, READ, (1,), prepare=True)
    run(db, COUNT, (0,), prepare=True)
run(db, WRITE, (1, "again"), prepare=True)
run(db, COUNT, (0,), prepare=True)
db.prepare_threshold = 2
for number in range(5):
    run(db, "SELECT count(*) + %s FROM work", (number,))
db.execute("DEALLOCATE ALL")
run(db, READ, (1,), prepare=True)

section("savepoints and errors in transactions")
try:
    with db.transaction():
        run(db, "SELECT count(*) FROM work")
        try:
            with db.transaction("inner"):
                run(db, "INSERT INTO work VALUES (10, 'gone')")
                run(db, COUNT, (0,), prepare=True)
                run(db, "SELECT 1/0")
                run(db, "SELECT 'not run'")
        except psycopg.Error as error:
            failed(error)
        run(db, "SELECT count(*) FROM work WHERE id = 10")
        with db.transaction():
            run(db, "INSERT INTO work VALUES (11, 'kept')")
        run(db, COUNT, (0,), prepare=True)
        run(db, "SELECT 1/0 FROM items")
        run(db, "SELECT 'not run'")
except psycopg.Error as error:
    failed(error)
run(db, COUNT, (0,), prepare=True)
run(db, "BEGIN")
run(db, "SELECT 1/(id - 3) FROM items ORDER BY id")
run(db, "COMMIT")

section("read only and serializable transactions")
for level in (psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE):
    with connect() as other:
        other.isolation_level, other.read_only = level, True
        with other.transaction():
            run(other, "SELECT count(*) FROM items")
            run(other, "SHOW transaction_isolation")
            run(other, "DELETE FROM work")
        run(other, "SELECT count(*) FROM work")

section("server cursors, two at once")
with db.transaction():
    with db.cursor(name="one") as one, db.cursor(name="two", scrollable=True) as two:
        one.itersize = 7
        one.execute("SELECT id FROM items ORDER BY id")
        two.execute("SELECT name FROM items WHERE id < %s ORDER BY id", (9,))
        say(one.fetchmany(3), two.fetchmany(2))
        run(db, "INSERT INTO work VALUES (20, 'between')")
        say(one.fetchmany(3), two.fetchmany(2), sum(r[0] for r in one))
        two.scroll(-1)
        say(two.fetchall())
with connect() as other, other.cursor(name="held", withhold=True) as held:
    held.execute("SELECT id FROM items WHERE id < 6 ORDER BY id")
    say(held.fetchmany(2))
    run(other, "SELECT 5")
    say(held.fetchall())

section("large results")
cursor = db.execute("SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
say(sum(row[0] for row in cursor), cursor.rowcount)
say(sum(len(r[1]) for r in db.cursor().stream("SELECT g, repeat('y', 100) FROM generate_series(1, 3000) g")))
say(len(db.execute("SELECT repeat('z', 5000000)").fetchone()[0]))

section("pipelines")
with db.pipeline() as pipeline:
    cursors = [db.execute(READ, (n,), prepare=True) for n in (1, 2)]
    cursors.append(db.execute("INSERT INTO work VALUES (30, 'piped')"))
    cursors.append(db.execute(COUNT, (0,), prepare=True))
    pipeline.sync()
    for cursor in cursors:
        show(cursor)
    cursors = [db.execute(COUNT, (29,), prepare=True), db.execute("SELECT name FROM items WHERE id = %s", (3,))]
    pipeline.sync()
    for cursor in cursors:
        show(cursor)
try:
    with db.pipeline() as pipeline:
        cursors = [db.execute("SELECT 1"), db.execute("INSERT INTO work VALUES (31, 'rolled back')"), db.execute("SELECT 1/0 FROM items"), db.execute("SELECT 'skipped'")]
        pipeline.sync()
except psycopg.Error as error:
    failed(error)
run(db, COUNT, (29,), prepare=True)
with db.pipeline():
    with db.transaction():
        one = db.execute(COUNT, (0,), prepare=True)
        db.execute("DELETE FROM work WHERE id = 30")
        two = db.execute(COUNT, (0,), prepare=True)
    three = db.execute(COUNT, (0,), prepare=True)
    for cursor in (one, two, three):
        show(cursor)
with db.cursor() as cursor:
    cursor.executemany("INSERT INTO work VALUES (%s, %s) RETURNING v", [(n, f"many{n}") for n in range(40, 45)], returning=True)
    while True:
        show(cursor)
        if not cursor.nextset():
            break
run(db, COUNT, (39,), prepare=True)

section("copy")
with db.cursor() as cursor, cursor.copy("COPY work (id, v) FROM STDIN") as copy:
    for number in range(100, 400):
        copy.write_row((number, None if number % 7 == 0 else f"row\t{number}"))
run(db, "SELECT count(*), count(v), max(v) FROM work WHERE id >= 100")
with db.transaction():
    with db.cursor() as cursor, cursor.copy("COPY (SELECT id, v FROM work WHERE id BETWEEN 100 AND 108 ORDER BY id) TO STDOUT") as copy:
        say(list(copy.rows()))
    run(db, "DELETE FROM work WHERE id >= 100")
    with db.cursor() as cursor, cursor.copy("COPY work TO STDOUT (FORMAT binary)") as copy:
        say(sum(len(bytes(part)) for part in copy))
try:
    with db.cursor() as cursor, cursor.copy("COPY work (id, v) FROM STDIN") as copy:
        copy.write("no number\tx\n")
except psycopg.Error as error:
    failed(error)
try:
    with db.cursor() as cursor, cursor.copy("COPY work (id, v) FROM STDIN") as copy:
        copy.write_row((500, "x"))
        raise ValueError("changed my mind")
except ValueError as error:
    say(error)
run(db, "SELECT count(*) FROM work WHERE id = 500")
with db.cursor() as cursor, cursor.copy("COPY (SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g) TO STDOUT") as copy:
    say(sum(len(bytes(part)) for part in copy))

section("parameters of the session")
for sql in ("SHOW work_mem", "SET work_mem = '5MB'", "SHOW work_mem", "SELECT current_setting('work_mem')", "RESET work_mem", "SHOW work_mem",
            "SET search_path = nowhere", "SELECT count(*) FROM items", "RESET search_path", "SELECT count(*) FROM items", "SET TIME ZONE 'Asia/Tokyo'",
            "SELECT '2024-01-01 00:00Z'::timestamptz::text", "SET work_mem = 'much'"):
    run(db, sql)
say(db.info.parameter_status("TimeZone"))
with db.transaction():
    run(db, "SET LOCAL work_mem = '6MB'")
    run(db, "SHOW work_mem")
run(db, "SHOW work_mem")

section("SQL's PREPARE")
for sql in ("PREPARE one(int) AS SELECT name FROM items WHERE id = $1", "EXECUTE one(4)", "BEGIN", "EXECUTE one(5)", "UPDATE work SET v = 'changed' WHERE id = 1", "EXECUTE one(6)", "COMMIT",
            "EXECUTE one(7)", "DEALLOCATE one", "EXECUTE one(8)", "PREPARE two AS INSERT INTO work VALUES (50, 'two')", "EXECUTE two", "SELECT v FROM work WHERE id = 50", "EXECUTE two"):
    run(db, sql)

section("notifications")
with connect() as listener:
    listener.execute("LISTEN news")
    run(listener, "SELECT count(*) FROM items")
    db.execute("NOTIFY news, 'hello'")
    for note in listener.notifies(timeout=20, stop_after=1):
        say(note.channel, note.payload)
    run(listener, "SELECT 1")

section("cancel")
for sql in ("SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"):
    timer = threading.Timer(0.5, db.cancel)
    timer.start()
    run(db, sql)
    timer.join()
    time.sleep(0.5)
run(db, "SELECT 1")
run(db, "SET statement_timeout = 200")
run(db, "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b")
run(db, "RESET statement_timeout")

section("discard")
run(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a")
run(db, "SELECT a FROM mine")
run(db, "SET work_mem = '9MB'")
run(db, "DISCARD ALL")
run(db, "SHOW work_mem")
run(db, "SELECT a FROM mine")
run(db, READ, (1,), prepare=False)
db.close()
