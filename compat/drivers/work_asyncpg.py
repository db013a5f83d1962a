"""asyncpg: a named statement for every query, binary values, cursors by portals, COPY, notifications, cancel by time-out."""

import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg
from transcript import TYPES, place, say, section

ALL = [(True, "bool"), (7, "int4"), (2**40, "int8"), (1.5, "float8"), (decimal.Decimal("12.340"), "numeric"), ("té'xt", "text"), (b"\x00\xff", "bytea"), (datetime.date(2024, 2, 29), "date"),
       (datetime.datetime(2024, 1, 2, 3, 4, 5), "timestamp"), (datetime.timedelta(days=1), "interval"), (uuid.UUID(int=5), "uuid"), ('{"a": 1}', "jsonb"), ([1, None], "int[]"), (None, "text")]


async def connect():
    where = place()
    return await asyncpg.connect(host=where["host"], port=int(where["port"]), user=where["user"], password=where["password"], database=where["dbname"], ssl=False, timeout=15)


def failed(error):
    say("error", type(error).__name__, getattr(error, "sqlstate", None), str(error).splitlines()[0])


async def run(db, sql, *params):
    """A statement by asyncpg's cache of prepared statements."""
    try:
        statement = await db.prepare(sql)
        rows = await statement.fetch(*params)
        say(statement.get_statusmsg(), [(a.name, a.type.name) for a in statement.get_attributes()], [t.name for t in statement.get_parameters()])
        for row in rows:
            say("  ", tuple(row))
    except asyncpg.PostgresError as error:
        failed(error)


async def fetch(db, sql, *params):
    """The same by the short way, which prepares without asking and keeps the statement."""
    try:
        say([tuple(row) for row in await db.fetch(sql, *params)])
    except asyncpg.PostgresError as error:
        failed(error)


async def script(db, sql):
    """Simple protocol."""
    try:
        say(await db.execute(sql))
    except asyncpg.PostgresError as error:
        failed(error)


async def rolled_back(db, *attempts):
    """Attempts in a transaction that fails."""
    try:
        async with db.transaction():
            for sql in attempts:
                say([tuple(row) for row in await db.fetch(sql)])
    except asyncpg.PostgresError as error:
        failed(error)


READ, COUNT, WRITE = "SELECT id, name FROM items WHERE id <= $1 ORDER BY id", "SELECT count(*), max(v) FROM work WHERE id > $1", "INSERT INTO work VALUES ($1, $2) RETURNING id"


async def main():
    section("types and parameters")
    db = await connect()
    await run(db, TYPES)
    await run(db, "SELECT " + ", ".join(f"${n}::{kind}" for n, (_, kind) in enumerate(ALL, 1)), *(value for value, _ in ALL))
    await run(db, "SELECT $1::int / $2::int", 1, 0)
    await run(db, "SELECT nothing FROM items")
    await script(db, "SELECT 1; SELECT 2")

    section("prepared statements in and outside of transactions")
    read, count, write = [await db.prepare(sql) for sql in (READ, COUNT, WRITE)]
    say([tuple(r) for r in await read.fetch(2)], tuple(await count.fetchrow(0)))
    for number in (1, 2):
        async with db.transaction():
            say(tuple(await count.fetchrow(0)))
            say(await write.fetchval(number, f"w{number}"))
            say(tuple(await count.fetchrow(0)), [tuple(r) for r in await read.fetch(1)])
            await fetch(db, COUNT, 0)
        say(tuple(await count.fetchrow(0)))
    try:
        await write.fetch(1, "again")
    except asyncpg.PostgresError as error:
        failed(error)
    for number in range(4):
        await fetch(db, "SELECT count(*) + $1 FROM work", number)
    await db.reload_schema_state()

    section("savepoints and errors in transactions")
    async with db.transaction():
        await fetch(db, "SELECT count(*) FROM work")
        try:
            async with db.transaction():
                await fetch(db, "INSERT INTO work VALUES (10, 'gone')")
                say(tuple(await count.fetchrow(0)))
                await fetch(db, "SELECT 1/0 FROM items")
                await fetch(db, "SELECT 'not run'")
                raise ValueError("roll back")
        except ValueError as error:
            say(error)
        say(tuple(await count.fetchrow(0)))
    await rolled_back(db, "SELECT count(*) FROM work", "SELECT 1/(id - 3) FROM items ORDER BY id", "SELECT 'not run'")
    await rolled_back(db, "INSERT INTO work VALUES (11, 'gone too')", "SELECT count(*) FROM work", "SELECT 1/0")
    await fetch(db, COUNT, 0)
    for level in ("repeatable_read", "serializable"):
        async with db.transaction(isolation=level, readonly=True):
            await fetch(db, "SELECT count(*) FROM items")
            await fetch(db, "SHOW transaction_isolation")

    section("cursors, two at once")
    async with db.transaction():
        one, two = await db.cursor("SELECT id FROM items ORDER BY id"), await db.cursor("SELECT name FROM items WHERE id < $1 ORDER BY id", 9)
        say([tuple(r) for r in await one.fetch(3)], [tuple(r) for r in await two.fetch(2)])
        await fetch(db, "INSERT INTO work VALUES (20, 'between')")
        say(tuple(await count.fetchrow(0)))
        say([tuple(r) for r in await one.fetch(3)], [tuple(r) for r in await two.fetch(20)])
        say(await one.forward(5), tuple(await one.fetchrow()))
        say(sum([r["id"] async for r in read.cursor(50, prefetch=7)]))
    async with db.transaction():
        say(sum([r["id"] async for r in db.cursor("SELECT id FROM items", prefetch=11)]))

    section("large results and many executions")
    rows = await db.fetch("SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")
    say(sum(r[0] for r in rows), len(rows))
    await db.executemany("INSERT INTO work VALUES ($1, $2)", [(n, f"many{n}") for n in range(40, 140)])
    await fetch(db, COUNT, 39)
    say([tuple(r) for r in await db.fetchmany("INSERT INTO work VALUES ($1, $2) RETURNING v", [(n, f"more{n}") for n in range(140, 145)])] if hasattr(db, "fetchmany") else "no fetchmany")
    try:
        await db.executemany("INSERT INTO work VALUES ($1, 'x')", [(1000,), (1001,), (40,), (1002,)])
    except asyncpg.PostgresError as error:
        failed(error)
    await fetch(db, COUNT, 999)

    section("copy")
    say(await db.copy_records_to_table("work", records=[(n, f"copied {n}") for n in range(200, 500)]))
    out = io.BytesIO()
    say(await db.copy_from_query("SELECT id, v FROM work WHERE id BETWEEN $1 AND 203 ORDER BY id", 200, output=out, format="csv"), out.getvalue())
    async with db.transaction():
        await fetch(db, "DELETE FROM work WHERE id >= 200")
        out = io.BytesIO()
        say(await db.copy_from_table("work", output=out, format="binary"), len(out.getvalue()))
    try:
        await db.copy_to_table("work", source=io.BytesIO(b"no number\tx\n"))
    except asyncpg.PostgresError as error:
        failed(error)

    section("parameters of the session, PREPARE")
    for sql in ("SET work_mem = '5MB'", "PREPARE one(int) AS SELECT name FROM items WHERE id = $1", "DEALLOCATE two"):
        await script(db, sql)
    for sql in ("SHOW work_mem", "SELECT current_setting('work_mem')", "EXECUTE one(4)"):
        await fetch(db, sql)
    async with db.transaction():
        await fetch(db, "EXECUTE one(5)")
        await script(db, "UPDATE work SET v = 'changed' WHERE id = 1")
        await fetch(db, "EXECUTE one(6)")
    await script(db, "DEALLOCATE one; RESET work_mem")
    await fetch(db, "SHOW work_mem")
    await script(db, "SET TIME ZONE 'Asia/Tokyo'")
    say(db.get_settings().TimeZone)

    section("notifications")
    listener, heard = await connect(), asyncio.Queue()
    await listener.add_listener("news", lambda _, __, channel, payload: heard.put_nowait((channel, payload)))
    await fetch(listener, "SELECT count(*) FROM items")
    await script(db, "NOTIFY news, 'hello'")
    say(await asyncio.wait_for(heard.get(), 20))
    await listener.close()

    section("cancel")
    for sql in ("SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"):
        try:
            await db.fetch(sql, timeout=0.5)
        except (asyncio.TimeoutError, asyncpg.QueryCanceledError) as error:
            say("cancelled", type(error).__name__)
        await asyncio.sleep(0.5)
    await fetch(db, "SELECT 1")

    section("discard")
    await script(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a")
    await fetch(db, "SELECT a FROM mine")
    # Closes cursors, UNLISTEN, RESET ALL: what asyncpg's pool sends between its users.
    await db.reset()
    await script(db, "DISCARD ALL")
    await fetch(db, "SELECT 1 AS one, a FROM mine")
    await fetch(db, "SELECT count(*) AS again FROM items")
    await db.close()


asyncio.run(main())
