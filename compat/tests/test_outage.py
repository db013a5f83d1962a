"""What clients notice when the primary ends, with the parameters of the usual 4.0 installation (health_check_period 40).

The limits are generous; `compat/bench --only failover,attach` measures.
"""

import os

from lib import env, outage, tools
from lib.case import CompatCase, ours_only, stock_differs

#: Seconds without a write that no working failover takes here, on any machine; the health checks alone would take 40.
LONG = 15


class OutageCase(CompatCase):
    fresh = True
    weight = 25

    def setUp(self):
        home = os.path.join(self.root, "o")
        os.makedirs(home, exist_ok=True)
        env.hand_over(home)
        self.addCleanup(env.remove, home)
        self.site = outage.Site(home, env.SUBJECT)
        self.addCleanup(self.site.stop)
        self.pool, self.cluster = self.site.pool, self.site.cluster

    def fails_over(self, way):
        seen = outage.Failover(self.site, way)
        self.assertEqual(seen.lost, [], "acknowledged rows that the new primary does not have")
        self.assertEqual(seen.to_a_standby, 0, "writes that a standby refused")
        self.assertEqual(self.site.promotion.calls(), 1)
        self.assertEqual(self.pool.status_words(), ["down", "up", "up"])
        return seen

    def short(self, way):
        seen = self.fails_over(way)
        self.assertLess(seen.outage - seen.promotion, LONG * env.SLOW, seen)


class Ends(OutageCase):
    def test_a_fast_stop(self):
        self.short("fast")

    @ours_only("a warning before the end leads to a look; stock waits for the health check")
    def test_an_immediate_stop(self):
        self.short("immediate")

    def test_kill_9_of_the_postmaster(self):
        self.short("postmaster")

    @ours_only("the end of a connection without a word leads to a look; stock waits for the health check, unless it hears of it by chance")
    def test_kill_9_of_all_processes(self):
        self.short("power")


class GoesOn(OutageCase):
    def writer(self):
        writer = outage.Writer(self.pool.port).start()
        self.addCleanup(writer.stop)
        return writer

    def undisturbed(self, writer):
        count = len(writer.acknowledged)
        self.eventually(lambda: len(writer.acknowledged) > count + 50, "more writes")
        writer.stop()
        self.assertEqual((writer.errors, writer.cuts), ([], 0))

    @stock_differs("4.3.5 may cut sessions at both")
    def test_the_end_of_a_standby_and_its_attach_are_not_noticed(self):
        writer = self.writer()
        self.cluster[2].stop("immediate")
        tools.pcp_ok(self.pool, "detach_node", "-n", 2)
        self.pool.wait_log(rf"failover done\. shutdown host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=30)
        self.cluster[2].start()
        tools.pcp_ok(self.pool, "attach_node", "-n", 2)
        self.pool.wait_log(rf"failback done\. reconnect host 127\.0\.0\.1\({self.cluster[2].port}\)", timeout=30)
        self.undisturbed(writer)
