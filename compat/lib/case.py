"""What the tests stand on: a cluster per class, a pgpool per class or per test, and the words of a test.

A test counts for the stock binary unless `stock_differs` says why it cannot
pass there; then PostgreSQL alone, the manual or the issue is the reference.
"""

import functools
import os
import shutil
import unittest

from . import env, proc, wire
from .hook import Recorder
from .server import Cluster
from .subject import Pgpool


def stock_differs(reason):
    """Required of ours only: stock 4.3.5 does something else by a known defect, or cannot do it at all."""

    def mark(item):
        if env.SUBJECT == "stock" and not os.environ.get("COMPAT_STOCK_ALL"):
            return unittest.skip(f"stock differs: {reason}")(item)
        return item

    return mark


def ours_only(what):
    """The subject is a property that only our own binary claims."""
    return stock_differs(f"only ours promises this: {what}")


def promoting(case):
    """failover_command of most tests: records the call, then promotes as the usual script does."""
    return case.hook.command("failover") + f"; {case.failover_sh} %d %h %P %m %H %R"


def needs_root(item):
    """Mounts something in a namespace of its own."""
    return item if os.geteuid() == 0 else unittest.skip("only root may mount in a namespace of its own")(item)


def slow(item):
    """Left out by `compat/run --quick`."""
    if os.environ.get("COMPAT_QUICK"):
        return unittest.skip("left out by --quick")(item)
    return item


class CompatCase(unittest.TestCase):
    """A cluster of `nodes` servers and one pgpool for all tests of the class.

    Without `streaming` the servers are strangers to each other, as pgpool finds them in the modes other than streaming replication.

    With `fresh = True` each test gets its own cluster and pgpool (and `start`
    says whether the pgpool is already running).
    """

    nodes = 1
    primary = 0
    streaming = True
    dialect = "4.3"
    config = {}
    hba = None
    passwd = None
    flags = {}
    per_node = {}
    server_settings = {}
    fresh = False
    start = True
    #: Mostly waits for something: `compat/run` lets it run beside classes that keep the machine busy.
    waits = False
    maxDiff = 4000

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # The assertions fail by it: a helper of this name would make them say yes to everything.
        if "fail" in vars(cls):
            raise TypeError(f"{cls.__name__}.fail hides unittest's: give the helper another name")

    # Set-up

    @classmethod
    def setUpClass(cls):
        cls.root = env.scratch("c-")
        cls.addClassCleanup(cls._remove_root, cls.root)
        if not cls.fresh:
            cls._build(cls, cls.root, cls.addClassCleanup)

    def setUp(self):
        if self.fresh:
            home = os.path.join(self.root, f"t{self._testMethodName[:40]}"[:14])
            shutil.rmtree(home, ignore_errors=True)
            os.makedirs(home)
            env.hand_over(home)
            self.addCleanup(shutil.rmtree, home, ignore_errors=True)
            self._build(self, home, self.addCleanup)

    @classmethod
    def _remove_root(cls, root):
        if os.environ.get("COMPAT_KEEP"):
            print(f"kept: {root}")
        else:
            env.remove(root)

    @classmethod
    def _build(cls, where, home, add_cleanup):
        template = os.environ.get("COMPAT_TEMPLATE") or os.path.join(cls.root, "template")
        where.cluster = Cluster(home, cls.nodes, template, cls.primary, cls.server_settings, cls.streaming)
        add_cleanup(where.cluster.stop)
        where.hook = Recorder(home)
        # A copy: the servers' account may not be able to enter the folder of the sources.
        where.failover_sh = os.path.join(home, "failover.sh")
        shutil.copy(os.path.join(env.TOP, "compat", "hooks", "failover.sh"), where.failover_sh)
        os.chmod(where.failover_sh, 0o755)
        where.pool = cls.make_pool(where, home)
        add_cleanup(where.pool.cleanup)
        if cls.start:
            where.pool.start()

    @classmethod
    def make_pool(cls, where, home, **changes):
        config = {k: v(where) if callable(v) else v for k, v in {**cls.config, **changes.pop("config", {})}.items()}
        return Pgpool(os.path.join(home, "p"), where.cluster.servers, dialect=cls.dialect, config=config,
                      hba=cls.hba, passwd=cls.passwd, flags=cls.flags, per_node=cls.per_node, **changes)

    def another_pool(self, name="q", **kwargs):
        """A second pgpool in front of the same servers, for tests that need a start of their own."""
        config = kwargs.pop("config", {})
        pool = Pgpool(os.path.join(self.pool.home, name), self.cluster.servers,
                      **{"dialect": self.dialect, "hba": self.hba, "passwd": self.passwd, "config": {**{k: v for k, v in self.config.items() if not callable(v)}, **config}, **kwargs})
        self.addCleanup(pool.cleanup)
        return pool

    def log_tail(self):
        """The end of pgpool's log, for the report of a failure."""
        pool = getattr(self, "pool", None)
        if pool is None:
            return ""
        return "--- end of pgpool's log ---\n" + (getattr(self, "_log_tail", "") or pool.log()[-4000:])

    def doCleanups(self):
        if self.fresh and getattr(self, "pool", None) is not None:
            self._log_tail = self.pool.log()[-4000:]
        return super().doCleanups()

    # Words of a test

    def client(self, **kwargs):
        """A client of the pgpool under test; ends with the test."""
        client = self.pool.client(**kwargs)
        self.addCleanup(client.close)
        return client

    def direct(self, **kwargs):
        """A client of the primary itself, over TCP like those of the pgpool."""
        client = self.cluster.primary.client(**{"host": "127.0.0.1", "user": "app", **kwargs})
        self.addCleanup(client.close)
        return client

    def same_as_direct(self, conversation, **kwargs):
        """Runs `conversation(client)` on the server and through the pgpool; both must give the same. Returns it."""
        expected = conversation(self.direct(**kwargs))
        got = conversation(self.client(**kwargs))
        self.assertEqual(got, expected, "through pgpool (first) and directly (second)")
        return got

    def eventually(self, condition, what, timeout=15.0):
        return proc.wait_for(condition, what, timeout)

    def wait_running(self, text, server=None):
        """Until a server (the primary) works on a statement with this text: what is to come in its middle may come now."""
        server = server or self.cluster.primary
        self.eventually(lambda: server.value(f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND strpos(query, $${text}$$) > 0") != "0",
                        f"{server.name} to work on {text}")

    def refused(self, **kwargs):
        """The ErrorResponse fields with which a connection attempt ends."""
        try:
            client = self.pool.client(**kwargs)
        except wire.ServerError as error:
            return error.fields
        client.close()
        self.fail("the connection was accepted")
        return None

    def can_connect(self, **kwargs):
        try:
            with self.pool.client(**{"timeout": 5, **kwargs}) as client:
                return client.value("SELECT 1") == "1"
        except (OSError, wire.ServerError, wire.Closed, TimeoutError):
            return False


def transcript(result, *, rows=True):
    """A result as a comparable list: what differs from run to run is left out (pids, oids, file and line of errors)."""
    lines = []
    for m in result.messages:
        if m.kind == "E" or m.kind == "N":
            f = m.fields
            lines.append((m.kind, f.get("S"), f.get("C"), f.get("M"), f.get("P")))
        elif m.kind == "K":
            continue
        elif m.kind == "T":
            lines.append(("T", tuple(m.columns)))
        elif m.kind == "A":
            lines.append(("A", m.body[4:]))
        elif m.kind == "D" and not rows:
            continue
        else:
            lines.append((m.kind, m.body))
    return lines


def compared(function):
    """Wraps a conversation that returns Results so that it returns transcripts."""

    @functools.wraps(function)
    def wrapped(client):
        got = function(client)
        return [transcript(r) for r in got] if isinstance(got, list) else transcript(got)

    return wrapped
