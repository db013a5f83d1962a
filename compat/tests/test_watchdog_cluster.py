"""Three hosts with the system's watchdog: who leads, who has the address, what the tools say, and an orderly stop."""

import re
import time

from lib import env, seed
from lib.watchdog_case import WatchdogCase


class Cluster(WatchdogCase):
    """In the order of the file: the last ones stop a node."""

    weight = 70

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site.start_all()

    def tool(self, words, node=0):
        return self.site.hosts[node].ok(f"PATH=$PATH:/usr/sbin {words}").splitlines()

    def test_1_one_leads_and_has_the_address_as_the_command_says(self):
        leader = self.site.wait_leader()
        for number, host in enumerate(self.site.hosts):
            said = host.ok(["ip", "-4", "address", "show", "dev", "eth0"])
            self.assertEqual("inet 192.168.122.99/24 scope global secondary eth0:0" in said, number == leader, said)
        self.site.wait_listed(self.roles(leader))

    def test_2_pcp_watchdog_info_lists_the_members_on_each_node(self):
        leader = self.site.wait_leader()
        self.site.wait_listed(self.roles(leader))
        for number in range(3):
            cluster, nodes = self.site.watchdog_info(number)
            self.assertEqual((cluster["Total Nodes"], cluster["Remote Nodes"], cluster["Member Remote Nodes"], cluster["Nodes required for quorum"], cluster["Quorum state"]), ("3", "2", "2", "2", "QUORUM EXIST"))
            self.assertEqual(cluster["Leader Host Name"], seed.NAMES[leader])
            self.assertEqual(cluster["Local node escalation"], "YES" if number == leader else "NO")
            self.assertEqual(nodes[0]["Host Name"], seed.NAMES[number], "the node that is asked comes first")
            for node in nodes:
                name = node["Host Name"]
                self.assertEqual(node["Node Name"], f"{name}:9999 Linux {name}")
                self.assertEqual((node["Delegate IP"], node["Pgpool port"], node["Watchdog port"], node["Node priority"], node["Membership Status"]), (seed.VIP, "9999", "9000", "1", "MEMBER"))
                self.assertEqual((node["Status"], node["Status Name"]), ("4", "LEADER") if name == seed.NAMES[leader] else ("7", "STANDBY"))

    def test_3_pcp_watchdog_info_in_its_short_form_and_of_one_node(self):
        leader = self.site.wait_leader()
        lines = self.tool("pcp_watchdog_info -h localhost -p 9898 -w", leader)
        name = seed.NAMES[leader]
        self.assertEqual(lines[0], f"3 3 YES {name}:9999 Linux {name} {name}")
        self.assertEqual(lines[2], f"{name}:9999 Linux {name} {name} 9999 9000 4 LEADER 0 MEMBER")
        self.assertEqual(len(lines), 5)
        one = self.tool("pcp_watchdog_info -h localhost -p 9898 -w -n 0", leader)
        # In a file of 4.0 nodes have no numbers: 0 is the one that is asked.
        first = leader if env.SUBJECT == "ours" else 0
        self.assertTrue(one[-1].startswith(f"{seed.NAMES[first]}:9999 "), one)
        self.assertEqual(one[-1].split(" ")[-4:], ["4", "LEADER", "0", "MEMBER"] if leader == first else ["7", "STANDBY", "0", "MEMBER"])

    def test_4_the_same_through_the_address(self):
        leader = self.site.wait_leader()
        said = self.site.watchdog_info((leader + 1) % 3, host=seed.VIP)
        self.assertEqual(said[1][0]["Host Name"], seed.NAMES[leader])
        self.assertEqual(said[0]["Local node escalation"], "YES")

    def test_5_wd_cli_tells_of_the_nodes(self):
        leader = self.site.wait_leader()
        host = self.site.hosts[leader]
        # The tool reads no file of 4.0; it needs no more than this of one.
        host.write("/tmp/wd_cli.conf", "wd_port0 = 9000\nhostname0 = 'x'\npgpool_port0 = 9999\nwd_ipc_socket_dir = '/var/run/pgpool'\n")
        host.write("/tmp/pgpool_node_id", "0\n")
        done = host.run(["wd_cli", "-i", "-f", "/tmp/wd_cli.conf", "-v"])
        self.assertEqual(done.code, 0, done)
        for name in seed.NAMES:
            self.assertIn(f"{name}:9999 Linux {name}", done.out)
        self.assertRegex(done.out, rf"Node Status code:  4\nNode Status:       LEADER\nNode Name:         {seed.NAMES[leader]}:9999 ")

    def test_6_backends_are_the_same_on_each_node(self):
        for number in range(3):
            self.assertEqual(self.site.backends(number), [("up", "primary"), ("up", "standby"), ("up", "standby")])

    def test_7_a_client_writes_through_the_address_while_the_leader_stops_and_comes_back(self):
        leader = self.site.wait_leader()
        seen = self.witness()
        self.site.stop_pgpool(leader)
        self.assertNotIn(seed.NAMES[leader], self.site.holders(), "the address is given up before pgpool has ended")
        new = self.site.wait_leader(but=leader)
        seen.outside.wait_writes()
        self.site.wait_listed(self.roles(new, (leader, "SHUTDOWN")))
        self.site.start(leader)
        self.site.wait_listed(self.roles(new))
        seen.outside.wait_writes()
        self.nothing_lost_or_doubled(seen, deadtime=1)
        self.assertEqual(self.site.wait_leader(), new, "who comes back takes nothing from anybody")

    def test_8_a_detach_on_a_standby_is_done_by_the_leader_for_all(self):
        leader = self.site.wait_leader()
        self.tool("pcp_detach_node -h localhost -p 9898 -w -n 2", (leader + 1) % 3)
        for number in range(3):
            self.site.wait_backends(number, "up", "up", "down")
        hooks = [len(re.findall("FALLING_NODE: 2", host.read("/var/log/pgpool/failover.log"))) for host in self.site.hosts]
        self.assertEqual(hooks, [1 if number == leader else 0 for number in range(3)], "calls of failover_command by host")
        self.site.wait_leader()
        time.sleep(1.5)  # stock replaces its PCP process one second after a failover
        self.tool("pcp_attach_node -h localhost -p 9898 -w -n 2", (leader + 2) % 3)
        for number in range(3):
            self.site.wait_backends(number, "up", "up", "up")

    def test_9_without_two_of_three_there_is_no_quorum_and_no_address(self):
        leader = self.site.wait_leader()
        for number in range(3):
            if number != leader:
                self.site.stop_pgpool(number)
        self.eventually(lambda: self.site.holders() == [], "the address to be given up", timeout=20)
        self.assertEqual(self.site.watchdog_info(leader)[0]["Quorum state"], "QUORUM ABSENT")
        self.site.start((leader + 1) % 3)
        self.site.wait_leader()
