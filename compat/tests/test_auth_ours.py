"""What is ours in authentication: auth_query, SCRAM secrets without clear text, slow answers to guesses, and no secret in the log."""

import os
import re
import threading
import time

from lib import certs, proc, wire
from lib.case import CompatCase, ours_only
from lib.server import PASSWORDS, pg
from lib.subject import md5

MD5 = ("md5user", "md5pw")
SCRAM = ("scramuser", "scrampw")
CLEAR = ("pwuser", "clearpw")
IN = [10, 11, 12, 0]


class Base(CompatCase):
    start = False
    own = ""

    def setUp(self):
        super().setUp()
        if not self.pool.running:
            self.pool.write(self.pool.file("pgpool-rs.conf"), self.own)
            self.before_start()
            self.pool.start()

    def before_start(self):
        pass

    def login(self, user, password, **kwargs):
        with self.pool.client(user=user, password=password, **kwargs) as client:
            self.assertEqual(client.value("SELECT current_user"), user)
            return client.auth_codes

    def change_password(self, user, password):
        self.cluster.primary.rows(f"ALTER ROLE {user} PASSWORD '{password}'")


@ours_only("auth_query")
class AuthQuery(Base):
    nodes = 2
    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all all all md5\nlocal all all trust\n"
    passwd = "repmgr:TEXTrep123\n"
    own = "auth_user = 'repmgr'\nauth_query_cache_life_time = 30\n"

    def test_users_without_an_entry_log_in_by_md5(self):
        for _ in range(2):
            self.assertEqual(self.login(*MD5), [5, 0])
        for wrong in ("", "wrong", "md5pw "):
            self.assertEqual(self.refused(user="md5user", password=wrong)["D"], "password does not match")

    def test_a_scram_secret_is_enough_for_client_and_servers(self):
        for _ in range(2):
            self.assertEqual(self.login(*SCRAM), IN)
        for wrong in ("", "wrong"):
            self.assertEqual(self.refused(user="scramuser", password=wrong)["M"], "authentication failed")
        backends = self.cluster.servers[1].rows("SELECT count(*) FROM pg_stat_activity WHERE usename = 'scramuser'")
        self.assertNotEqual(backends[0][0], "0", "the standby is logged in to by the key of the client as well")

    def test_a_user_that_no_server_knows_is_refused_with_the_words_of_stock(self):
        fields = self.refused(user="nobody", password="x")
        self.assertEqual((fields["S"], fields["M"], fields["D"]), ("FATAL", "md5 authentication failed", 'pool_passwd file does not contain an entry for "nobody"'))

    def test_a_user_name_is_never_part_of_the_query(self):
        for name in ("x' OR '1'='1", 'x"; DROP ROLE md5user; --', "$1", "\\"):
            self.assertEqual(self.refused(user=name, password="md5pw")["M"], "md5 authentication failed")
        self.assertNotIn("auth_query failed", self.pool.log())

    def test_a_changed_password_counts_after_the_first_failure(self):
        self.assertEqual(self.login("hcuser", "hcuser"), [5, 0])
        self.change_password("hcuser", "another")
        try:
            self.eventually(lambda: self.can_connect(user="hcuser", password="another"), "the new password to count", timeout=10)
            self.assertFalse(self.can_connect(user="hcuser", password="hcuser"))
        finally:
            self.cluster.primary.rows("SET password_encryption = 'md5'; ALTER ROLE hcuser PASSWORD 'hcuser'")

    def test_many_logins_at_once_ask_little(self):
        threads, seen = [], []
        for _ in range(20):
            threads.append(threading.Thread(target=lambda: seen.append(self.login(*MD5))))
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(seen, [[5, 0]] * 20)

    def test_when_the_servers_refuse_the_question_the_log_says_what_to_do(self):
        pool = self.another_pool("broken")
        pool.write(pool.file("pgpool-rs.conf"), "auth_user = 'repmgr'\nauth_password = 'not its password'\n")
        pool.start()
        with self.assertRaises(wire.ServerError) as caught:
            pool.client(user="md5user", password="md5pw")
        self.assertEqual(caught.exception.fields["M"], "md5 authentication failed")
        pool.wait_log("auth_query failed")
        pool.wait_log(re.escape("Check auth_user"))
        self.assertNotIn("not its password", pool.log())

    def test_a_name_that_the_query_stumbles_over_shuts_nobody_else_out(self):
        """Whoever may send a name must not decide about others."""
        self.cluster.primary.rows(
            "CREATE OR REPLACE FUNCTION strict_secret(name) RETURNS TABLE (usename name, passwd text) LANGUAGE plpgsql AS $f$ BEGIN "
            "IF NOT EXISTS (SELECT FROM pg_shadow s WHERE s.usename = $1) THEN RAISE EXCEPTION 'no such user: %', $1; END IF; "
            "RETURN QUERY SELECT s.usename, s.passwd FROM pg_shadow s WHERE s.usename = $1; END $f$", database="postgres")
        pool = self.another_pool("strict")
        pool.write(pool.file("pgpool-rs.conf"), self.own + "auth_query = 'SELECT usename, passwd FROM strict_secret($1)'\nauth_query_cache_life_time = 0\n")
        pool.start()
        for number in range(8):
            with self.assertRaises(wire.ServerError):
                pool.client(user=f"stranger{number}", password="x")
            pool.client(user="md5user", password="md5pw").close()
        self.assertEqual(pool.log().count("auth_query failed"), 1, "and the log is not filled")
        pool.wait_log(re.escape("no such user: stranger0"))

    def test_a_reload_switches_it_off(self):
        pool = self.another_pool("reloaded")
        pool.write(pool.file("pgpool-rs.conf"), self.own)
        pool.start()
        pool.client(user="md5user", password="md5pw").close()
        pool.write(pool.file("pgpool-rs.conf"), "auth_user = ''\n")
        pool.reload()

        def refused():
            try:
                pool.client(user="md5user", password="md5pw").close()
            except wire.ServerError:
                return True
            return False

        self.eventually(refused, "auth_query to be off")

    def test_admin_sql_knows_the_users_of_the_servers(self):
        with self.pool.client(user="scramuser", password="scrampw", database="pgpool_admin") as client:
            self.assertEqual(client.auth_codes, IN)
        self.assertIn("failed", self.refused(user="scramuser", password="wrong", database="pgpool_admin")["M"])


@ours_only("auth_query")
class AuthQueryElsewhere(Base):
    """The primary is gone and has not been replaced: another server has the same secrets."""

    nodes = 2
    config = {"enable_pool_hba": True, "num_init_children": 2, "failover_on_backend_error": False}
    hba = "host all all all scram-sha-256\n"
    passwd = "repmgr:TEXTrep123\n"
    own = "auth_user = 'repmgr'\nauth_query_cache_life_time = 0\n"

    def test_another_server_is_asked_while_the_primary_is_away(self):
        self.assertEqual(self.login(*SCRAM), IN)
        self.cluster.primary.stop()
        try:
            with self.pool.client(user="scramuser", password="scrampw", database="pgpool_admin") as client:
                self.assertEqual(client.auth_codes, IN)
            self.assertIn("failed", self.refused(user="scramuser", password="wrong", database="pgpool_admin")["M"])
            self.assertNotIn("auth_query failed", self.pool.log())
        finally:
            self.cluster.primary.start()


@ours_only("SCRAM secrets in pool_passwd")
class ScramSecret(Base):
    nodes = 2
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all all scram-sha-256\n"
    passwd = ""

    def before_start(self):
        self.write_secret()

    def write_secret(self):
        secret = self.cluster.primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scramuser'")
        self.assertTrue(secret.startswith("SCRAM-SHA-256$"))
        self.pool.write(self.pool.file("pool_passwd"), f"scramuser:{secret}\n")

    def test_the_proof_of_the_client_opens_the_servers(self):
        for _ in range(3):
            self.assertEqual(self.login(*SCRAM), IN)
        self.assertEqual(self.refused(user="scramuser", password="wrong")["M"], "authentication failed")
        self.assertEqual(self.login(*SCRAM), IN)

    def test_a_server_with_another_secret_is_named(self):
        with self.pool.client(user="scramuser", password="scrampw", database="postgres") as client:
            client.value("SELECT 1")
        self.change_password("scramuser", "scrampw")
        fields = self.refused(user="scramuser", password="scrampw", database="postgres")
        self.assertEqual(fields["M"], "failed to authenticate with backend using SCRAM")
        self.assertRegex(fields["D"], 'the SCRAM secret of user "scramuser" at backend node [01] is not the one')
        self.assertIn("rolpassword", fields["H"])
        self.write_secret()
        self.pool.reload()
        self.eventually(lambda: self.can_connect(user="scramuser", password="scrampw", database="postgres"), "the new entry to count")


@ours_only("delays of failed logins")
class Throttling(Base):
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all md5user,hcuser all md5\nhost all all all password\n"
    passwd = f"md5user:md5{md5('md5pwmd5user')}\nhcuser:md5{md5('hcuserhcuser')}\n"
    own = "auth_failure_delay_max = 8s\n"

    def wrong(self, user=MD5[0], source=None, password="wrong"):
        began = time.monotonic()
        self.refused(user=user, password=password, source=source)
        return time.monotonic() - began

    def test_guesses_become_slow_and_nobody_else_does(self):
        took = [self.wrong(source="127.0.0.2") for _ in range(8)]
        for number, delay in enumerate((0.2, 0.4, 0.8, 1.6, 3.2), start=3):
            self.assertGreaterEqual(took[number], delay, took)
        # The next answer would come after 6.4 seconds. A busy machine takes its time, but not so much.
        self.assertLess(max(took[:3]), 3, took)
        for user, source in (("hcuser", "127.0.0.2"), (MD5[0], "127.0.0.3"), (MD5[0], "127.0.0.2")):
            began = time.monotonic()
            self.assertEqual(self.login(user, PASSWORDS[user], source=source), [5, 0], "who knows the password")
            self.assertLess(time.monotonic() - began, 3)
        self.assertLess(self.wrong(source="127.0.0.2"), 3, "a success clears the failures")
        self.eventually(self.first_three_are_quick, "three guesses that wait for nothing, from some address")

    def first_three_are_quick(self):
        """Who is held up by the machine once is not held up at another address."""
        self.addresses = getattr(self, "addresses", 20) + 1
        return max(self.wrong(source=f"127.0.0.{self.addresses}") for _ in range(3)) < 0.2

    def test_a_refusal_that_waits_holds_no_slot(self):
        """pwuser has no entry: the server judges, which needs a slot; there are two."""
        mark = self.pool.log_size()
        threads = [threading.Thread(target=self.wrong, args=(CLEAR[0], "127.0.0.4")) for _ in range(12)]
        for t in threads:
            t.start()
        self.eventually(lambda: self.pool.log(mark).count('failed for user "pwuser"') >= 6, "refusals that wait")
        began = time.monotonic()
        self.assertEqual(self.login(*CLEAR, source="127.0.0.5"), [3, 0])
        # With the slots, it would have to wait for half of some fifty seconds.
        self.assertLess(time.monotonic() - began, 5)
        for t in threads:
            t.join()

    def test_the_log_says_that_somebody_guesses(self):
        mark = self.pool.log_size()
        threads = [threading.Thread(target=self.wrong, args=(MD5[0], "127.0.0.6")) for _ in range(10)]
        for t in threads:
            t.start()
        self.pool.wait_log("10 failed logins from 127.0.0.6", since=mark)
        for t in threads:
            t.join()

    def test_who_is_asked_for_no_password_does_not_wait_behind_those_who_guess(self):
        """An attacker on the host of an application: 60 guesses at once, so that 16 answers are held back."""
        pool = self.another_pool("trusting", hba="host all app all trust\nhost all all all md5\n", config={"num_init_children": 4, "listen_backlog_multiplier": 50})
        pool.write(pool.file("pgpool-rs.conf"), "auth_failure_delay_max = 8s\n")
        pool.start()

        def guess():
            try:
                pool.client(user="md5user", password="wrong", source="127.0.0.9", timeout=20).close()
            except (wire.ServerError, wire.Closed, OSError, TimeoutError):
                pass

        threads = [threading.Thread(target=guess) for _ in range(60)]
        for t in threads:
            t.start()
        try:
            self.eventually(lambda: pool.log().count("md5 authentication failed") > 20, "answers to be held back")
            for _ in range(3):
                began = time.monotonic()
                pool.client(user="app", source="127.0.0.9").close()
                self.assertLess(time.monotonic() - began, 3)
        finally:
            for t in threads:
                t.join()

    def test_hanging_up_does_not_make_guessing_fast(self):
        tried = 0
        end = time.monotonic() + 4
        while time.monotonic() < end:
            client = wire.Client(port=self.pool.port, startup=False, source="127.0.0.7")
            client.send(wire.startup_packet("md5user", "app"))
            client.socket.settimeout(0.05)
            try:
                if client.receive().kind == "R":
                    client.send(wire.message("p", wire.cstring("md5" + "0" * 32)))
                    tried += 1
                    client.receive()
            except (OSError, wire.Closed, TimeoutError):
                pass
            client.abort()
        self.assertLess(tried, 75, "in 4 seconds")
        self.assertEqual(self.login("hcuser", "hcuser", source="127.0.0.8"), [5, 0])


@ours_only("failed logins are slowed per client address")
class ThrottlingOfTheImpatient(Base):
    """The server takes 1.5 s to say no and none to say yes: who hangs up after 0.2 s knows enough."""

    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all all all password\n"
    passwd = ""
    server_settings = {"shared_preload_libraries": "auth_delay", "auth_delay.milliseconds": "1500"}

    def test_a_guess_whose_answer_is_not_awaited_is_a_failed_login(self):
        mark = self.pool.log_size()
        for _ in range(12):
            client = wire.Client(port=self.pool.port, startup=False, source="127.0.0.9")
            client.send(wire.startup_packet("pwuser", "app"))
            self.assertEqual(client.receive().kind, "R")
            client.send(wire.message("p", wire.cstring("wrong")))
            time.sleep(0.2)
            client.abort()
        self.pool.wait_log("10 failed logins from 127.0.0.9", since=mark)
        self.assertEqual(self.login(*CLEAR, source="127.0.0.10"), [3, 0])


@ours_only("admin_database")
class AdminLogin(Base):
    """With pool_hba off, pool_passwd is all that a session to admin_database is judged by."""

    config = {"num_init_children": 1}
    passwd = f"md5user:md5{md5('md5pwmd5user')}\n"

    def test_who_does_not_answer_does_not_hold_up_a_stop(self):
        client = wire.Client(port=self.pool.port, startup=False)
        client.send(wire.startup_packet("md5user", "pgpool_admin"))
        self.assertEqual(client.receive().kind, "R")
        began = time.monotonic()
        self.pool.stop()
        # authentication_timeout is a minute.
        self.assertLess(time.monotonic() - began, 15)
        client.abort()


@ours_only("a bound on remembered passwords")
class RememberedPassword(Base):
    config = {"enable_pool_hba": True, "num_init_children": 1}
    hba = "host all all all password\n"
    passwd = ""
    own = "remembered_password_life_time = 4s\n"

    def test_a_changed_password_is_noticed_on_cached_connections(self):
        self.assertEqual(self.login(*MD5), [3, 0])
        self.assertEqual(self.login(*MD5), [3, 5, 0], "stock's way on a cached connection")
        self.cluster.primary.rows("SET password_encryption = 'md5'; ALTER ROLE md5user PASSWORD 'new'")
        try:
            time.sleep(4.2)
            self.assertEqual(self.refused(user="md5user", password="md5pw")["M"], "authentication failed")
            self.assertEqual(self.login("md5user", "new"), [3, 0])
        finally:
            self.cluster.primary.rows("SET password_encryption = 'md5'; ALTER ROLE md5user PASSWORD 'md5pw'")


@ours_only("a reload reads pool_passwd whatever enable_pool_hba says")
class PasswdWithoutHba(Base):
    config = {"enable_pool_hba": False, "num_init_children": 2}
    passwd = ""

    def test_a_new_entry_counts_after_a_reload(self):
        self.assertIn("failed to authenticate with backend using md5", self.refused(user="md5user", password="md5pw")["M"])
        self.pool.write(self.pool.file("pool_passwd"), "md5user:TEXTmd5pw\n")
        self.pool.reload()
        self.eventually(lambda: self.can_connect(user="md5user", password="md5pw"), "the new entry to count")


@ours_only("servers of different methods")
class MixedServers(Base):
    """The primary asks for md5, the standby for clear text."""

    nodes = 2
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all 127.0.0.1/32 md5\nhost all all all password\n"
    passwd = "md5user:TEXTmd5pw\n"

    def before_start(self):
        standby = self.cluster.servers[1]
        path = f"{standby.data}/pg_hba.conf"
        with open(path) as file:
            text = file.read()
        self.assertIn("all         md5user   all          md5", text)
        self.pool.write(path, text.replace("all         md5user   all          md5", "all         md5user   all          password"), mode=0o600)
        standby.rows("SELECT pg_reload_conf()")
        self.eventually(lambda: self.standby_asks() == 3, "the standby to ask for clear text")

    def standby_asks(self):
        with wire.Client(port=self.cluster.servers[1].port, user="md5user", password="md5pw") as client:
            return client.auth_codes[0]

    def test_each_is_logged_in_to_in_its_own_way(self):
        for _ in range(2):
            self.assertEqual(self.login(*MD5), [5, 0])
        self.assertEqual(self.refused(user="md5user", password="wrong")["D"], "password does not match")
        there = self.cluster.servers[1].value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'md5user'")
        self.assertNotEqual(there, "0")


@ours_only("no password that nobody judges")
class NobodyJudges(Base):
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all all password\n"
    passwd = f"repmgr:md5{md5('rep123repmgr')}\n"

    def test_pool_hba_password_with_a_trusting_server_and_no_entry(self):
        for password in ("any", "", "x" * 1100):
            fields = self.refused(user="app", password=password)
            self.assertIn("authentication failed", fields["M"])
        fields = self.refused(user="app", password="any")
        self.assertEqual((fields["M"], fields["D"]), ("clear text authentication failed", 'pool_passwd file does not contain an entry for "app"'))
        self.assertIn("The servers trust this user", fields["H"])


@ours_only("no secret in any log")
class NoSecretInTheLog(Base):
    config = {"enable_pool_hba": True, "num_init_children": 3, "log_min_messages": "debug5", "client_min_messages": "debug5",
              "log_client_messages": True, "log_connections": True, "log_statement": True, "log_per_node_statement": True,
              "allow_clear_text_frontend_auth": True, "sr_check_user": "repmgr", "sr_check_password": "rep123", "sr_check_period": 1,
              "health_check_period": 1, "health_check_user": "hcuser", "health_check_password": "hcuser-password"}
    hba = "host all md5user,hcuser all md5\nhost all scramuser all scram-sha-256\nhost all all all password\n"
    passwd = f"md5user:TEXTmd5pw-of-the-file\nscramuser:scrampw\nrepmgr:md5{md5('rep123repmgr')}\n"
    own = "auth_user = 'repmgr'\nauth_password = 'rep123'\n"

    def test_neither_passwords_nor_hashes_nor_keys_are_written(self):
        secrets = ["typed-but-wrong", "md5pw-of-the-file", "scrampw", "rep123", "hcuser-password", "clearpw", md5("rep123repmgr"), md5("hcuserhcuser")]
        shown = []
        for user in ("md5user", "scramuser", "pwuser", "hcuser", "repmgr", "nobody"):
            for password in ("typed-but-wrong", PASSWORDS.get(user, "typed-but-wrong")):
                try:
                    with self.pool.client(user=user, password=password) as client:
                        for sql in ("PGPOOL SHOW ALL", "SHOW POOL_STATUS"):
                            shown.append(str(client.rows(sql)))
                except wire.ServerError as error:
                    shown.append(str(error.fields))
        secret = self.cluster.primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scramuser'")
        secrets += [part for part in secret.replace("$", ":").split(":") if len(part) > 10 and not part.startswith("SCRAM")]
        time.sleep(2.5)
        log = self.pool.log()
        self.assertGreater(len(shown), 4)
        for word in secrets:
            self.assertNotIn(word, log)
            self.assertNotIn(word, "".join(shown))


@ours_only("SCRAM channel binding")
class ChannelBinding(Base):
    config = {"enable_pool_hba": True, "num_init_children": 2, "ssl": True}
    hba = "hostssl all all all scram-sha-256\n"

    @classmethod
    def _build(cls, where, home, add_cleanup):
        where.authority = certs.Authority(os.path.join(home, "ca"))
        where.own_pair = where.authority.issue("pgpool", san="DNS:localhost,IP:127.0.0.1")
        pair = where.authority.issue("server", san="DNS:localhost,IP:127.0.0.1")
        cls.server_settings = {"ssl": "on", "ssl_cert_file": pair.cert, "ssl_key_file": pair.key}
        super()._build(where, home, add_cleanup)

    @classmethod
    def make_pool(cls, where, home, **changes):
        config = {"ssl_cert": where.own_pair.cert, "ssl_key": where.own_pair.key, **changes.pop("config", {})}
        return super().make_pool(where, home, config=config, **changes)

    def psql(self, *more, password="scrampw"):
        conninfo = f"host=127.0.0.1 port={self.pool.port} user=scramuser dbname=app sslmode=require " + " ".join(more)
        return proc.run([pg("psql"), "-X", "-A", "-t", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", conninfo], extra_env={"PGPASSWORD": password})

    def test_a_client_may_insist_on_it(self):
        for more in ("channel_binding=require", "channel_binding=disable", ""):
            for version in ("TLSv1.2", "TLSv1.3"):
                done = self.psql(more, f"ssl_max_protocol_version={version}")
                self.assertEqual((done.code, done.out.strip()), (0, "t"), done)
        done = self.psql("channel_binding=require", password="wrong")
        self.assertNotEqual(done.code, 0)
        self.assertIn("authentication failed", done.err)

    def test_it_is_offered_where_there_is_tls_and_nowhere_else(self):
        client = self.client(startup=False)
        client.send(wire.startup_packet("scramuser", "app"))
        self.assertEqual(client.until_closed().error["M"], "client authentication failed", "hostssl")
        plain = self.another_pool("plain", hba="host all all all scram-sha-256\n", config={"ssl": False}).start()
        client = plain.client(startup=False)
        client.send(wire.startup_packet("scramuser", "app"))
        self.assertEqual(client.receive().body[4:], b"SCRAM-SHA-256\0\0")
        client.abort()
