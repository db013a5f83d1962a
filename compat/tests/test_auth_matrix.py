"""The whole authentication matrix, one class per method of pool_hba.conf; see compat/auth/README.md."""

import os
import unittest

from lib import env, matrix


class Table(unittest.TestCase):
    """The file itself: whole, and every difference explained."""

    def log_tail(self):
        return ""

    def test_every_combination_has_its_row(self):
        self.assertEqual([str(c) for c in matrix.Table().gaps()[:10]], [])

    def test_every_reason_is_explained(self):
        with open(os.path.join(matrix.FOLDER, "README.md")) as readme:
            text = readme.read()
        for reason in {r for _, rs in matrix.Table().ours.values() for r in rs.split(" / ")}:
            self.assertIn(f"| `{reason}` |", text)

    def test_the_table_lets_nobody_in_without_the_password(self):
        table = matrix.Table()
        for cell in table.stock:
            outcome = table.expected(cell, "ours")
            if outcome is not None and not matrix.may_succeed(cell):
                self.assertFalse(matrix.is_success(outcome), str(cell))


class Part(unittest.TestCase):
    """The cells of some methods."""

    methods = ()
    weight = 15
    log_tail = Table.log_tail

    @classmethod
    def setUpClass(cls):
        if not cls.methods:
            raise unittest.SkipTest("the base of the others")
        left_out = matrix.NOT_YET[env.SUBJECT]
        missing = [f"{m}: {left_out[m]}" for m in cls.methods if m in left_out]
        if missing:
            raise unittest.SkipTest(", ".join(missing))
        cls.root = env.scratch("m-")
        cls.addClassCleanup(env.remove, cls.root)
        cls.matrix = matrix.Matrix(cls.root, env.SUBJECT, os.environ.get("COMPAT_TEMPLATE"))
        cls.addClassCleanup(cls.matrix.stop)


def _cells_test(self):
    table = matrix.Table()
    cells = [c for c in table.stock if c.hba in self.methods and table.expected(c, env.SUBJECT) is not None]
    faults = [v for v in self.matrix.run(table, cells, jobs=2) if v.fault]
    shown = "\n".join(f"{v.cell}: {v.outcome!r}, the table says {v.expected!r}: {v.fault}" for v in faults[:40])
    self.assertEqual(len(faults), 0, f"of {len(cells)} cells these failed:\n{shown}")


def _part(name, *methods):
    return type(name, (Part,), {"methods": methods, "__module__": __name__, "__doc__": ", ".join(methods), "test_every_cell": _cells_test})


Off = _part("Off", "off")
Trust = _part("Trust", "trust")
Refused = _part("Refused", "reject", "none")
Md5 = _part("Md5", "md5")
ScramSha256 = _part("ScramSha256", "scram-sha-256")
Password = _part("Password", "password")
Cert = _part("Cert", "cert")
Pam = _part("Pam", "pam")
Ldap = _part("Ldap", "ldap")
del Part
