"""What the tests of faults (lib/faults.py, lib/faults_each.py) stand on: the rules, and how long nobody may be able to write."""

import sys

from . import env, faults, faults_each
from .watchdog_case import WatchdogCase

#: The lifecheck's, as in watchdog.SHORT.
DEADTIME = 5


class FaultCase(WatchdogCase):
    weight = 100

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stage = faults_each.Stage(cls.site, DEADTIME)

    def tearDown(self):
        if self.stage.witness is not None:
            self.stage.witness.end()

    def moves(self, report):
        """Beside the rules: another host took the address, so that the fault was one."""
        self.keeps_the_rules(report)
        self.assertTrue(report.heirs, f"nobody took over; {report}")
        return report

    def keeps_the_rules(self, report):
        # `compat/run -v` shows it.
        print(report, file=sys.stderr)
        self.assertEqual(set(report.lost.values()), {0}, f"acknowledged rows that the primary of the end does not have; {report}")
        self.assertEqual(report.two_primaries, 0, report)
        self.assertLessEqual(report.doubled, DEADTIME * env.SLOW, report)
        return report

    def writes_again(self, report, seconds):
        """Writes from outside went on in time: the limit is that beside the promotion, which is the operator's script."""
        self.assertLessEqual(report.outage - report.promotion, seconds, f"seconds without a write outside beside the promotion; {report}")
        return report

    def goes_on_undisturbed(self, report):
        """Nobody outside could see a fault of nodes that do not lead: writes, the address and the primary stayed."""
        self.keeps_the_rules(report)
        late = {step: gap for step, gap in {"all": report.outage, **self.stage.gaps}.items() if gap > faults.PRIMARY_LIMIT * env.SLOW}
        self.assertEqual(late, {}, f"seconds without a write outside; {report}")
        self.assertEqual((report.orphaned, report.doubled, report.heirs), (0, 0, []), report)
        self.assertEqual(report.promotion, 0, report)
        return report
