"""`pgpool --check-auth`: foretells what happens at a login, and says what to mend."""

import os
import re
import subprocess

from lib import env, proc, wire
from lib.case import CompatCase, ours_only
from lib.server import PASSWORDS
from lib.subject import md5

USERS = {"app": None, "md5user": "md5pw", "scramuser": "scrampw", "pwuser": "clearpw"}
#: Each address of a client has a method of its own.
METHODS = {"127.0.0.11": "trust", "127.0.0.12": "md5", "127.0.0.13": "scram-sha-256", "127.0.0.14": "password", "127.0.0.15": "reject"}
HBA = "".join(f"host all all {address}/32 {method}\n" for address, method in METHODS.items()) + "local all app trust\n"


def entries(form):
    """A pool_passwd in which every user has this form."""
    lines = []
    for user, password in USERS.items():
        password = password or "apppw"
        lines.append({"none": "", "text": f"{user}:TEXT{password}\n", "bare": f"{user}:{password}\n", "md5": f"{user}:md5{md5(password + user)}\n",
                      "aes": f"{user}:AES7oKybeNIY0jebC5DUrqxzA==\n"}[form])
    return "".join(lines)


@ours_only("--check-auth")
class Foretold(CompatCase):
    """The exit status is what a login with the right password comes to, cell by cell."""

    nodes = 1
    config = {"num_init_children": 8, "connection_cache": False, "listen_addresses": "127.0.0.1"}
    start = False
    weight = 20

    def happens(self, pool, user, source):
        try:
            with pool.client(user=user, password=USERS[user] or "apppw", source=source, timeout=10) as client:
                return client.value("SELECT current_user") == user
        except (wire.ServerError, wire.Closed):
            return False

    def compare(self, pool, sources):
        for source in sources:
            for user in USERS:
                done = check_auth(pool, user, "app", source)
                with self.subTest(source=source, method=METHODS.get(source), user=user):
                    happened = self.happens(pool, user, source)
                    self.assertEqual(done.code == 0, happened, f"{done.out}\n{done.err}\nand the login {'worked' if happened else 'failed'}")
                    self.assertRegex(done.out, r"(?m)^result: the login can(not)? work")
                    self.assertEqual(done.code, 0 if "result: the login can work" in done.out else 1, done)
                    if done.code:
                        self.assertIn("remedy: ", done.out)
                    for secret in [*PASSWORDS.values(), "apppw", md5((USERS[user] or "apppw") + user)]:
                        self.assertNotIn(secret, done.out.replace("md5 hash", ""), done)

    def test_with_pool_hba(self):
        for form in ("none", "text", "bare", "md5", "aes"):
            with self.subTest(form=form):
                pool = self.another_pool(form, config={"enable_pool_hba": True}, hba=HBA, passwd=entries(form))
                self.quick(pool)
                pool.start()
                self.compare(pool, METHODS)
                pool.stop()

    def test_with_pool_hba_and_clear_text(self):
        pool = self.another_pool("clear", config={"enable_pool_hba": True, "allow_clear_text_frontend_auth": True}, hba=HBA, passwd=entries("none"))
        self.quick(pool)
        pool.start()
        self.compare(pool, METHODS)
        pool.stop()

    def test_without_pool_hba(self):
        for form in ("none", "text", "md5", "aes"):
            for clear in (False, True):
                with self.subTest(form=form, clear=clear):
                    pool = self.another_pool(f"{form}{clear}", config={"enable_pool_hba": False, "allow_clear_text_frontend_auth": clear}, passwd=entries(form))
                    self.quick(pool)
                    pool.start()
                    self.compare(pool, ["127.0.0.1"])
                    pool.stop()

    def test_a_scram_secret_of_the_server_and_another_one(self):
        with self.cluster.primary.client(user="postgres", database="postgres", unix=self.cluster.primary.home) as client:
            secret = client.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scramuser'")
            # The same password with another salt: as good for the client, and no key to the server.
            client.query("CREATE ROLE another PASSWORD 'scrampw'")
            other = client.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'another'")
            client.query("DROP ROLE another")
        for name, text, code in (("same", secret, 0), ("other", other, 1)):
            with self.subTest(secret=name):
                pool = self.another_pool(name, config={"enable_pool_hba": True}, hba=HBA, passwd=f"scramuser:{text}\n")
                self.quick(pool)
                pool.start()
                done = check_auth(pool, "scramuser", "app", "127.0.0.13")
                self.assertEqual(done.code, code, done)
                self.assertEqual(self.happens(pool, "scramuser", "127.0.0.13"), code == 0)
                self.assertNotIn(text, done.out)
                pool.stop()

    def quick(self, pool):
        """Failed logins of this test are no guesses."""
        pool.write(pool.file("pgpool-rs.conf"), "auth_failure_delay_max = 0\n")


def check_auth(pool, *words):
    return proc.run(pool.argv("--check-auth", *words), timeout=30)


@ours_only("--check-auth")
class Words(CompatCase):
    """What is printed; nothing runs but the servers."""

    nodes = 2
    config = {"enable_pool_hba": True}
    start = False
    hba = "host app app,+staff 10.0.0.0/8 md5\nhost all md5user all md5\nhostssl all pwuser all password\nhost all scramuser 127.0.0.1/32 scram-sha-256\nlocal all all trust\n"
    passwd = f"md5user:md5{md5('md5pw' + 'md5user')}\nscramuser:AES7oKybeNIY0jebC5DUrqxzA==\n"

    def check(self, *words, code):
        done = check_auth(self.pool, *words)
        self.assertEqual((done.code, done.err), (code, ""), done)
        return done.out

    def test_the_line_the_entry_and_each_backend(self):
        out = self.check("md5user", "app", "127.0.0.1", code=0)
        ports = [server.port for server in self.cluster.servers]
        self.assertEqual(out, f"""\
client: user "md5user", database "app", from 127.0.0.1, without TLS
pool_hba: {self.pool.hba_file}:2: host all md5user all md5
pool_passwd: {self.pool.file('pool_passwd')}:1: an md5 hash
client: is asked for md5
backend 0 (127.0.0.1:{ports[0]}): asks for md5, answered with what pool_passwd has
backend 1 (127.0.0.1:{ports[1]}): asks for md5, answered with what pool_passwd has
result: the login can work, given the right password
""")

    def test_the_nearest_records_and_why_they_do_not_match(self):
        out = self.check("app", "app", "127.0.0.1", code=1)
        self.assertIn(f"no record of {self.pool.hba_file} matches; the nearest are\n    {self.pool.hba_file}:1: host app app,+staff 10.0.0.0/8 md5\n        the address is not in 10.0.0.0 with mask 255.0.0.0\n", out)
        out = self.check("pwuser", "app", "127.0.0.1", code=1)
        self.assertIn(":3: hostssl all pwuser all password\n        hostssl is for clients with TLS\n", out)

    def test_the_key_file_that_is_missing(self):
        key = self.pool.file("pgpoolkey")
        done = check_auth(self.pool, "scramuser", "app", "127.0.0.1", "-k", key)
        self.assertEqual(done.code, 1, done)
        self.assertIn("an AES entry that cannot be opened\n", done.out)
        self.assertIn(f"remedy: the pool key file {key} does not exist", done.out)

    def test_a_unix_socket_is_local(self):
        out = self.check("md5user", "app", "local", code=0)
        self.assertIn(":5: local all all trust\n", out)
        self.assertIn('note: no password is asked for: whoever connects from there is let in as "md5user"\n', out)

    def test_what_the_servers_refuse(self):
        out = self.check("app", "nosuch", "local", code=1)
        self.assertIn('refuses the connection: database "nosuch" does not exist (SQLSTATE 3D000)\n    remedy: create the database "nosuch"', out)
        out = self.check("nobody", "app", "local", code=1)
        self.assertIn('remedy: create the role "nobody" at this server', out)

    def test_servers_that_are_gone_are_left_out(self):
        pool = self.another_pool("gone", per_node={1: {"backend_port": proc.free_port()}}, hba=self.hba, passwd=self.passwd)
        done = check_auth(pool, "md5user", "app", "127.0.0.1")
        self.assertEqual(done.code, 0, done)
        self.assertRegex(done.out, r"(?m)^backend 1 .*: cannot be asked: .*refused")
        pool = self.another_pool("allgone", per_node={n: {"backend_port": proc.free_port()} for n in (0, 1)}, hba=self.hba, passwd=self.passwd)
        done = check_auth(pool, "md5user", "app", "127.0.0.1")
        self.assertEqual(done.code, 1, done)
        self.assertIn("result: the login cannot work: there is no backend that it could go to\n", done.out)

    def test_a_bad_file(self):
        pool = self.another_pool("bad", hba="local all all ident\n", passwd=self.passwd)
        done = check_auth(pool, "app", "app", "local")
        self.assertEqual(done.code, 1, done)
        self.assertIn(f'{pool.hba_file}:1: invalid authentication method "ident"', done.out)
        self.assertIn("missing or erroneous pool_hba.conf file", done.out)

    def test_nothing_is_changed_and_no_pgpool_is_needed(self):
        before = sorted(os.listdir(self.pool.home))
        self.check("md5user", "app", "127.0.0.1", code=0)
        self.assertEqual(sorted(os.listdir(self.pool.home)), before)
        self.assertEqual(self.pool.leftovers(), [])

    def test_the_servers_log_nothing_unusual(self):
        sizes = [os.path.getsize(server.logfile) for server in self.cluster.servers]
        self.check("md5user", "app", "127.0.0.1", code=0)
        self.check("app", "app", "local", code=0)
        for server, size in zip(self.cluster.servers, sizes):
            with open(server.logfile, errors="replace") as log:
                log.seek(size)
                self.assertNotRegex(log.read(), re.compile("ERROR|FATAL"))

    def test_usage(self):
        for words in (["app"], ["app", "app", "somewhere.example"], ["app", "app", "local", "--tls"]):
            done = check_auth(self.pool, *words)
            self.assertEqual(done.code, 1, done)
            self.assertIn("Usage:", done.err)


@ours_only("--check-auth")
class ServersOfDifferentMethods(CompatCase):
    nodes = 2
    config = {"enable_pool_hba": True}
    start = False
    hba = "host all all all md5\n"

    def test_different_methods_of_the_servers(self):
        server = self.cluster.servers[1]
        path = os.path.join(server.data, "pg_hba.conf")
        with open(path) as file:
            before = file.read()
        with open(path, "w") as file:
            file.write("host all md5user all scram-sha-256\n" + before)
        server.value("SELECT pg_reload_conf()")
        out = self._until_scram()
        self.assertIn("asks for scram-sha-256, pool_passwd has an md5 entry: this cannot work\n    remedy: write the entry as TEXT or AES with pg_enc, or use auth_query\n", out)
        self.assertIn("result: the login cannot work; the client reads: ERROR: failed to authenticate with backend using SCRAM: valid password not found\n", out)

    def _until_scram(self):
        found = []

        def asks():
            found[:] = [check_auth(self.pool, "md5user", "app", "127.0.0.1").out]
            return "asks for scram" in found[0]

        self.eventually(asks, "the new pg_hba.conf")
        return found[0]


@ours_only("--check-auth")
class WithTls(CompatCase):
    nodes = 1
    config = {"enable_pool_hba": True}
    start = False
    hba = "hostssl all pwuser all password\nhostssl all scramuser all cert\n"

    def check(self, *words):
        return check_auth(self.pool, *words)

    def test_clients_with_tls(self):
        done = self.check("pwuser", "app", "127.0.0.1", "--tls")
        self.assertEqual(done.code, 1, done)
        self.assertIn("remedy: set ssl = on in pgpool.conf", done.out)

        key, certificate = self.pool.file("server.key"), self.pool.file("server.crt")
        self.pool.write_config(ssl=True, ssl_key=key, ssl_cert=certificate)
        done = self.check("pwuser", "app", "127.0.0.1", "--tls")
        self.assertEqual(done.code, 1, done)
        self.assertRegex(done.out, r"(?m)^ssl: .*server\.(crt|key)")
        self.assertIn("remedy: mend what the lines about ssl name", done.out)

        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "30", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        os.chmod(key, 0o600)
        env.hand_over(key)
        env.hand_over(certificate)
        done = self.check("pwuser", "app", "127.0.0.1", "--tls")
        self.assertEqual(done.code, 0, done)
        self.assertIn("from 127.0.0.1, with TLS\n", done.out)
        self.assertIn("asks for the password in clear text, answered with what pool_passwd has", done.out)
        done = self.check("pwuser", "app", "127.0.0.1")
        self.assertEqual(done.code, 1, done)
        self.assertIn("hostssl is for clients with TLS", done.out)

        done = self.check("scramuser", "app", "127.0.0.1", "--tls")
        self.assertEqual(done.code, 1, done)
        self.assertIn("remedy: set ssl_ca_cert in pgpool.conf", done.out)
        self.pool.write_config(ssl_ca_cert=certificate)
        done = self.check("scramuser", "app", "127.0.0.1", "--tls")
        self.assertEqual(done.code, 0, done)
        self.assertIn("result: the login can work, given a certificate of the client with this common name\n", done.out)


@ours_only("--check-auth")
class AuthQuery(CompatCase):
    """Users that pool_passwd does not have."""

    nodes = 1
    config = {"enable_pool_hba": True, "connection_cache": False}
    hba = "host all all all scram-sha-256\n"
    passwd = "repmgr:TEXTrep123\n"
    start = False

    def test_what_auth_query_gives(self):
        self.pool.write(self.pool.file("pgpool-rs.conf"), "auth_user = 'repmgr'\nauth_dbname = 'postgres'\nauth_failure_delay_max = 0\n")
        self.pool.start()
        for user, text, works in (("scramuser", "gives a SCRAM secret", True), ("md5user", "gives an md5 hash", False), ("app", "knows no password of", False)):
            with self.subTest(user=user):
                done = check_auth(self.pool, user, "app", "127.0.0.1")
                self.assertIn(f"auth_query: {text}", done.out)
                self.assertEqual(done.code == 0, works, done)
                self.assertEqual(self.can_connect(user=user, password=USERS[user] or "apppw"), works)
        self.pool.write(self.pool.file("pgpool-rs.conf"), "auth_user = 'repmgr'\nauth_password = 'wrong'\nauth_dbname = 'postgres'\n")
        done = check_auth(self.pool, "scramuser", "app", "127.0.0.1")
        self.assertEqual(done.code, 1, done)
        self.assertRegex(done.out, r"(?m)^auth_query: failed: node 0: ")
        self.assertNotIn("wrong", done.out.replace("wrong password", ""))

