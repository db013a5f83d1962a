"""What is seen of a watchdog cluster while something happens to it: writers at several places, and who had the address when.

Times are `time.monotonic()` of this machine, one clock for all hosts.
"""

import threading
import time

from . import proc, seed, switch, wire

#: Numbers of rows of two writers differ in the rest of a division by this.
_WRITERS = 10
#: Seconds; two promotions do not come after each other in less.
_REIGN = 3


class Writer(threading.Thread):
    """Writes one row after the other through the address and connects again when it is cut or hears nothing.

    `place` is what has a network: a host, or the room for a client that is on none of the hosts. The server that
    wrote a row says so itself. With an `address` it goes there instead.
    """

    patience = 3.0
    #: Where the rows go, by their number `n`.
    table = "cl_owner.written"

    def __init__(self, place, number=0, pause=0.02, address=seed.VIP):
        super().__init__(daemon=True)
        self.place, self.number, self.pause, self.address = place, number, pause, address
        #: (time, number of the row, address of the server)
        self.acknowledged = []
        #: (time, SQLSTATE or "", text)
        self.errors = []
        self._over, self._next = threading.Event(), number

    def run(self):
        with self.place.network():
            while not self._over.is_set():
                try:
                    self._session()
                except wire.ServerError as error:
                    self._note(error.fields["C"], error.message)
                except (OSError, wire.Closed, TimeoutError, AssertionError) as error:
                    self._note("", str(error))
                self._over.wait(0.05)

    def connect(self):
        return wire.Client(host=self.address, port=9999, user="cl_owner", password="cl_owner", database="critlib", timeout=self.patience)

    def _session(self):
        client = self.connect()
        try:
            while not self._over.is_set():
                row, self._next = self._next, self._next + _WRITERS
                seen = client.query(f"insert into {self.table}(n) values ({row}) returning host(inet_server_addr())")
                if seen.error:
                    self._note(seen.error["C"], seen.error["M"])
                    return
                self.acknowledged.append((time.monotonic(), row, seen.rows[0][0]))
                self._over.wait(self.pause)
        finally:
            client.abort()

    def _note(self, code, text):
        self.errors.append((time.monotonic(), code, text[:200]))

    def begin(self):
        self.start()
        proc.wait_for(lambda: len(self.acknowledged) > 10, lambda: f"a client to write; its errors: {self.errors[-3:]}", timeout=30)
        return self

    def end(self):
        self._over.set()
        if self.ident is not None:
            self.join(30)

    def wrote_since(self, moment):
        return bool(self.acknowledged) and self.acknowledged[-1][0] > moment

    def wait_writes(self, timeout=60):
        """Until three more rows are acknowledged."""
        since = len(self.acknowledged)
        proc.wait_for(lambda: len(self.acknowledged) > since + 2, lambda: f"writes to go on; last errors {self.errors[-3:]}", timeout=timeout)

    def outage(self, since):
        """Seconds of the longest time without an acknowledged row that ended after `since`, or goes on."""
        times = [at for at, _, _ in self.acknowledged] + [time.monotonic() if not self._over.is_set() else self.acknowledged[-1][0]]
        return max((later - at for at, later in zip(times, times[1:]) if later > since), default=0.0)

    def lost(self, there):
        """Acknowledged rows that are not among `there`, as (time, row, server)."""
        return [one for one in self.acknowledged if one[1] not in there]


class Watch(threading.Thread):
    """Looks all the time who has the address."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.hosts, self.address = site.hosts, site.vip
        #: (time, names of the hosts that have it), an entry for each change.
        self.changes = []
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.02):
            now = tuple(switch.holders(self.hosts, self.address))
            if len(now) > 1:
                # One host is looked at after the other, and the address may have gone from the first to the second in between.
                now = tuple(name for name in switch.holders(self.hosts, self.address) if name in now)
            if not self.changes or self.changes[-1][1] != now:
                self.changes.append((time.monotonic(), now))

    def end(self):
        self._over.set()
        self.join(5)

    def _longest(self, which):
        """Seconds of the longest time in which `which(number of holders)` was true without a break."""
        longest, began = 0.0, None
        for at, names in (*self.changes, (time.monotonic(), None)):
            if began is not None and (names is None or not which(len(names))):
                longest, began = max(longest, at - began), None
            if names is not None and which(len(names)) and began is None:
                began = at
        return longest

    def doubled(self):
        """For how many seconds at most two hosts had the address."""
        return self._longest(lambda count: count > 1)

    def orphaned(self):
        """For how many seconds at most no host had it."""
        return self._longest(lambda count: count == 0)

    def heirs(self, since):
        """Hosts that had the address alone after `since`, in order; who has it at that moment is not among them."""
        before = [names for at, names in self.changes if at <= since]
        found = [*before[-1]] if before else []
        for at, names in self.changes:
            if at > since and len(names) == 1 and names[0] not in found[-1:]:
                found.append(names[0])
        return found[len(before[-1]) if before else 0:]

    def gone(self, name, since):
        """Seconds from `since` until this host did not have the address for the first time; None if it has it still."""
        return next((at - since for at, names in self.changes if at > since and name not in names), None)

    def told(self, since):
        return ", ".join(f"{at - since:+.1f} s {'+'.join(name.partition('.')[0] for name in names) or 'nobody'}" for at, names in self.changes)


class Witness:
    """Writers and the watch together: a client outside of the hosts, and one on each host of `inside`.

    With a `leader`, a client on another host than its goes to the pgpool beside it: in a cut that is all it can reach.
    """

    def __init__(self, site, inside=(), pause=0.02, leader=None):
        self.site = site
        self.watch = Watch(site)
        self.outside = Writer(site.room, 0, pause)
        self.inside = {node: Writer(site.hosts[node], node + 1, pause, seed.VIP if leader in (None, node) else seed.ADDRESSES[node]) for node in inside}

    @property
    def writers(self):
        return [self.outside, *self.inside.values()]

    def begin(self):
        self.watch.start()
        for writer in self.writers:
            writer.begin()
        self.began = time.monotonic()
        return self

    def end(self):
        for writer in self.writers:
            writer.end()
        self.watch.end()

    def lost(self):
        """Acknowledged rows that the primary of the end does not have, by client. To be asked when the writers have ended."""
        there = set(map(int, self.site.sql(self.primary(), "select n from cl_owner.written", "critlib").split()))
        return {"outside": self.outside.lost(there), **{seed.NAMES[node]: writer.lost(there) for node, writer in self.inside.items()}}

    def primary(self):
        """The server to which the last row of the client outside went."""
        return seed.ADDRESSES.index(self.outside.acknowledged[-1][2])

    def to_two_primaries(self):
        """Rows that a server acknowledged to anybody while the client outside wrote to another, newer primary; and until how
        many seconds after that one's first row."""
        reigns = []
        for at, _, server in self.outside.acknowledged:
            if not reigns or reigns[-1][1] != server:
                reigns.append((at, server))
        # Who is back after less than this has never been replaced.
        late = [now - before for (before, _), (now, _) in zip(reigns[1:], reigns[2:]) if now - before < _REIGN]
        for writer in self.inside.values():
            for at, _, server in writer.acknowledged:
                began, newest = max((reign for reign in reigns if reign[0] < at), default=(at, server))
                if server != newest:
                    late.append(at - began)
        return len(late), max(late, default=0.0)
