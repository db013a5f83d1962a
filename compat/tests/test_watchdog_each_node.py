"""Faults of each node in turn while a client writes through the address (lib/faults_each.py, where each is described).

What only concerns nodes that do not lead, and servers that are not the primary, nobody outside may notice: writes go on,
and address and primary stay where they are.
"""

from lib import env, faults, watchdog
from lib.case import stock_differs
from lib.fault_case import DEADTIME, FaultCase

_BOTH, _OUT, _IN = ("out", "in"), ("out",), ("in",)
#: Seconds for which a promotion waits for a standby pgpool that is lost with the primary (docs/differences.md, known defects).
_SHARE = watchdog.SHORT_LEASE * 5 / 8


class OfFollowers:
    """Of one host with a standby and a pgpool that does not lead."""

    node = None

    def test_kill_9_and_sigstop_and_stop_of_pgpool(self):
        self.goes_on_undisturbed(self.stage.follower_fails(self.node))

    def test_cuts_and_kill_9_of_its_host(self):
        self.goes_on_undisturbed(self.stage.followers_host_fails(self.node, (_BOTH, _OUT, _IN)))


class OfPg02(OfFollowers, FaultCase):
    node = 1


class OfPg03(OfFollowers, FaultCase):
    node = 2


class PrimaryBesideAFollower(FaultCase):
    """The primary's host is lost, and another leads and has the address, which stays where it is."""

    def test_kill_9_of_everything_on_it(self):
        self.fails_over(self.stage.primary_beside_a_follower_killed(1), faults.PRIMARY_LIMIT * env.SLOW + _SHARE)

    @stock_differs("who is cut off serves the old primary on")
    def test_its_cut(self):
        self.fails_over(self.stage.primary_beside_a_follower_cut(2), DEADTIME + faults.CUT_LIMIT * env.SLOW)

    def fails_over(self, report, seconds):
        self.writes_again(self.keeps_the_rules(report), seconds)
        self.assertGreater(report.promotion, 0, report)
        self.assertEqual((report.orphaned, report.doubled, report.heirs), (0, 0, []), report)


class Pairs(FaultCase):
    def test_two_that_do_not_hear_each_other_and_both_hear_the_third(self):
        self.goes_on_undisturbed(self.stage.pairs())


class Flapping(FaultCase):
    """Each time until the others have lost the node, and until all have found each other again."""

    def test_the_followers_hosts(self):
        self.goes_on_undisturbed(self.stage.flap_until_lost((1, 2)))

    @stock_differs("who is cut off serves the old primary on")
    def test_the_leaders_host_with_the_primary(self):
        report = self.moves(self.stage.flap_until_lost((0,)))
        self.assertEqual(len(report.heirs), 1, f"who took over stays the leader, whatever the cable does then; {report}")
        self.writes_again(report, DEADTIME + faults.CUT_LIMIT * env.SLOW)


class LeaderStops(FaultCase):
    @stock_differs("its elections wait for answers that do not come, four seconds each")
    def test_a_leader_that_is_stopped(self):
        report = self.moves(self.stage.stop_leader())
        # No failover: the next one has to be elected, and brings the address up.
        self.writes_again(report, DEADTIME * env.SLOW)
