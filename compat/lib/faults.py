"""What happens to the watchdog's hosts while clients write through the address, and what came of it.

One scenario is one function, for tests with short parameters (watchdog.SHORT) and for the bench with the
system's own. Each begins with pgpool leading on pg01, where the primary is, and ends with all hosts whole again.
"""

import glob
import re
import signal
import time

from . import proc, seed, watchdog
from .witness import Witness

#: The host with the primary, on which pgpool leads unless `Stage.prepare` is told another.
LEADER = 0
#: Seconds without a write outside that are allowed beside the promotion: when the primary fails, and when its host is cut
#: off, then beside the dead time as well.
PRIMARY_LIMIT, CUT_LIMIT = 3.0, 12.0
#: Seconds that a standby may be behind on a busy machine.
BEHIND = 0.25
_STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.M)


class Report:
    """What came of a scenario. Seconds and rows; `lost` and `outages` by client: "outside", or the host it was on.

    `behind`: from when to when an acknowledged row may have been on its way to the standbys, to which replication is
    asynchronous, as the primary's cable was cut. Such a row is counted by itself; pgpool cannot know of it."""

    def __init__(self, name, witness, since, promotion, leader=LEADER, behind=()):
        watch = witness.watch
        self.name, self.promotion = name, promotion
        self.outages = {who: writer.outage(since) for who, writer in named(witness)}
        witness.end()
        self.written = sum(len(writer.acknowledged) for writer in witness.writers)
        missing = witness.lost()
        lost = {who: [row for row in rows if not any(first < row[0] < last for first, last in behind)] for who, rows in missing.items()}
        self.lost = {who: len(rows) for who, rows in lost.items()}
        self.lost_last = max((at - since for rows in lost.values() for at, _, _ in rows), default=0.0)
        self.behind = sum(map(len, missing.values())) - sum(map(len, lost.values()))
        self.doubled, self.orphaned = watch.doubled(), watch.orphaned()
        self.two_primaries, self.two_primaries_until = witness.to_two_primaries()
        self.holders = watch.told(since)
        #: Hosts that got the address after the fault, in order.
        self.heirs = watch.heirs(since)
        #: Seconds until the leader's host did not have the address any more; None if it never lost it.
        self.gone = watch.gone(witness.site.hosts[leader].name, since)

    @property
    def outage(self):
        return self.outages["outside"]

    def __repr__(self):
        lost = ", ".join(f"{count} {who}" for who, count in self.lost.items())
        return (f"{self.name}: no write outside for {self.outage:.1f} s (promotion {self.promotion:.1f} s); of {self.written} rows lost: {lost}"
                + (f" (the last {self.lost_last:.1f} s after the fault)" if self.lost_last else "")
                + (f", {self.behind} on their way to a standby" if self.behind else "")
                + f"; two holders for {self.doubled:.1f} s, none for {self.orphaned:.1f} s; {self.two_primaries} rows to an old primary"
                + f"; the address: {self.holders}")


def named(witness):
    return [("outside", witness.outside), *((seed.NAMES[node], writer) for node, writer in witness.inside.items())]


class Stage:
    """A site on which scenarios are run, one after the other; `deadtime` is the lifecheck's."""

    def __init__(self, site, deadtime):
        self.site, self.deadtime, self.used = site, deadtime, False
        self.witness, self.leads = None, LEADER

    def prepare(self, synchronous=False, inside=(), clocks=(), leader=LEADER, pause=0.02):
        """A cluster as after the set-up, clients writing. `clocks` are hosts whose clock the test sets."""
        site = self.site
        if self.used:
            site.reset()
        self.used = True
        site.extra_env = [self._clock(number) if number in clocks else {} for number in range(3)]
        if synchronous:
            site.synchronous()
        self.leads, self.behind = leader, []
        # Whoever leads already is not asked to go.
        site.start(leader)
        site.start(*(number for number in range(3) if number != leader))
        found = site.wait_leader()
        if found != leader:
            raise AssertionError(f"{seed.NAMES[found]} leads, not the one that led alone\n{site.log()}")
        site.wait_watching()
        self.witness = Witness(site, inside, pause, leader).begin()
        time.sleep(1)
        self.began = time.monotonic()

    def _clock(self, number):
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        if not found:
            raise AssertionError("libfaketime is not installed: run compat/setup")
        self.set_clock(number, 0)
        return {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": "/var/log/pgpool/clock", "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}

    def set_clock(self, number, seconds):
        """pgpool's clock of a host goes before the machine's by so much; what measures intervals goes on."""
        self.site.hosts[number].write("/var/log/pgpool/clock", f"{seconds:+d}\n")

    def _has_clock(self, number, seconds):
        """The time stamps of the log tell whether pgpool goes by that clock at all."""
        before = len(self.site.said(number))
        # A reload leaves a line.
        self.site.signal(number, signal.SIGHUP, "pgpool")

        def stamps():
            return _STAMP.findall(self.site.said(number)[before:])

        proc.wait_for(stamps, f"{seed.NAMES[number]} to log that it reloads")
        stamp = stamps()[-1]
        ahead = time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S")) - time.time()
        if abs(ahead - seconds) > 60:
            raise AssertionError(f"the clock of {seed.NAMES[number]} was set {seconds:+d} s, and its log is {ahead:+.0f} s off: {stamp}")

    def promotion(self):
        """Seconds that promotions by the system's script took; 0 without one."""
        times = [float(time) for host in self.site.hosts for time in host.read(watchdog.PROMOTIONS).split()]
        return sum(ended - began for began, ended in zip(times[::2], times[1::2]))

    def report(self, name):
        return Report(name, self.witness, self.began, self.promotion(), self.leads, self.behind)

    def cut_primary(self, ways=("out", "in")):
        """The cable of the host with the primary."""
        began = time.monotonic()
        self.site.switch.cut(self.site.hosts[LEADER].name, ways=ways)
        self.behind.append((began - BEHIND, time.monotonic()))

    def goes_on_elsewhere(self, timeout):
        """Until writes from outside go on at a server that is not pg01's."""
        writer = self.witness.outside
        proc.wait_for(lambda: writer.acknowledged and writer.acknowledged[-1][2] != seed.ADDRESSES[LEADER],
                      lambda: f"writes at another primary; last errors {writer.errors[-3:]}; holders {self.site.holders()}\n{self.site.log()}", timeout=timeout)
        writer.wait_writes()

    def settles(self, timeout=30):
        """Until one leads and has the address alone, and clients write. Of stock, which may leave an address behind, only
        the writes are asked for; the report shows the rest."""
        end = time.monotonic() + timeout
        while self.site.settled() is None:
            if time.monotonic() > end:
                if "ours" not in self.site.subjects:
                    break
                raise AssertionError(f"no leader that has the address alone; holders {self.site.holders()}\n{self.site.log()}")
            time.sleep(0.2)
        self.witness.outside.wait_writes(timeout)

    # Scenarios: each returns its report.

    def kill_pgpool(self, down=3.0):
        """kill -9 of all of pgpool on the leader's host; it is started again after a while, as by its unit."""
        self.prepare(synchronous=True)
        self.site.kill_pgpool(LEADER)
        time.sleep(down)
        self.site.start(LEADER)
        self.settles()
        return self.report("kill -9 of pgpool on the leader")

    def kill_host(self, down=3.0, timeout=90):
        """kill -9 of all that runs on the leader's host, the primary, too; pgpool is started again after a while."""
        self.prepare(synchronous=True)
        self.site.kill_host(LEADER)
        time.sleep(down)
        self.site.launch(LEADER)
        self.goes_on_elsewhere(timeout)
        self.site.wait_started(LEADER)
        self.settles()
        return self.report("kill -9 of everything on the leader")

    def stop_leader(self):
        self.prepare(synchronous=True)
        self.site.stop_pgpool(LEADER)
        self.site.wait_leader(but=LEADER)
        self.site.start(LEADER)
        self.settles()
        return self.report("stop of the leader")

    def suspend(self, dead_times=6):
        """SIGSTOP of what is called pgpool on the leader's host for some dead times, then SIGCONT."""
        self.prepare(synchronous=True)
        self.site.signal(LEADER, signal.SIGSTOP, "pgpool")
        time.sleep(dead_times * self.deadtime)
        self.site.signal(LEADER, signal.SIGCONT)
        # What it believes in its first moments.
        time.sleep(2)
        self.settles()
        return self.report("SIGSTOP of the leader")

    def kill_for_good(self):
        """kill -9 of what is called pgpool on the leader's host; nobody starts it again before another leads."""
        self.prepare(synchronous=True)
        self.site.kill_pgpool(LEADER, "pgpool")
        self.site.wait_leader(but=LEADER)
        self.settles()
        report = self.report("kill -9 of pgpool on the leader, without a restart")
        self.site.start(LEADER)
        return report

    def cut(self, ways=("out", "in"), timeout=120):
        """The leader's host, with the primary, is cut off silently; a client on it writes on as long as it can."""
        self.prepare(inside=(LEADER,))
        self.cut_primary(ways)
        self.goes_on_elsewhere(timeout)
        time.sleep(2)
        self.site.switch.heal()
        self.settles()
        name = {2: "cut of the leader's host", 1: f"cut of what the leader's host {'sends' if 'out' in ways else 'is sent'}"}[len(ways)]
        return self.report(name)

    def cut_others(self, timeout=120):
        """The same from the other side: leader and clients stay together, a host with a standby and a follower is cut off."""
        self.prepare(inside=(LEADER,))
        host = self.site.hosts[2].name
        self.site.switch.cut(host)
        time.sleep(2 * self.deadtime + 2)
        self.site.switch.heal()
        self.site.wait_leader()
        proc.wait_for(lambda: self.site.leader(2) == LEADER, "the cut node to have its leader again", timeout=timeout)
        return self.report("cut of a follower's host")

    def flap(self, times=6, seconds=1.5):
        """The leader's host is cut off and back again, again and again, each time for less than the dead time."""
        self.prepare(inside=(LEADER,))
        host = self.site.hosts[LEADER].name
        for _ in range(times):
            self.site.switch.cut(host)
            time.sleep(seconds)
            self.site.switch.heal()
            time.sleep(seconds)
        self.settles()
        return self.report("a cable that flaps")

    def clocks(self, seconds):
        """The clocks of all pgpools are set, one after the other, the leader's first; in between they differ."""
        self.prepare(clocks=(0, 1, 2))
        for number in range(3):
            self.set_clock(number, seconds)
            time.sleep(2 * self.deadtime)
            self._has_clock(number, seconds)
        self.settles()
        return self.report(f"clocks of one after the other set {seconds:+d} s")

    def kill_primary(self, timeout=90):
        """kill -9 of the primary's postmaster; pgpool on its host leads on."""
        self.prepare(synchronous=True)
        self.site.kill_server(LEADER)
        self.goes_on_elsewhere(timeout)
        return self.report("kill -9 of the primary")

