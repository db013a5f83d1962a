"""What the tests of the watchdog stand on: the system in use on three hosts (lib/watchdog.py), a site per class."""

import os
import unittest

from . import env, seed, watchdog
from .case import CompatCase
from .witness import Witness


class WatchdogCase(CompatCase):
    """`sites` are the subjects of the three hosts, for each site of the class; nothing is started.

    Several sites are there to be led through the same steps at the same time, as most of it is waiting.
    """

    sites = (None,)
    settings = watchdog.SHORT
    dialect = None
    #: Of each site: the node ids of its hosts, None for their places.
    ids = ()
    weight = 60
    waits = True

    @classmethod
    def _build(cls, where, home, add_cleanup):
        reason = watchdog.unavailable()
        if reason:
            raise unittest.SkipTest(reason)
        where.all = []
        for number, subjects in enumerate(cls.sites):
            folder = os.path.join(home, f"s{number}")
            os.mkdir(folder)
            os.chmod(folder, 0o755)
            where.all.append(watchdog.Site(folder, subjects, cls.settings, cls.dialect, ids=cls.ids[number] if cls.ids else None))
            add_cleanup(where.all[-1].stop)
        where.site = where.all[0]

    def log_tail(self):
        return "\n".join(site.log() for site in getattr(self, "all", ()))

    def witness(self, site=None, **kwargs):
        """Begins to write through the address and to watch it; ends with the test."""
        seen = Witness(site or self.site, **kwargs)
        self.addCleanup(seen.end)
        return seen.begin()

    def nothing_lost_or_doubled(self, seen, deadtime=None):
        """The rules that hold whatever happens; ends the writers first."""
        seen.end()
        told = f"the address: {seen.watch.told(seen.began)}"
        self.assertEqual({who: len(rows) for who, rows in seen.lost().items()}, {writer: 0 for writer in seen.lost()}, f"acknowledged rows that the primary does not have, by client; {told}")
        limit = deadtime or int(self.settings["wd_heartbeat_deadtime"])
        self.assertLessEqual(seen.watch.doubled(), limit * env.SLOW, f"seconds with two holders of the address; {told}")
        self.assertEqual(seen.to_two_primaries()[0], 0, "rows that an old primary acknowledged after a new one had")

    def roles(self, leader, absent=None):
        """All members as they are listed while one leads; `absent` is (node, state)."""
        found = {name: "LEADER" if n == leader else "STANDBY" for n, name in enumerate(seed.NAMES)}
        if absent:
            found[seed.NAMES[absent[0]]] = absent[1]
        return found
