"""No password is ever shown: not in the log at its most talkative, not by SHOW or PCP, not in an error."""

import os
import re
import unittest

from lib import attempt, env, matrix, proc, tools, wire
from lib.case import CompatCase, ours_only
from lib.subject import PCP_PASSWORD

LOUD = {"log_min_messages": "debug5", "client_min_messages": "debug5", "log_error_verbosity": "verbose", "log_connections": True, "log_disconnections": True,
        "log_hostname": False, "log_statement": True, "log_per_node_statement": True, "log_client_messages": True}

#: Passwords of pgpool.conf, each of them its own.
CONFIGURED = {"health_check_password": "secret-of-health", "sr_check_password": "secret-of-replication", "recovery_password": "secret-of-recovery",
              "wd_lifecheck_password": "secret-of-lifecheck", "wd_authkey": "secret-of-watchdog"}

SHOWN = ["PGPOOL SHOW ALL", "SHOW POOL_STATUS", "SHOW POOL_NODES", "SHOW POOL_PROCESSES", "SHOW POOL_POOLS", "SHOW POOL_HEALTH_CHECK_STATS",
         "SHOW POOL_BACKEND_STATS", "SHOW POOL_CACHE", "SHOW POOL_VERSION", *[f"PGPOOL SHOW {name}" for name in CONFIGURED]]


def found(secrets, text):
    """Names of the secrets that are in a text."""
    return sorted({name for name, secret in secrets.items() if secret in text})


def around(secrets, text):
    """One place per secret, for the report; the secret itself is cut out."""
    places = []
    for name, secret in secrets.items():
        at = text.find(secret)
        if at >= 0:
            places.append(f"{name}: ...{text[max(0, at - 200) : at]}<HERE>{text[at + len(secret) : at + len(secret) + 60]}")
    return "\n".join(places[:5])


@ours_only("the log may be sent to anybody")
class Logins(unittest.TestCase):
    """A good part of the authentication matrix, with the log at debug5."""

    weight = 20

    def log_tail(self):
        return ""

    def setUp(self):
        self.root = env.scratch("s-")
        self.addCleanup(env.remove, self.root)
        self.matrix = matrix.Matrix(self.root, env.SUBJECT, os.environ.get("COMPAT_TEMPLATE"), config={**LOUD, **CONFIGURED})
        self.addCleanup(self.matrix.stop)

    def secrets(self):
        named = {"the password": matrix.PASSWORD, "the pool key": matrix.KEY, **CONFIGURED}
        for kind in ("wrong", "shorter"):
            named[f"a {kind} password"] = attempt.typed(kind, matrix.PASSWORD)
        for user, text in self.matrix.entries.items():
            if text is None:
                continue
            named[f"the entry of {user}"] = text
            for prefix in ("AES", "md5"):
                if text.startswith(prefix):
                    named[f"the {prefix} entry of {user}"] = text[len(prefix) :]
            if text.startswith("SCRAM"):
                for number, part in enumerate(re.split(r"[$:]", text)[2:]):
                    named[f"part {number} of the SCRAM secret of {user}"] = part
        for user in map(matrix.user_of, ["none"] * len(matrix.BACKENDS), matrix.BACKENDS):
            named[f"the md5 form of {user}"] = attempt.stored_md5(matrix.PASSWORD, user)[3:]
        # What the servers themselves store.
        for user, stored in self.matrix.cluster.primary.rows("SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"):
            if stored.startswith("SCRAM"):
                for number, part in enumerate(re.split(r"[$:]", stored)[3:]):
                    named[f"key {number} of {user} in the server"] = part
        return named

    def test_every_method_leaves_no_secret_in_the_log_or_in_a_message(self):
        table = matrix.Table()
        cells = [c for c in table.stock if c.kind in ("right", "wrong", "shorter", "stored", "overlong") and c.hba not in matrix.NOT_YET[env.SUBJECT]
                 and table.expected(c, env.SUBJECT) is not None]
        count = sum(1 for _ in self.matrix.run(table, cells, jobs=3))
        self.assertEqual(count, len(cells))
        secrets = self.secrets()
        # The salt is told to clients; it is no secret, and nothing else of the SCRAM secret is.
        secrets = {name: secret for name, secret in secrets.items() if not name.startswith("part 0")}
        for pool in self.matrix.pools:
            log = pool.log()
            self.assertIn("connection received", log)
            self.assertEqual(found(secrets, log), [], f"{pool.home}: {around(secrets, log)}")
        heard = "\n".join(str(fields) for fields in self.matrix.heard)
        self.assertTrue(heard)
        self.assertEqual(found(secrets, heard), [], around(secrets, heard))


@ours_only("the same of management and of broken files")
class Management(CompatCase):
    config = {**LOUD, **CONFIGURED, "num_init_children": 3, "health_check_period": 1, "sr_check_period": 1, "health_check_user": "repmgr", "sr_check_user": "repmgr"}
    passwd = "app:TEXTsecret-of-app\nrepmgr:secret-of-repmgr\n"

    SECRETS = {**CONFIGURED, "TEXT": "secret-of-app", "bare": "secret-of-repmgr", "pcp": PCP_PASSWORD}

    def test_show_and_pcp(self):
        client = self.client()
        text = "\n".join(str(client.query(statement).messages) for statement in SHOWN)
        for tool, *args in (("pool_status",), ("node_info", "-v", "-n", "0"), ("proc_info", "-v"), ("health_check_stats", "-v", "-n", "0"), ("watchdog_info", "-v")):
            text += repr(tools.pcp(self.pool, tool, *args))
        self.assertIn("health_check_password", text)
        self.assertEqual(found(self.SECRETS, text), [], around(self.SECRETS, text))

    def test_the_log_of_checks_with_wrong_passwords_and_of_reloads(self):
        self.pool.wait_log(r"repmgr")
        self.pool.reload(health_check_password="another-secret", sr_check_password="AESanother-secret")
        tools.pcp(self.pool, "node_count", user="nobody")
        client = self.client()
        client.query("PGPOOL SET client_idle_limit TO 100")
        client.query("PGPOOL SET health_check_password TO 'another-secret'")
        secrets = {**self.SECRETS, "changed": "another-secret"}
        # A statement is logged as it is, which is what log_statement is for.
        log = "\n".join(line for line in self.pool.log().splitlines() if "PGPOOL SET" not in line)
        self.assertEqual(found(secrets, log), [], around(secrets, log))

    def test_lines_of_pool_passwd_that_cannot_be_understood(self):
        lines = [b"noseparator-secret-1", b"app:", b"bad\xff\xfe:secret-2", b"aes:AESsecret-3 is no base64", b"short:md5secret-4", b"verifier:SCRAM-SHA-256$4096:secret-5$x",
                 b"long:" + b"secret-6" * 200, b"text:TEXT", b"tab\t:secret-7"]
        secrets = {f"line {n}": f"secret-{n}" for n in range(1, 8)}
        pool = self.another_pool(passwd="", config={**LOUD, "enable_pool_hba": True}, hba="host all all all scram-sha-256\nhost all aes all md5\n")
        with open(pool.file("pool_passwd"), "wb") as out:
            out.write(b"\n".join(lines) + b"\n")
        pool.write(pool.file("pgpool-rs.conf"), "auth_failure_delay_max = 0\n")
        pool.start()
        said = ""
        for user in ("aes", "short", "verifier", "long", "text", "app", "noseparator-user"):
            for password in ("x", ""):
                try:
                    pool.client(user=user, password=password).close()
                    self.fail(f"{user} got in")
                except (wire.ServerError, wire.Closed) as error:
                    said += str(getattr(error, "fields", error))
        pool.reload()
        for text in (pool.log(), said):
            self.assertEqual(found(secrets, text), [], around(secrets, text))

    def test_lines_of_pgpool_conf_that_cannot_be_understood(self):
        pool = self.another_pool()
        for line in ("health_check_password = 'secret-1", "sr_check_password = secret-2 secret-2", "wd_authkey = 'secret-3' 'secret-3'", "recovery_pasword = 'secret-4'",
                     "sr_check_password == 'secret-5'"):
            with self.subTest(line=line):
                pool.write(pool.conf, pool.config_text() + line + "\n")
                done = proc.run(pool.argv("--check"))
                secrets = {"the line's": "secret-"}
                text = done.out + done.err
                self.assertTrue(text.strip(), "--check says nothing")
                self.assertEqual(found(secrets, text), [], around(secrets, text))
                pool.launch()
                try:
                    proc.wait_for(lambda: "successfully started" in pool.log() or not pool.running, "a start or its refusal")
                    self.assertEqual(found(secrets, pool.log()), [], around(secrets, pool.log()))
                finally:
                    pool.stop()
                    open(pool.logfile, "w").close()
