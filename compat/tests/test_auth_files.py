"""pool_passwd, its key and its re-reading; user names of all kinds; servers that ask for different things."""

import os
import unittest

from lib import attempt, env, matrix, wire
from lib.case import CompatCase, ours_only, stock_differs
from lib.server import PASSWORDS
from lib.subject import Pgpool

PASSWORD = "c0rrect-Horse"
KEY = "the key of the tests"


def undelayed(pool):
    """Ours alone reads this: failed logins are answered at once."""
    pool.write(pool.file("pgpool-rs.conf"), "auth_failure_delay_max = 0\n")
    return pool


def role(name):
    return '"' + name.replace('"', '""') + '"'


class Base(CompatCase):
    @classmethod
    def make_pool(cls, where, home, **changes):
        return undelayed(super().make_pool(where, home, **changes))

    def another_pool(self, *args, **kwargs):
        return undelayed(super().another_pool(*args, **kwargs))

    def login(self, user, password, pool=None, **kwargs):
        """The authentication requests of a good login."""
        with (pool or self.pool).client(user=user, password=password, **kwargs) as client:
            self.assertEqual(client.value("SELECT current_user"), user)
            return client.auth_codes

    def gets_in(self, user, password, pool=None):
        try:
            self.login(user, password, pool)
            return True
        except (wire.ServerError, wire.Closed):
            return False


#: Names that are special somewhere between a client and a server: in SQL, in SCRAM, in files, in messages.
ODD_NAMES = ["Upper Case", "tab\tname", 'quo"te', "apos'trophe", "back\\slash", "comma,name", "equals=name", "slash/name", "at@name", "#hash", "+plus", "!bang",
             "md5", "percent%s", "$dollar", "all", "ünïcödé", "名前", "🐘", "x" * 63, "-dash", "semi;colon", "co:lon", "star*"]


def in_passwd(name):
    """A backslash takes away what a colon, and itself, mean in pool_passwd."""
    return name.replace("\\", "\\\\").replace(":", "\\:")


class OddNames(Base):
    """Each name with a role whose server asks for md5, SCRAM and clear text, and with an entry that serves all."""

    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "local all all password\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 md5\n"
    weight = 10

    @classmethod
    def make_pool(cls, where, home, **changes):
        server = where.cluster.primary
        server.rows("SET password_encryption = 'scram-sha-256'; " + "; ".join(f"CREATE ROLE {role(n)} LOGIN PASSWORD '{PASSWORD}'" for n in ODD_NAMES))
        path = os.path.join(server.data, "pg_hba.conf")
        with open(path) as old:
            text = old.read()
        with open(path, "w") as new:
            new.write(text.replace("127.0.0.1/32 trust", "127.0.0.1/32 scram-sha-256", 1))
        server.value("SELECT pg_reload_conf()")
        return undelayed(Pgpool(os.path.join(home, "p"), where.cluster.servers, config={**cls.config, "listen_addresses": "*"}, hba=cls.hba,
                                passwd="".join(f"{in_passwd(n)}:TEXT{PASSWORD}\n" for n in ODD_NAMES)))

    def tried(self, **where):
        """Names that do not get in with the right password, or do with a wrong one; twice each, for the cache."""
        wrong = []
        for name in ODD_NAMES:
            for _ in range(2):
                if not self.can_log_in(name, PASSWORD, where) or self.can_log_in(name, PASSWORD + "x", where):
                    wrong.append(name)
                    break
        return wrong

    def can_log_in(self, name, password, where):
        try:
            with self.pool.client(user=name, password=password, **where) as client:
                return client.value("SELECT current_user") == name
        except (wire.ServerError, wire.Closed):
            return False

    def test_scram(self):
        self.assertEqual(self.tried(host="127.0.0.1"), [])

    def test_md5(self):
        self.assertEqual(self.tried(host="::1"), [])

    def test_clear_text(self):
        self.assertEqual(self.tried(unix=True), [])


class Reload(Base):
    """What a reload changes, for new and cached connections alike."""

    fresh = True
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all all md5\n"

    def set_passwd(self, text):
        self.pool.write(self.pool.file("pool_passwd"), text)
        self.pool.reload()

    def test_a_changed_entry_ends_the_old_password_on_cached_connections_too(self):
        self.set_passwd("app:TEXTfirst\n")
        self.eventually(lambda: self.gets_in("app", "first"), "the first password")
        for _ in range(3):
            self.login("app", "first")
        self.set_passwd("app:TEXTsecond\n")
        self.eventually(lambda: self.gets_in("app", "second"), "the second password to count")
        self.eventually(lambda: not self.gets_in("app", "first"), "the first password to be refused")
        self.assertEqual([self.gets_in("app", "first") for _ in range(4)], [False] * 4)

    def test_an_entry_may_take_any_form_at_each_reload(self):
        md5 = attempt.stored_md5(PASSWORDS["md5user"], "md5user")
        for form in (md5, "TEXT" + PASSWORDS["md5user"], PASSWORDS["md5user"], md5):
            self.set_passwd(f"md5user:{form}\n")
            self.eventually(lambda: self.gets_in("md5user", PASSWORDS["md5user"]), f"{form} to count")
            self.assertFalse(self.gets_in("md5user", "wrong"))

    def test_an_entry_that_is_gone_lets_nobody_in(self):
        self.set_passwd("app:TEXTfirst\n")
        self.eventually(lambda: self.gets_in("app", "first"), "the entry to count")
        self.set_passwd("somebody:TEXTfirst\n")
        self.eventually(lambda: not self.gets_in("app", "first"), "the entry to be forgotten")
        self.assertEqual([self.gets_in("app", p) for p in ("first", "", "app")], [False] * 3)

    @ours_only("pool_passwd is read again whether or not pool_hba.conf is used; stock does so only with it")
    def test_pool_passwd_is_read_again_without_pool_hba(self):
        pool = self.another_pool(config={"enable_pool_hba": False}, passwd="scramuser:TEXTwrong\n").start()
        self.assertFalse(self.gets_in("scramuser", "scrampw", pool))
        pool.write(pool.file("pool_passwd"), "scramuser:TEXTscrampw\n")
        pool.reload()
        self.eventually(lambda: self.gets_in("scramuser", "scrampw", pool), "the new entry to count")

    @ours_only("the health check takes the new entry at a reload and does not detach meanwhile")
    def test_the_health_check_takes_the_new_entry(self):
        pool = self.another_pool(config={"health_check_period": 1, "health_check_password": "", "enable_pool_hba": True}, hba="host all all all trust\n",
                                 passwd="hcuser:TEXTwrong\n").start()
        pool.wait_log(r"hcuser")
        client = pool.client()
        self.addCleanup(client.close)

        def successes():
            result = client.query("SHOW POOL_HEALTH_CHECK_STATS").ok()
            return int(dict(zip(result.columns, result.rows[0]))["success_count"])

        before = successes()
        pool.write(pool.file("pool_passwd"), "hcuser:TEXThcuser\n")
        pool.reload()
        self.eventually(lambda: successes() > before + 1, "health checks with the new password")
        self.assertEqual(client.query("SHOW POOL_NODES").rows[0][3], "up")


class Keys(Base):
    """Where the key of AES entries is looked for: -k, then PGPOOLKEYFILE, then the home directory."""

    fresh = True
    start = False
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all all scram-sha-256\n"

    def setUp(self):
        super().setUp()
        self.pool.write(self.pool.file("pool_passwd"), "scramuser:" + matrix.aes_text(self.pool.home, PASSWORDS["scramuser"], KEY) + "\n")
        self.key = self.pool.file("right.key")
        self.other = self.pool.file("other.key")
        self.pool.write(self.key, KEY + "\n", 0o600)
        self.pool.write(self.other, "another key\n", 0o600)

    def works(self):
        return self.gets_in("scramuser", "scrampw")

    def test_option_k(self):
        self.pool.start("-k", self.key)
        self.assertTrue(self.works())
        self.assertFalse(self.gets_in("scramuser", "wrong"))

    def test_the_environment(self):
        self.pool.extra_env = {"PGPOOLKEYFILE": self.key}
        self.pool.start()
        self.assertTrue(self.works())

    def test_the_option_wins_over_the_environment(self):
        self.pool.extra_env = {"PGPOOLKEYFILE": self.other}
        self.pool.start("-k", self.key)
        self.assertTrue(self.works())

    def test_the_home_directory_of_the_account(self):
        home = self.pool.file("home")
        os.mkdir(home)
        env.hand_over(home)
        self.pool.write(os.path.join(home, ".pgpoolkey"), KEY + "\n", 0o600)
        self.pool.namespace = HomeOf(self.pool, home)
        # The variable HOME is not asked: it may be that of the caller of sudo.
        self.pool.extra_env = {"HOME": self.pool.file("nowhere")}
        self.pool.start()
        self.assertTrue(self.works())

    def test_a_wrong_key_and_no_key_let_nobody_in(self):
        for key in (self.other, self.pool.file("missing.key")):
            with self.subTest(key=key):
                self.pool.start("-k", key)
                for password in ("scrampw", "", "AES"):
                    fields = self.refused(user="scramuser", password=password)
                    self.assertIn("authentication failed", fields["M"])
                self.assertEqual(fields.get("D"), "unable to decrypt password from pool_passwd")
                self.assertEqual(fields.get("H"), "verify the valid pool_key exists")
                self.pool.stop()

    def test_a_reload_finds_the_key_that_has_come_meanwhile(self):
        self.pool.write(self.pool.file("late.key"), "another key\n", 0o600)
        self.pool.start("-k", self.pool.file("late.key"))
        self.assertFalse(self.works())
        self.pool.write(self.pool.file("late.key"), KEY + "\n", 0o600)
        self.pool.reload()
        if env.SUBJECT == "ours":
            self.eventually(self.works, "the new key to count")


class HomeOf:
    """A mount namespace in which the account has another home directory."""

    def __init__(self, pool, home):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a mount namespace needs root")
        self.passwd = pool.file("passwd")
        with open("/etc/passwd") as real:
            lines = [line.split(":") for line in real.read().splitlines()]
        for fields in lines:
            if fields[0] == env.ACCOUNT:
                fields[5] = home
        pool.write(self.passwd, "\n".join(":".join(f) for f in lines) + "\n")

    def wrap(self, argv):
        drop = f"exec setpriv --reuid={env.ACCOUNT} --regid={env.ACCOUNT} --init-groups --pdeathsig=SIGINT"
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'mount --bind {self.passwd} /etc/passwd && {drop} -- "$@"', "sh", *argv]


@stock_differs("servers that ask for different things refuse the session")
class DifferentServers(Base):
    """The primary and its standby have another pg_hba.conf."""

    nodes = 2
    config = {"enable_pool_hba": False, "num_init_children": 4, "max_pool": 8}
    passwd = f"md5user:TEXT{PASSWORDS['md5user']}\nscramuser:TEXT{PASSWORDS['scramuser']}\n"
    weight = 10

    #: user, method of the primary, method of the standby
    COMBINATIONS = [(user, a, b) for user, own in (("md5user", "md5"), ("scramuser", "scram-sha-256"))
                    for a, b in (("trust", own), (own, "trust"), ("password", own), (own, "password"), ("trust", "password"), ("password", "trust"))]

    def set_method(self, node, user, method):
        server = self.cluster[node]
        path = os.path.join(server.data, "pg_hba.conf")
        with open(path) as old:
            lines = [line for line in old.read().splitlines() if f" {user} " not in " ".join(line.split())]
        with open(path, "w") as new:
            new.write(f"host all {user} all {method}\n" + "\n".join(lines) + "\n")
        server.value("SELECT pg_reload_conf()")

        def asks():
            with server.client(host="127.0.0.1", user=user, password=PASSWORDS[user]) as client:
                return client.auth_codes[0] == {"trust": 0, "password": 3, "md5": 5, "scram-sha-256": 10}[method]

        self.eventually(asks, f"{server.name} to ask {user} for {method}")

    def test_every_pair_lets_in_the_right_password_and_no_other(self):
        for user, *methods in self.COMBINATIONS:
            with self.subTest(user=user, methods=methods):
                for node, method in enumerate(methods):
                    self.set_method(node, user, method)
                pool = self.another_pool(f"{user[0]}{self.COMBINATIONS.index((user, *methods))}").start()
                for _ in range(2):
                    for wrong in (PASSWORDS[user] + "x", ""):
                        with self.assertRaises((wire.ServerError, wire.Closed), msg=f"password {wrong!r}"):
                            pool.client(user=user, password=wrong)
                    with pool.client(user=user, password=PASSWORDS[user]) as client:
                        self.assertEqual(client.value("SELECT current_user"), user)
                        for server in self.cluster.servers:
                            self.assertTrue(server.sessions(f"usename = '{user}'"), f"{server.name} has no session")
                pool.cleanup()

    def test_without_pool_passwd_the_clients_clear_text_serves_all(self):
        for user, *methods in self.COMBINATIONS:
            with self.subTest(user=user, methods=methods):
                for node, method in enumerate(methods):
                    self.set_method(node, user, method)
                pool = self.another_pool(f"w{user[0]}{self.COMBINATIONS.index((user, *methods))}", passwd="", config={"allow_clear_text_frontend_auth": True}).start()
                for _ in range(2):
                    for wrong in (PASSWORDS[user] + "x", ""):
                        with self.assertRaises((wire.ServerError, wire.Closed), msg=f"password {wrong!r}"):
                            pool.client(user=user, password=wrong)
                    with pool.client(user=user, password=PASSWORDS[user]) as client:
                        self.assertEqual(client.value("SELECT current_user"), user)
                pool.cleanup()
