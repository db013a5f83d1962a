"""What happens when all slots are busy."""

import socket
import threading
import time

from lib import tools, wire
from lib.case import CompatCase, ours_only


class AllSlotsBusy(CompatCase):
    config = {"num_init_children": 2}

    def fill(self):
        return [self.client() for _ in range(2)]

    def test_a_further_client_waits_and_is_served_when_another_leaves(self):
        first, _ = self.fill()
        got = []

        def wait():
            with self.pool.client() as late:
                got.append(late.value("SELECT 1"))

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(1)
        self.assertEqual(got, [])
        first.close()
        waiting.join(10)
        self.assertEqual(got, ["1"])

    @ours_only("the queue can be seen")
    def test_the_clients_that_wait_can_be_counted(self):
        first, second = self.fill()
        waiting = threading.Thread(target=lambda: self.client().close())
        waiting.start()
        self.eventually(lambda: [list(r) for r in first.rows("SHOW POOL_CLIENTS")] == [["2", "2", "1"]], "one client to wait")
        second.close()
        waiting.join(10)
        self.eventually(lambda: first.rows("SHOW POOL_CLIENTS")[0][2] == "0", "nobody to wait")

    @ours_only("the queue can be seen")
    def test_a_waiting_client_that_says_terminate_or_closes_behind_a_query_gives_up_its_place(self):
        first, _ = self.fill()
        waiting = lambda: first.rows("SHOW POOL_CLIENTS")[0][2]
        for said in (wire.message("X", b""), wire.query("SELECT 1")):
            late = self.client(startup=False)
            late.send(wire.startup_packet("app", "app"))
            self.eventually(lambda: waiting() == "1", "the client to wait")
            late.send(said)
            if said[:1] == b"Q":
                late.socket.shutdown(socket.SHUT_WR)
            self.eventually(lambda: waiting() == "0", "its place to be free", timeout=5)
            late.abort()

    @ours_only("bytes that are sent ahead are kept")
    def test_a_query_that_a_waiting_client_has_sent_ahead_is_answered(self):
        first, _ = self.fill()
        late = self.client(startup=False)
        late.send(wire.startup_packet("app", "app") + wire.query("SELECT 1"))
        self.eventually(lambda: first.rows("SHOW POOL_CLIENTS")[0][2] == "1", "the client to wait")
        late.send(wire.query("SELECT 2"))
        first.close()
        late.login()
        self.assertEqual([late.until("Z").rows, late.until("Z").rows], [[("1",)], [("2",)]])

    def test_all_waiting_clients_are_served(self):
        first, second = self.fill()
        order = []

        def wait(number):
            with self.pool.client() as late:
                late.value("SELECT 1")
                order.append(number)
                time.sleep(0.2)

        threads = []
        for number in range(4):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            time.sleep(0.3)
        first.close()
        for t in threads:
            t.join(15)
        second.close()
        self.assertEqual(sorted(order), [0, 1, 2, 3])

    def test_a_client_that_gives_up_waiting_takes_no_slot(self):
        first, second = self.fill()
        for _ in range(5):
            late = self.client(startup=False)
            late.send(wire.startup_packet("app", "app"))
            time.sleep(0.05)
            late.abort()
        first.close()
        second.close()
        for client in self.fill():
            self.assertEqual(client.value("SELECT 1"), "1")

    def test_pcp_answers(self):
        self.fill()
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out.strip(), "1")

    def test_slots_are_free_again_after_clients_vanish(self):
        for client in self.fill():
            client.abort()
        for client in self.fill():
            self.assertEqual(client.value("SELECT 1"), "1")

    @ours_only("a cancel request never waits for a slot; stock needs a free child for it")
    def test_a_cancel_request_is_served_at_once(self):
        busy, _ = self.fill()
        busy.send(wire.query("SELECT pg_sleep(60)"))
        self.wait_running("pg_sleep(60)")
        began = time.monotonic()
        one = self.client(startup=False)
        one.send(wire.cancel_packet(*busy.key))
        self.assertEqual(busy.until().error["C"], "57014")
        self.assertLess(time.monotonic() - began, 15)

    @ours_only("waiting clients are visible in the log")
    def test_waiting_is_visible_in_the_log(self):
        self.fill()
        late = self.client(startup=False)
        late.send(wire.startup_packet("app", "app"))
        self.pool.wait_log(r"(?i)\bwait")

    @ours_only("what can be answered before a slot is needed is answered: SSLRequest while all slots are busy")
    def test_ssl_request_is_answered_while_waiting(self):
        self.fill()
        late = self.client(startup=False)
        late.send(wire.SSL_REQUEST)
        self.assertEqual(late.byte(), "N")


class AdminDatabase(CompatCase):
    config = {"num_init_children": 1, "enable_pool_hba": True}
    hba = "host all md5user all md5\nhost all all all trust\n"

    @ours_only("the database named by admin_database is served outside the slots")
    def test_admin_sql_answers_when_all_slots_are_busy(self):
        self.client().value("SELECT 1")
        admin = self.client(database="pgpool_admin", user="md5user", password="md5pw")
        self.assertEqual(len(admin.rows("SHOW pool_nodes")), 1)
        self.assertEqual(admin.value("PGPOOL SHOW num_init_children"), "1")
        self.assertEqual(admin.query("SELECT 1").status, "I")

    @ours_only("the database named by admin_database is served outside the slots")
    def test_admin_sql_asks_for_the_password_of_pool_passwd(self):
        self.assertIn("authentication failed", self.refused(database="pgpool_admin", user="md5user", password="wrong")["M"])

    @ours_only("the database named by admin_database is served outside the slots")
    def test_after_an_error_in_the_extended_protocol_everything_up_to_sync_is_ignored(self):
        admin = self.client(database="pgpool_admin", user="md5user", password="md5pw")
        self.assertEqual(admin.exchange(wire.parse("SHOW pool_version") + wire.query("SHOW pool_version") + wire.sync()).kinds, "EZ")
        self.assertEqual(admin.query("SHOW pool_version").kinds, "TDCZ")

    @ours_only("the database named by admin_database is served outside the slots")
    def test_stock_psql_can_use_it(self):
        done = tools.psql(self.pool.port, "SHOW pool_version", database="pgpool_admin", user="md5user", password="md5pw")
        self.assertEqual(done.code, 0, done)
        self.assertRegex(done.out, r"^4\.3\.\d+ \(tamahomeboshi\)")


class Reserved(CompatCase):
    config = {"num_init_children": 3, "reserved_connections": 1}

    def test_reserved_connections_refuses_with_53300(self):
        keep = [self.client() for _ in range(2)]
        fields = self.refused()
        self.assertEqual((fields["S"], fields["C"], fields["M"]), ("FATAL", "53300", "Sorry, too many clients already"))
        keep[0].close()
        self.eventually(self.can_connect, "a place to be free again")


class ManyWaiting(CompatCase):
    config = {"num_init_children": 4, "listen_backlog_multiplier": 32}
    weight = 6

    def test_a_hundred_clients_share_four_slots(self):
        wrong = []

        def one(number):
            try:
                with self.pool.client(timeout=60) as client:
                    if client.value(f"SELECT {number}") != str(number):
                        wrong.append(number)
            except Exception as error:  # noqa: BLE001
                wrong.append((number, repr(error)))

        threads = [threading.Thread(target=one, args=(n,)) for n in range(100)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
