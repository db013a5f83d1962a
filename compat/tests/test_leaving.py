"""Clients that leave, or stay silent, at awkward moments: their session must be free for the next one at once."""

import time

from lib import wire
from lib.case import CompatCase, ours_only
from lib.subject import md5


class OneSession(CompatCase):
    """With a single session everybody notices when it is not given back."""

    config = {"num_init_children": 1}

    def next_client_is_served(self, within=10.0):
        """It would wait for ever for a session that is not given back."""
        began = time.monotonic()
        with self.pool.client() as client:
            self.assertEqual(client.value("SELECT 1"), "1")
        self.assertLess(time.monotonic() - began, within)

    def setUp(self):
        super().setUp()
        with self.pool.client() as client:
            client.query("CREATE TABLE IF NOT EXISTS leaving (a text)").ok()

    @ours_only("stock was not asked how long it takes")
    def test_terminate_while_the_server_waits_for_copy_data(self):
        client = self.client()
        client.send(wire.query("COPY leaving FROM STDIN"))
        client.until("G")
        client.send(wire.copy_data(b"x\n") + wire.terminate())
        self.next_client_is_served()

    @ours_only("stock was not asked how long it takes")
    def test_terminate_in_the_middle_of_a_large_result(self):
        client = self.client()
        client.send(wire.query("SELECT repeat('x', 8000) FROM generate_series(1, 400)"))
        client.until("D")
        client.send(wire.terminate())
        client.abort()
        self.next_client_is_served()

    @ours_only("stock was not asked how long it takes")
    def test_terminate_behind_an_unfinished_extended_sequence(self):
        client = self.client()
        client.send(wire.query("SELECT pg_sleep(0.3)") + wire.extended("SELECT 1") + wire.terminate())
        self.next_client_is_served()

    @ours_only("stock drops the second statement")
    def test_an_end_behind_a_command_that_waits_for_a_copy(self):
        client = self.client()
        client.send(wire.query("COPY leaving FROM STDIN") + wire.query("SHOW POOL_NODES"))
        client.until("G")
        client.abort()
        self.next_client_is_served()

    @ours_only("a hint of the operator at a server that is well")
    def test_many_clients_that_die_while_they_wait(self):
        first = self.client()
        waiting = [self.pool.client(startup=False) for _ in range(5)]
        for late in waiting:
            late.send(wire.startup_packet("app", "app"))
        time.sleep(0.3)
        for late in waiting:
            late.abort()
        time.sleep(0.3)
        first.close()
        self.next_client_is_served()


class SilentAtThePasswordPrompt(CompatCase):
    config = {"num_init_children": 1, "enable_pool_hba": False, "authentication_timeout": 2}
    passwd = f"md5user:md5{md5('md5pw' + 'md5user')}\n"

    @ours_only("stock's limit covers the start-up packet only")
    def test_a_client_that_never_answers_the_server_s_question_loses_its_session(self):
        silent = self.client(startup=False)
        silent.send(wire.startup_packet("md5user", "app"))
        silent.until("R")
        began = time.monotonic()
        with self.pool.client(user="md5user", password="md5pw") as client:
            self.assertEqual(client.value("SELECT current_user"), "md5user")
        self.assertLess(time.monotonic() - began, 8)
        self.pool.wait_log(r"authentication timeout")


class WarningsOfUsers(CompatCase):
    """With the setting on, stock detaches a server by what it says; anybody can make it say that."""

    nodes = 2
    config = {"num_init_children": 2, "failover_on_backend_shutdown": True}

    def test_a_warning_with_the_sqlstate_of_a_shutdown_detaches_nothing(self):
        client = self.client()
        client.query("DO $$BEGIN RAISE WARNING 'not a shutdown' USING ERRCODE = '57P01'; END$$").ok()
        time.sleep(1)
        self.assertEqual(client.value("SELECT 1"), "1")
        self.assertEqual(self.pool.status_words(), ["up", "up"])
