"""Drivers of applications log in with md5, SCRAM and TLS, and run a statement with parameters."""

import os
import unittest

from lib import certs, drivers, env, matrix
from lib.case import CompatCase
from lib.server import PASSWORDS

USERS = ("md5user", "scramuser")
#: A host name and addresses that reach the proxy; its certificate is for the first two.
NAMED, NUMBERED, UNNAMED = "localhost", "127.0.0.1", "127.0.0.2"


class Base(CompatCase):
    driver = None
    config = {"enable_pool_hba": True, "num_init_children": 6, "listen_addresses": "*"}
    hba = "host all md5user all md5\nhost all scramuser all scram-sha-256\n"
    weight = 8

    @classmethod
    def setUpClass(cls):
        if cls.driver is None:
            raise unittest.SkipTest("the base of the others")
        cls.program = drivers.prepare(cls.driver)
        super().setUpClass()

    def login(self, user, password=None, **where):
        return drivers.login(self.program, port=self.pool.port, user=user, password=PASSWORDS[user] if password is None else password, **{"host": NUMBERED, **where})

    def gets_in(self, user, expected, **where):
        line, said = self.login(user, **where)
        self.assertEqual(line, f"{user}|42|café|{expected}", said)

    def stays_out(self, user, **where):
        line, said = self.login(user, **where)
        self.assertIsNone(line)
        self.assertTrue(said)
        return said


class Plain(Base):
    def test_md5_and_scram_on_new_and_cached_connections(self):
        for user in USERS:
            for _ in range(3):
                self.gets_in(user, "plain")

    def test_a_wrong_password_is_refused_also_on_a_cached_connection(self):
        for user in USERS:
            self.gets_in(user, "plain")
            self.assertIn("authentication failed", self.stays_out(user, password=PASSWORDS[user] + "x"))


class Tls(Base):
    @classmethod
    def setUpClass(cls):
        if cls.driver is not None and "cert" in matrix.NOT_YET[env.SUBJECT]:
            raise unittest.SkipTest(f"TLS is {matrix.NOT_YET[env.SUBJECT]['cert']}")
        super().setUpClass()

    @classmethod
    def make_pool(cls, where, home, **changes):
        where.authority = certs.Authority(os.path.join(home, "certs"))
        where.stranger = certs.Authority(os.path.join(home, "strangers"), "somebody else's")
        cert, key = where.authority.server()
        cls.hba = cls.hba.replace("host ", "hostssl ")
        return super().make_pool(where, home, config={"ssl": True, "ssl_cert": cert, "ssl_key": key}, **changes)

    def test_require(self):
        for user in USERS:
            for _ in range(2):
                self.gets_in(user, "tls", sslmode="require")

    def test_verify_full_by_name_and_by_address(self):
        for user, host in zip(USERS, (NAMED, NUMBERED)):
            self.gets_in(user, "tls", sslmode="verify-full", rootcert=self.authority.ca, host=host)

    def test_a_wrong_password_is_refused(self):
        for user in USERS:
            self.assertIn("authentication failed", self.stays_out(user, password="wrong", sslmode="require"))

    def test_the_driver_refuses_another_host_and_another_authority(self):
        self.stays_out("scramuser", sslmode="verify-full", rootcert=self.authority.ca, host=UNNAMED)
        self.stays_out("scramuser", sslmode="verify-full", rootcert=self.stranger.ca, host=NAMED)

    def test_pool_hba_wants_tls(self):
        self.assertIn("client authentication failed", self.stays_out("scramuser"))


def _of(kind, name):
    return type(kind.__name__ + name.title().replace("-", ""), (kind,), {"driver": name, "__module__": __name__})


for _name in drivers.PROGRAMS:
    for _kind in (Plain, Tls):
        _class = _of(_kind, _name)
        globals()[_class.__name__] = _class
del Base, Plain, Tls, _class, _kind, _name
