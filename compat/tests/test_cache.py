"""The connection cache: when a server connection is used again, what it looks like then, and when it goes away.

A session is recognised by the pid of its server process.
"""

import time

from lib import proc, wire
from lib.case import CompatCase, slow


class Cache(CompatCase):
    #: One slot, so that the next client gets the same one.
    config = {"num_init_children": 1, "max_pool": 2}

    def pid(self, **kwargs):
        with self.pool.client(**kwargs) as client:
            return client.pid()

    def test_the_next_client_of_the_same_user_and_database_reuses_the_connection(self):
        self.assertEqual(self.pid(), self.pid())

    def test_another_user_gets_another_connection_and_the_first_is_kept(self):
        first = self.pid()
        self.assertNotEqual(self.pid(user="repmgr", password="rep123"), first)
        self.assertEqual(self.pid(), first)

    def test_another_application_name_makes_a_new_connection(self):
        first = self.pid(options={"application_name": "one"})
        self.assertEqual(self.pid(options={"application_name": "one"}), first)
        self.assertNotEqual(self.pid(options={"application_name": "two"}), first)

    def test_the_order_of_startup_options_does_not_matter(self):
        def raw(pairs):
            client = self.pool.client(startup=False)
            client.send(wire.startup_packet(None, raw_pairs=b"".join(wire.cstring(a) + wire.cstring(b) for a, b in pairs)))
            client.login()
            pid = client.pid()
            client.close()
            return pid

        pairs = [("user", "app"), ("database", "app"), ("application_name", "x"), ("client_encoding", "UTF8")]
        self.assertEqual(raw(pairs), raw(list(reversed(pairs))))

    def test_settings_temporary_tables_prepared_statements_and_locks_of_the_last_client_are_gone(self):
        with self.pool.client() as client:
            first = client.pid()
            client.query("SET work_mem = '9MB'").ok()
            client.query("CREATE TEMP TABLE left_behind(a int)").ok()
            client.query("PREPARE left_behind AS SELECT 1").ok()
            client.exchange(wire.parse("SELECT 2", "named_left") + wire.sync()).ok()
            client.query("SELECT pg_advisory_lock(77)").ok()
            client.query("LISTEN left_behind").ok()
        with self.pool.client() as client:
            self.assertEqual(client.pid(), first)
            self.assertNotEqual(client.value("SHOW work_mem"), "9MB")
            self.assertEqual(client.query("SELECT * FROM left_behind").error["C"], "42P01")
            self.assertEqual(client.value("SELECT count(*) FROM pg_prepared_statements"), "0")
            self.assertEqual(client.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "0")
            self.assertEqual(client.value("SELECT count(*) FROM pg_listening_channels()"), "0")

    def test_parameters_reported_to_the_next_client_are_the_defaults_again(self):
        with self.pool.client() as client:
            first = client.pid()
            usual = dict(client.parameters)
            client.query("SET DateStyle TO 'German'").ok()
            client.query("SET TimeZone TO 'Asia/Tokyo'").ok()
        with self.pool.client() as client:
            self.assertEqual(client.pid(), first)
            self.assertEqual(client.value("SHOW DateStyle"), usual["DateStyle"])

    def test_the_replayed_parameter_list_is_that_of_the_reset_session(self):
        with self.pool.client() as client:
            usual = dict(client.parameters)
            client.query("SET DateStyle TO 'German'").ok()
        with self.pool.client() as client:
            self.assertEqual(client.parameters["DateStyle"], usual["DateStyle"])

    def test_an_open_transaction_is_rolled_back(self):
        self.cluster.primary.rows("DROP TABLE IF EXISTS half; CREATE TABLE half(a int); GRANT ALL ON half TO app")
        with self.pool.client() as client:
            client.query("BEGIN").ok()
            client.query("INSERT INTO half VALUES (1)").ok()
        with self.pool.client() as client:
            self.assertEqual(client.value("SELECT count(*) FROM half"), "0")
            self.assertEqual(client.query("SELECT 1").status, "I")

    def test_what_has_no_sync_is_rolled_back(self):
        self.cluster.primary.rows("DROP TABLE IF EXISTS open_end; CREATE TABLE open_end(a int); GRANT ALL ON open_end TO app")
        insert = wire.extended("INSERT INTO open_end VALUES (1)")
        for sent in (insert, insert + wire.flush(), wire.extended("SELECT 1") + insert):
            with self.pool.client() as client:
                client.send(sent)
            with self.pool.client() as client:
                self.assertEqual(client.value("SELECT count(*) FROM open_end"), "0")

    def test_a_failed_transaction_is_cleaned_up_too(self):
        with self.pool.client() as client:
            first = client.pid()
            client.query("BEGIN")
            client.query("SELECT 1/0")
        with self.pool.client() as client:
            self.assertEqual(client.pid(), first)
            self.assertEqual(client.query("SELECT 1").status, "I")

    def test_the_databases_postgres_and_template1_are_not_cached(self):
        for database in ("postgres", "template1"):
            self.assertNotEqual(self.pid(database=database), self.pid(database=database))
        self.eventually(lambda: not self.cluster.primary.sessions("datname IN ('postgres', 'template1')"), "connections to postgres and template1 to end")

    def test_a_client_that_vanishes_takes_its_connection_with_it(self):
        client = self.pool.client()
        first = client.pid()
        client.abort()
        self.eventually(lambda: first not in self.cluster.primary.sessions(), "the server process to end")
        self.assertNotEqual(self.pid(), first)

    def test_a_client_that_vanishes_in_a_running_query_frees_its_slot(self):
        client = self.pool.client()
        client.send(wire.query("SELECT pg_sleep(2)"))
        self.wait_running("pg_sleep(2)")
        client.abort()
        self.eventually(self.can_connect, "the slot to serve again")

    def test_max_pool_evicts_the_connection_that_was_left_longest_ago(self):
        users = [("app", None), ("repmgr", "rep123"), ("md5user", "md5pw")]

        def pid(n):
            time.sleep(1.1)  # stock remembers the time of leaving in whole seconds
            return self.pid(user=users[n][0], password=users[n][1])

        one, two = pid(0), pid(1)
        self.assertEqual(pid(0), one)
        pid(2)
        self.assertEqual(pid(0), one, "used last, so kept")
        self.assertNotEqual(pid(1), two, "used longest ago, so evicted")
        self.eventually(lambda: two not in self.cluster.primary.sessions("true"), "the evicted connection to be closed")

    def test_a_cached_connection_that_the_server_closed_is_replaced_silently(self):
        first = self.pid()
        self.cluster.primary.rows(f"SELECT pg_terminate_backend({first})")
        self.eventually(lambda: not proc.alive(first), "the server process to end")
        self.assertNotEqual(self.pid(), first)

    def test_reload_of_reset_query_list_is_used_for_the_next_session(self):
        # DISCARD ALL is left out: what the first client set is still there for the second.
        pool = self.another_pool(config={"reset_query_list": "ABORT"}).start()
        with pool.client() as client:
            first = client.pid()
            client.query("SET work_mem = '9MB'").ok()
        with pool.client() as client:
            self.assertEqual((client.pid(), client.value("SHOW work_mem")), (first, "9MB"))
        pool.reload(reset_query_list="ABORT; RESET ALL")
        time.sleep(1)
        with pool.client() as client:
            client.query("SET work_mem = '8MB'").ok()
        with pool.client() as client:
            self.assertEqual(client.value("SHOW work_mem"), "4MB")

    def test_a_reset_query_that_fails_does_not_hurt_the_next_client(self):
        # Stock goes on using the connection; closing it is as good.
        pool = self.another_pool(config={"reset_query_list": "ABORT; SELECT no_such_thing; DISCARD ALL"}).start()
        with pool.client() as client:
            client.query("BEGIN").ok()
            client.query("SELECT 1/0")
        with pool.client() as client:
            seen = client.query("SELECT 1")
            self.assertEqual((seen.error, seen.status), (None, "I"))


class CacheOff(CompatCase):
    config = {"num_init_children": 1, "connection_cache": False}

    def test_connection_cache_off_makes_a_new_connection_for_each_session(self):
        pids = []
        for _ in range(3):
            with self.pool.client() as client:
                pids.append(client.pid())
        self.assertEqual(len(set(pids)), 3)
        self.eventually(lambda: not self.cluster.primary.sessions(), "all connections to end")


class LifeTimes(CompatCase):
    fresh = True
    start = False
    weight = 30

    def pool_with(self, **config):
        self.pool.write_config(**config)
        return self.pool.start()

    def test_connection_life_time_closes_cached_connections(self):
        pool = self.pool_with(connection_life_time=2)
        began = time.monotonic()
        with pool.client() as client:
            first = client.pid()
        there = first in self.cluster.primary.sessions()
        self.assertTrue(there or time.monotonic() - began >= 2, "it ended before its time")
        self.eventually(lambda: first not in self.cluster.primary.sessions(), "the cached connection to end", timeout=8)

    def test_connection_life_time_does_not_touch_a_connection_in_use(self):
        pool = self.pool_with(connection_life_time=1)
        client = pool.client()
        first = client.pid()
        time.sleep(3)
        self.assertEqual(client.pid(), first)
        client.close()

    def test_child_life_time_replaces_idle_slots_that_have_served_and_their_connections(self):
        pool = self.pool_with(child_life_time=2, num_init_children=1)
        with pool.client() as client:
            first = client.pid()
        self.eventually(lambda: first not in self.cluster.primary.sessions(), "the idle slot to be replaced", timeout=12)
        with pool.client() as client:
            self.assertNotEqual(client.pid(), first)

    def test_child_max_connections_replaces_the_slot_after_that_many_sessions(self):
        pool = self.pool_with(child_max_connections=2, num_init_children=1)
        pids = []
        for _ in range(4):
            with pool.client() as client:
                pids.append(client.pid())
        self.assertEqual(pids[0], pids[1])
        self.assertEqual(pids[2], pids[3])
        self.assertNotEqual(pids[1], pids[2])
        pool.wait_log(r"child exiting, 2 connections reached")

    def test_client_idle_limit_ends_idle_sessions_with_57000(self):
        pool = self.pool_with(client_idle_limit=1)
        client = pool.client()
        client.value("SELECT 1")
        seen = client.until_closed()
        self.assertEqual(seen.error["C"], "57000")
        self.assertEqual(seen.error["M"], "unable to read data")
        self.assertEqual(seen.error["D"], "child connection forced to terminate due to client_idle_limit:1 is reached")

    def test_client_idle_limit_counts_inside_a_transaction_but_not_during_a_query(self):
        pool = self.pool_with(client_idle_limit=2)
        client = pool.client()
        client.query("SELECT pg_sleep(4)").ok()
        client.query("BEGIN").ok()
        self.assertEqual(client.until_closed().error["C"], "57000")

    @slow
    def test_client_idle_limit_can_be_switched_on_by_reload(self):
        pool = self.pool_with(client_idle_limit=0)
        with pool.client() as client:
            client.value("SELECT 1")
        pool.reload(client_idle_limit=1)
        time.sleep(1.5)
        client = pool.client()
        client.value("SELECT 1")
        self.assertEqual(client.until_closed().error["C"], "57000")
