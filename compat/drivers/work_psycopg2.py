"""psycopg 2: simple queries of the client's quoting, server cursors, COPY, notifications, cancel."""

import datetime
import decimal
import io
import select
import threading
import time

import psycopg2
from psycopg2 import extensions, extras
from transcript import TYPES, place, say, section


def connect(autocommit=True):
    connection = psycopg2.connect(**place(), connect_timeout=15)
    connection.autocommit = autocommit
    return connection


def failed(error):
    say("error", type(error).__name__, error.pgcode, error.diag.message_primary, error.diag.statement_position)


def run(connection, sql, params=None):
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            say(cursor.statusmessage, [(c.name, c.type_code) for c in cursor.description or ()])
            for row in cursor.fetchall() if cursor.description else ():
                say("  ", tuple(bytes(v) if isinstance(v, memoryview) else v for v in row))
    except psycopg2.Error as error:
        failed(error)
    say("state", connection.get_transaction_status())


section("types and parameters")
db = connect()
run(db, TYPES)
run(db, "SELECT %s, %s, %s, %s, %s, %s, %s, %s", (True, 7, decimal.Decimal("1.50"), "té'xt", [1, 2], datetime.date(2024, 2, 29), psycopg2.Binary(b"\x00\xff").adapted, None))
run(db, "SELECT 1/0")
run(db, "SELECT 1; SELECT 2")

section("transactions of the driver")
tx = connect(autocommit=False)
for attempt in range(2):
    run(tx, "SELECT count(*), max(v) FROM work")
    run(tx, "INSERT INTO work VALUES (%s, 'tx')", (attempt,))
    run(tx, "SELECT count(*), max(v) FROM work")
    run(tx, "SAVEPOINT s")
    run(tx, "INSERT INTO work VALUES (%s, 'double')", (attempt,))
    run(tx, "SELECT 'not run'")
    run(tx, "ROLLBACK TO s")
    run(tx, "SELECT count(*) FROM work")
    tx.commit()
    run(tx, "SELECT count(*) FROM work")
    tx.rollback()
run(tx, "SELECT 1/(id - 3) FROM items ORDER BY id")
tx.commit()
run(db, "SELECT count(*) FROM work")
for level in (extensions.ISOLATION_LEVEL_REPEATABLE_READ, extensions.ISOLATION_LEVEL_SERIALIZABLE):
    tx.set_session(isolation_level=level, readonly=True)
    run(tx, "SELECT count(*) FROM items")
    run(tx, "DELETE FROM work")
    tx.rollback()
tx.close()

section("server cursors, two at once")
tx = connect(autocommit=False)
one, two = tx.cursor("one"), tx.cursor("two", scrollable=True)
one.itersize = 7
one.execute("SELECT id FROM items ORDER BY id")
two.execute("SELECT name FROM items WHERE id < %s ORDER BY id", (9,))
say(one.fetchmany(3), two.fetchmany(2))
run(tx, "INSERT INTO work VALUES (20, 'between')")
run(tx, "SELECT count(*) FROM work")
say(one.fetchmany(3), two.fetchmany(2), sum(row[0] for row in one))
two.scroll(-1)
say(two.fetchall())
tx.commit()
held = tx.cursor("held", withhold=True)
held.execute("SELECT id FROM items WHERE id < 6 ORDER BY id")
say(held.fetchmany(2))
tx.commit()
run(tx, "SELECT 5")
say(held.fetchall())
held.close()
tx.close()

section("many at once")
with db.cursor() as cursor:
    say(extras.execute_values(cursor, "INSERT INTO work VALUES %s RETURNING id", [(n, f"v{n}") for n in range(30, 60)], page_size=10, fetch=True))
    extras.execute_batch(cursor, "UPDATE work SET v = %s WHERE id = %s", [(f"b{n}", n) for n in range(30, 60)], page_size=7)
run(db, "SELECT count(*), max(v) FROM work WHERE id BETWEEN 30 AND 59")
with db.cursor() as cursor:
    cursor.execute("SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
    say(sum(row[0] for row in cursor), cursor.rowcount)

section("copy")
with db.cursor() as cursor:
    cursor.copy_expert("COPY work FROM STDIN", io.StringIO("".join(f"{n}\tcopied {n}\n" for n in range(100, 400))))
    say(cursor.statusmessage)
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM work WHERE id BETWEEN 100 AND 103 ORDER BY id) TO STDOUT", out)
    say(out.getvalue())
    try:
        cursor.copy_expert("COPY work FROM STDIN", io.StringIO("no number\tx\n"))
    except psycopg2.Error as error:
        failed(error)
run(db, "SELECT count(*) FROM work WHERE id >= 100")

section("parameters of the session, PREPARE")
for sql in ("SET work_mem = '5MB'", "SHOW work_mem", "RESET work_mem", "SHOW work_mem", "PREPARE one(int) AS SELECT name FROM items WHERE id = $1", "EXECUTE one(4)",
            "BEGIN", "UPDATE work SET v = 'changed' WHERE id = 1", "EXECUTE one(6)", "COMMIT", "EXECUTE one(7)", "DEALLOCATE one", "EXECUTE one(8)"):
    run(db, sql)
db.set_client_encoding("LATIN1")
run(db, "SELECT 'é', name FROM items WHERE id = 3")
say(db.encoding)
db.set_client_encoding("UTF8")

section("notifications")
listener = connect()
run(listener, "LISTEN news")
run(listener, "SELECT count(*) FROM items")
run(db, "NOTIFY news, 'hello'")
end = time.monotonic() + 20
while not listener.notifies and time.monotonic() < end:
    select.select([listener], [], [], 1)
    listener.poll()
say([(n.channel, n.payload) for n in listener.notifies])
listener.close()

section("cancel")
for sql in ("SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"):
    timer = threading.Timer(0.5, db.cancel)
    timer.start()
    run(db, sql)
    timer.join()
    time.sleep(0.5)
run(db, "SELECT 1")

section("discard")
run(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a")
run(db, "SELECT a FROM mine")
run(db, "DISCARD ALL")
run(db, "SELECT a FROM mine")
run(db, "SELECT count(*) FROM items")
db.close()
