"""SHOW POOL_* and PGPOOL SHOW/SET/RESET, through a raw client and through stock psql."""

from lib import tools, wire
from lib.case import CompatCase, ours_only, stock_differs

NODES_43 = ["node_id", "hostname", "port", "status", "pg_status", "lb_weight", "role", "pg_role", "select_cnt", "load_balance_node", "replication_delay", "replication_state", "replication_sync_state", "last_status_change"]
NODES_40 = ["node_id", "hostname", "port", "status", "lb_weight", "role", "select_cnt", "load_balance_node", "replication_delay", "last_status_change"]


class Show(CompatCase):
    nodes = 2
    config = {"num_init_children": 4, "health_check_period": 5, "sr_check_period": 1}

    def show(self, what):
        """With a session of its own, which has ended then: who asks again and again must not run out of them."""
        with self.pool.client() as client:
            result = client.query(f"SHOW {what}").ok()
        return [dict(zip(result.columns, row)) for row in result.rows]

    def test_pool_nodes_has_the_columns_of_the_dialect(self):
        self.assertEqual(self.client().query("SHOW POOL_NODES").columns, NODES_43)

    def test_pool_nodes_says_who_is_primary(self):
        self.client().value("SELECT 1")
        first, second = self.show("pool_nodes")
        self.assertEqual([first[k] for k in ("node_id", "hostname", "port", "status", "pg_status", "role", "pg_role")], ["0", "127.0.0.1", str(self.cluster[0].port), "up", "up", "primary", "primary"])
        self.assertEqual([second[k] for k in ("node_id", "port", "status", "role", "pg_role")], ["1", str(self.cluster[1].port), "up", "standby", "standby"])
        self.assertEqual(first["lb_weight"], "0.500000")
        self.assertRegex(first["last_status_change"], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$")
        self.eventually(lambda: self.show("pool_nodes")[1]["replication_state"] == "streaming", "the replication state of node 1")
        self.assertEqual(self.show("pool_nodes")[1]["replication_sync_state"], "async")

    def test_select_cnt_counts_selects(self):
        def count():
            return sum(int(r["select_cnt"]) for r in self.show("pool_nodes"))

        client = self.client()
        before = count()
        for _ in range(7):
            client.value("SELECT 1")
        self.assertEqual(count() - before, 7)

    def test_pool_processes_lists_every_slot(self):
        client = self.client()
        client.query("BEGIN")
        watcher = self.client()

        def processes():
            result = watcher.query("SHOW pool_processes").ok()
            return [dict(zip(result.columns, row)) for row in result.rows]

        # Sessions of the test before may be on their way out.
        self.eventually(lambda: "Idle" not in {r["status"] for r in processes()}, "the sessions of others to end")
        rows = processes()
        self.assertEqual(list(rows[0]), ["pool_pid", "start_time", "client_connection_count", "database", "username", "backend_connection_time", "pool_counter", "status"])
        self.assertEqual(len(rows), 4)
        self.assertEqual(sorted({r["status"] for r in rows}), ["Execute command", "Idle in transaction", "Wait for connection"])
        self.assertEqual([r["database"] for r in rows if r["status"] == "Idle in transaction"], ["app"])

    def test_pool_pools_has_a_row_per_slot_pool_and_node(self):
        client = self.client()
        client.value("SELECT 1")
        rows = self.show("pool_pools")
        self.assertEqual(len(rows), 4 * 4 * 2)
        self.assertEqual(list(rows[0]), ["pool_pid", "start_time", "client_connection_count", "pool_id", "backend_id", "database", "username", "backend_connection_time", "client_connection_time", "client_disconnection_time", "client_idle_duration", "majorversion", "minorversion", "pool_counter", "pool_backendpid", "pool_connected", "status"])
        pids = {int(r["pool_backendpid"]) for r in rows if r["username"] == "app"}
        self.assertIn(client.pid(), pids)

    def test_pool_version_is_that_of_the_dialect(self):
        self.assertRegex(self.show("pool_version")[0]["pool_version"], r"^4\.3\.\d+ \(tamahomeboshi\)$")

    def test_pool_status_lists_settings_with_their_values(self):
        rows = self.client().query("SHOW pool_status")
        self.assertEqual(rows.columns, ["item", "value", "description"])
        items = {r[0]: r[1] for r in rows.rows}
        for name, value in (("num_init_children", "4"), ("max_pool", "4"), ("backend_clustering_mode", "1"), ("backend_hostname0", "127.0.0.1"), ("backend_port1", str(self.cluster[1].port)), ("load_balance_mode", "0")):
            self.assertEqual(items.get(name), value, name)
        self.assertFalse([i for i in items if "password" in i])

    def test_pool_cache_is_one_row_of_zeros(self):
        row = self.show("pool_cache")[0]
        self.assertEqual(list(row), ["num_cache_hits", "num_selects", "cache_hit_ratio", "num_hash_entries", "used_hash_entries", "num_cache_entries", "used_cache_entries_size", "free_cache_entries_size", "fragment_cache_entries_size"])
        self.assertEqual(set(row.values()), {"0", "0.00"})

    def test_pool_health_check_stats(self):
        self.eventually(lambda: int(self.show("pool_health_check_stats")[0]["success_count"]) > 0, "a health check to be counted")
        row = self.show("pool_health_check_stats")[0]
        self.assertEqual(list(row), ["node_id", "hostname", "port", "status", "role", "last_status_change", "total_count", "success_count", "fail_count", "skip_count", "retry_count", "average_retry_count", "max_retry_count", "max_duration", "min_duration", "average_duration", "last_health_check", "last_successful_health_check", "last_skip_health_check", "last_failed_health_check"])
        self.assertEqual((row["fail_count"], row["role"], row["last_failed_health_check"]), ("0", "primary", ""))

    def test_pool_backend_stats_counts_statements_by_kind(self):
        def counts():
            return {k: int(v) for k, v in self.show("pool_backend_stats")[0].items() if k.endswith("_cnt")}

        client = self.client()
        client.query("CREATE TEMP TABLE k(a int)")
        before = counts()
        client.query("INSERT INTO k VALUES (1)")
        client.query("UPDATE k SET a = 2")
        client.query("DELETE FROM k")
        client.query("SELECT nothing_of_that_name")
        after = counts()
        self.assertEqual([after[k] - before[k] for k in ("insert_cnt", "update_cnt", "delete_cnt", "error_cnt")], [1, 1, 1, 1])

    def test_names_are_case_insensitive_and_comments_and_semicolons_do_not_matter(self):
        client = self.client()
        for text in ("SHOW POOL_VERSION", "show Pool_Version;", "  /* x */ show pool_version -- y", "show pool_version;;"):
            self.assertRegex(client.query(text).ok().rows[-1][0], r"^4\.3", text)

    def test_unknown_pool_names_go_to_the_server(self):
        self.assertEqual(self.client().query("SHOW pool_nonsense").error["C"], "42704")

    def test_the_extended_protocol_is_not_answered_by_pgpool(self):
        seen = self.client().exchange(wire.parse("SHOW pool_nodes") + wire.bind() + wire.execute() + wire.sync())
        self.assertEqual(seen.error["C"], "42704")

    def test_an_admin_command_in_a_failed_transaction_is_25p02(self):
        client = self.client()
        client.query("BEGIN")
        client.query("SELECT 1/0")
        seen = client.query("SHOW pool_nodes")
        self.assertEqual((seen.error["C"], seen.status), ("25P02", "E"))
        self.assertEqual(client.query("ROLLBACK").status, "I")

    def test_an_admin_command_in_a_transaction_leaves_it_open(self):
        client = self.client()
        client.query("BEGIN")
        client.query("CREATE TEMP TABLE inside(a int)")
        client.query("SHOW pool_nodes").ok()
        client.query("ROLLBACK").ok()
        self.assertEqual(client.query("SELECT * FROM inside").error["C"], "42P01")

    def test_stock_psql_prints_them(self):
        for what, lines in (("pool_nodes", 2), ("pool_backend_stats", 2), ("pool_health_check_stats", 2), ("pool_cache", 1)):
            done = tools.psql(self.pool.port, f"SHOW {what}")
            self.assertEqual((done.code, len(done.out.strip().splitlines())), (0, lines), done)

    @stock_differs("4.3.5 sends the row description of pool_version and pool_processes twice")
    def test_no_row_description_is_sent_twice(self):
        client = self.client()
        for what in ("pool_nodes", "pool_processes", "pool_pools", "pool_status", "pool_version", "pool_cache", "pool_health_check_stats", "pool_backend_stats"):
            self.assertEqual(client.query(f"SHOW {what}").kinds.count("T"), 1, what)


class PgpoolShow(CompatCase):
    config = {"num_init_children": 4, "child_life_time": 300, "health_check_password": "secret!"}

    def test_one_setting(self):
        seen = self.client().query("PGPOOL SHOW num_init_children").ok()
        self.assertEqual((seen.columns, seen.rows, seen.tags), (["num_init_children"], [("4",)], ["SELECT 1"]))

    def test_values_have_the_units_and_words_of_the_file(self):
        client = self.client()
        for name, value in (("child_life_time", "5min"), ("load_balance_mode", "off"), ("connection_cache", "on"), ("backend_clustering_mode", "streaming_replication"), ("port", str(self.pool.port)), ("reset_query_list", "ABORT; DISCARD ALL"), ("backend_port0", str(self.cluster[0].port))):
            seen = client.query(f"PGPOOL SHOW {name}").ok().rows[0][0]
            self.assertEqual(seen.replace(";DISCARD", "; DISCARD").replace(",DISCARD", "; DISCARD"), value, name)

    def test_passwords_are_hidden(self):
        client = self.client()
        self.assertEqual(client.value("PGPOOL SHOW sr_check_password"), "*****")
        everything = client.rows("PGPOOL SHOW ALL")
        self.assertNotIn("secret!", str(everything))
        self.assertNotIn("rep123", str(everything))

    def test_all_and_groups_have_three_columns(self):
        client = self.client()
        for what in ("ALL", "backend", "health_check", "watchdog", "heartbeat"):
            seen = client.query(f"PGPOOL SHOW {what}").ok()
            self.assertEqual(seen.columns, ["item", "value", "description"], what)
        self.assertGreater(len(client.rows("PGPOOL SHOW ALL")), 150)

    def test_an_unknown_name_is_an_error_and_the_session_goes_on(self):
        client = self.client()
        seen = client.query("PGPOOL SHOW nonsense")
        self.assertEqual((seen.error["C"], seen.error["M"], seen.status), ("XX000", 'config variable "nonsense" not found', "I"))
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_set_and_reset_act_on_this_session_only(self):
        client, other = self.client(), self.client()
        seen = client.query("PGPOOL SET client_idle_limit TO 300").ok()
        self.assertEqual(seen.tags, ["SET"])
        self.assertEqual(client.value("PGPOOL SHOW client_idle_limit"), "5min")
        self.assertEqual(other.value("PGPOOL SHOW client_idle_limit"), "0")
        self.assertEqual(client.query("PGPOOL RESET client_idle_limit").tags, ["SET"])
        self.assertEqual(client.value("PGPOOL SHOW client_idle_limit"), "0")
        client.query("PGPOOL SET client_idle_limit = 60").ok()
        self.assertEqual(client.query("PGPOOL RESET ALL").tags, ["RESET"])
        self.assertEqual(client.value("PGPOOL SHOW client_idle_limit"), "0")

    def test_a_set_client_idle_limit_acts(self):
        client = self.client()
        client.query("PGPOOL SET client_idle_limit TO 1").ok()
        self.assertEqual(client.until_closed().error["C"], "57000")

    def test_wrong_sets_are_errors(self):
        client = self.client()
        for text, message in (
            ("PGPOOL SET port TO 1", 'invalid Context, value for parameter "port" cannot be changed'),
            ("PGPOOL SET nonsense TO 1", 'unrecognized configuration parameter "nonsense"'),
            ("PGPOOL SET client_idle_limit TO 'abc'", 'invalid value for parameter "client_idle_limit": "abc"'),
            ("PGPOOL SET log_min_messages TO 'loud'", 'invalid value for parameter "log_min_messages": "loud"'),
        ):
            seen = client.query(text)
            self.assertEqual((seen.error or {}).get("M"), message)
            self.assertEqual(seen.status, "I")


class OldDialect(CompatCase):
    """The same questions to a 4.0 file."""

    dialect = "4.0"
    nodes = 2
    config = {"enable_pool_hba": False}

    def test_the_file_of_the_old_dialect_works(self):
        client = self.client()
        self.assertEqual(client.value("SELECT 1"), "1")
        rows = client.rows("SHOW pool_nodes")
        self.assertEqual([r[3] for r in rows], ["up", "up"])

    @ours_only("layouts follow the dialect of the file; stock 4.3.5 is always 4.3")
    def test_pool_nodes_has_the_ten_columns_of_4_0(self):
        self.assertEqual(self.client().query("SHOW pool_nodes").columns, NODES_40)

    @ours_only("layouts follow the dialect of the file; stock 4.3.5 is always 4.3")
    def test_pool_processes_has_the_six_columns_of_4_0(self):
        self.assertEqual(self.client().query("SHOW pool_processes").columns, ["pool_pid", "start_time", "database", "username", "create_time", "pool_counter"])

    @ours_only("layouts follow the dialect of the file; stock 4.3.5 is always 4.3")
    def test_the_version_is_of_4_0(self):
        self.assertRegex(self.client().value("SHOW pool_version"), r"^4\.0\.\d+ \(torokiboshi\)$")

    @ours_only("commands that a release does not know go to the server")
    def test_commands_of_4_2_are_unknown(self):
        self.assertEqual(self.client().query("SHOW pool_health_check_stats").error["C"], "42704")
