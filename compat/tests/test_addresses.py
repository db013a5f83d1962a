"""Where backends and clients are: 128 of them, IPv6, names with several addresses, names that nobody knows."""

import os
import time

from lib import pcp_wire, proc, tools, wire
from lib.case import CompatCase, needs_root, stock_differs

MANY = 128


class ManyBackends(CompatCase):
    """One server that listens on all addresses of the loopback network plays 128."""

    fresh = True
    start = False
    server_settings = {"listen_addresses": "0.0.0.0"}
    config = {"num_init_children": 2, "max_pool": 1}
    weight = 12

    def backends(self, count):
        self.pool.write(self.pool.conf, self.pool.config_text() + "".join(
            f"backend_hostname{n} = '127.0.0.{n + 1}'\nbackend_port{n} = {self.cluster[0].port}\nbackend_weight{n} = 1\nbackend_flag{n} = 'DISALLOW_TO_FAILOVER'\n" for n in range(1, count)))

    def test_128_backends_are_used_shown_and_counted(self):
        self.backends(MANY)
        self.pool.start()
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE many(a int)").ok()
            self.assertEqual(client.exchange(wire.extended("INSERT INTO many VALUES ($1)", [1]) + wire.sync()).tags, ["INSERT 0 1"])
            self.assertEqual(client.value("SELECT inet_server_addr()"), "127.0.0.1")
            self.eventually(lambda: all(r[3] == "up" for r in client.rows("SHOW POOL_NODES")), "all nodes to be marked as used")
            rows = client.rows("SHOW POOL_NODES")
            self.assertEqual([r[:4] for r in rows], [(str(n), f"127.0.0.{n + 1}", str(self.cluster[0].port), "up") for n in range(MANY)])
            self.assertEqual([r[6] for r in rows], ["primary"] + ["standby"] * (MANY - 1))
            self.assertEqual(rows[-1][5], "0.007812")
            self.assertEqual(len(self.cluster[0].sessions("usename = 'postgres' AND client_addr IS NOT NULL")), MANY)
            self.assertEqual(len(client.rows("SHOW POOL_POOLS")), 2 * MANY)
            self.assertEqual(client.value(f"PGPOOL SHOW backend_hostname{MANY - 1}"), "127.0.0.128")
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, f"{MANY}\n")
        self.assertEqual(tools.node_info(self.pool, MANY - 1)["Hostname"], "127.0.0.128")
        self.assertEqual(self.pool.status_words(), ["up"] * MANY)

    @stock_differs("4.3.5 crashes at the index 128")
    def test_the_129th_is_refused(self):
        self.backends(MANY + 1)
        done = proc.run(self.pool.argv("-n"), timeout=20)
        self.assertEqual(done.code, 3, done)
        self.assertIn("backend_hostname128", done.err)


class Ipv6(CompatCase):
    """Clients and servers that speak IPv6 only: no node is told of 127.0.0.1."""

    nodes = 2
    config = {"num_init_children": 4, "listen_addresses": "::1", "enable_pool_hba": True,
              "health_check_period": 1, "health_check_max_retries": 0, "sr_check_period": 1, "log_connections": True}
    hba = "host all app ::1/128 trust\nhost all md5user ::1/128 md5\n"

    @classmethod
    def make_pool(cls, where, home, **changes):
        return super().make_pool(where, home, hosts={0: "::1", 1: "::1"}, **changes)

    def test_a_client_from_ipv6_to_a_backend_on_ipv6(self):
        client = self.client(host="::1")
        self.assertEqual(client.rows("SELECT host(inet_client_addr()), host(inet_server_addr())"), [("::1", "::1")])
        self.pool.wait_log(r"connecting host=::1 port=\d+")
        rows = client.rows("SHOW POOL_NODES")
        self.assertEqual([r[1:5] for r in rows], [("::1", str(s.port), "up", "up") for s in self.cluster.servers])
        with self.assertRaises(OSError):
            self.client(host="127.0.0.1")

    def test_pool_hba_knows_the_address(self):
        with self.pool.client(host="::1", user="md5user", password="md5pw") as client:
            self.assertEqual(client.auth_codes, [5, 0])
        self.assertEqual(self.refused(host="::1", user="postgres")["D"], 'no pool_hba.conf entry for host "::1", user "postgres", database "app", SSL off')

    def test_checks_use_it_too(self):
        self.eventually(lambda: tools.node_info(self.pool, 1)["Replication State"] == "streaming", "the replication check over IPv6")
        with self.pool.client(host="::1") as client:
            self.eventually(lambda: all(int(r[7]) > 0 for r in client.rows("SHOW POOL_HEALTH_CHECK_STATS")), "health checks over IPv6")

    def test_a_cancel_request_over_ipv6(self):
        client = self.client(host="::1")
        client.send(wire.query("SELECT pg_sleep(60)"))
        self.wait_running("pg_sleep(60)")
        other = self.client(host="::1", startup=False)
        other.send(wire.cancel_packet(*client.key))
        self.assertEqual(client.until().error["C"], "57014")

    def test_z_a_server_that_dies_is_found(self):
        mark = self.pool.log_size()
        self.cluster[1].stop("fast")
        self.pool.wait_log(rf"failover done\. shutdown host ::1\({self.cluster[1].port}\)", since=mark, timeout=30)


class Ipv6Pcp(CompatCase):
    config = {"num_init_children": 2, "listen_addresses": "::1", "pcp_listen_addresses": "::1"}
    start = False

    @stock_differs("4.3.5 looks up pcp_listen_addresses as IPv4 alone and does not start")
    def test_the_tools_come_over_ipv6(self):
        self.pool.start()
        # The stock tools look up IPv4 alone, too.
        with pcp_wire.Client("::1", self.pool.pcp_port) as client:
            client.send(pcp_wire.encode("M"))
            self.assertEqual(client.reply(10)[-1].kind, "m")


@needs_root
class Names(CompatCase):
    """Host names of backends, in an /etc/hosts of the test's own."""

    fresh = True
    start = False
    nodes = 2
    config = {"num_init_children": 4, "health_check_period": 1, "health_check_max_retries": 0, "health_check_retry_delay": 1, "connect_timeout": 2000}
    weight = 20

    def hosts(self, text):
        """What pgpool finds in /etc/hosts; may be called again while it runs."""
        path = self.pool.file("hosts")
        # Written in place: what is mounted is this very file.
        with open(path, "w") as file:
            file.write("127.0.0.1 localhost\n" + text)
        os.chmod(path, 0o644)
        self.pool.mounts = f"mount --bind '{path}' /etc/hosts"

    def named(self, **kwargs):
        self.pool.hosts = {0: "db-main.test", 1: "db-spare.test"}
        self.pool.write_config(**kwargs)

    def test_a_name_with_both_addresses_reaches_a_server_that_listens_on_one(self):
        for listen, address in (("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
            with self.subTest(listen=listen):
                for server in self.cluster.servers:
                    server.stop("fast")
                    server.set(listen_addresses=listen)
                    server.start()
                self.hosts("::1 db-main.test\n127.0.0.1 db-main.test\n127.0.0.1 db-spare.test\n::1 db-spare.test\n")
                self.named()
                self.pool.start()
                client = self.client()
                self.assertEqual(client.value("SELECT host(inet_server_addr())"), address)
                self.assertEqual([r[1:4] for r in client.rows("SHOW POOL_NODES")], [("db-main.test", str(self.cluster[0].port), "up"), ("db-spare.test", str(self.cluster[1].port), "up")])
                time.sleep(2.5)
                self.assertNotIn("degenerat", self.pool.log())
                client.close()
                self.pool.stop()

    def test_a_name_that_nobody_knows_at_the_start(self):
        self.hosts("127.0.0.1 db-main.test\n")
        self.named()
        self.pool.start()
        self.pool.wait_log(r"failover done\. shutdown host db-spare\.test", timeout=30)
        self.eventually(self.can_connect, "sessions on the node with a name")
        self.assertEqual(self.pool.status_words(), ["up", "down"])

    def test_a_name_that_is_lost_at_run_time(self):
        self.hosts("127.0.0.1 db-main.test\n127.0.0.1 db-spare.test\n")
        self.named()
        self.pool.start()
        client = self.client()
        client.value("SELECT 1")
        self.hosts("127.0.0.1 db-main.test\n")
        # Ours goes by the addresses that it knows for a minute: most names are back by then.
        self.pool.wait_log(r"failover done\. shutdown host db-spare\.test", timeout=100)
        self.assertEqual(client.value("SELECT 2"), "2")
        self.assertTrue(self.can_connect())
