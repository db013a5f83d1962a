"""pool_passwd as the stock tools write it, and the passwords of pgpool's own connections in all their forms."""

import os
import pwd

from lib import env, proc, tools
from lib.case import CompatCase, needs_root
from lib.server import PASSWORDS

USERS = ("md5user", "scramuser", "pwuser", "hcuser", "repmgr")
KEY = "the key of the pool"


def enc(key_file, password):
    """The text that pg_enc makes of a password, for pgpool.conf."""
    done = proc.run([tools.stock_tool("pg_enc"), "-k", key_file, password])
    text = done.out.partition("pool_passwd string: ")[2].strip()
    if not text.startswith("AES"):
        raise AssertionError(repr(done))
    return text


class Base(CompatCase):
    fresh = True
    start = False
    passwd = ""

    def key(self, text=KEY, mode=0o600, name="the key"):
        path = self.pool.file(name)
        self.pool.write(path, text + "\n", mode=mode)
        return path

    def written_by_pg_enc(self, key, users=USERS):
        for user in users:
            done = proc.run([tools.stock_tool("pg_enc"), "-m", "-k", key, "-f", self.pool.conf, "-u", user, PASSWORDS[user]])
            self.assertEqual(done.code, 0, done)
        with open(self.pool.file("pool_passwd")) as file:
            lines = file.read().splitlines()
        self.assertEqual([line.partition(":AES")[0] for line in lines], list(users))

    def login(self, user, password=None):
        with self.pool.client(user=user, password=password or PASSWORDS[user]) as client:
            self.assertEqual(client.value("SELECT current_user"), user)
            return client.auth_codes


class AesEntries(Base):
    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all md5user all md5\nhost all scramuser all scram-sha-256\nhost all pwuser all password\nhost all all all trust\n"
    weight = 12

    def all_log_in(self):
        for _ in range(2):
            self.assertEqual(self.login("md5user"), [5, 0])
            self.assertEqual(self.login("scramuser"), [10, 11, 12, 0])
            self.assertEqual(self.login("pwuser"), [3, 0])
        # Let in by pool_hba, so that the entry alone serves the server.
        self.assertEqual(self.login("repmgr"), [0])
        self.assertEqual(self.refused(user="md5user", password="wrong")["D"], "password does not match")
        self.assertEqual(self.refused(user="scramuser", password="wrong")["M"], "authentication failed")
        self.assertIn("authentication failed", self.refused(user="pwuser", password="wrong")["M"])

    def test_the_key_file_of_the_command_line(self):
        key = self.key()
        self.written_by_pg_enc(key)
        self.pool.start("-k", key)
        self.all_log_in()

    def test_the_key_file_of_the_environment(self):
        key = self.key()
        self.written_by_pg_enc(key)
        self.pool.extra_env = {"PGPOOLKEYFILE": key}
        self.pool.start()
        self.all_log_in()

    @needs_root
    def test_the_key_file_of_the_home_folder(self):
        home = self.pool.file("home")
        os.makedirs(home)
        env.hand_over(home)
        key = self.key(name="home/.pgpoolkey")
        self.written_by_pg_enc(key)
        # The account's home of the user database counts, not $HOME.
        self.pool.mounts = f"mount --bind '{home}' '{pwd.getpwnam(env.ACCOUNT).pw_dir}'"
        self.pool.start()
        self.all_log_in()

    def test_the_command_line_wins_over_the_environment(self):
        key = self.key()
        self.written_by_pg_enc(key)
        self.pool.extra_env = {"PGPOOLKEYFILE": self.key("another key", name="other key")}
        self.pool.start("-k", key)
        self.all_log_in()

    def test_without_a_key_the_entries_open_no_door_and_others_still_do(self):
        self.written_by_pg_enc(self.key())
        self.pool.start("-k", "/nonexistent/key")
        fields = self.refused(user="md5user", password=PASSWORDS["md5user"])
        self.assertEqual((fields["M"], fields["D"], fields.get("H")), ("md5 authentication failed", "unable to decrypt password from pool_passwd", "verify the valid pool_key exists"))
        fields = self.refused(user="scramuser", password=PASSWORDS["scramuser"])
        self.assertEqual((fields["M"], fields["D"]), ("SCRAM authentication failed", "unable to decrypt password from pool_passwd"))
        self.assertTrue(self.can_connect())

    def test_with_another_key_nobody_gets_in(self):
        self.written_by_pg_enc(self.key())
        self.pool.start("-k", self.key("another key", name="other key"))
        for user in ("md5user", "scramuser"):
            self.refused(user=user, password=PASSWORDS[user])
        self.assertTrue(self.can_connect())

    def test_entries_are_read_again_at_a_reload(self):
        key = self.key()
        self.written_by_pg_enc(key, users=("md5user",))
        self.pool.start("-k", key)
        self.assertEqual(self.login("md5user"), [5, 0])
        self.refused(user="scramuser", password=PASSWORDS["scramuser"])
        self.written_by_pg_enc(key, users=("md5user", "scramuser"))
        self.pool.reload()
        self.eventually(lambda: self.can_connect(user="scramuser", password=PASSWORDS["scramuser"]), "the new entry to count")


class StockTools(Base):
    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all all all md5\n"

    def test_entries_of_pg_md5(self):
        for user in ("md5user", "repmgr"):
            done = proc.run([tools.stock_tool("pg_md5"), "-m", "-f", self.pool.conf, "-u", user, PASSWORDS[user]])
            self.assertEqual(done.code, 0, done)
        self.pool.start()
        for user in ("md5user", "repmgr"):
            self.assertEqual(self.login(user), [5, 0])
            self.assertEqual(self.refused(user=user, password="wrong")["M"], "md5 authentication failed")

    def test_a_list_of_users_through_both_tools(self):
        key = self.key()
        for tool, users in (("pg_md5", ("md5user",)), ("pg_enc", ("scramuser", "pwuser"))):
            path = self.pool.file("users")
            self.pool.write(path, "".join(f"{u}:{PASSWORDS[u]}\n" for u in users))
            more = ["-k", key] if tool == "pg_enc" else []
            done = proc.run([tools.stock_tool(tool), "-m", *more, "-f", self.pool.conf, "-i", path])
            self.assertEqual(done.code, 0, done)
        self.pool.start("-k", key)
        for user in ("md5user", "scramuser", "pwuser"):
            self.assertEqual(self.login(user), [5, 0])


class OwnConnections(Base):
    """health_check_password and sr_check_password: servers that ask for md5 must be satisfied."""

    nodes = 2
    config = {"num_init_children": 4, "health_check_period": 1, "health_check_timeout": 5, "health_check_max_retries": 1, "health_check_retry_delay": 1, "sr_check_period": 1}
    weight = 25

    def works(self, *arguments, **settings):
        self.pool.write_config(**settings)
        self.pool.start(*arguments)
        self.eventually(self.streaming, "the replication check to know the standby", timeout=20)
        with self.pool.client() as client:
            seen = client.query("SHOW POOL_HEALTH_CHECK_STATS").ok()
            counts = [dict(zip(seen.columns, row)) for row in seen.rows]
        self.assertEqual([c["role"] for c in counts], ["primary", "standby"])
        self.assertEqual([c["fail_count"] for c in counts], ["0", "0"])
        self.eventually(lambda: all(int(r[7]) > 0 for r in self.stats()), "checks that succeed")
        self.assertEqual(self.pool.status_words(), ["up", "up"])

    def stats(self):
        with self.pool.client() as client:
            return client.rows("SHOW POOL_HEALTH_CHECK_STATS")

    def streaming(self):
        return tools.node_info(self.pool, 1)["Replication State"] == "streaming"

    def test_as_aes_text_in_the_configuration(self):
        key = self.key()
        self.works("-k", key, health_check_password=enc(key, PASSWORDS["hcuser"]), sr_check_password=enc(key, PASSWORDS["repmgr"]))

    def test_with_the_prefix_text(self):
        self.works(health_check_password="TEXT" + PASSWORDS["hcuser"], sr_check_password="TEXT" + PASSWORDS["repmgr"])

    def test_empty_with_aes_entries_in_pool_passwd(self):
        key = self.key()
        self.written_by_pg_enc(key)
        self.works("-k", key, health_check_password="", sr_check_password="")

    def test_empty_with_md5_entries_in_pool_passwd(self):
        for user in ("hcuser", "repmgr"):
            proc.run([tools.stock_tool("pg_md5"), "-m", "-f", self.pool.conf, "-u", user, PASSWORDS[user]])
        self.works(health_check_password="", sr_check_password="")

    def test_empty_with_clear_entries_for_a_server_that_wants_scram(self):
        self.cluster.primary.rows("GRANT pg_monitor TO scramuser")
        self.pool.write(self.pool.file("pool_passwd"), f"scramuser:TEXT{PASSWORDS['scramuser']}\n")
        self.works(health_check_user="scramuser", health_check_password="", sr_check_user="scramuser", sr_check_password="")
