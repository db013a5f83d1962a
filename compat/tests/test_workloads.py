"""Drivers of applications do all that they can, on the primary directly and through pgpool with load balancing.

What a driver's program prints must be the same. Commits wait until the standbys have replayed them: only then
is what a read outside of a transaction sees on a standby no matter of luck.
"""

import difflib
import unittest

from lib import drivers
from lib.case import CompatCase, stock_differs

STOCK = "4.3.5 crashes, hangs, or shows the settings of another node in each of them (known-defects 1 to 6; sessions-and-pooling 8)"

FIXTURE = """
CREATE TABLE items(id int PRIMARY KEY, name text);
INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 50) g;
CREATE TABLE work(id int PRIMARY KEY, v text);
ALTER TABLE items OWNER TO app; ALTER TABLE work OWNER TO app;
"""


class Base(CompatCase):
    driver = None
    nodes = 3
    config = {"num_init_children": 6, "load_balance_mode": True}
    server_settings = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "2 (*)"}
    weight = 30

    @classmethod
    def setUpClass(cls):
        if cls.driver is None:
            raise unittest.SkipTest("the base of the others")
        cls.program = drivers.prepare(cls.driver, drivers.WORKLOADS)
        cls.per_node = {cls.primary: {"backend_weight": 0}}
        super().setUpClass()
        cls.cluster.primary.rows(FIXTURE)

    def transcript(self, port):
        self.cluster.primary.rows("TRUNCATE work")
        return drivers.work(self.program, port)

    def directly(self):
        """The transcript of the primary itself, made once."""
        if "expected" not in type(self).__dict__:
            lines = self.transcript(self.cluster.primary.port)
            self.assertFalse([line for line in lines if line.startswith("***")], "the workload fails with PostgreSQL itself:\n" + "\n".join(lines[-30:]))
            type(self).expected = lines
        return self.expected

    def same_through(self, pool):
        expected = self.directly()
        got = self.transcript(pool.port)
        if got != expected:
            self.fail(f"{self.driver}: - directly, + through pgpool\n" + "\n".join(difflib.unified_diff(expected, got, n=6, lineterm="")))

    def standbys_took_part(self, pool):
        with pool.client() as client:
            shown = client.query("SHOW POOL_NODES").ok()
        reads = [int(dict(zip(shown.columns, row))["select_cnt"]) for row in shown.rows]
        self.assertGreater(sum(reads) - reads[self.primary], 2, f"SELECTs per node: {reads}, the primary is node {self.primary}")

    @stock_differs(STOCK)
    def test_the_answers_are_those_of_postgresql(self):
        # The primary has the weight 0: all that is balanced goes to a standby.
        self.same_through(self.pool)
        self.standbys_took_part(self.pool)

    @stock_differs(STOCK)
    def test_the_answers_are_the_same_when_each_statement_takes_its_node_anew(self):
        pool = self.another_pool(config={"statement_level_load_balance": True}, per_node={}).start()
        self.same_through(pool)
        self.standbys_took_part(pool)


def _of(kind, driver, primary):
    return type(f"{driver.title().replace('-', '')}Primary{primary}", (kind,), {"driver": driver, "primary": primary, "__module__": __name__})


for _driver in drivers.WORKLOADS:
    for _primary in (0, 2):
        _class = _of(Base, _driver, _primary)
        globals()[_class.__name__] = _class
del Base, _class, _driver, _primary
