"""The methods pam and ldap of pool_hba.conf, against a real PAM stack and a real slapd.

Each database has a record of its own, so that one pgpool shows many stacks
and options; users are roles whom the server trusts unless a test says else.
"""

import os
import socket
import time
import unittest

from lib import env, ldap, pam, proc, wire
from lib.case import CompatCase, ours_only, stock_differs
from lib.ldap import CLOSED, PEOPLE, READER, READER_PASSWORD, SUFFIX

REFUSED_BY_PAM = ("FATAL", "XX000", "failed authentication against PAM")


class Base(CompatCase):
    config = {"enable_pool_hba": True, "num_init_children": 8, "authentication_timeout": 10}
    passwd = "md5user:TEXTmd5pw\nscramuser:TEXTscrampw\n"
    #: Databases and the method of their records.
    records = {}
    #: Further roles.
    roles = ()

    @classmethod
    def make_pool(cls, where, home, **changes):
        cls.hba = "".join(f"host {database} all all {method}\n" for database, method in cls.records.items())
        pool = super().make_pool(where, home, **changes)
        with where.cluster.primary.client() as server:
            for role in cls.roles:
                server.query(f'CREATE ROLE "{role}" LOGIN').ok()
            for database in cls.records:
                if database != "app":
                    server.query(f'CREATE DATABASE "{database}"').ok()
        return pool

    def login(self, user, password, **kwargs):
        """Logs in, runs a statement and returns the authentication codes that were seen."""
        with self.pool.client(user=user, password=password, **kwargs) as client:
            self.assertEqual(client.value("SELECT current_user"), user)
            return client.auth_codes

    def refused_by_ldap(self, user="app", **kwargs):
        fields = self.refused(user=user, **kwargs)
        self.assertEqual((fields["S"], fields["C"], fields["M"]), ("FATAL", "XX000", "client authentication failed"))
        self.assertEqual((fields["D"], fields["H"]), (f'LDAP authentication with pgpool failed for user "{user}"', "see pgpool log for details"))

    def refused_by_pam(self, detail, **kwargs):
        fields = self.refused(**kwargs)
        self.assertEqual((fields["S"], fields["C"], fields["M"]), REFUSED_BY_PAM)
        self.assertEqual(fields["D"], detail)

    def logs(self, action, *patterns):
        """Runs `action` and waits for the patterns in what is logged from then on."""
        mark = self.pool.log_size()
        action()
        for pattern in patterns:
            self.pool.wait_log(pattern, since=mark)


@unittest.skipUnless(pam.available(), "a mount namespace of the test's own needs root")
class Pam(Base):
    records = {
        "app": "pam",
        "permit": "pam pamservice=permit",
        "denied": "pam pamservice=deny",
        "locked": "pam pamservice=locked",
        "unix": "pam pamservice=unix",
        "seen": "pam pamservice=seen",
        "nosuch": "pam pamservice=nosuchservice",
        "hostname": "pam pamservice=seen pam_use_hostname=1",
    }

    @classmethod
    def make_pool(cls, where, home, **changes):
        pool = super().make_pool(where, home, **changes)
        pool.namespace = cls.pam = pam.Namespace(home, {"app": pam.crypt("unix-app"), "pwuser": pam.crypt("")})
        return pool

    def test_a_script_of_pam_exec_judges_user_and_password(self):
        self.assertEqual(self.login("app", "pam-app"), [3, 0])
        self.assertEqual(self.login("app", "pam-app"), [3, 0])

    def test_a_wrong_password_is_refused_also_after_a_good_login_of_the_same_user(self):
        self.login("app", "pam-app")
        for wrong in ("pam-ap", "pam-appx", "pam-md5user", "x" * 400):
            # What pam_exec makes of a script that says no.
            self.refused_by_pam("pam_authenticate failed: System error", user="app", password=wrong)

    def test_an_empty_password_is_refused_and_the_log_says_so(self):
        self.logs(lambda: self.assertEqual(self.refused(user="app", password="")["M"], REFUSED_BY_PAM[2]), r"PAM Error", r"empty password returned by client")

    def test_the_password_is_not_logged(self):
        self.login("app", "pam-app")
        self.refused(user="app", password="my very secret mistake")
        self.assertNotIn("my very secret mistake", self.pool.log())

    def test_pam_deny_refuses(self):
        self.refused_by_pam("pam_authenticate failed: Authentication failure", user="app", password="pam-app", database="denied")

    def test_pam_permit_lets_in(self):
        self.assertEqual(self.login("app", "anything", database="permit")[-1], 0)

    def test_an_account_that_is_locked_is_refused_after_the_password_was_right(self):
        self.refused_by_pam("system call pam_acct_mgmt failed : Authentication failure", user="app", password="pam-app", database="locked")
        self.refused_by_pam("pam_authenticate failed: System error", user="app", password="wrong", database="locked")

    def test_a_service_without_a_file_is_that_of_other(self):
        self.refused_by_pam("pam_authenticate failed: Authentication failure", user="app", password="pam-app", database="nosuch")

    def test_pam_unix_knows_the_users_of_the_shadow_file(self):
        self.assertEqual(self.login("app", "unix-app", database="unix"), [3, 0])
        self.refused_by_pam("pam_authenticate failed: Authentication failure", user="app", password="wrong", database="unix")

    def test_pam_unix_refuses_a_user_it_does_not_know(self):
        fields = self.refused(user="scramuser", password="scrampw", database="unix")
        self.assertEqual(fields["M"], REFUSED_BY_PAM[2])

    def test_what_the_modules_learn(self):
        self.login("app", "anything", database="seen")
        self.assertEqual(self.pam.noted()[-1], "service=seen user=app rhost= ruser= tty= type=auth")

    @stock_differs("it knows the option pam_use_hostname and never uses it")
    def test_pam_use_hostname_tells_the_modules_where_the_client_comes_from(self):
        self.login("app", "anything", database="hostname")
        host = socket.getnameinfo(("127.0.0.1", 0), 0)[0]
        self.assertEqual(self.pam.noted()[-1], f"service=seen user=app rhost={host} ruser= tty= type=auth")

    def test_a_server_that_asks_for_md5_leads_to_a_second_question(self):
        with self.assertRaises(wire.ServerError) as caught:
            self.pool.client(user="md5user", password="pam-md5user")
        self.assertEqual(caught.exception.message, "md5 authentication failed")

    def test_logins_side_by_side(self):
        clients = []
        for _ in range(6):
            client = self.client(startup=False, user="app", password="pam-app")
            client.send(wire.startup_packet("app", "app"))
            clients.append(client)
        for client in clients:
            client.login()
            self.assertEqual(client.auth_codes, [3, 0])


@unittest.skipUnless(pam.available(), "a mount namespace of the test's own needs root")
@ours_only("a PAM module that hangs or takes its time holds up neither other logins nor the end")
class PamInTrouble(Base):
    records = {"app": "trust", "slow": "pam pamservice=slow", "delayed": "pam pamservice=delayed", "check": "pam"}
    config = {**Base.config, "num_init_children": 60, "authentication_timeout": 8}

    @classmethod
    def make_pool(cls, where, home, **changes):
        pool = super().make_pool(where, home, **changes)
        pool.namespace = cls.pam = pam.Namespace(home)
        return pool

    def calls(self, pool=None):
        """Threads that are inside PAM."""
        tasks = f"/proc/{(pool or self.pool).process.pid}/task"
        names = []
        for task in os.listdir(tasks):
            try:
                with open(f"{tasks}/{task}/comm") as comm:
                    names.append(comm.read().strip())
            except OSError:
                pass
        return names.count("pam")

    def begin(self, database, password, count, pool=None, **kwargs):
        """Logins that have sent their password."""
        clients = []
        for _ in range(count):
            client = (pool or self.pool).client(startup=False, user="app", **kwargs)
            self.addCleanup(client.abort)
            client.send(wire.startup_packet("app", database))
            client.until("R")
            client.send(wire.message("p", wire.cstring(password)))
            clients.append(client)
        return clients

    def hang(self):
        open(self.pam.hang, "w").close()
        self.addCleanup(self.go_on)

    def go_on(self):
        if os.path.exists(self.pam.hang):
            os.unlink(self.pam.hang)

    def test_a_module_that_hangs_costs_a_bounded_number_of_threads(self):
        self.hang()
        clients = self.begin("slow", "pam-app", 40)
        self.eventually(lambda: self.calls() == 16, "calls of PAM to hang")
        with self.pool.client(user="app") as other:
            self.assertEqual(other.value("SELECT 1"), "1")
        self.assertTrue(clients[-1].quiet(0), "who waits for PAM waits on: nobody has been let in in the place of others")
        self.pool.wait_log("all calls of PAM are taken, a login has to wait")
        for client in clients:
            self.assertTrue(client.is_closed(within=20))
        self.pool.wait_log("authentication timeout")
        self.assertEqual(self.calls(), 16)
        self.go_on()
        self.eventually(lambda: self.calls() == 0, "the calls to come back")
        self.assertEqual(self.login("app", "pam-app", database="slow"), [3, 0])

    def test_hanging_up_while_pam_judges_counts_as_a_failure(self):
        """Whoever hangs up keeps PAM as busy as one who waits, and must not do so without end."""
        self.hang()
        mark = self.pool.log_size()
        for client in self.begin("slow", "wrong", 10, source="127.0.0.9"):
            client.abort()
        self.pool.wait_log("10 failed logins from 127.0.0.9", since=mark)
        self.go_on()
        self.eventually(lambda: self.calls() == 0, "the calls to come back")

    def test_a_module_that_hangs_does_not_hold_up_the_end(self):
        pool = self.another_pool()
        pool.namespace = self.pam
        pool.start()
        self.hang()
        self.begin("slow", "pam-app", 2, pool)
        self.eventually(lambda: self.calls(pool) == 2, "calls of PAM to hang")
        began = time.monotonic()
        self.assertEqual(pool.stop(), 0)
        self.assertLess(time.monotonic() - began, 10)

    def test_a_client_that_leaves_is_not_waited_for(self):
        self.hang()
        for client in self.begin("slow", "pam-app", 3):
            client.abort()
        self.go_on()
        self.eventually(lambda: self.calls() == 0, "the calls to come back")
        self.assertEqual(self.login("app", "pam-app", database="slow"), [3, 0])

    def test_wrong_passwords_are_answered_late_and_hold_up_no_right_ones(self):
        pool = self.another_pool(name="r", config={"authentication_timeout": 30})
        pool.namespace = self.pam
        pool.start()
        began = time.monotonic()
        wrong = self.begin("delayed", "wrong", 40, pool)
        with pool.client(user="app", password="pam-app", database="check"):
            pass
        # If the delays took threads, two rounds of them would have to be over before it. libpam takes between half
        # and one and a half of what the module asks for.
        self.assertLess(time.monotonic() - began, 8)
        for client in wrong[:3]:
            self.assertEqual(client.until("E").messages[-1].fields["M"], REFUSED_BY_PAM[2])
        self.assertGreater(time.monotonic() - began, 3.9)


class LdapBase(Base):
    """A slapd, and `records` whose options may name its ports."""

    @classmethod
    def setUpClass(cls):
        home = env.scratch("l-")
        cls.addClassCleanup(env.remove, home)
        cls.slapd = ldap.Slapd(home).start()
        cls.addClassCleanup(cls.slapd.stop)
        cls.dead_port = proc.free_port()
        cls.records = {name: method.format(port=cls.slapd.port, tls_port=cls.slapd.tls_port, dead=cls.dead_port) for name, method in cls.options.items()}
        super().setUpClass()


SERVER = "ldapserver=127.0.0.1 ldapport={port}"


class LdapSimpleBind(LdapBase):
    options = {
        "app": f'ldap {SERVER} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "down": f'ldap ldapserver=127.0.0.1 ldapport={{dead}} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "two": f'ldap ldapserver="127.0.0.9 127.0.0.1" ldapport={{port}} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "ported": f'ldap ldapserver="127.0.0.1:{{dead}} 127.0.0.1:{{port}}" ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "passed": f'ldap {SERVER} ldapprefix="cn=" ldapsuffix=",{PEOPLE}" backend_use_passwd=1',
    }
    roles = ("smith, john", "app,ou=deep")

    def test_the_right_password(self):
        for _ in range(2):
            self.assertEqual(self.login("app", "ldap-app"), [3, 0])

    def test_a_wrong_password(self):
        self.login("app", "ldap-app")
        self.logs(lambda: self.refused_by_ldap(password="wrong"),
                  rf'LDAP login failed for user "cn=app,{PEOPLE}" on server "127.0.0.1": Invalid credentials')

    def test_a_user_who_is_not_there(self):
        self.refused_by_ldap(user="pwuser", password="clearpw")

    def test_an_empty_password_never_is_an_anonymous_bind(self):
        self.refused_by_ldap(password="")

    def test_the_password_is_not_logged(self):
        self.refused_by_ldap(password="my very secret mistake")
        self.assertNotIn("my very secret mistake", self.pool.log())

    def test_a_server_that_is_down(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="down"),
                  rf'LDAP login failed for user "cn=app,{PEOPLE}" on server "127.0.0.1": Can\'t contact LDAP server')

    def test_the_next_server_is_asked_when_one_is_down(self):
        self.assertEqual(self.login("app", "ldap-app", database="two"), [3, 0])

    @stock_differs("ldapserver takes no ports: it appends ldapport to host:port and cannot parse the result")
    def test_a_server_may_have_a_port_of_its_own(self):
        self.assertEqual(self.login("app", "ldap-app", database="ported"), [3, 0])

    def test_a_server_that_asks_for_md5_gets_the_password_of_pool_passwd_after_a_second_question(self):
        self.assertEqual(self.login("md5user", "md5pw"), [3, 5, 0])

    def test_backend_use_passwd_hands_the_password_on(self):
        # Without an entry in pool_passwd the server's question is answered with it; the client may be asked for it once more.
        for _ in range(2):
            codes = self.login("repmgr", "rep123", database="passed")
            self.assertEqual((codes[0], codes[-1]), (3, 0))
        fields = self.refused(user="hcuser", password="ldap-hcuser", database="passed")
        self.assertEqual((fields["M"], fields["D"]), ("authentication failed", 'password authentication failed for user "hcuser"'))

    def test_without_backend_use_passwd_it_is_not_handed_on(self):
        fields = self.refused(user="repmgr", password="rep123")
        self.assertIn("failed to authenticate with backend using md5", fields["M"])

    @stock_differs("the user name becomes part of the DN as it is")
    def test_a_user_name_is_one_value_of_the_dn_whatever_it_contains(self):
        self.assertEqual(self.login("smith, john", "ldap-smith"), [3, 0])
        self.refused_by_ldap(user="app,ou=deep", password="ldap-deep")


class LdapInTrouble(LdapBase):
    """Servers that do not speak LDAP, or not at all."""

    options = {
        "app": "trust",
        "silent": f'ldap ldapserver=127.0.0.1 ldapport={{silent}} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "garbage": f'ldap ldapserver=127.0.0.1 ldapport={{garbage}} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "garbagesearch": f'ldap ldapserver=127.0.0.1 ldapport={{garbage}} ldapbasedn="{PEOPLE}"',
        "strange": f'ldap ldapserver=127.0.0.1 ldapport={{strange}} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "truncated": f'ldap ldapserver=127.0.0.1 ldapport={{truncated}} ldapbasedn="{PEOPLE}"',
        "right": f'ldap {SERVER} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
    }
    config = {**Base.config, "authentication_timeout": 6}

    @classmethod
    def setUpClass(cls):
        cls.stubs = {
            "silent": ldap.Stub(),
            "garbage": ldap.Stub(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            # A well-formed message with the id of the request, which is no answer to a bind.
            "strange": ldap.Stub(bytes.fromhex("300502010142 00".replace(" ", ""))),
            # A bind response without its result code.
            "truncated": ldap.Stub(bytes.fromhex("3005020101 6100".replace(" ", ""))),
        }
        for stub in cls.stubs.values():
            cls.addClassCleanup(stub.close)
        cls.options = {name: method.replace("{port}", "{{port}}").format(**{n: s.port for n, s in cls.stubs.items()}) for name, method in cls.options.items()}
        super().setUpClass()

    @ours_only("authentication_timeout covers what pool_hba asks for")
    def test_a_server_that_says_nothing_ends_with_authentication_timeout(self):
        clients = []
        for _ in range(3):
            client = self.client(startup=False, user="app", password="ldap-app")
            client.send(wire.startup_packet("app", "silent"))
            client.until("R")
            client.send(wire.message("p", wire.cstring("ldap-app")))
            clients.append(client)
        self.assertEqual(self.login("app", None), [0])
        self.assertTrue(all(client.quiet(0) for client in clients), "they wait on")
        for client in clients:
            self.assertTrue(client.is_closed(within=20))
        self.pool.wait_log("authentication timeout")

    def test_what_is_no_ldap_lets_nobody_in_and_harms_nobody(self):
        for database in ("garbage", "garbagesearch", "truncated"):
            with self.subTest(database):
                self.refused_by_ldap(password="ldap-app", database=database)
        self.assertEqual(self.login("app", "ldap-app", database="right"), [3, 0])

    @ours_only("authentication_timeout covers what pool_hba asks for")
    def test_an_answer_to_something_else_lets_nobody_in(self):
        client = self.client(startup=False, user="app")
        client.send(wire.startup_packet("app", "strange"))
        client.until("R")
        client.send(wire.message("p", wire.cstring("ldap-app")))
        self.assertNotIn("Z", client.until_closed().kinds)


class LdapLog(LdapBase):
    """Everything is logged, and no password."""

    options = {
        "app": f'ldap {SERVER} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "reader": f'ldap {SERVER} ldapbasedn="{CLOSED}" ldapbinddn="{READER}" ldapbindpasswd="{READER_PASSWORD}"',
    }
    config = {**Base.config, "log_min_messages": "debug5"}

    def test_no_password_is_in_the_log_of_debug5(self):
        self.login("app", "ldap-app")
        self.refused_by_ldap(password="my very secret mistake")
        self.refused_by_ldap(user="scramuser", password="my other mistake", database="reader")
        for secret in ("ldap-app", "my very secret mistake", "my other mistake", READER_PASSWORD):
            self.assertNotIn(secret, self.pool.log())


@unittest.skipUnless(pam.available(), "a name server on port 53 needs root")
class LdapByDns(LdapBase):
    """No ldapserver: DNS names the servers of the domain in ldapbasedn."""

    options = {
        "app": f'ldap ldapbasedn="{PEOPLE}"',
        "unknown": 'ldap ldapbasedn="dc=elsewhere,dc=org"',
        "nodomain": 'ldap ldapbasedn="not a name"',
        "nothing": 'ldap ldapbasedn=""',
    }

    @classmethod
    def make_pool(cls, where, home, **changes):
        pool = super().make_pool(where, home, **changes)
        # The dead one has the worse priority: it is not asked.
        cls.dns = ldap.NameServer([cls.dead_port, cls.slapd.port])
        cls.addClassCleanup(cls.dns.close)
        pool.namespace = pam.Namespace(home, nameserver=cls.dns.address)
        return pool

    def test_the_servers_of_the_domain_are_asked(self):
        self.assertEqual(self.login("app", "ldap-app"), [3, 0])
        self.assertIn(("_ldap._tcp.example.com", 33), self.dns.asked)
        self.refused_by_ldap(password="wrong")

    def test_a_domain_without_servers(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="unknown"),
                  r'LDAP authentication could not find DNS SRV records for "elsewhere.org"', r"Set an LDAP server name explicitly\.")

    def test_a_base_without_a_domain(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="nodomain"), r"could not extract domain name from ldapbasedn")

    def test_neither_server_nor_base(self):
        self.logs(lambda: self.refused_by_ldap_unasked(database="nothing"), r"LDAP server not specified, and no ldapbasedn")

    def refused_by_ldap_unasked(self, **kwargs):
        # Stock says so before it asks the client.
        self.refused_by_ldap(password="ldap-app", **kwargs)


class LdapSearch(LdapBase):
    options = {
        "app": f'ldap {SERVER} ldapbasedn="{PEOPLE}"',
        "attribute": f'ldap {SERVER} ldapbasedn="{SUFFIX}" ldapsearchattribute=cn',
        "filter": f'ldap {SERVER} ldapbasedn="{PEOPLE}" ldapsearchfilter="(|(uid=$username)(mail=$username@example.com))"',
        "badfilter": f'ldap {SERVER} ldapbasedn="{PEOPLE}" ldapsearchfilter="(uid=$username"',
        "reader": f'ldap {SERVER} ldapbasedn="{CLOSED}" ldapbinddn="{READER}" ldapbindpasswd="{READER_PASSWORD}"',
        "anonymous": f'ldap {SERVER} ldapbasedn="{CLOSED}"',
        "wrongreader": f'ldap {SERVER} ldapbasedn="{CLOSED}" ldapbinddn="{READER}" ldapbindpasswd=mistaken',
        "nobase": f'ldap {SERVER} ldapbasedn="ou=nowhere,{SUFFIX}"',
        "url": f'ldap ldapurl="ldap://127.0.0.1:{{port}}/{SUFFIX}?uid?sub"',
        "urlbase": f'ldap ldapurl="ldap://127.0.0.1:{{port}}/{PEOPLE}?uid"',
        "urlone": f'ldap ldapurl="ldap://127.0.0.1:{{port}}/{PEOPLE}?uid?one"',
        "urlfilter": f'ldap ldapurl="ldap://127.0.0.1:{{port}}/{SUFFIX}??sub?(uid=$username)"',
        "urlthenmore": f'ldap ldapurl="ldap://127.0.0.1:{{port}}/{SUFFIX}?uid" ldapbinddn="{READER}" ldapbindpasswd="{READER_PASSWORD}"',
        "elsewhere": f'ldap {SERVER} ldapbasedn="ou=elsewhere,{SUFFIX}"',
        "down": f'ldap ldapserver=127.0.0.1 ldapport={{dead}} ldapbasedn="{PEOPLE}"',
    }
    roles = ("twin", "app)(uid=*", "*", "ap*", "a/b", "app\\\\", "deep")

    def test_the_attribute_uid_is_searched_for(self):
        for _ in range(2):
            self.assertEqual(self.login("app", "ldap-app"), [3, 0])
        self.logs(lambda: self.refused_by_ldap(password="wrong"),
                  rf'LDAP login failed for user "cn=app,{PEOPLE}" on server "127.0.0.1": Invalid credentials')
        self.refused_by_ldap(password="")

    def test_another_attribute(self):
        self.logs(lambda: self.refused_by_ldap(database="attribute", password="ldap-app"),
                  r'LDAP user "app" is not unique', r'LDAP search for filter "\(cn=app\)" on server "127.0.0.1" returned 2 entries\.')
        self.assertEqual(self.login("md5user", "md5pw", database="attribute"), [3, 5, 0])

    def test_a_filter(self):
        self.assertEqual(self.login("app", "ldap-app", database="filter"), [3, 0])

    def test_a_user_who_is_not_there(self):
        self.logs(lambda: self.refused_by_ldap(user="pwuser", password="clearpw"),
                  r'LDAP user "pwuser" does not exist', r'LDAP search for filter "\(uid=pwuser\)" on server "127.0.0.1" returned no entries\.')

    def test_a_user_who_is_there_twice(self):
        self.logs(lambda: self.refused_by_ldap(user="twin", password="ldap-twin"),
                  r'LDAP user "twin" is not unique', r'LDAP search for filter "\(uid=twin\)" on server "127.0.0.1" returned 2 entries\.')

    def test_user_names_cannot_change_the_filter(self):
        for name in ("app)(uid=*", "*", "ap*", "a/b", "app\\"):
            with self.subTest(name):
                self.logs(lambda: self.refused_by_ldap(user=name, password="ldap-app"), r"invalid character in user name for LDAP authentication")

    def test_a_reader_may_have_to_search(self):
        self.assertEqual(self.login("scramuser", "scrampw", database="reader"), [3, 10, 11, 12, 0])
        self.refused_by_ldap(user="scramuser", password="wrong", database="reader")
        self.refused_by_ldap(user="scramuser", password="scrampw", database="anonymous")

    def test_a_reader_with_a_wrong_password(self):
        self.logs(lambda: self.refused_by_ldap(user="scramuser", password="scrampw", database="wrongreader"),
                  rf'could not perform initial LDAP bind for ldapbinddn "{READER}" on server "127.0.0.1": Invalid credentials')
        self.assertNotIn("mistaken", self.pool.log())

    def test_a_base_that_is_not_there(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="nobase"),
                  r'could not search LDAP for filter "\(uid=app\)" on server "127.0.0.1": No such object')

    def test_a_filter_that_is_none(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="badfilter"),
                  r'could not search LDAP for filter "\(uid=app" on server "127.0.0.1": Bad search filter')

    def test_urls(self):
        self.assertEqual(self.login("app", "ldap-app", database="url"), [3, 0])
        self.assertEqual(self.login("app", "ldap-app", database="urlfilter"), [3, 0])

    @stock_differs("libldap follows referrals")
    def test_a_referral_is_not_followed(self):
        trap = ldap.Stub(port=self.slapd.trap)
        self.addCleanup(trap.close)
        self.assertEqual(self.login("app", "ldap-app", database="url"), [3, 0])
        self.logs(lambda: self.refused_by_ldap(database="elsewhere", password="ldap-app"),
                  r'could not search LDAP for filter "\(uid=app\)" on server "127.0.0.1": Referral')
        self.assertEqual(trap.connections, [])

    def test_the_scope_of_a_url(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="urlbase"), r'LDAP user "app" does not exist')
        self.assertEqual(self.login("app", "ldap-app", database="urlone"), [3, 0])
        self.refused_by_ldap(user="deep", password="ldap-deep", database="urlone")
        self.assertEqual(self.login("deep", "ldap-deep", database="url"), [3, 0])

    def test_an_option_behind_a_url_makes_its_scope_the_subtree(self):
        self.assertEqual(self.login("app", "ldap-app", database="urlthenmore"), [3, 0])

    def test_a_server_that_is_down(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="down"),
                  r'could not perform initial LDAP bind for ldapbinddn "" on server "127.0.0.1": Can\'t contact LDAP server')


class LdapTls(LdapBase):
    options = {
        "app": f'ldap {SERVER} ldaptls=1 ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "searched": f'ldap {SERVER} ldaptls=1 ldapbasedn="{PEOPLE}"',
        "ldaps": f'ldap ldapserver=127.0.0.1 ldapport={{tls_port}} ldapscheme=ldaps ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "ldapsurl": f'ldap ldapurl="ldaps://127.0.0.1:{{tls_port}}/{PEOPLE}?uid?sub"',
        "othername": f'ldap ldapserver=127.0.0.2 ldapport={{port}} ldaptls=1 ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
        "plain": f'ldap {SERVER} ldapprefix="cn=" ldapsuffix=",{PEOPLE}"',
    }
    trusted = True

    @classmethod
    def make_pool(cls, where, home, **changes):
        pool = super().make_pool(where, home, **changes)
        pool.extra_env = cls.variables()
        return pool

    @classmethod
    def variables(cls):
        return {"LDAPTLS_CACERT": cls.slapd.ca}

    def test_starttls(self):
        mark = len(self.slapd.log())
        self.assertEqual(self.login("app", "ldap-app"), [3, 0])
        self.assertIn("TLS established", self.slapd.log()[mark:])
        self.refused_by_ldap(password="wrong")

    def test_starttls_for_the_search_too(self):
        self.assertEqual(self.login("app", "ldap-app", database="searched"), [3, 0])

    def test_ldaps(self):
        self.assertEqual(self.login("app", "ldap-app", database="ldaps"), [3, 0])
        self.assertEqual(self.login("app", "ldap-app", database="ldapsurl"), [3, 0])


class LdapTlsOfAStranger(LdapTls):
    """Nobody says that the test's authority is to be trusted."""

    @classmethod
    def variables(cls):
        return {"LDAPTLS_CACERT": "/etc/ssl/certs/ca-certificates.crt"}

    def test_starttls(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app"), r"could not start LDAP TLS session: Connect error")

    def test_starttls_for_the_search_too(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="searched"), r"could not start LDAP TLS session: Connect error")

    def test_ldaps(self):
        self.logs(lambda: self.refused_by_ldap(password="ldap-app", database="ldaps"), r"Can't contact LDAP server")

    def test_without_tls_it_works(self):
        self.assertEqual(self.login("app", "ldap-app", database="plain"), [3, 0])


class LdapTlsUnchecked(LdapTls):
    """TLS_REQCERT never, as many installations have it."""

    @classmethod
    def variables(cls):
        return {"LDAPTLS_REQCERT": "never"}


class LdapTlsOfAFile(LdapTls):
    """The authority stands in an ldap.conf."""

    @classmethod
    def variables(cls):
        path = os.path.join(cls.slapd.home, "ldap.conf")
        with open(path, "w") as conf:
            conf.write(f"# of the tests\nTLS_CACERT\t{cls.slapd.ca}\n")
        os.chmod(path, 0o644)
        return {"LDAPCONF": path}
