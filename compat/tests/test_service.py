"""Start, stop, reload, files, options and the log, as an init system and an operator meet them."""

import os
import re
import signal
import socket
import threading
import time

from lib import proc, tools
from lib.case import CompatCase, ours_only


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
        # The watchdog is tried in the next test: it wants a node id file.
        for number, (name, value) in enumerate((("follow_primary_command", "true"), ("recovery_1st_stage_command", "x.sh"), ("memory_cache_enabled", True), ("load_balance_mode", True))):
            with self.subTest(setting=name):
                pool = self.another_pool(f"w{number}", config={name: value})
                if name == "use_watchdog":
                    pool.write(pool.file("pgpool_node_id"), "0\n")
                    pool.write_config(hostname0="127.0.0.1", pgpool_port0=pool.port, wd_port0=proc.free_port())
                pool.start()
                self.assertEqual(len(re.findall(rf"WARNING: [^\n]*\b{name}\b", pool.log())), 1, pool.log())
                self.assertEqual(proc.run(pool.argv("--check")).code, 0)
                pool.stop()

    @ours_only("parts that are not built yet")
    def test_the_watchdog_without_effect_is_named_by_one_warning(self):
        pool = self.another_pool("watchdog", config={"use_watchdog": True, "hostname0": "127.0.0.1", "wd_port0": 9000, "pgpool_port0": 9999})
        with open(os.path.join(os.path.dirname(pool.conf), "pgpool_node_id"), "w") as file:
            file.write("0\n")
        pool.start()
        self.assertEqual(len(re.findall(r"WARNING: [^\n]*\buse_watchdog\b", pool.log())), 1, pool.log())
        self.assertEqual(proc.run(pool.argv("--check")).code, 0)
        pool.stop()

    @ours_only("parts that are not built yet")
    def test_dangerous_settings_refuse_the_start_with_their_line(self):
        cases = [({"backend_clustering_mode": "native_replication"}, "backend_clustering_mode"), ({"backend_clustering_mode": "snapshot_isolation"}, "backend_clustering_mode"), ({"ssl": True}, "ssl")]
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

    def test_client_messages(self):
        from lib import wire

        with self.pool.client() as client:
            client.exchange(wire.parse("SELECT 'msg'") + wire.bind() + wire.execute() + wire.sync()).ok()
        for kind in ("Parse", "Bind", "Execute", "Sync"):
            self.pool.wait_log(rf"{kind} message from frontend\.")

    def test_the_application_name_is_in_the_lines_of_a_session(self):
        with self.pool.client(options={"application_name": "batch7"}) as client:
            client.value("SELECT 'named'")
        self.pool.wait_log(r"(?m)^\S+ \S+ batch7 pid \d+: LOG:  statement: SELECT 'named'")


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
