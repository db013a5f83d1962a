"""Start, stop, reload, files, options and the log, as an init system and an operator meet them."""

import os
import re
import signal
import socket
import threading
import time

from lib import proc, tools
from lib.case import CompatCase, needs_root, ours_only


class Stop(CompatCase):
    fresh = True
    config = {"num_init_children": 4}
    weight = 20

    def test_sigint_cuts_sessions_and_leaves_no_files(self):
        client = self.client()
        client.value("SELECT 1")
        self.assertEqual(self.pool.leftovers(), sorted([f".s.PGSQL.{self.pool.port}", f".s.PGSQL.{self.pool.pcp_port}", "pgpool.pid"]))
        self.assertEqual(self.pool.stop(signal.SIGINT), 0)
        self.assertTrue(client.is_closed())
        self.assertEqual(self.pool.leftovers(), [])
        self.assertRegex(self.pool.log(), r"shutting down by signal 2")
        self.assertIn("terminating all child processes", self.pool.log())
        self.assertIn("Pgpool-II system is shutdown", self.pool.log())

    def test_sigquit_ends_at_once(self):
        self.client().value("SELECT 1")
        self.assertEqual(self.pool.stop(signal.SIGQUIT), 0)
        self.assertEqual(self.pool.leftovers(), [])

    def test_sigterm_waits_for_sessions_and_serves_nobody_new(self):
        client = self.client()
        client.query("BEGIN").ok()
        self.pool.signal(signal.SIGTERM)
        time.sleep(1)
        self.assertTrue(self.pool.running)
        self.assertEqual(client.value("SELECT 1"), "1")
        self.assertFalse(self.can_connect(timeout=1.5))
        client.query("COMMIT").ok()
        client.close()
        self.assertEqual(self.pool.wait_end(), 0)
        self.assertEqual(self.pool.leftovers(), [])
        self.assertRegex(self.pool.log(), r"shutting down by signal 15")

    @ours_only("a fast stop overtakes a smart one; stock ignores the second signal")
    def test_sigint_after_sigterm_does_not_wait_any_longer(self):
        self.client().value("SELECT 1")
        self.pool.signal(signal.SIGTERM)
        time.sleep(0.7)
        self.pool.signal(signal.SIGINT)
        self.assertEqual(self.pool.wait_end(), 0)

    def test_the_stop_command_in_its_modes(self):
        for mode in ("fast", "immediate", "smart"):
            with self.subTest(mode=mode):
                if not self.pool.running:
                    self.pool.start()
                # The command waits until the process is gone, so its parent (we) must reap it meanwhile.
                reaper = threading.Thread(target=self.pool.process.wait)
                reaper.start()
                done = proc.run(self.pool.argv("-m", mode, "stop"), timeout=30)
                self.assertEqual(done.code, 0, done)
                self.assertIn("waiting for termination", done.out + done.err)
                reaper.join()
                self.assertEqual(self.pool.wait_end(), 0)
                self.assertEqual(self.pool.leftovers(), [])

    def test_no_open_transaction_survives_a_fast_stop(self):
        self.cluster.primary.rows("CREATE TABLE s(a int); GRANT ALL ON s TO app")
        client = self.client()
        client.query("BEGIN")
        client.query("INSERT INTO s VALUES (1)").ok()
        self.pool.stop()
        self.eventually(lambda: not self.cluster.primary.sessions(), "the server processes to end")
        self.assertEqual(self.cluster.primary.value("SELECT count(*) FROM s"), "0")


class Start(CompatCase):
    fresh = True
    start = False
    config = {"num_init_children": 2}
    weight = 15

    def test_daemon_mode_detaches_writes_its_pid_and_stops_on_command(self):
        done = proc.run(self.pool.argv(), timeout=20)
        self.assertEqual(done.code, 0, done)
        self.eventually(lambda: os.path.exists(self.pool.pid_file), "the pid file")
        pid = int(self.eventually(lambda: open(self.pool.pid_file).read().strip("\0\n "), "a pid in it"))
        try:
            self.assertTrue(proc.alive(pid))
            self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
            self.assertEqual(os.stat(self.pool.pid_file).st_mode & 0o777, 0o600)
            self.eventually(self.can_connect, "sessions")
            reload = proc.run(self.pool.argv("reload"), timeout=20)
            self.assertEqual((reload.code, reload.out), (0, ""), reload)
            stop = proc.run(self.pool.argv("-m", "fast", "stop"), timeout=30)
            self.assertEqual(stop.code, 0, stop)
            self.assertFalse(proc.alive(pid))
            self.assertEqual(self.pool.leftovers(), [])
        finally:
            for one in proc.tree(pid) if proc.alive(pid) else ():
                os.kill(one, signal.SIGKILL)

    def test_a_second_start_on_the_same_pid_file_is_refused(self):
        self.pool.start()
        done = proc.run(self.pool.argv("-n"), timeout=20)
        self.assertEqual(done.code, 1, done)
        self.assertRegex(done.err, r"pid file found\. is another pgpool\(\d+\) is running")
        self.assertTrue(self.can_connect())

    def test_a_stale_pid_file_and_stale_sockets_are_no_obstacle(self):
        self.pool.write(self.pool.pid_file, "99999999\0", mode=0o600)
        for port in (self.pool.port, self.pool.pcp_port):
            path = f"{self.pool.run_dir}/.s.PGSQL.{port}"
            stale = socket.socket(socket.AF_UNIX)
            stale.bind(path)
            stale.close()
            from lib import env

            env.hand_over(path)
        self.pool.start()
        self.assertIn("pid file found but it seems bogus. Trying to start pgpool anyway...", self.pool.log())
        self.assertEqual(self.client(unix=True).value("SELECT 1"), "1")
        self.assertEqual(tools.pcp_ok(self.pool, "node_count", host=self.pool.run_dir).out, "1\n")

    def test_a_port_in_use_stops_the_start_with_status_3_and_a_message(self):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", self.pool.port))
            taken.listen()
            self.pool.launch()
            code = self.pool.wait_end(timeout=30)
        self.assertEqual(code, 3)
        self.assertIn("Address already in use", self.pool.log())
        self.assertEqual([f for f in self.pool.leftovers() if f == "pgpool.pid"], [])

    def test_a_syntax_error_stops_the_start_with_status_3(self):
        self.pool.write(self.pool.conf, self.pool.config_text() + "\nthis is = = no setting\n")
        done = proc.run(self.pool.argv("-n"), timeout=20)
        self.assertEqual(done.code, 3, done)

    def test_a_value_out_of_range_stops_the_start_with_status_3(self):
        self.pool.write_config(num_init_children=0)
        done = proc.run(self.pool.argv("-n"), timeout=20)
        self.assertEqual(done.code, 3, done)
        self.assertIn("num_init_children", done.err)

    def test_relative_paths_of_the_options(self):
        self.pool.launch = lambda *more: None
        log = open(self.pool.logfile, "ab")
        self.pool.process = proc.start([self.pool.binary, "-f", "pgpool.conf", "-a", "pool_hba.conf", "-F", "pcp.conf", "-n"], log=log, sig=signal.SIGINT, cwd=self.pool.home)
        self.pool._sessions.append(self.pool.process.pid)
        self.pool.wait_log("successfully started")
        self.assertTrue(self.can_connect())

    def test_a_file_of_many_backends_starts(self):
        extra = "".join(f"backend_hostname{n} = '127.0.0.1'\nbackend_port{n} = {self.cluster[0].port}\nbackend_weight{n} = 1\nbackend_flag{n} = 'DISALLOW_TO_FAILOVER'\n" for n in range(1, 20))
        self.pool.write(self.pool.conf, self.pool.config_text() + extra)
        self.pool.start()
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "20\n")
        self.assertTrue(self.can_connect())


class CommandLine(CompatCase):
    start = False

    def test_version(self):
        for option in ("-v", "--version"):
            done = proc.run([self.pool.binary, option])
            self.assertEqual(done.code, 0)
            self.assertRegex(done.err, r"^pgpool-II version 4\.3\.\d+ \(tamahomeboshi\)")
            self.assertEqual(len((done.out + done.err).strip().splitlines()), 1)

    def test_help(self):
        for option in ("-h", "--help"):
            done = proc.run([self.pool.binary, option])
            self.assertEqual(done.code, 0)
            for word in ("--config-file", "--hba-file", "--pcp-file", "--dont-detach", "--discard-status", "--mode", "reload", "stop"):
                self.assertIn(word, done.err)

    def test_unknown_options_modes_and_commands_print_the_usage_and_exit_1(self):
        for args in (("--nonsense",), ("-m", "x", "stop"), ("restart",), ("stop", "reload")):
            done = proc.run([self.pool.binary, "-f", self.pool.conf, *args])
            self.assertEqual(done.code, 1, done)

    def test_stop_and_reload_without_a_running_pgpool(self):
        stop = proc.run(self.pool.argv("stop"))
        self.assertEqual(stop.code, 3, stop)
        self.assertIn("could not read pid file", stop.err)
        reload = proc.run(self.pool.argv("reload"))
        self.assertEqual(reload.code, 1, reload)
        self.assertIn("could not read pid file", reload.err)

    def test_a_missing_configuration_file_is_fatal(self):
        done = proc.run([self.pool.binary, "-f", "/nonexistent/pgpool.conf", "-n"])
        self.assertEqual(done.code, 3, done)

    @ours_only("--check")
    def test_check_prints_findings_and_the_dialect_and_changes_nothing(self):
        before = sorted(os.listdir(self.pool.home))
        done = proc.run(self.pool.argv("--check"))
        self.assertEqual(done.code, 0, done)
        self.assertIn("4.3", done.out + done.err)
        self.assertEqual(sorted(os.listdir(self.pool.home)), before)
        self.assertEqual(self.pool.leftovers(), [])

    @ours_only("--check")
    def test_check_of_a_broken_file_names_the_line_and_exits_1(self):
        path = self.pool.file("broken.conf")
        self.pool.write(path, "port = 9999\nnum_init_children = many\n")
        done = proc.run([self.pool.binary, "-f", path, "--check"])
        self.assertEqual(done.code, 1, done)
        self.assertRegex(done.out + done.err, rf"(?m)^{re.escape(path)}:2:")


class NotBuiltYet(CompatCase):
    """What a later release brings is named at start, or refused where ignoring it would be dangerous."""

    fresh = True
    start = False
    config = {"num_init_children": 2}
    weight = 12

    @ours_only("parts that are not built yet")
    def test_each_setting_without_effect_is_named_by_one_warning(self):
        for number, (name, value) in enumerate((("memory_cache_enabled", True),)):
            with self.subTest(setting=name):
                pool = self.another_pool(f"w{number}", config={name: value})
                pool.start()
                self.assertEqual(len(re.findall(rf"WARNING: [^\n]*\b{name}\b", pool.log())), 1, pool.log())
                self.assertEqual(proc.run(pool.argv("--check")).code, 0)
                pool.stop()

    @ours_only("parts that are not built yet")
    def test_dangerous_settings_refuse_the_start_with_their_line(self):
        cases = [({"backend_clustering_mode": "native_replication"}, "backend_clustering_mode"), ({"backend_clustering_mode": "snapshot_isolation"}, "backend_clustering_mode")]
        for number, (config, name) in enumerate(cases):
            with self.subTest(config=config):
                pool = self.another_pool(f"d{number}", config=config)
                done = proc.run(pool.argv("-n"), timeout=20)
                self.assertNotEqual(done.code, 0, done)
                self.assertRegex(done.err, r"pgpool\.conf:\d+:")
                self.assertIn(name, done.err)
                self.assertEqual(proc.run(pool.argv("--check")).code, 0)


class Reload(CompatCase):
    fresh = True
    nodes = 2
    config = {"num_init_children": 2}
    weight = 12

    def test_reload_by_command_and_by_signal(self):
        mark = self.pool.log_size()
        done = proc.run(self.pool.argv("reload"))
        self.assertEqual((done.code, done.out), (0, ""), done)
        self.pool.wait_log("reload config files", since=mark)
        self.pool.reload()

    def test_start_parameters_stay_as_they_were(self):
        self.pool.reload(num_init_children=7)
        time.sleep(0.5)
        self.assertEqual(len(tools.pcp_ok(self.pool, "proc_count").out.split()), 2)

    def test_a_file_with_an_error_changes_nothing_and_is_reported(self):
        self.pool.write(self.pool.conf, "client_idle_limit = 1\nwhat ever = = \n")
        self.pool.signal(signal.SIGHUP)
        time.sleep(1)
        client = self.client()
        client.value("SELECT 1")
        time.sleep(2.5)
        self.assertEqual(client.value("SELECT 2"), "2")
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "2\n")

    def test_health_checks_obey_a_new_failover_command(self):
        self.pool.reload(failover_command=self.hook.command("after"))
        time.sleep(0.5)
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.pool.wait_log("failover done")
        self.assertEqual([c[0] for c in self.hook.calls("after")], ["1"])

    def test_log_statement_can_be_switched_on(self):
        with self.pool.client() as client:
            client.value("SELECT 'before'")
        self.pool.reload(log_statement=True, log_per_node_statement=True)
        time.sleep(0.5)
        with self.pool.client() as client:
            client.value("SELECT 'after_reload'")
        self.pool.wait_log(r"statement: SELECT 'after_reload'")
        self.pool.wait_log(r"DB node id: 0 backend pid: \d+ statement: SELECT 'after_reload'")


class Log(CompatCase):
    nodes = 2
    config = {"num_init_children": 4, "log_connections": True, "log_disconnections": True, "log_statement": True, "log_per_node_statement": True, "log_client_messages": True}

    def test_lines_have_the_prefix_of_the_release(self):
        self.assertRegex(self.pool.log(), r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}: main pid \d+: LOG:  pgpool-II successfully started\. version 4\.3\.\d+ \(tamahomeboshi\)")

    def test_connections_and_disconnections(self):
        with self.pool.client() as client:
            client.value("SELECT 1")
        self.pool.wait_log(r"new connection received")
        self.pool.wait_log(r"connecting host=127\.0\.0\.1 port=\d+")
        self.pool.wait_log(r"frontend disconnection: session time: \d+:\d\d:\d\d\.\d{3} user=app database=app host=127\.0\.0\.1 port=\d+")

    def test_statements_of_the_simple_protocol(self):
        with self.pool.client() as client:
            pid = client.pid()
            client.value("SELECT 'look for me'")
        self.pool.wait_log(r"LOG:  statement: SELECT 'look for me'")
        self.pool.wait_log(rf"DB node id: 0 backend pid: {pid} statement: SELECT 'look for me'")

    def test_statements_of_the_extended_protocol(self):
        from lib import wire

        with self.pool.client() as client:
            client.exchange(wire.parse("SELECT 'ext'") + wire.bind() + wire.describe() + wire.execute() + wire.sync()).ok()
        for what in ("Parse: SELECT 'ext'", "Bind: SELECT 'ext'", "Execute: SELECT 'ext'"):
            self.pool.wait_log(rf"DB node id: 0 backend pid: \d+ statement: {what}")
        self.pool.wait_log(r"LOG:  statement: SELECT 'ext'")
        self.assertNotRegex(self.pool.log(), r"LOG:  statement: (Parse|Execute): ")

    def test_client_messages(self):
        from lib import wire

        with self.pool.client() as client:
            client.exchange(wire.parse("SELECT 'msg'") + wire.bind() + wire.execute() + wire.sync()).ok()
        for kind in ("Parse", "Bind", "Execute", "Sync"):
            self.pool.wait_log(rf"{kind} message from frontend\.")

    def test_admin_commands_and_why_they_are_refused(self):
        client = self.client()
        for command, refusal in (
            ("SHOW POOL_VERSION", None),
            ("PGPOOL SET bogus TO 1", 'unrecognized configuration parameter "bogus"'),
            ("PGPOOL SET client_idle_limit TO 'x'", 'invalid value for parameter "client_idle_limit": "x"'),
            ("PGPOOL SHOW bogus", 'config variable "bogus" not found'),
            ("PGPOOL RESET bogus", 'unrecognized configuration parameter "bogus"'),
        ):
            mark = self.pool.log_size()
            client.query(command)
            self.pool.wait_log("DETAIL:  query: " + re.escape(f'"{command}"'), since=mark)
            self.pool.wait_log("LOG:  statement: " + re.escape(command), since=mark)
            if refusal:
                self.pool.wait_log("FRONTEND_ERROR:  " + re.escape(refusal), since=mark)

    @ours_only("the database named by admin_database is served outside the slots")
    def test_sessions_of_the_admin_database_are_logged_alike(self):
        client = self.client(database="pgpool_admin", user="md5user", password="md5pw", options={"application_name": "ops"})
        for command, refusal in (
            ("SHOW POOL_NODES", None),
            ("PGPOOL SET bogus TO 1", 'unrecognized configuration parameter "bogus"'),
            ("SELECT 1", 'database "pgpool_admin" answers admin SQL only'),
        ):
            mark = self.pool.log_size()
            client.query(command)
            self.pool.wait_log("ops pid .*: DETAIL:  query: " + re.escape(f'"{command}"'), since=mark)
            self.pool.wait_log("ops pid .*: LOG:  statement: " + re.escape(command), since=mark)
            if refusal:
                self.pool.wait_log("ops pid .*: FRONTEND_ERROR:  " + re.escape(refusal), since=mark)
        client.query("PGPOOL SET log_statement TO off")
        mark = self.pool.log_size()
        client.query("SHOW POOL_VERSION")
        self.pool.wait_log('query: "SHOW POOL_VERSION"', since=mark)
        self.assertNotIn("statement: SHOW", self.pool.log(mark))

    def test_the_application_name_is_in_the_lines_of_a_session(self):
        with self.pool.client(options={"application_name": "batch7"}) as client:
            client.value("SELECT 'named'")
        self.pool.wait_log(r"(?m)^\S+ \S+ batch7 pid \d+: LOG:  statement: SELECT 'named'")


class ApplicationName(CompatCase):
    config = {"num_init_children": 2, "log_statement": True, "log_disconnections": True}

    def test_the_lines_of_a_session_follow_its_application_name(self):
        from lib import wire

        with self.pool.client(options={"application_name": "first"}) as client:
            for change, name in (
                ("SET application_name = 'second'", "second"),
                ("SELECT set_config('application_name', 'third', false)", "third"),
                ("BEGIN", "third"),
                ("SET LOCAL application_name = 'local'", "local"),
                ("ROLLBACK", "third"),
                ("SET application_name = ''", r"\[unknown\]"),
                ("RESET application_name", "first"),
                (None, "last"),
            ):
                if change is None:
                    client.exchange(wire.extended("SET application_name = 'last'") + wire.sync()).ok()
                else:
                    client.query(change).ok()
                mark = self.pool.log_size()
                client.query("SELECT 'now'")
                self.pool.wait_log(rf"(?m)^\S+ \S+ {name} pid \d+: LOG:  statement: SELECT 'now'", since=mark)
        self.pool.wait_log(r"(?m)^\S+ \S+ first pid \d+: LOG:  frontend disconnection")


class Verbosity(CompatCase):
    config = {"num_init_children": 2, "log_statement": True, "log_connections": True, "log_error_verbosity": "verbose"}

    def test_verbose_entries_end_with_their_source_line(self):
        self.client().value("SELECT 'where'")
        self.pool.wait_log(r"(?m)LOG:  statement: SELECT 'where'\n\S+ \S+ \S+ pid \d+: LOCATION:  \S+:\d+$")
        self.pool.wait_log(r"(?m)LOG:  new connection received\n.* DETAIL:  connecting host=.*\n\S+ \S+ \S+ pid \d+: LOCATION:  \S+:\d+$")
        self.assertNotRegex(self.pool.log(), r"LOCATION:  /")


class ClientMinMessages(CompatCase):
    """The client reads along what is logged of its statements."""

    config = {"num_init_children": 4, "log_statement": True, "log_per_node_statement": True, "log_client_messages": True}

    def own_notices(self, result):
        # Not those about questions that stock asks the server itself.
        wanted = [m.fields for m in result.messages if m.kind == "N" and m.fields["S"] == "LOG"]
        return [(f["C"], re.sub(r"pid: \d+", "pid: P", f["M"]), f.get("D")) for f in wanted if "version()" not in f["M"] and "pool_reuse_block" not in f["M"]]

    def test_with_log_the_client_is_sent_the_lines_of_its_statements(self):
        from lib import wire

        client = self.client()
        self.assertEqual(self.own_notices(client.query("SELECT 1").ok()), [])
        client.query("PGPOOL SET client_min_messages TO log").ok()
        got = client.query("SELECT 'a'").ok()
        self.assertEqual(self.own_notices(got), [
            ("XX000", "Query message from frontend.", "query: \"SELECT 'a'\""),
            ("XX000", "statement: SELECT 'a'", None),
            ("XX000", "DB node id: 0 backend pid: P statement: SELECT 'a'", None),
        ])
        self.assertRegex(got.kinds, "^N+TDCZ$")
        self.assertEqual(self.own_notices(client.query("PGPOOL SET bogus TO 1")), [
            ("XX000", "Query message from frontend.", 'query: "PGPOOL SET bogus TO 1"'),
            ("XX000", "statement: PGPOOL SET bogus TO 1", None),
        ])
        got = client.exchange(wire.extended("SELECT 'x'") + wire.sync()).ok()
        self.assertEqual([m for _, m, _ in self.own_notices(got) if "node" not in m], [
            "Parse message from frontend.", "Bind message from frontend.", "Describe message from frontend.",
            "Execute message from frontend.", "statement: SELECT 'x'", "Sync message from frontend.",
        ])
        self.assertRegex(got.kinds, "^N+12TDCZ$")
        client.query("PGPOOL SET client_min_messages TO info").ok()
        self.assertEqual(self.own_notices(client.query("SELECT 1").ok()), [])

    def test_the_file_may_say_it_too(self):
        pool = self.another_pool(config={"client_min_messages": "log"}).start()
        with pool.client() as client:
            self.assertIn("statement: SELECT 'b'", [m for _, m, _ in self.own_notices(client.query("SELECT 'b'").ok())])

    def test_notices_do_not_fall_into_a_long_answer(self):
        client = self.client()
        client.query("PGPOOL SET client_min_messages TO log").ok()
        from lib import wire

        client.send(b"".join(wire.query(f"SELECT repeat('{n}', 100000) FROM generate_series(1, 20)") for n in range(10)))
        for n in range(10):
            got = client.until().ok()
            self.assertEqual({row[0] for row in got.rows}, {str(n) * 100000})


class OwnLog(CompatCase):
    config = {"num_init_children": 2, "log_statement": True}

    def test_a_session_may_set_the_level_and_the_verbosity_of_its_lines(self):
        client, other = self.client(), self.client()
        client.query("PGPOOL SET log_error_verbosity TO verbose").ok()
        mark = self.pool.log_size()
        client.query("SELECT 'loud'").ok()
        other.query("SELECT 'other'").ok()
        self.pool.wait_log(r"(?m)statement: SELECT 'loud'\n.* LOCATION:  \S+:\d+$", since=mark)
        self.pool.wait_log(r"statement: SELECT 'other'", since=mark)
        self.assertEqual(self.pool.log(mark).count("LOCATION"), 1 + self.pool.log(mark).count("pool_reuse_block"))
        client.query("PGPOOL SET log_min_messages TO fatal").ok()
        mark = self.pool.log_size()
        client.query("SELECT 'silent'").ok()
        other.query("SELECT 'again'").ok()
        self.pool.wait_log(r"statement: SELECT 'again'", since=mark)
        self.assertNotIn("silent", self.pool.log(mark))


class Collector(CompatCase):
    start = False
    config = {"num_init_children": 2, "logging_collector": True, "log_filename": "pgpool-%Y.log", "log_destination": "stderr"}

    def test_the_collector_writes_its_file_and_rotates_on_sigusr1_or_size(self):
        folder = os.path.join(self.pool.home, "collected")
        self.pool.write_config(log_directory=folder)
        self.pool.launch()
        self.eventually(lambda: os.path.isdir(folder) and any("successfully started" in open(os.path.join(folder, f)).read() for f in os.listdir(folder)), "the collected log")
        names = os.listdir(folder)
        self.assertRegex(names[0], r"^pgpool-\d{4}\.log$")
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(os.path.join(folder, names[0])).st_mode & 0o777, 0o600)
        self.assertEqual(self.pool.stop(), 0)


class Syslog(CompatCase):
    start = False
    config = {"num_init_children": 2, "log_destination": "syslog"}

    def test_a_host_without_a_syslog_daemon_is_no_obstacle(self):
        self.pool.launch()
        self.eventually(self.can_connect, "sessions")
        self.assertEqual(self.pool.stop(), 0)


class SyslogDaemon:
    """A /dev/log of the test's own: `mounts` makes it the one that pgpool finds."""

    def __init__(self, home):
        self.folder = os.path.join(home, "dev")
        os.makedirs(self.folder)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(self.folder, "log"))
        os.chmod(os.path.join(self.folder, "log"), 0o666)
        self.mounts = f"cd '{self.folder}'; for f in null zero random urandom; do touch $f; mount --bind /dev/$f $f; done; mount --rbind '{self.folder}' /dev; cd '{home}'"
        self.lines = []
        # Writers are held up when nobody takes what they send.
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            line = self.socket.recv(65536)
            if line == b"end":
                return
            self.lines.append(line.decode())

    def end(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", os.path.join(self.folder, "log"))
        self.reader.join()
        self.socket.close()

    def wait(self, text):
        """The lines of the entry with this text: (facility, severity, ident, number, piece, text)."""
        found = proc.wait_for(lambda: [e for e in self.entries() if text in e[5]], lambda: f"{text!r} in {self.lines[-20:]}")[-1]
        return found

    def entries(self):
        seen = []
        for line in list(self.lines):
            priority, ident, number, piece, text = re.fullmatch(r"(?s)<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (.*?)\[\d+\]: \[(\d+)-(\d+)\] (.*)", line).groups()
            seen.append((int(priority) >> 3, int(priority) & 7, ident, int(number), int(piece), text))
        return seen


@needs_root
class SyslogWithDaemon(CompatCase):
    start = False
    config = {"num_init_children": 2, "log_destination": "syslog", "syslog_facility": "LOCAL3", "syslog_ident": "the pool", "enable_pool_hba": True, "log_statement": True}
    hba = "host all md5user all md5\nhost all app all trust\n"
    LOCAL3, ERROR, WARNING, INFO = 19, 3, 4, 6

    def setUp(self):
        super().setUp()
        self.daemon = SyslogDaemon(self.pool.home)
        self.addCleanup(self.daemon.end)
        self.pool.mounts = self.daemon.mounts

    def test_facility_ident_severities_and_pieces(self):
        self.pool.launch()
        self.daemon.wait("pgpool-II successfully started")
        with self.pool.client(options={"application_name": "batch7"}) as client:
            client.value("SELECT 'a\nb'")
            client.value("SELECT '" + "word " * 400 + "'")
            client.value("SELECT '" + "x" * 2000 + "'")
            first = self.daemon.wait("LOG:  statement: SELECT 'a")
            self.assertEqual(first[:3], (self.LOCAL3, self.INFO, "the pool"))
            self.assertRegex(first[5], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}: batch7 pid \d+: LOG:  statement: SELECT 'a$")
            second = self.daemon.wait("\tb'")
            self.assertEqual(second, first[:4] + (2, "\tb'"), "the lines of an entry are its pieces")
            for text, count in (("word word", 3), ("xxxxx", 3)):
                self.daemon.wait(text)
                self.eventually(lambda text=text, count=count: len(self.pieces(text)) == count, f"{count} pieces of {text}")
                self.assertTrue(all(len(piece) <= 900 for piece in self.pieces(text)))
            self.assertEqual("".join(self.pieces("word word")).count("word"), 400)
        self.refused(user="md5user", password="wrong")
        refused = self.daemon.wait("ERROR:  md5 authentication failed")
        self.assertEqual(refused[:3], (self.LOCAL3, self.WARNING, "the pool"))
        detail = self.daemon.wait("DETAIL:  password does not match")
        self.assertEqual(detail[:5], refused[:4] + (2,))
        self.refused(user="postgres")
        self.assertEqual(self.daemon.wait("FATAL:  client authentication failed")[:2], (self.LOCAL3, self.ERROR))
        self.assertEqual(self.daemon.wait("HINT:  see pgpool log for details")[1], self.ERROR)
        # Facility and name can be changed by a reload.
        self.pool.write_config(syslog_facility="LOCAL5", syslog_ident="other")
        self.pool.signal(signal.SIGHUP)
        self.eventually(lambda: self.told_of_a_statement() == (self.LOCAL3 + 2, self.INFO, "other"), "the new facility and name")
        self.assertEqual(self.pool.stop(), 0)
        self.daemon.wait("Pgpool-II system is shutdown")
        self.assertEqual(self.pool.log(), "", "nothing but syslog is written to")

    def told_of_a_statement(self):
        text = f"SELECT 'reloaded {time.monotonic_ns()}'"
        with self.pool.client() as client:
            client.value(text)
        return self.daemon.wait(text)[:3]

    def pieces(self, text):
        return [e[5] for e in self.daemon.entries() if text in e[5]]


class LogPrefixOfTheOldDialect(CompatCase):
    dialect = "4.0"

    @ours_only("the default prefix follows the dialect of the file")
    def test_the_prefix_of_4_0(self):
        self.assertRegex(self.pool.log(), r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: pid \d+: LOG:  pgpool-II successfully started\. version 4\.0\.\d+ \(torokiboshi\)")


class Titles(CompatCase):
    config = {"num_init_children": 2}

    def test_the_main_process_keeps_its_command_line(self):
        with open(f"/proc/{self.pool.process.pid}/cmdline", "rb") as cmdline:
            self.assertIn(self.pool.conf.encode(), cmdline.read())
