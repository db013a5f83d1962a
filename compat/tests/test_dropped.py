"""A host that is gone without a word: packets are dropped, no connection is refused or cut.

Nothing tells a session that its server is away, so the health check finds it, by the clock: after its period,
all attempts with their time-outs, and the pauses between them (as the manual says). Then sessions of the node end.
"""

import threading
import time
import unittest

from lib import env, network, tools, wire
from lib.case import CompatCase, ours_only, promoting, stock_differs
from .test_recovery import RECOVERY, RecoveryCase

PERIOD, TIMEOUT, CONNECT, RETRIES, DELAY = 2, 4, 2, 1, 1
#: Seconds for the machine, which is busy with other tests.
MACHINE = 4
#: Of the sentence above: until the failover begins. How long it takes is the hook's and the servers' business.
FOUND = PERIOD + (RETRIES + 1) * min(TIMEOUT, CONNECT) + RETRIES * DELAY + MACHINE


class OwnNetwork(CompatCase):
    @classmethod
    def setUpClass(cls):
        why = network.unavailable()
        if why:
            raise unittest.SkipTest(why)
        network.leave()
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.addCleanup(network.restore)


class DroppedCase(OwnNetwork):
    fresh = True
    nodes = 3
    weight = 20
    config = {"num_init_children": 8, "health_check_period": PERIOD, "health_check_timeout": TIMEOUT, "health_check_max_retries": RETRIES,
              "health_check_retry_delay": DELAY, "connect_timeout": CONNECT * 1000, "sr_check_period": 1, "failover_command": promoting}

    def away(self, node):
        self.began = time.monotonic()
        network.drop(self.cluster[node].port)

    def wait_done(self, node):
        """Seconds until its failover began; it is over now."""
        host = rf"shutdown host 127\.0\.0\.1\({self.cluster[node].port}\)"
        self.pool.wait_log(rf"starting degeneration\. {host}", timeout=60)
        took = time.monotonic() - self.began
        self.pool.wait_log(rf"failover done\. {host}", timeout=60)
        return took


class Primary(DroppedCase):
    def test_it_is_failed_over_and_nobody_waits_for_ever(self):
        """The session that waits for an answer ends with the failover; new ones reach the new primary."""
        session, ends = self.client(), []

        def wait():
            try:
                session.query("SELECT 1")
            except (wire.Closed, wire.ServerError, OSError):
                pass
            ends.append(time.monotonic() - self.began)

        session.value("SELECT 1")
        self.away(0)
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        self.assertLess(self.wait_done(0), FOUND * env.SLOW)
        done = time.monotonic() - self.began
        waiting.join(10)
        self.assertEqual(len(ends), 1, "the session still waits")
        self.assertLess(ends[0], done + MACHINE * env.SLOW)
        self.assertEqual(len(self.hook.calls()), 1)
        self.eventually(self.can_connect, "sessions")
        with self.pool.client(user="postgres") as client:
            client.query("CREATE TABLE written(a int)").ok()
            self.assertEqual(client.value("SELECT inet_server_port()"), str(self.cluster[1].port))
        # It comes back as the primary that it was, and gets no writes.
        network.restore()
        time.sleep(PERIOD + 2)
        self.assertEqual(self.pool.status_words(), ["down", "up", "up"])
        with self.pool.client(user="postgres") as client:
            client.query("INSERT INTO written VALUES (1)").ok()

    def test_an_outage_that_the_retries_bridge_is_none(self):
        session = self.client()
        session.value("SELECT 1")
        self.away(0)
        # The second attempt begins later than this at any phase of the checks.
        time.sleep(CONNECT)
        network.restore()
        self.assertEqual(session.value("SELECT 2"), "2", "what was lost is sent again")
        time.sleep(FOUND)
        self.assertEqual(self.pool.status_words(), ["up", "up", "up"])
        self.assertEqual(self.hook.calls(), [])

    @ours_only("a new session finds it at once, with failover_on_backend_error; stock waits for connect_timeout, several times")
    def test_a_session_that_cannot_connect_makes_us_look(self):
        self.pool.reload(health_check_period=60, failover_on_backend_error=True)
        self.pool.wait_log(r"reloading config file")
        time.sleep(PERIOD + 1)
        self.away(0)
        with self.assertRaises((wire.ServerError, wire.Closed, OSError)):
            self.pool.client(timeout=30).close()
        # The connect of the session, and that of the look.
        self.assertLess(self.wait_done(0), (2 * CONNECT + MACHINE) * env.SLOW)
        self.assertEqual(len(self.hook.calls()), 1)


class Standby(DroppedCase):
    config = {**DroppedCase.config, "load_balance_mode": False}

    @stock_differs("4.3.5 cuts all sessions, most of the time, when the checks of a standby have timed out")
    def test_sessions_of_the_primary_go_on_in_the_middle_of_a_transaction(self):
        session = self.client(user="postgres")
        session.query("BEGIN").ok()
        session.query("CREATE TABLE written(a int)").ok()
        self.away(2)
        took, count = 0.0, 0
        while not took and time.monotonic() < self.began + 60:
            asked = time.monotonic()
            session.query("INSERT INTO written VALUES (1)").ok()
            count += 1
            # Who waits for the standby waits until it is detached, after two attempts of a health check at least.
            self.assertLess(time.monotonic() - asked, 3 * env.SLOW, "it waits for the standby")
            if "failover done" in self.pool.log():
                took = time.monotonic() - self.began
            time.sleep(0.05)
        self.assertLess(took, FOUND * env.SLOW)
        session.query("COMMIT").ok()
        self.assertEqual(session.value("SELECT count(*) FROM written"), str(count))
        self.assertEqual(self.pool.status_words(), ["up", "up", "down"])
        # Back again, it is attached by hand and nobody notices.
        network.restore()
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.eventually(lambda: self.pool.status_words() == ["up", "up", "up"], "the standby")
        self.assertEqual(session.value("SELECT count(*) FROM written"), str(count))


class SourceOfARecovery(OwnNetwork, RecoveryCase):
    """Nothing else would end the wait for its script: health checks are off."""

    config = {**RECOVERY, "health_check_period": 0}

    def recovery_ends(self, before=lambda: None):
        self.scripts.install(before="sleep 100")
        self.lose()
        before()
        end = self.begin()
        network.drop(self.cluster[0].port)
        began = time.monotonic()
        self.assertIn('execution of command failed at "1st stage"', end().err)
        self.assertLess(time.monotonic() - began, 45 * env.SLOW)

    @ours_only("the connection is kept alive; stock waits as long as the system does, two hours")
    def test_the_recovery_ends(self):
        self.recovery_ends()

    @ours_only("no probe goes out while a request is sent again and again; stock waits as long as the system does, a quarter of an hour")
    def test_the_recovery_ends_when_its_request_was_not_confirmed(self):
        self.recovery_ends(before=lambda: network.drop_confirmations(self.cluster[0].port))
