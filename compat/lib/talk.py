"""Random conversations in the frontend's messages: what a client could say, sensible or not.

A conversation is a list of bursts, a burst a list of `Step`s that are sent without waiting. `script`
makes one from dice. `play` holds it with a server and gives its answers, burst by burst, without what
may differ between two runs (pids, oids of temporary tables, source lines of errors).

Where a burst's answers end cannot be counted: an error skips to Sync, and COPY swallows Sync. So each
burst is followed by CopyFail, Sync and three Closes of nothing: no burst has three Closes of its own,
and their answers come in every state of a session.
"""

import struct
import time
from collections import namedtuple

from . import wire

#: One message: `text` for people, `raw` for the server.
Step = namedtuple("Step", "text raw")

_END = wire.copy_fail("end of the burst") + wire.sync() + 3 * wire.close("nothing of the burst") + wire.sync()
#: Messages that come when they come; the others answer something.
_UNASKED = "SNA"

#: `r` never changes; `w` and `u` are emptied before each conversation; f_write() inserts into w.
FIXTURE = """
CREATE TABLE r(a int PRIMARY KEY, b text);
INSERT INTO r SELECT g, 'row ' || g FROM generate_series(1, 40) g;
CREATE TABLE w(a int, b text);
CREATE TABLE u(a int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION f_write() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO w VALUES (77, ''f''); RETURN 77; END';
CREATE FUNCTION f_stable(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 + 1; END';
CREATE PROCEDURE p_write() LANGUAGE plpgsql AS 'BEGIN INSERT INTO w VALUES (78, ''p''); END';
ALTER TABLE r OWNER TO app; ALTER TABLE w OWNER TO app; ALTER TABLE u OWNER TO app;
"""
RESET = "TRUNCATE w, u"

READS = [
    "SELECT a, b FROM r WHERE a < 4 ORDER BY a", "SELECT count(*) FROM r", "SELECT count(*), max(b) FROM w", "SELECT a, b FROM w ORDER BY a, b LIMIT 5",
    "SELECT g, repeat('z', 50) FROM generate_series(1, 30) g", "SELECT repeat('z', 20000)", "SELECT 'é' AS e, NULL::int, 1.5::numeric, true, '{1,2}'::int[]",
    "SELECT 1/(g - 3) FROM generate_series(1, 5) g", "SELECT 1/0", "SELECT nothing FROM r", "SELECT * FROM nowhere", "WITH x AS (SELECT a FROM r WHERE a = 1) SELECT * FROM x",
    "(SELECT 1) UNION ALL (SELECT 2)", "SELECT current_setting('work_mem')", "SHOW work_mem", "SHOW application_name", "SHOW TimeZone", "SELECT '2024-01-02 03:04:05'::timestamp",
    "SELECT f_stable(1)", "/* c */ SELECT 5", "SELECT count(*) FROM u",
]
READS_WITH = [("SELECT $1::text", ("p",)), ("SELECT a, b FROM r WHERE a <= $1 ORDER BY a", (7,)), ("SELECT $1::int + $2::int", (1, 2)), ("SELECT 10 / $1::int", (0,)),
              ("SELECT count(*) FROM w WHERE b = $1", ("x",)), ("SELECT $1::int", ("no number",)), ("SELECT g FROM generate_series(1, $1) g", (9,)), ("SELECT $1::bytea IS NULL", (None,))]
WRITES = [
    "INSERT INTO w VALUES (1, 'x')", "INSERT INTO w SELECT g, 'g' FROM generate_series(1, 5) g RETURNING a", "UPDATE w SET b = 'y'", "DELETE FROM w WHERE a < 4", "TRUNCATE w",
    "WITH d AS (DELETE FROM w RETURNING a) SELECT count(*) FROM d", "SELECT f_write()", "INSERT INTO u VALUES (1)", "INSERT INTO u VALUES (1), (1)", "INSERT INTO w VALUES ('no number')",
    "CREATE TEMP TABLE tt(a int)", "INSERT INTO tt VALUES (5)", "SELECT a FROM tt", "DROP TABLE tt", "SELECT a FROM r WHERE a = 1 FOR UPDATE", "LOCK TABLE w", "CALL p_write()",
    "MERGE INTO w USING r ON w.a = r.a WHEN NOT MATCHED AND r.a < 3 THEN INSERT VALUES (r.a, r.b)", "SELECT 1 AS one INTO TEMP ti",
]
WRITES_WITH = [("INSERT INTO w VALUES ($1, $2)", (2, "x")), ("INSERT INTO w VALUES ($1, 'r') RETURNING b, a", (3,)), ("UPDATE w SET b = $1 WHERE a > 1", ("n",)), ("DELETE FROM w WHERE b = $1", ("x",))]
TRANSACTIONS = [
    "BEGIN", "BEGIN", "BEGIN", "START TRANSACTION READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT", "COMMIT", "END", "ROLLBACK", "ABORT",
    "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SAVEPOINT s", "SAVEPOINT s", "ROLLBACK TO s", "ROLLBACK TO s", "RELEASE s", "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL IMMEDIATE",
    "SET LOCAL work_mem = '7MB'",
]
SESSION = [
    "SET work_mem = '5MB'", "RESET work_mem", "RESET ALL", "SET application_name = 'talk'", "SET TimeZone = 'Asia/Tokyo'", "SET DateStyle = 'German'", "SET work_mem = 'much'", "SET nothing = 1",
    "SET search_path = public, pg_catalog", "SET ROLE app", "DISCARD ALL", "DISCARD PLANS", "DISCARD TEMP", "DEALLOCATE ALL", "DEALLOCATE s1", "DEALLOCATE q1", "PREPARE q1 AS SELECT count(*) FROM w",
    "PREPARE q1(int) AS SELECT $1 + 1", "PREPARE s1 AS SELECT 'by SQL'", "PREPARE q1 AS INSERT INTO w VALUES (4, 'q')", "EXECUTE q1", "EXECUTE q1(3)", "EXECUTE s1", "EXECUTE s2",
    "DECLARE c1 CURSOR FOR SELECT a FROM r ORDER BY a", "DECLARE p1 CURSOR FOR SELECT a, b FROM r ORDER BY a", "DECLARE h1 CURSOR WITH HOLD FOR SELECT a FROM r WHERE a < 9 ORDER BY a",
    "FETCH 2 FROM c1", "FETCH 3 FROM h1", "MOVE 1 IN c1", "FETCH 2 FROM p1", "CLOSE c1", "CLOSE ALL", "LISTEN n1", "NOTIFY n1, 'word'", "UNLISTEN *", "EXPLAIN (COSTS OFF) SELECT 1",
    "DO $$ BEGIN RAISE NOTICE 'said'; END $$", "DO $$ BEGIN RAISE EXCEPTION 'raised'; END $$", "VALUES (1), (2)", "", ";", "-- nothing", "SELEC",
]
SEVERAL = [
    "SELECT 1; SELECT 2", "SELECT 1; SELECT 1/0; SELECT 2", "BEGIN; INSERT INTO w VALUES (6, 'm')", "COMMIT; SELECT count(*) FROM w", "INSERT INTO w VALUES (7, 'm'); SELECT count(*) FROM w; SELECT 1/0",
    "SET work_mem = '8MB'; SELECT 1", "BEGIN; SELECT 1; COMMIT", "SAVEPOINT s; SELECT 1; ROLLBACK TO s", "PREPARE q1 AS SELECT 'several'; EXECUTE q1", "ROLLBACK; BEGIN", "INSERT INTO w VALUES (8, 'm'); COMMIT",
    "SELECT 1; BEGIN; SELECT 2", "DEALLOCATE ALL; SELECT 3",
]
COPIES_IN = ["COPY w FROM STDIN", "COPY w FROM STDIN WITH (FORMAT csv)", "COPY nowhere FROM STDIN", "COPY w FROM STDIN; SELECT 9; COPY w FROM STDIN"]
COPIES_OUT = ["COPY r TO STDOUT", "COPY (SELECT a FROM r WHERE a < 5 ORDER BY a) TO STDOUT WITH CSV HEADER", "COPY (SELECT 1/(g - 3) FROM generate_series(1, 5) g) TO STDOUT", "COPY w TO STDOUT", "COPY nowhere TO STDOUT"]

#: What always fails, or nearly; a calm conversation goes without.
FAILING = ("1/0", "(g - 3)", "nothing", "nowhere", "no number", "much", "SELEC", "raised", "(1), (1)")

STATEMENT_NAMES = ["", "", "s1", "s2", "s3"]
PORTAL_NAMES = ["", "", "p1", "p2"]
#: abs(int4), and nothing.
FUNCTIONS = [1397, 1397, 4]


def q(sql):
    return Step(f"Query({sql!r})", wire.query(sql))


def p(sql, name=""):
    return Step(f"Parse({name!r}, {sql!r})", wire.parse(sql, name))


def b(params=(), statement="", portal="", binary=False):
    shown = f", {list(params)!r}" if params else ""
    return Step(f"Bind(portal {portal!r}, statement {statement!r}{shown}{', binary' if binary else ''})", wire.bind(params, statement, portal, (1,) if binary else ()))


def d(name, what):
    return Step(f"Describe({what}, {name!r})", wire.describe(name, what))


def e(portal="", limit=0):
    return Step(f"Execute({portal!r}, {limit})", wire.execute(portal, limit))


def c(name, what):
    return Step(f"Close({what}, {name!r})", wire.close(name, what))


SYNC, FLUSH = Step("Sync", wire.sync()), Step("Flush", wire.flush())
COPY_DONE = Step("CopyDone", wire.copy_done())


def copy_data(raw):
    return Step(f"CopyData({raw!r})", wire.copy_data(raw))


def function_call(oid, number):
    text = str(number).encode()
    return Step(f"FunctionCall({oid}, {number})", wire.message("F", struct.pack(">ihhhi", oid, 1, 0, 1, len(text)) + text + struct.pack(">h", 0)))


class _Writer:
    """Writes one burst; remembers what it has prepared and bound, as a client does.

    A calm one says what a sensible client says and should succeed as far as it knows; a wild one is mostly skipped
    from an error to the next Sync.
    """

    def __init__(self, dice, calm, known):
        self.dice, self.calm, self.known, self.bound, self.steps, self.closes = dice, calm, known, [], [], 0

    def chance(self, share):
        return self.dice.random() < share

    def one_of(self, pools, weights):
        while True:
            chosen = self.dice.choice(self.dice.choices(pools, weights)[0])
            if not self.calm or not any(f in str(chosen) for f in FAILING):
                return chosen

    def statement(self):
        """Text and parameters for Parse."""
        chosen = self.one_of([READS, READS_WITH, WRITES, WRITES_WITH, TRANSACTIONS, SESSION, COPIES_OUT], [6, 6, 3, 3, 3, 2, 1])
        return chosen if isinstance(chosen, tuple) else (chosen, ())

    def close(self, name, what):
        # Three of them mark the end of a burst.
        if self.closes < 2:
            self.closes += 1
            self.steps.append(c(name, what))
            return True
        return False

    def limit(self):
        return self.dice.choice([1, 2, 5, 100]) if self.chance(0.3) else 0

    def settle(self):
        """No sensible client begins a simple query in the middle of an extended one."""
        if self.calm and self.steps and self.steps[-1] != SYNC:
            self.steps.append(SYNC)

    def simple(self):
        self.settle()
        self.steps.append(q(self.one_of([READS, WRITES, TRANSACTIONS, SESSION, SEVERAL, COPIES_OUT], [5, 4, 6, 4, 1, 1])))

    def prepare(self):
        name = self.dice.choice(STATEMENT_NAMES)
        if name and (self.calm or self.chance(0.6)) and not self.close(name, "S") and self.calm:
            name = ""
        sql, params = self.statement()
        self.known[name] = params
        self.steps.append(p(sql, name))
        if self.chance(0.2):
            self.steps.append(d(name, "S"))
        return name

    def bind(self, name=None):
        if name is None:
            name = self.dice.choice(sorted(self.known) if self.calm and self.known else STATEMENT_NAMES)
        portal = self.dice.choice(PORTAL_NAMES)
        if self.calm and portal in self.bound:
            portal = ""
        self.bound.append(portal)
        params = self.known.get(name, ()) if self.calm or self.chance(0.97) else ("odd",)
        self.steps.append(b(params, name, portal, self.chance(0.05)))
        if self.chance(0.4):
            self.steps.append(d(portal, "P"))
        return portal

    def execute(self, portal=None):
        if portal is None:
            portal = self.dice.choice(self.bound if self.calm and self.bound else PORTAL_NAMES)
        self.steps.append(e(portal, self.limit()))

    def whole(self):
        self.execute(self.bind(self.prepare()))

    def again(self):
        self.execute(self.bind())

    def describe(self):
        what = self.dice.choice("SP")
        names = STATEMENT_NAMES if what == "S" else PORTAL_NAMES + ["c1"]
        if self.calm:
            names = (sorted(self.known) if what == "S" else self.bound) or [""]
        self.steps.append(d(self.dice.choice(names), what))

    def drop(self):
        what = self.dice.choice("SP")
        self.close(self.dice.choice(STATEMENT_NAMES if what == "S" else PORTAL_NAMES), what)

    def flush(self):
        self.steps.append(FLUSH)

    def sync(self):
        self.steps.append(SYNC)

    def function(self):
        self.settle()
        self.steps.append(function_call(self.dice.choice(FUNCTIONS), self.dice.randrange(-9, 9)))

    def copy_in(self):
        sql = COPIES_IN[0] if self.calm else self.dice.choice(COPIES_IN)
        rows = [b"1\tx\n", b"3\tz\n4\tz\n"] + ([] if self.calm else [b"2,y\n", b"not a number\n"])
        if self.chance(0.6):
            self.settle()
            self.steps.append(q(sql))
        else:
            self.steps += [p(sql), b(), e()]
        for _ in range(self.dice.randrange(3)):
            self.steps.append(copy_data(self.dice.choice(rows)))
            # Whether a Sync is a part of the copy or ends the sequence of a row that is refused, only the server knows, and
            # no client sends one there unless it trusts its rows.
            if self.chance(0.1):
                self.steps.append(self.dice.choice([FLUSH, SYNC] if self.calm else [FLUSH]))
        self.steps.append(COPY_DONE if self.chance(0.8) else Step("CopyFail", wire.copy_fail("no more")))

    def stray(self):
        self.steps.append(self.dice.choice([COPY_DONE, copy_data(b"stray\n"), b((), "never"), e("never"), d("never", "S"), d("never", "P")]))


_PHRASES = {"simple": 10, "whole": 9, "again": 5, "prepare": 3, "bind": 2, "execute": 3, "describe": 1, "drop": 2, "flush": 1, "sync": 4, "function": 1, "copy_in": 1, "stray": 0.5}


def harmless(burst):
    """The burst without what no conversation may have.

    A third Close would look like the end of the burst. Execute of the unnamed portal must follow its Bind at once:
    when the portal is what a failed simple query left, PostgreSQL 15 crashes (it reads statements that are freed).
    TRUNCATE comes behind a Sync: it is refused while a portal reads the table, which ours does not notice when the portal
    is another server's (docs/differences.md, known defects).
    """
    kept, closes, bound, reads = [], 0, False, False
    for step in burst:
        kind = step.text.split("(")[0]
        if "TRUNCATE" in step.text and reads:
            kept.append(SYNC)
            reads = False
        reads = kind == "Bind" or reads and kind not in ("Query", "Sync")
        closes += kind == "Close"
        if step.text.startswith("Bind(portal ''"):
            bound = True
        elif kind in ("Query", "Sync"):
            bound = False
        if not (kind == "Close" and closes > 2 or step.text.startswith("Execute(''") and not bound):
            kept.append(step)
    return kept


def script(dice, calm):
    """A conversation of one to some ten bursts."""
    bursts, known = [], {}
    for _ in range(dice.randrange(1, 12)):
        writer = _Writer(dice, calm, known)
        for phrase in dice.choices(list(_PHRASES), list(_PHRASES.values()), k=1 if dice.random() < 0.4 else dice.randrange(2, 10)):
            if calm and phrase in ("stray", "drop"):
                continue
            getattr(writer, phrase)()
            if calm and dice.random() < 0.3:
                writer.sync()
        bursts.append(harmless(writer.steps))
    return [burst for burst in bursts if burst]


def shown(bursts):
    """A conversation for people."""
    return "\n".join(f"  burst {n}: " + "\n           ".join(s.text for s in burst) for n, burst in enumerate(bursts))


def _row_description(body):
    count, at, columns = struct.unpack(">h", body[:2])[0], 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        table, rest = struct.unpack(">i", body[end + 1 : end + 5])[0], struct.unpack(">hihih", body[end + 5 : end + 19])
        # A temporary table has another oid each time.
        columns.append((body[at:end].decode(), "table" if table else "", *rest))
        at = end + 19
    return tuple(columns)


def answer(m):
    """One message of the server, as far as two runs must agree on it."""
    if m.kind in "EN":
        return (m.kind, *(f"{k}={v}" for k, v in m.fields.items() if k not in "FLR"))
    if m.kind == "T":
        return ("T", *_row_description(m.body))
    if m.kind == "A":
        return ("A", m.body[4:])
    return (m.kind, m.body) if len(m.body) < 200 else (m.kind, len(m.body), m.body[:60])


def _answers(client, within):
    """All of one burst, and how the session ended if it did."""
    seen, kinds = [], ""
    try:
        while not kinds.endswith("333Z"):
            m = client.receive(wait=within)
            seen.append(answer(m))
            if m.kind not in _UNASKED:
                kinds = kinds[-8:] + m.kind
    except wire.Closed:
        return seen + [("the session ended",)], True
    except TimeoutError:
        return seen + [(f"no answer within {within} s",)], True
    asked = [n for n, s in enumerate(seen) if s[0] not in _UNASKED]
    return [s for n, s in enumerate(seen) if n not in asked[-4:]], False


def play(client, bursts, dice, within):
    """Holds the conversation: one list of answers per burst. `dice` says where a burst is cut on its way."""
    heard = []
    for burst in bursts:
        raw = b"".join(s.raw for s in burst) + _END
        try:
            if dice.random() < 0.2:
                cut = dice.randrange(1, len(raw))
                client.send(raw[:cut])
                time.sleep(0.002)
                raw = raw[cut:]
            client.send(raw)
        except wire.Closed:
            pass
        got, ended = _answers(client, within)
        heard.append(got)
        if ended:
            break
    return heard
