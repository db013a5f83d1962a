"""Load balancing: what is asked of the catalog, how it is asked, and what a session notices of that."""

from lib import wire
from lib.case import CompatCase, stock_differs

HERE = "SELECT inet_server_port()"
READ_ONLY = "25006"


class Base(CompatCase):
    nodes = 2
    config = {"load_balance_mode": True}
    per_node = {0: {"backend_weight": 0}, 1: {"backend_weight": 1}}
    #: Made before the pgpool is asked anything.
    objects = ""

    @classmethod
    def _build(cls, where, home, add_cleanup):
        super()._build(where, home, add_cleanup)
        where.cluster.primary.rows("CREATE TABLE b(i int); INSERT INTO b VALUES (1);" + cls.objects, user="app", database="app")
        where.cluster.wait_streaming()
        cls.caught_up(where)

    def caught_up(self):
        """The standby has replayed what the primary has written."""
        lsn = self.cluster.primary.value("SELECT pg_current_wal_lsn()", user="postgres")
        for _ in range(500):
            if self.cluster.standbys[0].value(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}' FROM pg_sleep(0.02)", user="postgres") == "t":
                return
        raise AssertionError("the standby does not replay")

    def answers(self, sql, value, client=None):
        answer = (client or self.client()).query(sql)
        self.assertTrue(answer.ok, (sql, answer))
        self.assertEqual(answer.rows, [(value,)], sql)

    def balances(self):
        self.assertEqual(self.client().value(HERE), str(self.cluster[1].port))


class HostileNames(Base):
    """What others have put into the search path is not called with the client's rights."""

    types = ("oid", "regclass", "regnamespace", "regproc", "name", "text", '"char"', "bool", "int4", "numeric", "float8")
    config = {**Base.config, "sr_check_database": "app", "sr_check_period": 1}

    @classmethod
    def _build(cls, where, home, add_cleanup):
        steps = ["CREATE TABLE caught(who text, what text); GRANT ALL ON caught TO PUBLIC"]
        evil = "CREATE FUNCTION evil_{0}({1}) RETURNS {2} LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.caught VALUES (current_user, '{0}'); RETURN NULL; END$$"
        number = 0
        for left in cls.types:
            for right in cls.types:
                number += 1
                steps.append(evil.format(number, f"{left}, {right}", "bool"))
                steps += [f"CREATE OPERATOR public.{op} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil_{number})" for op in ("=", "<>", "~", "*")]
        for function, arguments, result in (
            ("regexp_matches", "text, text, text", "text[]"), ("to_regclass", "text", "regclass"), ("current_setting", "text", "text"),
            ("current_setting", "text, bool", "text"), ("extract", "text, interval", "float8"), ("date_part", "text, interval", "float8"),
        ):
            number += 1
            steps.append(evil.format(number, arguments, result))
            steps.append(f"ALTER FUNCTION evil_{number}({arguments}) RENAME TO {function}")
        for name in ("oid", "text", "regclass", "regnamespace"):
            number += 1
            steps.append(f"CREATE FUNCTION check_{number}(text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.caught VALUES (current_user, 'type'); RETURN true; END$$")
            steps.append(f"CREATE DOMAIN public.{name} AS text CHECK (check_{number}(VALUE::pg_catalog.text))")
        steps += [f"CREATE VIEW public.{name} AS SELECT evil_1(0, 0) AS oid" for name in ("pg_class", "pg_proc", "pg_settings")]
        cls.objects = "; ".join(steps)
        super()._build(where, home, add_cleanup)

    @stock_differs("what it asks of the catalog leaves operators to the search path")
    def test_nothing_of_theirs_is_called(self):
        for path in ('"$user", public', "public, pg_catalog"):
            client = self.client(user="postgres")
            client.query(f"SET search_path = {path}")
            for sql in ("SELECT i FROM b", "SELECT i FROM public.b", "SELECT pg_catalog.abs(1)", "SELECT abs(1)", "SELECT i FROM nosuch"):
                client.query(sql)
            client.close()
        self.assertEqual(self.cluster.primary.rows("SELECT who, what, count(*) FROM caught GROUP BY 1, 2", user="postgres", database="app"), [])
        self.balances()


class RefusedLookUps(Base):
    objects = """
        CREATE SCHEMA secret; CREATE TABLE secret.t(i int); CREATE SCHEMA s1; CREATE TABLE s1.n(i int); INSERT INTO s1.n VALUES (7);
        CREATE SCHEMA mine; CREATE TABLE mine.t(i int); GRANT ALL ON SCHEMA s1 TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA s1 TO PUBLIC;
    """

    @classmethod
    def _build(cls, where, home, add_cleanup):
        super()._build(where, home, add_cleanup)
        where.cluster.primary.rows("CREATE ROLE other LOGIN", user="postgres")
        cls.caught_up(where)

    def test_a_schema_that_the_user_may_not_use_is_refused_as_by_the_server(self):
        client = self.client(user="other")
        client.query("BEGIN")
        self.assertEqual(client.query("SELECT * FROM secret.t").error.get("C"), "42501")
        self.assertEqual(client.query("ROLLBACK").tags, ["ROLLBACK"])

    @stock_differs("a look-up that fails ends the session")
    def test_after_a_look_up_that_failed_transactions_are_left_alone(self):
        self.cluster.primary.rows("REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC", user="postgres", database="app")
        self.addCleanup(self.cluster.primary.rows, "GRANT SELECT ON pg_catalog.pg_proc TO PUBLIC", user="postgres", database="app")
        client = self.client(user="other")
        self.answers("SELECT count(*) FROM s1.n", "1", client)
        for _ in range(2):
            client.query("BEGIN")
            self.answers("SELECT i FROM s1.n", "7", client)
            self.answers("SELECT abs(-1)", "1", client)
            self.assertEqual(client.query("COMMIT").tags, ["COMMIT"])


class Names(Base):
    objects = """
        CREATE SCHEMA s1; CREATE SCHEMA s2; CREATE TABLE s1.m(i int); INSERT INTO s1.m VALUES (1); CREATE UNLOGGED TABLE s2.m(i int); INSERT INTO s2.m VALUES (2);
    """

    @stock_differs("what is known of a name is known of all schemas")
    def test_a_name_in_two_schemas(self):
        client = self.client()
        client.query("SET search_path = s1")
        self.answers("SELECT i FROM m", "1", client)
        client.query("SET search_path = s2")
        self.answers("SELECT i FROM m", "2", client)
        self.answers("SELECT i FROM s1.m", "1", client)
        self.answers("SELECT i FROM s2.m", "2", client)
        self.balances()

    @stock_differs("it looks for the name as if it were of the server's encoding")
    def test_names_of_another_encoding(self):
        writer = self.client()
        for sql in (
            'CREATE FUNCTION "fé"() RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (9); RETURN 3; END$$',
            'CREATE FUNCTION "fÃ©"() RETURNS int LANGUAGE sql STABLE AS $$SELECT 4$$',
            'CREATE UNLOGGED TABLE "té"(i int)', 'INSERT INTO "té" VALUES (5)', 'CREATE TABLE "tÃ©"(i int)', 'INSERT INTO "tÃ©" VALUES (6)',
        ):
            self.assertTrue(writer.query(sql).ok, sql)
        self.caught_up()

        def say(encoding):
            client = self.client()
            client.query(f"SET client_encoding = {encoding}")
            for sql, value in (('SELECT "fÃ©"()', "4"), ('SELECT "fé"()', "3"), ('SELECT i FROM "tÃ©"', "6"), ('SELECT i FROM "té"', "5")):
                client.send(wire.message("Q", sql.encode(encoding) + b"\0"))
                answer = client.until("Z")
                self.assertTrue(answer.ok, (encoding, sql, answer))
                self.assertEqual(answer.rows, [(value,)], (encoding, sql))
            self.assertEqual(client.value(HERE), str(self.cluster[1].port))

        # The same bytes are another name in the other encoding.
        for encoding in ("latin1", "utf8", "latin1"):
            say(encoding)


class CodeBehindNames(Base):
    """Volatile functions that are called by what a statement names and not by the statement."""

    objects = """
        CREATE FUNCTION f_w() RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (2); RETURN 1; END$$;
        CREATE TABLE guarded(i int); INSERT INTO guarded VALUES (1); GRANT SELECT ON guarded TO PUBLIC;
        CREATE POLICY p ON guarded FOR SELECT USING (f_w() = 1); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
        CREATE VIEW over_guarded AS SELECT i FROM guarded;
        CREATE UNLOGGED TABLE allowed(i int); INSERT INTO allowed VALUES (1);
        CREATE TABLE listed(i int); INSERT INTO listed VALUES (1); ALTER TABLE listed ENABLE ROW LEVEL SECURITY; ALTER TABLE listed FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON listed USING (i IN (SELECT i FROM allowed));
        CREATE FUNCTION step(int, int) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (3); RETURN coalesce($1, 0) + $2; END$$;
        CREATE FUNCTION last(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (4); RETURN $1; END$$;
        CREATE AGGREGATE steps(int) (SFUNC = step, STYPE = int);
        CREATE AGGREGATE lasts(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', FINALFUNC = last);
        CREATE VIEW stepped AS SELECT steps(i) FROM guarded;
        CREATE TABLE plain(i int); INSERT INTO plain VALUES (1); CREATE POLICY p ON plain USING (i = 1); ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION pair(int, int) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (5); RETURN $1; END$$;
        CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = pair);
        CREATE OPERATOR <*> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mul);
        CREATE FUNCTION good(int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (6); RETURN true; END$$;
        CREATE DOMAIN checked AS int CHECK (good(VALUE)); CREATE DOMAIN over_checked AS checked; CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE odd AS (i int);
        CREATE FUNCTION to_odd(int) RETURNS odd LANGUAGE plpgsql AS $$BEGIN INSERT INTO b VALUES (7); RETURN row($1); END$$;
        CREATE CAST (int AS odd) WITH FUNCTION to_odd(int);
        CREATE VIEW locking AS SELECT i FROM b WHERE i = 1 FOR UPDATE; CREATE VIEW over_locking AS SELECT i FROM (SELECT i FROM locking) x;
        CREATE SEQUENCE numbers;
        CREATE FUNCTION numbered(bigint DEFAULT nextval('numbers')) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 > 0';
        CREATE VIEW over_numbered AS SELECT numbered();
        CREATE FUNCTION shifted(int, int DEFAULT length('a')) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + $2';
    """

    def test_row_security_policies(self):
        for sql in ("SELECT i FROM guarded", "SELECT i FROM over_guarded", "SELECT i FROM listed"):
            self.answers(sql, "1")

    def test_aggregates(self):
        for sql in ("SELECT steps(1)", "SELECT lasts(1)", "SELECT * FROM stepped"):
            self.answers(sql, "1")

    @stock_differs("it does not look into views")
    def test_views_that_lock_rows(self):
        for sql in ("SELECT i FROM locking", "SELECT i FROM over_locking"):
            self.answers(sql, "1")

    @stock_differs("it does not look for defaults")
    def test_defaults_of_arguments(self):
        for sql in ("SELECT numbered()", "SELECT * FROM over_numbered"):
            self.answers(sql, "t")

    @stock_differs("it looks for functions behind no operator and no cast")
    def test_operators_casts_and_domains(self):
        for sql in ("SELECT 1 <+> 2", "SELECT '1'::checked", "SELECT 1::public.over_checked", "SELECT (1::odd).i", "SELECT 2 - 3 <+> 2 + 2"):
            self.answers(sql, "-1" if "3" in sql else "1")

    @stock_differs("PGPOOL EXPLAIN is only ours")
    def test_operators_and_domains_without_such_functions_are_balanced(self):
        client = self.client()
        for sql in ("SELECT 1 <*> 2", "SELECT 1::positive", "SELECT '1'::public.positive", "SELECT 1::int <-1, i::text FROM b WHERE i = 1"):
            self.assertEqual([row[:3] for row in client.query(f"PGPOOL EXPLAIN {sql}").rows], [("1", "standby", "23")], sql)

    @stock_differs("PGPOOL EXPLAIN is only ours")
    def test_policies_and_aggregates_without_such_functions_are_balanced(self):
        client = self.client()
        for sql in ("SELECT i FROM plain", "SELECT sum(i) FROM b", "SELECT shifted(1)"):
            self.assertEqual([row[:3] for row in client.query(f"PGPOOL EXPLAIN {sql}").rows], [("1", "standby", "23")], sql)

    @stock_differs("it takes UESCAPE for an end of the name")
    def test_a_name_with_uescape_is_a_function(self):
        self.answers("SELECT U&\"f!005fw\" UESCAPE '!' ()", "1")


class Isolation(Base):
    def test_what_a_session_has_set_is_not_what_its_user_begins_with(self):
        first = self.client()
        first.query("SET default_transaction_isolation = 'serializable'")
        first.query("SELECT i FROM b")
        self.balances()

    def test_what_a_user_begins_with_is_known(self):
        self.cluster.primary.rows("CREATE ROLE strict LOGIN; ALTER ROLE strict SET default_transaction_isolation = 'serializable'; GRANT SELECT ON b TO PUBLIC", user="postgres", database="app")
        self.caught_up()
        for _ in range(2):
            self.assertEqual(self.client(user="strict").value(HERE), str(self.cluster[0].port))


class Changes(Base):
    """What empties the caches."""

    @stock_differs("it knows what it knew")
    def test_what_changes_a_name_is_noticed(self):
        client = self.client()
        self.assertEqual(client.query("SELECT i FROM made").error.get("C"), "42P01")
        client.query("SELECT 5 AS i INTO UNLOGGED made")
        self.answers("SELECT i FROM made", "5", client)
        self.answers("SELECT count(*) FROM b", "1", client)
        client.query("CREATE TEMP TABLE child() INHERITS (b)")
        client.query("INSERT INTO child VALUES (2)")
        self.answers("SELECT count(*) FROM b", "2", client)
        client.query("DROP TABLE child")
        client.query("DROP TABLE made")
        self.assertEqual(client.query("SELECT i FROM made").error.get("C"), "42P01")
        self.balances()
