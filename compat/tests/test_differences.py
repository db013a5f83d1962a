"""What ours does otherwise on purpose, where no other test shows it: the lines of docs/differences.md."""

import os
import re
import signal
import time

from lib import pcp_wire, proc, tools, wire
from lib.case import CompatCase, compared, ours_only, stock_differs
from lib.server import PASSWORDS
from lib.subject import PCP_PASSWORD, PCP_USER, md5

MD5 = {"user": "md5user", "password": "md5pw"}


class AdminSql(CompatCase):
    nodes = 2
    config = {"num_init_children": 4}

    @ours_only("an admin command inside an extended-protocol sequence is PostgreSQL's")
    def test_show_in_the_middle_of_an_extended_sequence_is_the_servers(self):
        @compared
        def conversation(client):
            client.send(wire.extended("SELECT 1") + wire.query("SHOW pool_nodes"))
            return [client.until(), client.query("SELECT 2")]

        self.same_as_direct(conversation)

    @ours_only("an admin command while a COPY waits for data is PostgreSQL's")
    def test_show_while_a_copy_waits_for_data_is_the_servers(self):
        @compared
        def conversation(client):
            client.query("CREATE TEMP TABLE c(a int)").ok()
            client.send(wire.query("COPY c FROM STDIN"))
            first = client.until("G")
            client.send(wire.query("SHOW pool_nodes"))
            return [first, client.until_closed()]

        self.same_as_direct(conversation)

    @stock_differs("4.3.5 always says idle after an admin command")
    def test_ready_for_query_tells_the_true_state_of_the_transaction(self):
        client = self.client()
        client.query("BEGIN").ok()
        for what in ("SHOW pool_nodes", "PGPOOL SHOW port", "PGPOOL SHOW nonsense"):
            self.assertEqual(client.query(what).status, "T", what)
        client.query("SELECT 1").ok()
        self.assertEqual(client.query("ROLLBACK").status, "I")


class Logins(CompatCase):
    nodes = 2
    config = {"enable_pool_hba": True, "num_init_children": 1, "authentication_timeout": 2}
    hba = "host all md5user all md5\nhost all scramuser all md5\nhost all pwuser all reject\nhost all all all trust\n"
    # Not base64 of anything that a key opens.
    passwd = f"md5user:md5{md5('md5pw' + 'md5user')}\nrepmgr:md5{md5(PASSWORDS['repmgr'] + 'repmgr')}\nscramuser:AESrXZgv72KOd/vV6lqENo1hw==\n"

    def challenged(self, user="md5user"):
        client = self.client(startup=False)
        client.send(wire.startup_packet(user, "app"))
        seen = client.until("RE")
        return client, seen

    @stock_differs("4.3.5 challenges the client and refuses the answer")
    def test_an_entry_that_cannot_be_decrypted_is_refused_before_a_challenge(self):
        _, seen = self.challenged("scramuser")
        self.assertEqual((seen.kinds, seen.error["D"]), ("E", "unable to decrypt password from pool_passwd"))

    def test_a_password_message_without_a_body_is_invalid(self):
        client, _ = self.challenged()
        client.send(wire.message("p"))
        error = client.until_closed().error
        self.assertEqual(error["M"], "authentication failed")
        self.assertIn("invalid authentication packet", error["D"])

    @stock_differs("authentication_timeout of 4.3.5 covers the start-up packet only")
    def test_a_client_that_does_not_answer_pool_hba_is_closed(self):
        client, _ = self.challenged()
        began = time.monotonic()
        self.assertTrue(client.is_closed(within=8))
        self.assertGreater(time.monotonic() - began, 1)
        self.assertTrue(self.can_connect())

    @stock_differs("authentication_timeout of 4.3.5 covers the start-up packet only")
    def test_a_client_that_does_not_answer_a_server_is_closed(self):
        pool = self.another_pool(config={"enable_pool_hba": False, "authentication_timeout": 2}).start()
        client = pool.client(startup=False)
        self.addCleanup(client.close)
        client.send(wire.startup_packet("md5user", "app"))
        client.until("R")
        self.assertTrue(client.is_closed(within=8))
        with pool.client(**MD5) as other:
            self.assertEqual(other.value("SELECT 1"), "1")

    @stock_differs("4.3.5 ends the child, with its cached connections, when pool_hba refuses a client")
    def test_a_login_that_fails_costs_others_nothing(self):
        with self.pool.client(**MD5) as client:
            pid = client.pid()
        self.refused(user="pwuser", password="clearpw")
        self.refused(user="md5user", password="wrong")
        self.refused(user="md5user", database="no_such_database", password="md5pw")
        self.refused(user="no_such_role")
        with self.pool.client(**MD5) as client:
            self.assertEqual(client.pid(), pid)

    @stock_differs("4.3.5 gives the key of the highest node, and that of the main node from a cached connection")
    def test_the_pid_of_the_cancel_key_is_that_of_the_server_process(self):
        for _ in range(2):
            with self.pool.client() as client:
                self.assertEqual(client.key[0], client.pid())

    @ours_only("bytes behind an SSLRequest are refused")
    def test_bytes_that_come_with_an_ssl_request_are_refused(self):
        client = self.client(startup=False)
        client.send(wire.SSL_REQUEST + wire.startup_packet("app", "app"))
        self.assertEqual(client.byte(), "N")
        seen = client.until_closed()
        self.assertEqual((seen.kinds, seen.error["C"]), ("E", "08P01"))


class MissingPoolPasswd(CompatCase):
    start = False
    config = {"enable_pool_hba": True}

    @stock_differs("4.3.5 makes it with mode 0644")
    def test_a_pool_passwd_that_pgpool_makes_is_readable_by_its_account_alone(self):
        path = self.pool.file("pool_passwd")
        os.remove(path)
        self.pool.start()
        self.assertEqual((os.stat(path).st_mode & 0o777, os.path.getsize(path)), (0o600, 0))


class Full(CompatCase):
    fresh = True
    start = False
    config = {"num_init_children": 2, "listen_backlog_multiplier": 1}

    @stock_differs("the kernel of 4.3.5 keeps or drops them without a word")
    def test_beyond_the_queue_clients_are_refused_with_53300(self):
        self.pool.start()
        for _ in range(2):
            self.client().value("SELECT 1")
        for _ in range(64):
            client = self.pool.client(startup=False)
            self.addCleanup(client.abort)
            client.send(wire.startup_packet("app", "app"))
        self.eventually(lambda: self.pool.log().count("a client has to wait") == 64, "64 clients to wait")
        self.assertEqual(self.refused()["C"], "53300")

    @stock_differs("4.3.5 refuses at the accept, before an SSLRequest is answered")
    def test_reserved_connections_answer_an_ssl_request_first_and_let_admin_sql_pass(self):
        self.pool.write_config(reserved_connections=1, enable_pool_hba=True)
        self.pool.write(self.pool.hba_file, "host all all all trust\n")
        self.pool.start()
        self.client().value("SELECT 1")
        client = self.client(startup=False)
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "N")
        client.send(wire.startup_packet("app", "app"))
        self.assertEqual(client.until_closed().error["C"], "53300")
        with self.pool.client(database="pgpool_admin") as admin:
            self.assertEqual(len(admin.rows("SHOW pool_processes")), 2)


class Log(CompatCase):
    nodes = 2
    config = {"num_init_children": 2, "log_statement": True, "log_per_node_statement": True, "log_connections": True, "log_disconnections": True}

    def since(self):
        mark = self.pool.log_size()
        return lambda: self.pool.log(mark)

    @stock_differs("4.3.5 writes a disconnection for them")
    def test_a_login_that_a_server_refuses_is_no_session_to_disconnect(self):
        log = self.since()
        self.refused(user="no_such_role")
        self.eventually(lambda: "the backend has refused the login" in log() and 'role "no_such_role" does not exist' in log(), "the line of its own")
        time.sleep(0.3)
        self.assertNotIn("frontend disconnection", log())

    @stock_differs("4.3.5 logs errors of servers with their statement")
    def test_an_error_of_a_server_is_the_servers_to_log(self):
        log = self.since()
        client = self.client()
        self.assertEqual(client.query("SELECT 1/0").error["C"], "22012")
        client.value("SELECT 'behind it'")
        self.eventually(lambda: "behind it" in log(), "the next statement")
        self.assertNotIn("division by zero", log())

    @ours_only("a statement in the log has at most about 64 kB")
    def test_a_logged_statement_is_cut_at_64_kb(self):
        log = self.since()
        client = self.client()
        text = "SELECT '" + "y" * 1_000_000 + "'"
        self.assertEqual(len(client.value(text)), 1_000_000)
        client.value("SELECT 'short one'")
        self.eventually(lambda: "short one" in log(), "the next statement")
        longest = max(len(line) for line in log().splitlines())
        self.assertLess(longest, 70_000)
        self.assertGreater(longest, 1000)

    @stock_differs("4.3.5 logs DISCARD ALL with log_per_node_statement")
    def test_reset_queries_are_not_logged(self):
        log = self.since()
        with self.pool.client() as client:
            client.value("SELECT 'the only one'")
        self.eventually(lambda: "frontend disconnection" in log(), "the end of the session")
        time.sleep(0.5)
        self.assertNotIn("DISCARD", log())

    @ours_only("slots have numbers that are no pids")
    def test_pids_of_children_are_numbers_that_linux_hands_to_nobody(self):
        self.assertEqual(tools.pcp_ok(self.pool, "proc_count").out.split(), ["4194305", "4194306"])

    @stock_differs("4.3.5 writes `failover done` to stderr once more, without prefix and line end")
    def test_z_the_end_of_a_failover_is_said_once(self):
        log = self.since()
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.eventually(lambda: "failover done" in log(), "the failover")
        tools.pcp_ok(self.pool, "attach_node", "-n", 1)
        self.eventually(lambda: "failback done" in log(), "the failback")
        time.sleep(0.3)
        self.assertEqual(len(re.findall(r"failover done\.", log())), 1)
        self.assertEqual(len(re.findall(r"failback done\.", log())), 1)


class Daemon(CompatCase):
    start = False
    config = {"num_init_children": 2}

    @ours_only("findings of a start in the background are read by who starts it")
    def test_a_start_in_the_background_writes_to_stderr_until_it_is_done(self):
        done = proc.run(self.pool.argv(), timeout=20)
        self.assertEqual(done.code, 0, done)
        try:
            self.assertIn("Setting up socket for", done.err)
        finally:
            self.assertEqual(proc.run(self.pool.argv("-m", "fast", "stop"), timeout=30).code, 0)


class HungStop(CompatCase):
    config = {"num_init_children": 2}

    def test_a_fast_stop_does_not_wait_longer_for_a_hung_server(self):
        client = self.client()
        client.value("SELECT 1")
        self.cluster[0].pause()
        self.addCleanup(self.cluster[0].resume)
        client.send(wire.query("SELECT 2"))
        time.sleep(0.3)
        began = time.monotonic()
        self.assertEqual(self.pool.stop(signal.SIGINT, timeout=25), 0)
        self.assertLess(time.monotonic() - began, 15)


class Servers(CompatCase):
    """What the servers are sent, as their own logs tell."""

    nodes = 2
    server_settings = {"log_statement": "all"}
    config = {"num_init_children": 1}

    @stock_differs("4.3.5 sends reset queries by its routing, one after the other, and repeats SET application_name")
    def test_reset_queries_go_to_used_nodes_and_the_reuse_of_a_connection_sends_nothing(self):
        for number in (1, 2):
            with self.pool.client(options={"application_name": "the tool"}) as client:
                client.value(f"SELECT 'session {number}'")
        self.eventually(lambda: self.statements(0).count("DISCARD ALL") == 2, "the resets")
        self.assertEqual(self.statements(0), ["SELECT 'session 1'", "DISCARD ALL", "SELECT 'session 2'", "DISCARD ALL"])
        self.assertEqual(self.statements(1), [])

    def statements(self, node):
        return re.findall(r" app@app \d+: LOG:  statement: (.*)", self.cluster[node].log())


class Cut(CompatCase):
    """Sessions that are ended from outside."""

    nodes = 2
    fresh = True
    config = {"num_init_children": 4, "search_primary_node_timeout": 2}
    weight = 12

    def detach_the_primary(self):
        tools.pcp_ok(self.pool, "detach_node", "-n", 0)

    @stock_differs("4.3.5 closes without a word")
    def test_a_session_that_is_cut_is_told_why(self):
        client = self.client()
        client.value("SELECT 1")
        self.detach_the_primary()
        error = client.until_closed().error
        self.assertEqual((error["S"], error["C"]), ("FATAL", "57P01"))
        self.assertIn("DB node 0", error["M"])

    def test_a_session_that_is_cut_in_the_middle_of_a_row_sees_only_the_end(self):
        client = self.client()
        size = 100_000_000
        client.send(wire.query(f"SELECT repeat('x', {size})"))
        while len(client._buffer) < 100_000:
            client._fill()
        received = len(client._buffer)
        self.detach_the_primary()
        self.pool.wait_log("failover done")
        end = time.monotonic() + 30
        with self.assertRaises(wire.Closed):
            while time.monotonic() < end:
                client._buffer.clear()
                client._fill(10)
                received += len(client._buffer)
                self.assertNotIn(b"57P01", client._buffer)
        self.assertLess(received, size)

    @stock_differs("4.3.5 adds XX000 to the FATAL that the server has sent")
    def test_a_fatal_error_of_a_server_is_the_last_word(self):
        client = self.client()
        self.cluster[0].rows(f"SELECT pg_terminate_backend({client.pid()})")
        seen = client.until_closed()
        self.assertEqual([m.fields["C"] for m in seen.of("E")], ["57P01"])

    def test_a_warning_with_the_code_of_a_shutdown_detaches_nothing(self):
        self.pool.reload(failover_on_backend_shutdown=True)
        time.sleep(0.5)
        client = self.client()
        for code in ("57P01", "57P02"):
            for level in ("WARNING", "EXCEPTION"):
                client.query(f"DO $$ BEGIN RAISE {level} 'only words' USING ERRCODE = '{code}'; END $$")
        self.assertEqual(client.value("SELECT 1"), "1")
        time.sleep(1)
        self.assertNotIn("starting degeneration", self.pool.log())
        client.abort()
        time.sleep(1)
        self.assertNotIn("starting degeneration", self.pool.log())


class DuringAHook(CompatCase):
    nodes = 3
    config = {"num_init_children": 4, "failover_command": lambda t: t.hook.hold(), "health_check_period": 1}

    @stock_differs("the main process of 4.3.5 waits for the hook, and its PCP process is replaced afterwards")
    def test_pcp_reload_checks_and_sessions_go_on_while_a_hook_runs(self):
        with pcp_wire.Client("127.0.0.1", self.pool.pcp_port) as operator:
            operator.send(pcp_wire.encode("M"))
            salt = operator.reply(10)[-1].body
            operator.send(pcp_wire.encode("R", f"{PCP_USER}\0{pcp_wire.login_response(PCP_USER, PCP_PASSWORD, salt)}\0".encode()))
            self.assertEqual(operator.reply(10)[-1].kind, "r")
            mark = self.pool.log_size()
            tools.pcp_ok(self.pool, "detach_node", "-n", 2)
            self.pool.wait_log("execute command: while", since=mark)
            checks = self.checks()
            self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "3\n")
            self.pool.reload(log_statement=True)
            self.eventually(lambda: self.checks() > checks, "a health check")
            self.eventually(lambda: self.logs_statements(), "the new configuration to count")
            self.assertNotIn("failover done", self.pool.log(mark))
            self.hook.release()
            self.pool.wait_log("failover done", since=mark)
            time.sleep(2)
            operator.send(pcp_wire.encode("L"))
            self.assertEqual(operator.reply(10)[-1].kind, "l", "the connection of before the failover still serves")

    def checks(self):
        with self.pool.client() as client:
            return int(client.rows("SHOW POOL_HEALTH_CHECK_STATS")[0][6])

    def logs_statements(self):
        mark = self.pool.log_size()
        with self.pool.client() as client:
            client.value("SELECT 'new settings'")
        time.sleep(0.1)
        return "new settings" in self.pool.log(mark)


class DownAtTheStart(CompatCase):
    nodes = 2
    start = False
    config = {"num_init_children": 2, "health_check_period": 1, "sr_check_period": 1, "auto_failback": True, "auto_failback_interval": 1}

    @stock_differs("4.3.5 has no health check for a node that was down at the start, so it stays down for ever")
    def test_auto_failback_finds_a_node_that_was_down_at_the_start(self):
        self.pool.write(self.pool.status_file, "up\ndown\n")
        self.pool.start()
        self.pool.wait_log(r"request auto failback, node id:1", timeout=30)
        self.pool.wait_log(r"failback done\. reconnect host")
        self.assertEqual(self.pool.status_words(), ["up", "up"])
