"""Simple and extended protocol, transaction states, errors: each conversation is held with PostgreSQL
directly and through pgpool, and both must say the same, message by message."""

from lib import wire
from lib.case import CompatCase, compared, stock_differs

P, B, D, E, C, H, S = wire.parse, wire.bind, wire.describe, wire.execute, wire.close, wire.flush, wire.sync


class SimpleProtocol(CompatCase):
    def check(self, *statements):
        return self.same_as_direct(compared(lambda c: [c.query(s) for s in statements]))

    def test_rows_types_and_tags_are_those_of_the_server(self):
        self.check("SELECT 1 AS one, 'x'::text, NULL::int, now() IS NOT NULL", "SELECT g, repeat('y', g) FROM generate_series(1, 50) g", "VALUES (1), (2)")

    def test_several_statements_in_one_string_give_several_results(self):
        self.check("SELECT 1; SELECT 2; SELECT 3", "CREATE TEMP TABLE t(a int); INSERT INTO t VALUES (1),(2); SELECT * FROM t; DROP TABLE t", "SELECT 1; SELECT 1/0; SELECT 2")

    def test_empty_queries_get_empty_query_response(self):
        self.check("", ";", "  ", "-- only a comment", "/* and another */ ;;")

    def test_an_error_outside_a_transaction_leaves_the_session_idle(self):
        self.check("SELECT 1/0", "SELECT nothing_here", "SELEC 1", "SELECT 1")

    def test_transaction_states_are_those_of_the_server(self):
        self.check("BEGIN", "SELECT 1", "SAVEPOINT a", "SELECT 1/0", "SELECT 1", "ROLLBACK TO a", "SELECT 2", "COMMIT", "SELECT 3")

    def test_commit_of_a_failed_transaction_is_a_rollback(self):
        self.check("BEGIN", "SELECT 1/0", "COMMIT", "BEGIN", "SELECT 1/0", "END", "START TRANSACTION READ ONLY", "ABORT")

    @stock_differs("4.3.5 answers an empty query in a failed transaction with 25P02 (pgpool2#161)")
    def test_an_empty_query_in_a_failed_transaction_is_still_empty(self):
        self.check("BEGIN", "SELECT 1/0", "", ";", "ROLLBACK")

    def test_warnings_arrive_with_the_statement_that_caused_them(self):
        self.check("COMMIT", "DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'w'; END $$", "DROP TABLE IF EXISTS not_there")

    def test_ddl_dml_and_returning(self):
        self.check("DROP TABLE IF EXISTS q1", "CREATE TABLE q1(a int primary key, b text)", "INSERT INTO q1 VALUES (1, 'x'), (2, 'y') RETURNING *", "UPDATE q1 SET b = 'z' WHERE a = 2", "DELETE FROM q1 WHERE a = 1 RETURNING b", "INSERT INTO q1 VALUES (2, 'dup')", "TRUNCATE q1", "DROP TABLE q1")

    def test_a_change_of_a_reported_parameter_is_reported_once(self):
        self.check("SET application_name TO 'other'", "SET TimeZone TO 'UTC'", "SET DateStyle TO 'German'", "SET client_encoding TO 'LATIN1'", "SELECT 1", "RESET client_encoding", "SET standard_conforming_strings TO off")

    def test_every_kind_of_statement_that_postgresql_refuses_stays_an_error(self):
        self.check("MERGE INTO nowhere USING x ON true WHEN MATCHED THEN DELETE", "CALL nothing()", "VACUUM nowhere", "SELECT * FROM", "CREATE DATABASE app", "BEGIN; CREATE DATABASE x; COMMIT", "ROLLBACK", "LOCK TABLE pg_class", "DEALLOCATE nothing", "EXECUTE nothing", "FETCH 1 FROM nothing")

    def test_sql_cursors_and_sql_prepare(self):
        self.check("BEGIN", "DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 9) g", "FETCH 3 FROM c", "MOVE 2 IN c", "FETCH ALL FROM c", "CLOSE c", "COMMIT", "PREPARE p(int) AS SELECT $1 + 1", "EXECUTE p(41)", "DEALLOCATE p")

    def test_statement_timeout_is_57014_and_the_session_goes_on(self):
        self.check("SET statement_timeout = 1000", "SELECT pg_sleep(10)", "SELECT 1")

    def test_a_statement_of_a_megabyte_passes(self):
        self.check("SELECT length('" + "x" * 1_000_000 + "')", "SELECT '" + "y" * 300_000 + "'")

    def test_bytes_above_127_pass_unchanged(self):
        self.check("SELECT 'äöü €', length('äöü €')")


class ExtendedProtocol(CompatCase):
    def check(self, *exchanges):
        return self.same_as_direct(compared(lambda c: [c.exchange(e) for e in exchanges]))

    def test_unnamed_statement_with_parameters(self):
        self.check(P("SELECT $1::int + $2::int") + B((40, 2)) + D() + E() + S())

    def test_named_statements_and_portals_live_until_closed(self):
        self.check(
            P("SELECT $1::text", "s1") + D("s1", "S") + S(),
            B(("a",), "s1", "p1") + D("p1") + E("p1") + S(),
            B((None,), "s1") + E() + C("s1") + S(),
            P("SELECT 2", "s1") + B((), "s1") + E() + S(),
        )

    def test_a_statement_that_returns_nothing_is_described_as_no_data(self):
        self.check(P("CREATE TEMP TABLE e1(a int)") + B() + D() + E() + S(), P("INSERT INTO e1 VALUES ($1)", "i") + D("i", "S") + B((1,), "i") + D() + E() + S())

    def test_an_empty_statement_gives_empty_query_response(self):
        self.check(P("") + B() + E() + S())

    def test_describe_of_a_statement_gives_types_and_columns(self):
        self.check(P("SELECT $1::int AS a, $2::text AS b", "d") + D("d", "S") + S())

    def test_an_error_in_the_middle_skips_to_sync(self):
        self.check(
            P("SELECT 1") + B() + E() + P("SELECT 1/0") + B() + E() + P("SELECT 3") + B() + E() + S(),
            P("SELECT 4") + B() + E() + S(),
        )

    def test_a_parse_error_gives_error_and_ready(self):
        self.check(P("SELEC") + B() + D() + E() + S(), P("SELECT 1") + B() + E() + S())

    def test_pipelined_statements_are_answered_in_their_order(self):
        raw = b"".join(P(f"SELECT {n}") + B() + E() for n in range(20))
        self.check(raw + S())

    def test_pipelined_syncs_give_as_many_ready_for_query(self):
        def conversation(c):
            c.send(b"".join(P(f"SELECT {n}") + B() + E() + S() for n in range(30)))
            return [c.until() for _ in range(30)]

        self.same_as_direct(compared(conversation))

    def test_pipelined_syncs_with_an_error_between_them(self):
        def conversation(c):
            c.send(P("SELECT 1") + B() + E() + S() + P("SELECT 1/0") + B() + E() + P("SELECT 9") + S() + P("SELECT 3") + B() + E() + S())
            return [c.until() for _ in range(3)]

        self.same_as_direct(compared(conversation))

    @stock_differs("4.3.5 ends the session with XX000 instead of 26000")
    def test_bind_to_an_unknown_statement_is_26000_and_the_session_survives(self):
        got = self.check(B((), "never_made") + E() + S(), P("SELECT 1") + B() + E() + S())
        self.assertEqual(got[0][0][2], "26000")

    @stock_differs("4.3.5 ends the session with FATAL XX000")
    def test_execute_and_describe_of_an_unknown_portal_are_34000(self):
        self.check(E("never_made") + S(), D("never_made") + S(), D("never_made", "S") + S(), P("SELECT 1") + B() + E() + S())

    def test_close_of_something_unknown_is_no_error(self):
        self.check(C("never_made") + C("never_made", "P") + S())

    def test_transaction_in_the_extended_protocol(self):
        self.check(P("BEGIN") + B() + E() + S(), P("SELECT 1/0") + B() + E() + S(), P("SELECT 1") + B() + E() + S(), P("ROLLBACK") + B() + E() + S())

    def test_flush_delivers_what_is_complete(self):
        def conversation(c):
            c.send(P("SELECT 7") + B() + D() + E() + H())
            first = c.until("C")
            c.send(S())
            return [first, c.until()]

        self.same_as_direct(compared(conversation))

    @stock_differs("4.3.5 delivers nothing of a row-limited Execute before Sync")
    def test_a_row_limited_execute_with_flush_delivers_and_suspends(self):
        def conversation(c):
            c.send(P("SELECT g FROM generate_series(1, 5) g") + B() + E(limit=2) + H())
            seen = [c.until("s")]
            c.send(E(limit=2) + H())
            seen.append(c.until("s"))
            c.send(E(limit=2) + S())
            return seen + [c.until()]

        self.same_as_direct(compared(conversation))

    def test_a_portal_is_fetched_piece_by_piece_in_a_transaction(self):
        self.check(
            P("BEGIN") + B() + E() + S(),
            P("SELECT g FROM generate_series(1, 7) g", "f") + B((), "f", "pp") + E("pp", 3) + S(),
            E("pp", 3) + S(),
            E("pp", 3) + S(),
            C("pp", "P") + P("COMMIT") + B() + E() + S(),
        )

    @stock_differs("4.3.5 ends the session with FATAL: the portal was not made by Bind")
    def test_describe_of_a_portal_made_by_declare(self):
        def conversation(c):
            return [c.query("BEGIN"), c.query("DECLARE cur CURSOR FOR SELECT 1 AS x"), c.exchange(D("cur") + S()), c.exchange(E("cur") + S()), c.query("COMMIT")]

        self.same_as_direct(compared(conversation))

    def test_binary_results_pass_unchanged(self):
        self.check(P("SELECT 1::int4, 2::int8, 'x'::bytea") + B(result_formats=(1,)) + E() + S())

    def test_simple_and_extended_alternate(self):
        def conversation(c):
            out = []
            for n in range(5):
                out += [c.query(f"SELECT {n}"), c.exchange(P("SELECT $1::int") + B((n,)) + E() + S())]
            return out

        self.same_as_direct(compared(conversation))

    def test_a_simple_query_before_sync(self):
        self.same_as_direct(compared(lambda c: [c.exchange(P("SELECT 1") + B() + E() + wire.query("SELECT 2"))]))

    FAILED_WITH_A_QUERY = (
        P("SELEC") + wire.query("SELECT 2") + S(),
        P("SELECT 1/0") + B() + E() + wire.query("SELECT 2") + wire.query("SELECT 3") + P("SELECT 4") + S(),
        P("SELECT 1") + B() + E() + P("SELECT 1/0") + B() + E() + wire.query("SELECT 2") + H() + S(),
    )

    @stock_differs("4.3.5 waits for an answer to the ignored query")
    def test_a_query_after_an_error_is_ignored_up_to_sync(self):
        def conversation(c):
            out = []
            for failed in self.FAILED_WITH_A_QUERY:
                out += [c.exchange(failed), c.query("SELECT 5")]
            c.send(P("SELECT 1/0") + B() + E() + H())
            out.append(c.until("E"))
            out += [c.exchange(wire.query("SELECT 6") + S()), c.query("SELECT 7")]
            return out

        self.same_as_direct(compared(conversation))

    @stock_differs("as above")
    def test_nothing_is_owed_after_a_failed_sequence_with_a_query_in_it(self):
        client = self.client()
        for failed in self.FAILED_WITH_A_QUERY:
            client.exchange(failed)
            # Would wait for ever for an answer that it must not overtake.
            self.assertEqual(client.query("SHOW pool_version").ok().columns, ["pool_version"])
        before = client.pid()
        client.exchange(self.FAILED_WITH_A_QUERY[0])
        client.close()
        self.eventually(lambda: self.reuses(before), "the connection to be cached and used again")

    def reuses(self, pid):
        with self.pool.client() as client:
            return client.pid() == pid

    def test_a_statement_may_be_executed_many_times(self):
        def conversation(c):
            out = [c.exchange(P("SELECT $1::int * 2", "m") + S())]
            for n in range(50):
                out.append(c.exchange(B((n,), "m") + E() + S()))
            return out

        self.same_as_direct(compared(conversation))

    def test_a_parameter_of_two_megabytes_passes(self):
        self.check(P("SELECT length($1::text)") + B(("z" * 2_000_000,)) + E() + S())

    def test_an_unknown_message_type_ends_the_session_with_a_protocol_error(self):
        client = self.client()
        client.send(wire.message("y", b"what"))
        seen = client.until_closed()
        self.assertEqual(seen.error["S"], "FATAL")

    def test_function_call_messages_pass(self):
        import struct

        oid = int(self.direct().value("SELECT 'pg_catalog.abs(int4)'::regprocedure::oid"))
        body = struct.pack(">ihhhi", oid, 1, 0, 1, 2) + b"-5" + struct.pack(">h", 0)
        self.same_as_direct(compared(lambda c: [c.exchange(wire.message("F", body))]))


class Asynchronous(CompatCase):
    def test_notify_reaches_an_idle_listener(self):
        listener, speaker = self.client(), self.client()
        listener.query("LISTEN news").ok()
        speaker.query("NOTIFY news, 'hello'").ok()
        got = listener.receive(wait=5)
        self.assertEqual(got.kind, "A")
        self.assertEqual(got.body[4:], b"news\0hello\0")

    def test_notify_of_ones_own_comes_with_the_statement(self):
        def conversation(c):
            return [c.query("LISTEN mine"), c.query("NOTIFY mine, 'x'"), c.query("SELECT 1"), c.query("UNLISTEN *")]

        self.same_as_direct(compared(conversation))

    def test_listening_ends_with_the_session(self):
        with self.pool.client() as client:
            client.query("LISTEN ghosts").ok()
        again, speaker = self.client(), self.direct()
        again.value("SELECT 1")
        speaker.query("NOTIFY ghosts").ok()
        self.assertTrue(again.quiet(0.5))

    def test_a_reload_of_the_server_reports_parameters_to_an_idle_client(self):
        client = self.client()
        super_user = self.cluster.primary
        super_user.rows("ALTER ROLE app SET DateStyle TO DEFAULT")
        client.query("SET application_name TO 'seen'").ok()
        self.assertEqual(client.parameters["application_name"], "seen")

    def test_a_terminated_backend_ends_the_idle_session_with_an_error_and_nobody_else(self):
        client, other = self.client(), self.client()
        pid = client.pid()
        other.pid()
        self.cluster.primary.rows(f"SELECT pg_terminate_backend({pid})")
        seen = client.until_closed()
        self.assertEqual(seen.error["S"], "FATAL")
        self.assertEqual(other.value("SELECT 1"), "1")
        self.assertTrue(self.can_connect())
        self.assertNotIn("starting degeneration", self.pool.log())

    def test_a_terminated_backend_ends_the_running_query_with_an_error(self):
        client = self.client()
        pid = client.pid()
        client.send(wire.query("SELECT pg_sleep(30)"))
        self.wait_running("pg_sleep(30)")
        self.cluster.primary.rows(f"SELECT pg_terminate_backend({pid})")
        self.assertEqual(client.until_closed().error["S"], "FATAL")
        self.assertTrue(self.can_connect())

    def test_idle_in_transaction_timeout_is_25p03(self):
        client = self.client()
        client.query("SET idle_in_transaction_session_timeout = 300").ok()
        client.query("BEGIN").ok()
        self.assertEqual(client.until_closed().error["C"], "25P03")
        self.assertTrue(self.can_connect())

    def test_idle_session_timeout_is_57p05_and_no_failover(self):
        client = self.client()
        client.query("SET idle_session_timeout = 300").ok()
        self.assertEqual(client.until_closed().error["C"], "57P05")
        self.assertTrue(self.can_connect())
        self.assertNotIn("starting degeneration", self.pool.log())


class Copy(CompatCase):
    def setUp(self):
        super().setUp()
        self.cluster.primary.rows("DROP TABLE IF EXISTS cp; CREATE TABLE cp(a int, b text); GRANT ALL ON cp TO app; INSERT INTO cp SELECT g, 'row ' || g FROM generate_series(1, 500) g")

    def test_copy_out(self):
        self.same_as_direct(compared(lambda c: [c.query("COPY cp TO STDOUT"), c.query("COPY (SELECT a FROM cp WHERE a < 9) TO STDOUT WITH CSV HEADER"), c.query("SELECT 1")]))

    def test_copy_in(self):
        def conversation(c):
            c.query("BEGIN")
            out = [c.copy_in("COPY cp FROM STDIN", [f"{n}\tnew\n".encode() for n in range(1000, 3000)]), c.query("SELECT count(*) FROM cp"), c.query("ROLLBACK")]
            return out

        self.same_as_direct(compared(conversation))

    def test_copy_in_that_fails_is_an_error_and_the_session_goes_on(self):
        self.same_as_direct(compared(lambda c: [c.copy_in("COPY cp FROM STDIN", [b"not a number\tx\n"]), c.query("SELECT 1")]))

    def test_copy_fail_is_57014(self):
        def conversation(c):
            c.send(wire.query("COPY cp FROM STDIN"))
            first = c.until("G")
            c.send(wire.copy_data(b"1\tx\n") + wire.copy_fail("changed my mind"))
            return [first, c.until(), c.query("SELECT count(*) FROM cp")]

        got = self.same_as_direct(compared(conversation))
        self.assertEqual(got[1][0][2], "57014")

    def test_copy_in_a_transaction(self):
        def conversation(c):
            return [c.query("BEGIN"), c.copy_in("COPY cp FROM STDIN", [b"7\tseven\n"]), c.query("SELECT 1"), c.query("ROLLBACK"), c.query("SELECT count(*) FROM cp")]

        self.same_as_direct(compared(conversation))

    @stock_differs("4.3.5 hangs for ever on Flush or Sync inside COPY FROM STDIN (pgpool2#79)")
    def test_flush_and_sync_inside_copy_in_are_ignored(self):
        def conversation(c):
            c.send(wire.query("COPY cp FROM STDIN"))
            first = c.until("G")
            c.send(wire.copy_data(b"1\tx\n") + H() + S() + wire.copy_data(b"2\ty\n") + H() + wire.copy_done())
            return [first, c.until(), c.query("SELECT count(*) > 0 FROM cp")]

        self.same_as_direct(compared(conversation))

    @stock_differs("4.3.5 crashes on COPY TO STDOUT in the extended protocol (pgpool2#133)")
    def test_copy_out_in_the_extended_protocol(self):
        self.same_as_direct(compared(lambda c: [c.exchange(P("COPY cp TO STDOUT") + B() + D() + E() + S()), c.query("SELECT 1")]))

    @stock_differs("4.3.5 waits for ever in COPY of the extended protocol")
    def test_copy_in_in_the_extended_protocol(self):
        def conversation(c):
            c.send(wire.query("BEGIN"))
            out = [c.until()]
            c.send(P("COPY cp FROM STDIN") + B() + E() + S())
            out.append(c.until("G"))
            c.send(wire.copy_data(b"5\tfive\n") + wire.copy_done() + S())
            out += [c.until(), c.query("SELECT count(*) FROM cp"), c.query("ROLLBACK")]
            return out

        self.same_as_direct(compared(conversation))

    def test_a_client_that_vanishes_inside_copy_leaves_nothing_behind(self):
        client = self.client()
        client.send(wire.query("COPY cp FROM STDIN"))
        client.until("G")
        client.send(wire.copy_data(b"888\tgone\n"))
        client.abort()
        self.eventually(lambda: self.cluster.primary.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY cp%' AND state <> 'idle'") == "0", "the COPY to end")
        self.assertEqual(self.cluster.primary.value("SELECT count(*) FROM cp WHERE a = 888"), "0")

    def test_several_copies_in_one_string(self):
        def conversation(c):
            c.send(wire.query("COPY cp FROM STDIN; SELECT 5; COPY (SELECT 6) TO STDOUT"))
            first = c.until("G")
            c.send(wire.copy_data(b"9\tx\n") + wire.copy_done())
            return [first, c.until()]

        self.same_as_direct(compared(conversation))

    def test_a_stray_copy_message_outside_copy_is_ignored(self):
        self.same_as_direct(compared(lambda c: [c.exchange(wire.copy_data(b"1") + wire.copy_done() + wire.query("SELECT 1"))]))

    def test_copy_of_50_megabytes_in_and_out(self):
        client = self.client()
        client.query("CREATE TEMP TABLE big(t text)").ok()
        line = b"x" * 1000 + b"\n"
        client.copy_in("COPY big FROM STDIN", [line * 50] * 1000).ok()
        self.assertEqual(client.value("SELECT count(*) FROM big"), "50000")
        client.send(wire.query("COPY big TO STDOUT"))
        size = 0
        while (m := client.receive()).kind != "Z":
            size += len(m.body) if m.kind == "d" else 0
        self.assertEqual(size, 50000 * 1001)
