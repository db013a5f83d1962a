"""Authentication as far as a set-up like the manual's needs it: pool_hba, pool_passwd, and the servers behind."""

from lib import tools, wire
from lib.case import CompatCase
from lib.server import PASSWORDS
from lib.subject import HBA_SEED, md5

MD5 = ("md5user", "md5pw")
SCRAM = ("scramuser", "scrampw")
CLEAR = ("pwuser", "clearpw")


class Base(CompatCase):
    def login(self, user, password, **kwargs):
        """Logs in, runs a statement and returns the authentication codes that were seen."""
        with self.pool.client(user=user, password=password, **kwargs) as client:
            self.assertEqual(client.value("SELECT current_user"), user)
            return client.auth_codes


class SeedHba(Base):
    """`local all all trust`, `host all all 0.0.0.0/0 md5`, and an md5 entry for each user."""

    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = HBA_SEED
    passwd = "".join(f"{u}:md5{md5(p + u)}\n" for u, p in [MD5, ("hcuser", "hcuser"), ("repmgr", "rep123"), ("app", "apppw")])

    def test_md5_over_tcp(self):
        self.assertEqual(self.login(*MD5), [5, 0])

    def test_md5_towards_a_trusting_server(self):
        self.assertEqual(self.login("app", "apppw"), [5, 0])

    def test_a_reused_connection_asks_the_client_again(self):
        for _ in range(3):
            self.assertEqual(self.login(*MD5), [5, 0])
        fields = self.refused(user="md5user", password="wrong")
        self.assertEqual((fields["M"], fields["D"]), ("md5 authentication failed", "password does not match"))

    def test_a_wrong_password_is_refused(self):
        fields = self.refused(user="md5user", password="wrong")
        self.assertEqual((fields["C"], fields["M"], fields["D"]), ("XX000", "md5 authentication failed", "password does not match"))

    def test_an_empty_password_is_refused(self):
        self.assertEqual(self.refused(user="md5user", password="")["M"], "md5 authentication failed")

    def test_a_user_without_a_pool_passwd_entry_is_refused(self):
        fields = self.refused(user="scramuser", password="scrampw")
        self.assertEqual((fields["S"], fields["M"], fields["D"]), ("FATAL", "md5 authentication failed", 'pool_passwd file does not contain an entry for "scramuser"'))

    def test_local_trust_lets_the_unix_socket_in_and_md5_serves_the_server(self):
        self.assertEqual(self.login("md5user", None, unix=True), [0])

    def test_stock_psql_logs_in(self):
        done = tools.psql(self.pool.port, "SELECT current_user", user="md5user", password="md5pw")
        self.assertEqual((done.code, done.out.strip()), (0, "md5user"), done)

    def test_an_answer_that_is_no_password_message_ends_the_connection(self):
        client = self.client(startup=False)
        client.send(wire.startup_packet("md5user", "app"))
        client.until("R")
        client.send(wire.query("SELECT 1"))
        seen = client.until_closed()
        self.assertNotIn("Z", seen.kinds)
        self.assertTrue(self.login(*MD5))

    def test_hanging_up_at_the_password_prompt_harms_nobody(self):
        for _ in range(10):
            client = self.client(startup=False)
            client.send(wire.startup_packet("md5user", "app"))
            client.until("R")
            client.abort()
        self.assertEqual(self.login(*MD5), [5, 0])

    def test_the_salt_differs_from_connection_to_connection(self):
        salts = set()
        for _ in range(5):
            client = self.client(startup=False)
            client.send(wire.startup_packet("md5user", "app"))
            salts.add(client.until("R").messages[-1].body[4:])
            client.abort()
        self.assertEqual(len(salts), 5)


class Addresses(Base):
    config = {"enable_pool_hba": True, "listen_addresses": "*", "num_init_children": 4}
    hba = "host all all 127.0.0.1/32 trust\nhost all repmgr ::1/128 reject\nlocal app app trust\n"

    def test_no_matching_line(self):
        fields = self.refused(host="::1")
        self.assertEqual((fields["S"], fields["M"]), ("FATAL", "client authentication failed"))
        self.assertEqual(fields["D"], 'no pool_hba.conf entry for host "::1", user "app", database "app", SSL off')
        self.assertEqual(fields["H"], "see pgpool log for details")

    def test_reject(self):
        self.assertEqual(self.refused(host="::1", user="repmgr", password="x")["D"], 'no pool_hba.conf entry for host "::1", user "repmgr", database "app", SSL off')

    def test_no_line_for_a_local_connection(self):
        fields = self.refused(unix=True, user="postgres", database="app")
        self.assertEqual(fields["D"], 'no pool_hba.conf entry for host "[local]", user "postgres", database "app", SSL off')

    def test_the_matching_lines_let_in(self):
        self.assertEqual(self.login("app", None), [0])
        self.assertEqual(self.login("app", None, unix=True), [0])


class Methods(Base):
    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all scramuser all scram-sha-256\nhost all pwuser all password\nhost all md5user all password\nhost all all all trust\n"

    def test_scram_from_client_to_server(self):
        for _ in range(2):
            self.assertEqual(self.login(*SCRAM), [10, 11, 12, 0])

    def test_scram_with_a_wrong_password(self):
        fields = self.refused(user="scramuser", password="wrong")
        self.assertEqual((fields["M"], fields["D"]), ("authentication failed", 'username "scramuser" or password does not exist in backend'))

    def test_clear_text_from_client_to_server(self):
        for _ in range(2):
            self.assertEqual(self.login(*CLEAR), [3, 0])

    def test_clear_text_against_an_md5_entry(self):
        self.assertEqual(self.login(*MD5), [3, 0])

    def test_clear_text_with_a_wrong_password_also_on_a_cached_connection(self):
        self.login(*CLEAR)
        for wrong in ("wrong", "clearp", "clearpww"):
            self.assertIn("authentication failed", self.refused(user="pwuser", password=wrong)["M"])

    def test_stock_psql_logs_in_with_scram(self):
        done = tools.psql(self.pool.port, "SELECT current_user", user="scramuser", password="scrampw")
        self.assertEqual((done.code, done.out.strip()), (0, "scramuser"), done)


class WithoutHba(Base):
    config = {"enable_pool_hba": False, "num_init_children": 4}

    def test_a_trusting_server_lets_in_without_a_question(self):
        self.assertEqual(self.login("app", None), [0])

    def test_md5_of_the_server_is_asked_of_the_client(self):
        self.assertEqual(self.login(*MD5), [5, 0])
        self.assertIn("authentication failed", self.refused(user="md5user", password="wrong")["M"])

    def test_scram_of_the_server_is_asked_of_the_client(self):
        self.assertEqual(self.login(*SCRAM), [10, 11, 12, 0])

    def test_clear_text_of_the_server_is_asked_of_the_client(self):
        self.assertEqual(self.login(*CLEAR), [3, 0])


class MissingEntries(Base):
    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all all all trust\n"
    passwd = ""

    def test_without_an_entry_md5_of_the_server_cannot_be_answered(self):
        self.assertIn("failed to authenticate with backend using md5", self.refused(user="md5user", password="md5pw")["M"])

    def test_without_an_entry_scram_of_the_server_cannot_be_answered(self):
        self.assertEqual(self.refused(user="scramuser", password="scrampw")["M"], "failed to authenticate with backend using SCRAM")

    def test_trusted_users_need_no_entry(self):
        self.assertEqual(self.login("app", None), [0])


class PasswdReload(Base):
    config = {"enable_pool_hba": True, "num_init_children": 2}
    hba = "host all all all md5\n"
    passwd = f"md5user:md5{md5('md5pw' + 'md5user')}\n"

    def test_pool_passwd_and_pool_hba_are_read_again_at_reload(self):
        self.assertIn("authentication failed", self.refused(user="repmgr", password="rep123")["M"])
        self.pool.write(self.pool.file("pool_passwd"), f"md5user:md5{md5('md5pw' + 'md5user')}\nrepmgr:md5{md5(PASSWORDS['repmgr'] + 'repmgr')}\n")
        self.pool.reload()
        self.eventually(lambda: self.can_connect(user="repmgr", password="rep123"), "the new pool_passwd entry to count")
        self.pool.write(self.pool.hba_file, "host all repmgr all reject\nhost all all all md5\n")
        self.pool.reload()
        self.eventually(lambda: not self.can_connect(user="repmgr", password="rep123"), "the new pool_hba.conf to count")
        self.assertEqual(self.login(*MD5), [5, 0])


class PasswordForms(Base):
    """Every form of an entry serves the same server."""

    config = {"enable_pool_hba": True, "num_init_children": 4}
    hba = "host all all all md5\n"
    passwd = "md5user:TEXTmd5pw\nscramuser:scrampw\nrepmgr:TEXTrep123\n"

    def test_text_and_bare_entries(self):
        self.assertEqual(self.login(*MD5), [5, 0])
        self.assertEqual(self.login(*SCRAM), [5, 0])

    def test_a_server_that_refuses_the_password_of_the_entry_ends_the_session_with_its_words(self):
        pool = self.another_pool(passwd="repmgr:TEXTnot the password of the server\n").start()
        with self.assertRaises(wire.ServerError) as caught:
            pool.client(user="repmgr", password="not the password of the server")
        self.assertIn("authentication failed", caught.exception.message)
        self.assertNotIn("Z", caught.exception.fields)
