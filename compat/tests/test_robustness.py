"""Bad input on both ports, floods, clients and servers that die, kill -9: nobody else notices, nothing is left in the way."""

import os
import random
import signal
import socket
import struct
import threading
import time

from lib import proc, tools, wire
from lib.case import CompatCase, ours_only

MAX_GROWTH_KB = 30_000


class BadInput(CompatCase):
    config = {"num_init_children": 8, "authentication_timeout": 5}
    weight = 15

    def setUp(self):
        super().setUp()
        self.witness = self.client()
        self.witness.value("SELECT 1")
        self.before = proc.memory_kb(self.pool.pids())

    def nobody_noticed(self):
        self.assertEqual(self.witness.value("SELECT 1"), "1")
        self.eventually(self.can_connect, "a new session to be served")
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "1\n")
        self.assertNotIn("starting degeneration", self.pool.log())
        growth = proc.memory_kb(self.pool.pids()) - self.before
        self.assertLess(growth, MAX_GROWTH_KB, "kB more memory")

    def throw(self, port, raw, linger=0.2):
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as victim:
                victim.settimeout(linger)
                victim.sendall(raw)
                try:
                    while victim.recv(65536):
                        pass
                except socket.timeout:
                    pass
        except OSError:
            pass

    def test_random_bytes_instead_of_a_startup_packet(self):
        dice = random.Random(7)
        for _ in range(40):
            self.throw(self.pool.port, dice.randbytes(dice.randrange(1, 3000)), linger=0.05)
        self.nobody_noticed()

    def test_random_bytes_on_the_pcp_port(self):
        dice = random.Random(8)
        for _ in range(40):
            self.throw(self.pool.pcp_port, dice.randbytes(dice.randrange(1, 3000)), linger=0.05)
        self.nobody_noticed()

    def test_pcp_messages_with_wrong_lengths(self):
        for length in (0, 1, 3, 260, 100_000, 0x7FFFFFFF, -1, -0x80000000):
            for letter in b"MRLIX":
                self.throw(self.pool.pcp_port, bytes([letter]) + struct.pack(">i", length) + b"junk", linger=0.05)
        self.nobody_noticed()

    def test_pcp_commands_before_login(self):
        for letter in b"LINPBWHCDJOTtZF":
            self.throw(self.pool.pcp_port, bytes([letter]) + struct.pack(">i", 6) + b"0\0", linger=0.05)
        self.nobody_noticed()
        self.assertTrue(self.pool.running)

    def test_messages_with_wrong_lengths_in_a_session(self):
        for length in (0, 3, -1, -0x80000000):
            client = self.client()
            client.send(b"Q" + struct.pack(">i", length) + b"SELECT 1\0")
            self.assertTrue(client.is_closed(within=10), length)
        self.nobody_noticed()

    def test_a_message_that_announces_a_gigabyte_costs_nothing_before_it_comes(self):
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.send(b"Q" + struct.pack(">i", 1_000_000_000) + b"SELECT ")
        time.sleep(0.5)
        self.nobody_noticed()
        for client in clients:
            client.abort()
        self.nobody_noticed()

    def test_truncated_messages_of_every_kind_and_then_silence(self):
        whole = [wire.query("SELECT 1"), wire.parse("SELECT $1::int", "s"), wire.bind((1,), "s"), wire.describe("s", "S"), wire.execute(), wire.close("s"), wire.sync(), wire.copy_data(b"xyz"), wire.copy_fail("no"), wire.terminate()]
        for raw in whole:
            for cut in (1, 3, len(raw) - 1):
                client = self.client()
                client.send(raw[:cut])
                client.abort()
        self.nobody_noticed()

    def test_damaged_bodies_get_an_error_or_a_close(self):
        bodies = [
            wire.message("P", b"no terminator"), wire.message("P", b"\0SELECT 1\0\x7f\xff"), wire.message("B", b"\0\0\0\1"), wire.message("B", b"\0s\0\0\0\0\1\x7f\xff\xff\xff"),
            wire.message("D", b""), wire.message("D", b"X\0"), wire.message("E", b"\0"), wire.message("C", b"S"), wire.message("Q", b""), wire.message("Q", b"SELECT 1"), wire.message("F", b"\0"), wire.message("S", b"surplus"),
        ]
        for raw in bodies:
            client = self.client(timeout=5)
            try:
                client.send(raw + wire.sync() + wire.sync())
                self.assertIn(client.receive().kind, "EZ123nIT", raw)
            except (wire.Closed, TimeoutError):
                # Closed, or waiting for the rest as a server would: both leave the others alone.
                pass
            client.abort()
        self.nobody_noticed()

    def test_random_messages_in_a_session(self):
        dice = random.Random(9)
        for _ in range(40):
            client = self.client(timeout=5)
            try:
                for _ in range(dice.randrange(1, 6)):
                    client.send(wire.message(chr(dice.choice(b"QPBDECSHXdcfFpyz?\1\xff")) if dice.random() < 0.9 else "Q", dice.randbytes(dice.randrange(0, 60))))
                client.send(wire.sync())
            except wire.Closed:
                pass
            client.abort()
        self.nobody_noticed()

    def test_messages_of_the_server_sent_by_a_client(self):
        client = self.client()
        try:
            client.send(wire.message("Z", b"I") + wire.message("T", b"\0\0") + wire.message("R", b"\0\0\0\0"))
        except wire.Closed:
            pass
        self.assertTrue(client.is_closed(within=10))
        self.nobody_noticed()

    def test_a_writer_that_sends_one_byte_at_a_time_holds_up_only_itself(self):
        slow = self.client()
        raw = wire.query("SELECT 'slow'")
        for byte in raw[:-1]:
            slow.send(bytes([byte]))
            self.assertEqual(self.witness.value("SELECT 1"), "1")
        slow.send(raw[-1:])
        self.assertEqual(slow.until().rows, [("slow",)])

    def test_a_flood_of_connections_that_say_nothing(self):
        crowd = []
        for _ in range(150):
            for port in (self.pool.port, self.pool.pcp_port):
                one = socket.socket()
                one.setblocking(False)
                try:
                    one.connect(("127.0.0.1", port))
                except BlockingIOError:
                    pass
                except OSError:
                    continue
                crowd.append(one)
        time.sleep(0.5)
        self.assertEqual(self.witness.value("SELECT 1"), "1")
        for one in crowd:
            one.close()
        self.nobody_noticed()

    @ours_only("sessions that have not begun are no slots: real clients get in through a flood of silent ones")
    def test_a_client_gets_in_while_silent_connections_are_open(self):
        crowd = [socket.create_connection(("127.0.0.1", self.pool.port)) for _ in range(60)]
        began = time.monotonic()
        self.assertEqual(self.client().value("SELECT 1"), "1")
        self.assertLess(time.monotonic() - began, 4)
        for one in crowd:
            one.close()
        self.nobody_noticed()


class Dying(CompatCase):
    config = {"num_init_children": 8}

    def test_what_was_acknowledged_is_there_when_clients_die(self):
        self.cluster.primary.rows("CREATE TABLE ack(a int); GRANT ALL ON ack TO app")
        acknowledged = []
        for number in range(40):
            client = self.pool.client()
            client.query(f"INSERT INTO ack VALUES ({number})").ok()
            acknowledged.append(number)
            client.abort()
        have = {int(r[0]) for r in self.cluster.primary.rows("SELECT a FROM ack")}
        self.assertEqual(have, set(acknowledged))

    def test_a_transaction_of_a_client_that_dies_is_rolled_back_and_its_locks_go(self):
        self.cluster.primary.rows("CREATE TABLE locked(a int); GRANT ALL ON locked TO app")
        client = self.pool.client()
        client.query("BEGIN").ok()
        client.query("LOCK TABLE locked").ok()
        client.abort()
        self.eventually(lambda: self.cluster.primary.value("SELECT count(*) FROM pg_locks WHERE relation = 'locked'::regclass") == "0", "the lock to go")

    def test_a_server_that_is_killed_under_a_large_result(self):
        client = self.client()
        pid = client.pid()
        client.send(wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
        client.until("D")
        self.cluster.primary.rows(f"SELECT pg_terminate_backend({pid})")
        seen = client.until_closed()
        self.assertNotIn("C", seen.kinds, "never a CommandComplete for half a result")
        self.assertTrue(self.can_connect())

    def test_a_crash_restart_of_the_server_is_survived(self):
        client = self.client()
        pid = client.pid()
        os.kill(pid, signal.SIGKILL)  # the postmaster ends all its children and recovers
        self.assertTrue(client.is_closed(within=10))
        self.cluster.primary.wait_ready()
        self.eventually(self.can_connect, "sessions after the crash restart", timeout=20)


class Kill9(CompatCase):
    nodes = 2
    fresh = True
    config = {"num_init_children": 4, "listen_addresses": "127.0.0.1"}
    weight = 12

    def test_after_kill_9_a_start_on_the_same_files_works(self):
        self.cluster.primary.rows("CREATE TABLE kept(a int); GRANT ALL ON kept TO app")
        client = self.client()
        client.query("INSERT INTO kept VALUES (1)").ok()
        pids = self.pool.pids()
        self.pool.kill()
        # Stock leaves its children behind, which keep the ports: an operator ends them.
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.assertTrue(client.is_closed())
        self.eventually(lambda: not any(proc.alive(p) for p in pids), "the old processes to be gone")
        self.assertIn("pgpool.pid", self.pool.leftovers())
        self.pool.start()
        self.assertEqual(self.client().value("SELECT count(*) FROM kept"), "1")
        self.assertEqual(self.client(unix=True).value("SELECT 1"), "1")
        self.assertEqual(tools.pcp_ok(self.pool, "node_count").out, "2\n")
        self.pool.stop()
        self.assertEqual(self.pool.leftovers(), [])

    @ours_only("one process: nothing survives a kill -9; stock's orphans keep the ports")
    def test_kill_9_leaves_no_orphans_and_the_next_start_needs_no_help(self):
        self.client().value("SELECT 1")
        self.pool.kill()
        self.pool.start()
        self.assertTrue(self.can_connect())

    def test_sessions_of_the_server_end_when_pgpool_is_killed(self):
        self.client().query("BEGIN")
        pids = self.pool.pids()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.eventually(lambda: not self.cluster.primary.sessions(), "the server processes to end")


class Churn(CompatCase):
    config = {"num_init_children": 16, "max_pool": 2}
    weight = 10

    def test_memory_and_descriptors_do_not_grow_with_the_number_of_sessions(self):
        def descriptors():
            total = 0
            for pid in self.pool.pids():
                try:
                    total += len(os.listdir(f"/proc/{pid}/fd"))
                except OSError:
                    continue
            return total

        def work(rounds):
            def one():
                for _ in range(rounds):
                    with self.pool.client() as client:
                        client.value("SELECT 1")
                        client.exchange(wire.extended("SELECT $1::text", ("x",)) + wire.sync())

            threads = [threading.Thread(target=one) for _ in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()

        work(30)
        time.sleep(0.5)
        memory, open_files = proc.memory_kb(self.pool.pids()), descriptors()
        work(100)
        time.sleep(0.5)
        # Children of stock that had not served before open their connections now: 16 slots of a few each.
        self.assertLess(descriptors() - open_files, 70)
        self.assertLess(proc.memory_kb(self.pool.pids()) - memory, 12_000)
