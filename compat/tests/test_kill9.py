"""kill -9 of pgpool at every step of a failover, then a start: the cluster comes to its right end, and no hook runs twice."""

import os
import time

from lib import tools
from lib.case import ours_only, promoting
from lib.shim import Shim

from .test_follow import CHECKED, FollowCase, script


class Kill9Case(FollowCase):
    """The primary ends, and pgpool is killed on the way; or the test kills it."""

    fresh = True
    start = False
    weight = 25
    config = {**CHECKED, "failover_command": promoting, "follow_primary_command": lambda t: t.hook.command("follow", "%d %m %M %P") + "; " + script(t)}

    def started(self, kill=None):
        """Runs until the call `kill`; what the tests stand on after that is `again`."""
        self.shim = Shim(self.pool.home)
        self.pool.extra_env = self.shim.environment(kill)
        self.pool.start()
        self.pool.extra_env = {}

    def wait_killed(self):
        process = self.pool.process
        self.eventually(lambda: process.poll() is not None, lambda: f"pgpool to be killed; log:\n{self.pool.log()[-3000:]}", timeout=40)
        self.assertEqual(process.returncode, -9)
        self.pool.process = None

    def again(self, still_runs=None):
        """`still_runs`: the hook that the start finds running, which ends then."""
        self.mark = self.pool.log_size()
        self.pool.launch()
        if still_runs:
            self.pool.wait_log(rf"{still_runs} still runs as process group \d+: waiting for its end", since=self.mark)
            self.still_runs()
            self.hook.release()
        self.pool.wait_log(r"successfully started", since=self.mark, timeout=60)

    def still_runs(self):
        """What a test looks at before the hook ends."""

    def no_primary_any_more(self):
        self.cluster[0].stop("fast")

    def hooks(self, name):
        return [call[0] for call in self.hook.calls(name)]

    def ends_well(self):
        """Node 1 is the primary, node 2 follows it, each hook has run once."""
        self.pool.wait_log(r"follow commands for node 1 as the primary have ended", since=self.mark, timeout=60)
        self.wait_up("down", "up", "up")
        self.writes_go_to(1)
        self.assertEqual(self.hooks("failover"), ["0"])
        self.assertEqual(self.hook.calls("follow"), [["0", "1", "0", "0"], ["2", "1", "0", "0"]])
        self.eventually(lambda: self.streams_from(2, 1), "node 2 to follow", timeout=30)
        self.eventually(lambda: not os.path.exists(self.record()), "the record to go")

    def record(self):
        return os.path.join(self.pool.log_dir, f"pgpool-rs.unfinished.{self.pool.port}")


@ours_only("a start goes on with the failover in which the process was killed; stock forgets it")
class AtAFailover(Kill9Case):
    def killed_at(self, kill):
        self.started(kill)
        self.no_primary_any_more()
        self.wait_killed()
        self.again()

    def test_in_the_write_of_the_status_file(self):
        """The second one: the first is that of the start."""
        self.killed_at("rename:pgpool_status:2:before")
        self.ends_well()
        self.assertIn("the primary: it is detached now unless a primary answers", self.pool.log(self.mark))

    def test_before_the_hook(self):
        self.killed_at("rename:pgpool_status:2:after")
        self.assertIn("pgpool was killed before failover_command for node 0 had begun: it is run now", self.pool.log(self.mark))
        self.ends_well()

    def test_as_the_hook_begins(self):
        self.killed_at("spawn:failover:1:after")
        self.assertIn("pgpool was killed while failover_command for node 0 ran: it is not run again", self.pool.log(self.mark))
        self.ends_well()

    def test_with_the_process_that_was_to_become_the_hook(self):
        self.killed_at("child:pgpool-rs.unfinished:1:before")
        self.assertIn("pgpool was killed before failover_command for node 0 had begun: it is run now", self.pool.log(self.mark))
        self.ends_well()

    def test_when_the_process_has_said_that_it_is_the_hook(self):
        """And has not become it yet: it does, without us."""
        self.killed_at("child:pgpool-rs.unfinished:1:after")
        self.assertIn("pgpool was killed while failover_command for node 0 ran: it is not run again", self.pool.log(self.mark))
        self.ends_well()

    def test_between_the_hook_and_the_end_of_the_search(self):
        """We write the record when the hook is due and when it has ended; the hook, when it has begun."""
        self.killed_at("rename:pgpool-rs.unfinished:2:after")
        self.assertIn("pgpool was killed after failover_command for node 0: going on from there", self.pool.log(self.mark))
        self.ends_well()

    def test_when_the_others_go_down(self):
        """The third status file has the nodes that have to follow."""
        self.killed_at("rename:pgpool_status:3:after")
        self.ends_well()

    def test_as_a_follow_command_begins(self):
        self.killed_at("spawn:follow:1:after")
        self.assertIn("pgpool has ended while the follow command for node 0 ran: it is not run again", self.pool.log(self.mark))
        self.ends_well()

    def test_with_the_process_that_was_to_become_a_follow_command(self):
        self.killed_at("child:pgpool-rs.unfinished:2:before")
        self.assertIn("pgpool was killed after failover_command for node 0: going on from there", self.pool.log(self.mark))
        self.ends_well()

    def test_twice(self):
        self.started("rename:pgpool_status:2:after")
        self.no_primary_any_more()
        self.wait_killed()
        self.pool.extra_env = self.shim.environment("rename:pgpool-rs.unfinished:1:after")
        self.pool.launch()
        self.wait_killed()
        self.pool.extra_env = {}
        self.again()
        self.ends_well()


@ours_only("a start goes on with the failover in which the process was killed; stock forgets it")
class DuringTheHook(Kill9Case):
    config = {**Kill9Case.config, "failover_command": lambda t: t.hook.command("failover") + f"; {t.hook.hold()}; {t.failover_sh} %d %h %P %m %H %R"}

    def test_it_is_waited_for_and_not_run_again(self):
        self.started()
        self.no_primary_any_more()
        self.eventually(self.hook.calls, "the hook", timeout=40)
        self.pool.kill()
        self.again("failover_command")
        self.ends_well()


@ours_only("a start goes on with the commands that follow a new primary; stock leaves the nodes down without a word")
class DuringFollow(Kill9Case):
    config = {**Kill9Case.config, "follow_primary_command": lambda t: t.hook.command("follow", "%d %m %M %P") + f"; test %d = 0 && {{ {t.hook.hold()}; }}; " + script(t)}

    def begun(self):
        self.started()
        self.no_primary_any_more()
        self.eventually(lambda: self.hook.calls("follow"), "the first follow command", timeout=40)

    def test_the_others_get_their_command_after_the_end_of_the_one_that_runs(self):
        self.begun()
        self.pool.kill()
        self.again("follow_primary_command")
        self.ends_well()

    def still_runs(self):
        self.assertEqual(self.hooks("follow"), ["0"])

    def test_not_after_a_start_that_discards_the_status(self):
        self.begun()
        self.pool.kill()
        self.mark = self.pool.log_size()
        self.pool.start("-D", timeout=60)
        self.hook.release()
        time.sleep(3)
        self.assertEqual(self.hooks("follow"), ["0"])

    def test_an_orderly_stop_says_what_is_left(self):
        self.begun()
        mark = self.pool.log_size()
        self.pool.stop()
        self.assertRegex(self.pool.log(mark), r"WARNING: .*follow commands are not begun any more, because pgpool ends; nodes without a command: 2")
        self.again()
        time.sleep(2)
        self.assertEqual(self.hooks("follow"), ["0"])
        self.assertEqual(self.statuses(), ["down", "up", "down"])


@ours_only("a start knows whether the hook has run")
class AtAFailback(Kill9Case):
    config = {**CHECKED, "failback_command": lambda t: t.hook.command("failback", "%d") + "; sleep 2"}

    def attach_and_die(self, kill=None):
        self.started(kill)
        tools.pcp_ok(self.pool, "detach_node", "-n", 2)
        self.wait_up("up", "up", "down")
        tools.pcp(self.pool, "attach_node", "-n", 2)

    def is_back(self):
        self.wait_up("up", "up", "up")
        self.assertEqual(self.hooks("failback"), ["2"])
        self.assertEqual(self.hooks("failover"), ["2"])
        self.writes_go_to(0)

    def test_during_the_hook(self):
        self.attach_and_die()
        self.eventually(lambda: self.hook.calls("failback"), "the hook", timeout=40)
        self.pool.kill()
        self.again()
        self.is_back()

    def test_before_the_hook(self):
        self.attach_and_die("rename:pgpool_status:3:after")
        self.wait_killed()
        self.again()
        self.is_back()
