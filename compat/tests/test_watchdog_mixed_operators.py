"""What operators do at nodes of a cluster of stock nodes and ours: promotions, stops, files that differ, keys, wd_cli.

With the subject stock the same is done with stock nodes alone: how the tests are proved.
"""

import os
import re
import shutil

from lib import env, proc, server, tools
from lib.case import ours_only
from lib.pgpools import KEY
from tests.test_watchdog import WatchdogCase


def nodes(*subjects):
    return tuple("stock" if env.SUBJECT == "stock" else one for one in subjects)


class MixedCase(WatchdogCase):
    #: Stock looks each ten of these whether it has heard of all.
    watchdog = {"wd_interval": 1}

    def start_led_by_the_first(self):
        """Whoever leads already is not asked to go; of those that start together anyone may lead."""
        first, *others = self.pgpools
        first.start(timeout=60)
        marks = [pool.log_size() for pool in others]
        for pool in others:
            pool.launch()
        for pool, mark in zip(others, marks):
            pool.wait_log(r"successfully started", since=mark, timeout=60)
        self.pgpools.wait_states("LEADER", "STANDBY", "STANDBY")
        return self.pgpools[0]


class PromoteCase(MixedCase):
    """Three servers. The first node leads, and the second and the third are asked to promote."""

    nodes = 3
    weight = 40
    server_settings = {"full_page_writes": "on"}  # for pg_rewind

    def setUp(self):
        super().setUp()
        follow = os.path.join(self.pool.home, "follow_primary.sh")
        shutil.copy(os.path.join(env.TOP, "compat", "hooks", "follow_primary.sh"), follow)
        os.chmod(follow, 0o755)
        for number, pool in enumerate(self.pgpools):
            recorded = self.hook.command("follow", f"w{number} %d %m")
            pool.write_config(
                failover_command=self.hook.command("failover", f"w{number} %d %m") + f"; {self.failover_sh} %d %h %P %m %H %R",
                follow_primary_command=f"{recorded}; {follow} %d %h %m %p %H %M %P %D %r {pool.home} rewind",
            )

    def tearDown(self):
        # A server that a script has started is no child of ours.
        for one in self.cluster.servers:
            proc.run([server.pg("pg_ctl"), "stop", "-m", "immediate", "-D", one.data])

    def wait_roles(self, *roles):
        """All nodes are up and have these roles, at each pgpool."""
        wanted = [("up", role) for role in roles]

        def seen():
            return [[("up" if status == "waiting" else status, role) for status, role in self.shown(pool)] for pool in self.pgpools]

        self.eventually(lambda: seen() == [wanted] * 3, lambda: f"{wanted} at each node; they have {seen()}", timeout=60)

    @staticmethod
    def shown(pool):
        # Stock replaces its PCP process after a failover.
        return [(block.get("Status Name"), block.get("Role")) for block in tools.verbose_blocks(tools.pcp(pool, "node_info", "-v").out)]

    def calls(self, name):
        return self.hook.calls(name)

    def follows_have_ended(self, primary):
        """Who still follows must not be in the way of the next order."""
        self.wait_roles(*("primary" if node == primary else "standby" for node in range(3)))
        names = sorted(f"server{node}" for node in range(3) if node != primary)
        self.eventually(lambda: sorted(row[0] for row in self.cluster[primary].rows("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")) == names,
                        "both others to follow", timeout=40)

    def promotions_at_standbys(self):
        leader = self.start_led_by_the_first()
        mark = leader.log_size()
        done = tools.pcp_ok(self.pgpools[1], "promote_node", "--switchover", "-n", 2)
        self.assertEqual(done.out, "pcp_promote_node -- Command Successful\n")
        leader.wait_log(r"failover: set new primary node: 2", since=mark, timeout=40)
        self.follows_have_ended(2)
        self.assertEqual((self.calls("failover"), self.calls("follow")), ([["w0", "0", "2"]], [["w0", "0", "2"], ["w0", "1", "2"]]), "hooks run at the leader alone, once for each node")
        for pool in self.pgpools:
            self.eventually(lambda p=pool: self.writes_to(p, 2), "writes through each node")
        # The other form: the server is one already.
        mark = leader.log_size()
        self.cluster[1].promote()
        tools.pcp_ok(self.pgpools[2], "promote_node", "-n", 1)
        leader.wait_log(r"failover: set new primary node: 1", since=mark, timeout=40)
        self.follows_have_ended(1)
        self.assertEqual((len(self.calls("failover")), self.calls("follow")[2:]), (1, [["w0", "0", "1"], ["w0", "2", "1"]]))
        for pool in self.pgpools:
            self.eventually(lambda p=pool: self.writes_to(p, 1), "writes through each node")

    def writes_to(self, pool, node):
        try:
            with pool.client(user="app", timeout=10) as client:
                return client.value("SELECT pg_is_in_recovery()::text || inet_server_port()") == f"false{self.cluster[node].port}"
        except (OSError, AssertionError, TimeoutError):
            return False


class PromoteUnderStock(PromoteCase):
    subjects = nodes("stock", "ours", "ours")

    def test_promotions_at_nodes_of_ours_are_done_by_a_stock_leader(self):
        self.promotions_at_standbys()


@ours_only("a leader of ours")
class PromoteUnderOurs(PromoteCase):
    subjects = ("ours", "stock", "ours")

    def test_promotions_at_a_stock_node_and_at_one_of_ours_are_done_by_a_leader_of_ours(self):
        self.promotions_at_standbys()


@ours_only("a leader of ours")
class PromoteAmongOurs(PromoteCase):
    subjects = ("ours", "ours", "ours")

    def test_promotions_at_standbys_are_done_by_the_leader(self):
        self.promotions_at_standbys()


class ConfigDataCase(MixedCase):
    """Files that differ: the leader warns of it."""

    weight = 15

    def the_leader_warns(self, odd):
        """Of one number and one switch of this node; each other one's file is the same."""
        self.pgpools[odd].write_config(recovery_timeout=77, connection_cache=False)
        leader = self.start_led_by_the_first()
        for name, here, there in (("recovery_timeout", "90", "77"), ("connection_cache", "(?i:on)", "(?i:off)")):
            text = leader.wait_log(rf'WARNING:  configurations value for "{name}" on node "(.*?)" is different[:\n](.*)').group(0)
            self.assertRegex(text, rf'on node "127\.0\.0\.1:{self.pgpools[odd].port} ')
            self.assertRegex(text, rf'"{name}" on this node is {here} while on ".*" is {there}')
        leader.wait_log(r"adding watchdog node .* to the standby list[^$]*adding watchdog node .* to the standby list")
        self.assertEqual(sorted(set(re.findall(r'configurations value for "(\w+)"', leader.log()))), ["connection_cache", "recovery_timeout"])


class ConfigData(ConfigDataCase):
    subjects = nodes("stock", "ours", "stock")

    def test_a_stock_leader_warns_of_what_differs_at_a_node_of_ours(self):
        self.the_leader_warns(1)


@ours_only("a leader of ours")
class ConfigDataOfStock(ConfigDataCase):
    subjects = ("ours", "stock", "ours")

    def test_a_leader_of_ours_warns_of_what_differs_at_a_stock_node(self):
        self.the_leader_warns(1)


class WrongKey(MixedCase):
    """A node whose wd_authkey is another one than that of two which lead and follow."""

    subjects = nodes("stock", "stock", "ours")
    weight = 25

    def test_it_is_not_let_in_before_its_key_is_right(self):
        first, second, stranger = self.pgpools
        stranger.write_config(wd_authkey="not " + KEY)
        first.start(timeout=60)
        second.start(timeout=60)
        stranger.launch()
        stranger.wait_log(r"(?i)add to watchdog cluster request is rejected by node", timeout=30)
        proc.never(lambda: [states[number] for number, states in ((2, self.pgpools.states(0)), (2, self.pgpools.states(1))) if states[number] in ("STANDBY", "LEADER")], "the stranger joins", 8)
        self.assertEqual(self.pgpools.states(0)[:2], ["LEADER", "STANDBY"], "nobody is disturbed")
        stranger.cleanup()
        mark = stranger.log_size()
        stranger.write_config(wd_authkey=KEY)
        stranger.start(timeout=60)
        self.pgpools.wait_states("LEADER", "STANDBY", "STANDBY")
        for pool in self.pgpools:
            pool.wait_log(r"lifecheck started", since=mark if pool is stranger else 0, timeout=60)


@ours_only("nodes of ours that are asked")
class WrongKeyOfStock(WrongKey):
    subjects = ("ours", "ours", "stock")


class Stops(MixedCase):
    """pcp_stop_pgpool for the whole cluster."""

    subjects = nodes("stock", "ours", "stock")
    weight = 30

    @ours_only("a node that is asked to stop the cluster tells it to all; of stock one may be left")
    def test_all_nodes_stop_whoever_leads(self):
        self.start_led_by_the_first()
        mark = self.pgpools[1].log_size()
        with self.pgpools[1].client(user="app", timeout=20) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
            tools.pcp_ok(self.pgpools[1], "stop_pgpool", "-m", "smart", "-s", "cluster")
            for number in (0, 2):
                self.pgpools[number].wait_end(40)
            self.pgpools[1].wait_log(r"(?i)smart shutdown", since=mark)
            self.assertEqual(client.value("SELECT 2"), "2", "a smart stop waits for clients")
        self.pgpools[1].wait_end(40)
        self.start_led_by_the_first()
        tools.pcp_ok(self.pgpools[1], "stop_pgpool", "-m", "immediate", "-s", "cluster")
        for pool in self.pgpools:
            pool.wait_end(40)


class Tool(MixedCase):
    """wd_cli, which asks the local socket of a node."""

    subjects = nodes("stock", "ours", "ours")
    weight = 15

    def ask(self, pool, *words):
        done = proc.run([tools.stock_tool("wd_cli"), *words, "-k", KEY])
        return done.code, done.out, done.err

    def test_each_way_to_name_a_node_gives_the_same_at_each_node(self):
        self.start_led_by_the_first()
        for number, pool in enumerate(self.pgpools):
            node = f"127.0.0.1:{pool.port} Linux {os.uname().nodename}"
            line = rf'^{number} 0 "{"LEADER" if number == 0 else "STANDBY"}""{re.escape(node)}""127\.0\.0\.1" {pool.wd_port} {pool.port}$'
            for words in (["-n", str(number)], ["-N", node], ["-P", str(pool.wd_port)]):
                said = [self.ask(asked, "-i", "-f", asked.conf, *words) for asked in self.pgpools]
                self.assertEqual([said[0]] * 3, said, words)
                self.assertRegex(said[0][1], re.compile(line, re.M), words)
            # Of several on one host the first, and a node lists itself first.
            self.assertRegex(self.ask(pool, "-i", "-f", pool.conf, "-H", "127.0.0.1")[1], re.compile(line, re.M))
        for words in (["-a"], ["-a", "-v"]):
            said = [self.ask(asked, "-i", "-f", asked.conf, *words) for asked in self.pgpools]
            lines = [(code, sorted(out.splitlines()), err) for code, out, err in said]
            self.assertEqual([lines[0]] * 3, lines, words)
            self.assertEqual(len(re.findall(r"127\.0\.0\.1:\d+ Linux", said[0][1])), 3, said[0])
        # Nobody by that name.
        for words in (["-n", "7"], ["-N", "nobody"], ["-P", "1"]):
            said = [self.ask(asked, "-i", "-f", asked.conf, *words) for asked in self.pgpools]
            self.assertEqual([said[0]] * 3, said, words)
        # The port goes before that of the file.
        for asked in self.pgpools:
            self.assertEqual(self.ask(asked, "-i", "-a", "-f", asked.conf, "-p", str(asked.wd_port)), self.ask(asked, "-i", "-a", "-f", asked.conf))
            self.assertNotIn("LEADER", self.ask(asked, "-i", "-a", "-f", asked.conf, "-p", "1")[1])
