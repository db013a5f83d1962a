"""The history of decisions (pgpool events, SHOW POOL_EVENTS) and the dry run (pgpool --what-if), on real servers."""

import os
import re
import stat

from lib import proc, tools
from lib.case import CompatCase, needs_root, ours_only, promoting
from .test_follow import CHECKED, FollowCase, recorded
from .test_recovery import RecoveryCase

ours = ours_only("it has a history of events and a dry run")


def steps(events, *kinds):
    return [f"{e['kind']} {e['step']}" for e in events if e["kind"] in kinds]


class Told:
    """Words for tests about what was told."""

    def events(self, *options):
        return tools.events(self.pool, *options)

    def told(self, kind, step):
        """The latest event of that kind and step."""
        found = [e for e in self.events() if (e["kind"], e["step"]) == (kind, step)]
        self.assertTrue(found, f"{kind} {step} in {self.events()}")
        return found[-1]

    def wait_told(self, kind, step, count=1):
        def there():
            return sum((e["kind"], e["step"]) == (kind, step) for e in self.events()) >= count

        self.eventually(there, lambda: f"{count} times {kind} {step}; are {steps(self.events(), kind)}", timeout=40)
        return self.told(kind, step)


@ours
class PrimaryDies(Told, FollowCase):
    config = {**CHECKED, "follow_primary_command": recorded}

    def test_what_was_foretold_is_done_and_told(self):
        foretold = tools.what_if(self.pool, "down 0")
        self.assertEqual(self.statuses(), ["up", "up", "up"])
        self.assertEqual(self.hook.calls(), [])
        self.assertIn("assumed: it promotes the server of node 1", foretold)
        self.assertIn("then: node 0 down; node 1 up, primary; node 2 down", foretold)
        self.assertIn("sessions: all end (SQLSTATE 57P01), because they write to node 0", foretold)

        self.cluster[0].kill()
        end = self.wait_told("failover", "ended")
        self.assertEqual((end["node"], end["primary"], end["main"], end["result"]), (0, 1, 1, "done"))
        self.assertEqual(end["rule"], "its server says that it takes writes")
        self.wait_told("follow", "ended")
        self.wait_up("down", "up", "up")
        events = self.events()

        began = self.told("failover", "began")
        self.assertEqual((began["cause"], began["node"]), ("the health check of node 0", 0))
        self.assertRegex(began["evidence"], rf"attempts? failed.*127\.0\.0\.1\({self.cluster[0].port}\): .*refused")
        whole = [e for e in events if e["operation"] == began["id"]]
        self.assertEqual([e["step"] for e in whole], ["began", "hook", "hook_ended", "ended"])
        self.assertEqual([e["id"] for e in events], list(range(1, len(events) + 1)))
        self.assertEqual(steps(events, "follow"), ["follow began", "follow hook", "follow hook_ended", "follow hook", "follow hook_ended", "follow ended"])

        # The command lines are those that were foretold, and those that were run.
        run = [e["hook"]["command"] for e in events if e["step"] == "hook"]
        self.assertEqual(len(run), 3)
        self.assertEqual([line.partition(" is run: ")[2] for line in foretold if " is run: " in line], run)
        self.assertEqual(len(self.hook.calls()), 3)
        ends = [e for e in events if e["step"] == "hook_ended"]
        # The usual script does nothing for the failed primary, which is no failure.
        self.assertEqual([e["hook"]["status"] for e in ends], [0, 0, 0])
        self.assertTrue(all(e["seconds"] >= 0 for e in ends))

        # SQL shows the same, in a session and without a slot.
        admin = self.client(database="pgpool_admin", user="md5user", password="md5pw")
        for client in (self.client(), admin):
            shown = client.query("SHOW POOL_EVENTS").ok()
            self.assertEqual(shown.columns, ["id", "time", "operation", "node_id", "event", "cause", "evidence", "command"])
            self.assertEqual([int(row[0]) for row in shown.rows], [e["id"] for e in events])
            row = next(row for row in shown.rows if int(row[0]) == began["id"])
            self.assertEqual(list(row[3:7]), ["0", "failover of node 0 begins", began["cause"], began["evidence"]])
        self.pool.wait_log(re.escape(f"event {began['id']}: failover of node 0 begins"))

        # In the words of the plain form.
        plain = proc.run(self.pool.argv("events", "-n", "100")).out
        self.assertIn("failover of node 0: done after ", plain)
        self.assertIn(f"    command:  {run[0]}", plain)


@ours
class Operators(Told, CompatCase):
    nodes = 2
    fresh = True
    config = {**CHECKED, "health_check_period": 0, "failover_command": "echo what it says; echo why not >&2; exit 3"}

    def test_who_asked_is_told_and_how_a_command_failed(self):
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.wait_told("failover", "ended")
        began = self.told("failover", "began")
        self.assertRegex(began["cause"], r'^PCP user "pcpadmin" from 127\.0\.0\.1:\d+$')
        hook = self.told("failover", "hook_ended")["hook"]
        self.assertEqual((hook["command"], hook["status"]), (self.config["failover_command"], 3))
        said, where = hook["output"].rsplit("\n", 1)
        self.assertEqual(said, "what it says\nwhy not")
        self.assertRegex(where, rf"^\(of bytes \d+ to \d+ of {self.pool.logfile}\)$")
        self.assertIn("    output:   what it says\n              why not\n", proc.run(self.pool.argv("events", "-n", "100")).out)
        self.assertIn("not concerned", self.told("failover", "ended")["rule"])
        tools.pcp_ok(self.pool, "attach_node", "-n", 1)
        end = self.wait_told("failback", "ended")
        self.assertEqual((end["node"], end["primary"]), (1, 0))

    def test_the_end_of_what_was_answered_at_once_is_told(self):
        """A refusal, a wait behind another, and a reload."""
        tools.pcp(self.pool, "promote_node", "-n", 1)
        refused = self.wait_told("promotion", "refused")
        self.assertIn("invalid promote request: the server of node id 1 is a standby", refused["result"])
        self.assertRegex(refused["cause"], "^PCP user")
        self.pool.reload(failover_command=self.hook.hold())
        reload = self.wait_told("reload", "ended")
        self.assertEqual((reload["cause"], reload["result"]), ("the signal SIGHUP", "changed: failover_command"))
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        tools.pcp_ok(self.pool, "attach_node", "-n", 1)
        self.assertEqual(self.wait_told("failback", "waits")["result"], "another operation goes on")
        self.hook.release()
        self.wait_told("failback", "ended")
        for _ in range(3):
            attach_again = tools.pcp_ok(self.pool, "attach_node", "-n", 1)
            self.assertIn("Successful", attach_again.out)
        self.assertEqual(self.wait_told("failback", "dropped")["result"], "the node is attached already")
        self.assertEqual(steps(self.events(), "failback").count("failback dropped"), 1, "a script that attaches by the clock is told once")

    def test_what_is_known_to_be_impossible_at_the_request_is_told(self):
        """Of nodes that there are not, and of those that are not as they would have to be."""
        for number, (kind, node, *words) in enumerate([
            ("failback", 7, "attach_node", "-n", 7),
            ("failover", 7, "detach_node", "-n", 7),
            ("failover", 8, "detach_node", "-g", "-n", 8),
            ("promotion", 7, "promote_node", "-n", 7),
            ("promotion", 0, "promote_node", "-n", 0),
            ("switchover", 0, "promote_node", "--switchover", "-n", 0),
            ("recovery", 7, "recovery_node", "-n", 7),
            ("recovery", 0, "recovery_node", "-n", 0),
            ("recovery", 1, "recovery_node", "-n", 1),
        ], start=1):
            error = tools.pcp(self.pool, *words).err
            refused = [e for e in self.events() if e["step"] == "refused"]
            self.assertEqual(len(refused), number, words)
            told = refused[-1]
            self.assertEqual((told["kind"], told["node"]), (kind, node), words)
            self.assertRegex(told["cause"], r'^PCP user "pcpadmin" from 127\.0\.0\.1:\d+$')
            self.assertTrue(told["result"])
            for line in error.splitlines():
                self.assertIn(line.partition(":  ")[2], told["result"], words)

    def test_a_detach_that_waits_for_the_clients_is_told(self):
        self.pool.reload(recovery_timeout=2)
        self.wait_told("reload", "ended")
        with self.pool.client() as client:
            client.value("SELECT 1")
            self.assertEqual(tools.pcp(self.pool, "detach_node", "-g", "-n", 1).err, "")
            self.assertEqual(self.told("failover", "waits")["result"], "1 clients have 2 seconds to leave")
            self.assertIn("still connected", self.told("failover", "dropped")["result"])
        self.assertEqual(self.pool.status_words(), ["up", "up"])

    def test_what_a_session_has_seen_is_told(self):
        self.pool.stop()
        self.pool.write_config(failover_on_backend_error=True)
        self.pool.start()
        self.cluster[1].kill()
        self.assertTrue(self.can_connect())
        began = self.wait_told("failover", "began")
        self.assertEqual(began["node"], 1)
        self.assertRegex(began["evidence"], r"^a session reported: .*; then 1 attempt failed: .*refused")

    def test_a_switchover_that_fails_is_told(self):
        self.pool.reload(search_primary_node_timeout=2)
        tools.pcp_ok(self.pool, "promote_node", "--switchover", "-n", 1)
        end = self.wait_told("switchover", "ended")
        self.assertEqual(end["result"], "failed: the primary node is -1, not 1")
        self.assertIn("search_primary_node_timeout", end["rule"])
        self.assertNotIn("primary", end)


@ours
class Kept(Told, CompatCase):
    fresh = True
    nodes = 2
    config = {**CHECKED, "health_check_period": 0, "failover_command": promoting}

    def paths(self, pool=None):
        pool = pool or self.pool
        return [os.path.join(pool.log_dir, name) for name in (f"pgpool_events.{pool.port}", f".s.pgpool-rs.{pool.port}")]

    def test_a_kill_in_the_middle_of_a_failover_is_told_by_the_next_pgpool(self):
        self.pool.reload(failover_command="sleep 8")
        self.wait_told("reload", "ended")
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        began = self.wait_told("failover", "began")
        self.eventually(lambda: "failover_command" in open(self.paths()[0]).read(), "the hook in the file")
        self.pool.kill()
        self.assertEqual([e["id"] for e in tools.events(self.pool)][-1], began["id"] + 1, "the file tells it")
        self.pool.start()
        end = self.told("stop", "ended")
        self.assertIn("did not end in order", end["result"])
        self.assertIn(f"failover of node 1 (#{began['id']}) has no end", end["evidence"])
        self.assertEqual(end["id"], began["id"] + 2)
        for path, kind in zip(self.paths(), (stat.S_ISREG, stat.S_ISSOCK)):
            found = os.stat(path)
            self.assertTrue(kind(found.st_mode), path)
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o600, path)
        self.pool.stop()
        self.assertFalse(os.path.exists(self.paths()[1]))
        self.pool.start()
        self.assertEqual(steps(self.events(), "stop"), ["stop ended", "stop began", "stop ended"], "an end in order is one")

    def test_two_pgpools_of_one_directory_are_not_mixed_up(self):
        """The other one starts while this one is in the middle of something."""
        self.pool.reload(failover_command=f"{self.hook.command('failover')}; {self.hook.hold()}", follow_primary_command="")
        self.wait_told("reload", "ended")
        other = self.another_pool(config={"failover_command": ""})
        other.log_dir = self.pool.log_dir
        other.write_config()
        tools.pcp_ok(self.pool, "detach_node", "-n", 1)
        self.wait_told("failover", "hook")
        other.start("-D")
        self.assertNotIn("pgpool was killed", other.log())
        self.assertTrue(os.path.exists(os.path.join(self.pool.log_dir, f"pgpool-rs.unfinished.{self.pool.port}")))
        self.hook.release()
        self.wait_told("failover", "ended")
        tools.pcp_ok(self.pool, "attach_node", "-n", 1)
        self.assertEqual(len(self.hook.calls()), 1)
        tools.pcp_ok(other, "detach_node", "-n", 1)
        self.eventually(lambda: "failover ended" in steps(tools.events(other), "failover"), "the failover of the other")
        self.assertEqual(steps(self.events(), "failover"), ["failover began", "failover hook", "failover hook_ended", "failover ended"])
        self.assertNotEqual(self.paths(), self.paths(other))

    def test_the_socket_is_nobody_elses(self):
        import socket

        if os.geteuid() != 0:
            self.skipTest("only root can become another account")
        pid = os.fork()
        if pid == 0:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as stranger:
                try:
                    stranger.connect(self.paths()[1])
                    os._exit(0)
                except PermissionError:
                    os._exit(13)
                except OSError:
                    os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 13)

    def test_a_second_pgpool_that_cannot_start_takes_nothing_away(self):
        done = proc.run(self.pool.argv("-n"), timeout=20)
        self.assertNotEqual(done.code, 0)
        self.assertEqual(steps(self.events(), "start"), ["start began", "start ended"])


@ours
@needs_root
class DiskIsFull(Told, CompatCase):
    """The work directory is a small disk of its own, full from the beginning."""

    nodes = 2
    start = False
    config = {**CHECKED, "health_check_period": 0, "failover_command": promoting}

    def shown(self):
        with self.pool.client() as client:
            return [row[4] for row in client.query("SHOW POOL_EVENTS").ok().rows]

    def test_a_failover_goes_on_and_the_events_are_written_when_there_is_room(self):
        folder = self.pool.log_dir
        self.pool.mounts = f"mount -t tmpfs -o size=64k,mode=777 none '{folder}'; dd if=/dev/zero of='{folder}/filler' bs=1k 2>/dev/null || true"
        self.pool.start()
        self.pool.wait_log(r"WARNING: .*failed to write events to .*pgpool_events\.\d+\"\n.*DETAIL: .*No space left on device")
        tools.pcp_ok(self.pool, "detach_node", "-n", 0)
        self.pool.wait_log(r"failover done\. shutdown host", timeout=40)
        self.eventually(lambda: any("failover of node 0: done" in line for line in self.shown()), "the end of the failover")
        self.assertEqual(self.pool.log().count("failed to write events"), 1)
        seen = f"/proc/{self.pool.process.pid}/root{folder}"
        file = os.path.join(seen, f"pgpool_events.{self.pool.port}")
        self.assertEqual(open(file).read(), "", "no half line")
        os.unlink(os.path.join(seen, "filler"))
        tools.pcp_ok(self.pool, "attach_node", "-n", 0)
        self.pool.wait_log(r"events are written to their file again")
        self.eventually(lambda: len(open(file).read().splitlines()) == len(self.shown()), "all events in the file")


@ours
class Recovery(Told, RecoveryCase):
    def test_a_recovery_is_told_with_its_scripts(self):
        self.scripts.install()
        self.lose()
        self.assertIn("Successful", self.recover().out)
        events = self.events()
        self.assertEqual(steps(events, "recovery"), ["recovery began", "recovery hook", "recovery hook_ended", "recovery hook", "recovery hook_ended", "recovery ended"])
        began = self.told("recovery", "began")
        self.assertRegex(began["cause"], r'^PCP user "pcpadmin" from')
        self.assertEqual(began["evidence"], "the node is rebuilt from node 0")
        hooks = [e["hook"] for e in events if e["kind"] == "recovery" and e["step"] == "hook_ended"]
        self.assertEqual([h["name"] for h in hooks], ["recovery_1st_stage_command", "pgpool_remote_start"])
        self.assertIn("pgpool_recovery('basebackup.sh'", hooks[0]["command"])
        self.assertEqual(self.told("failback", "began")["cause"], "the online recovery of node 1, at its end")

    def test_why_a_recovery_has_failed_is_told(self):
        self.scripts.install(before="exit 1")
        self.lose()
        self.recover()
        end = self.told("recovery", "ended")
        self.assertIn('failed: executing recovery, execution of command failed at "1st stage"', end["result"])
        self.assertTrue(self.told("recovery", "hook_ended")["hook"]["error"])
        foretold = tools.what_if(self.pool, "up 1")
        self.assertIn("assumed: the server of node 1 is a standby", foretold)
