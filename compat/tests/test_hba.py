"""pool_hba.conf: which record matches, what is wrong with a line, and what a reload does.

Each row of the tables has a database of its own, so that one file holds them all. What the client
is asked first tells which line matched: the lines of a row have different methods.
"""

import os
import re
import ssl
import subprocess
import time
import unittest

from lib import env, proc, wire
from lib.case import CompatCase, stock_differs
from lib.subject import Pgpool

ASKED = {0: "trust", 3: "password", 5: "md5", 10: "scram-sha-256"}
PASSWD = "".join(f"{user}:TEXTpw\n" for user in ("ann", "bob", "carol", "dave", "all", "sameuser", "+grp", "a b", 'qu"ote'))

LO, OTHER, SIX, UNIX = ("127.0.0.1", None), ("127.0.0.1", "127.0.0.7"), ("::1", None), ("unix", None)

#: (what, lines of the file with {d} for the database of the row, [(from, user, verdict)...])
ROWS = [
    ("record types", ["local {d} all md5", "hostssl {d} all all trust", "hostnossl {d} all 127.0.0.0/8 password", "host {d} all all scram-sha-256"],
     [(UNIX, "ann", "md5"), (LO, "ann", "password"), (SIX, "ann", "scram-sha-256")]),
    ("host does not match a unix socket", ["host {d} all all trust"], [(UNIX, "ann", "no")]),
    ("local does not match TCP", ["local {d} all trust"], [(LO, "ann", "no"), (SIX, "ann", "no")]),
    ("the first record that matches decides", ["host {d} ann 127.0.0.1/32 reject", "host {d} all 127.0.0.1/32 md5", "host {d} ann all password"],
     [(LO, "ann", "no"), (LO, "bob", "md5"), (OTHER, "ann", "password"), (OTHER, "bob", "no")]),
    ("CIDR of IPv4", ["host {d} all 127.0.0.0/29 md5", "host {d} all 127.0.0.0/8 password"],
     [(LO, "ann", "md5"), (OTHER, "ann", "md5"), (("127.0.0.1", "127.0.0.8"), "ann", "password"), (SIX, "ann", "no")]),
    ("/0 is all of its family", ["host {d} all 1.2.3.4/0 md5", "host {d} all ::/0 password"], [(OTHER, "ann", "md5"), (SIX, "ann", "password")]),
    ("CIDR of IPv6", ["host {d} all ::2/128 md5", "host {d} all ::/64 password"], [(SIX, "ann", "password"), (LO, "ann", "no")]),
    ("addresses of IPv4 written as IPv6 are IPv6", ["host {d} all ::ffff:127.0.0.1/128 md5"], [(LO, "ann", "no")]),
    ("address and mask", ["host {d} all 127.0.0.4 255.255.255.252 md5", "host {d} all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff password"],
     [(OTHER, "ann", "md5"), (LO, "ann", "no"), (SIX, "ann", "password")]),
    ("a mask with holes", ["host {d} all 127.0.0.1 255.0.0.1 md5"], [(OTHER, "ann", "md5"), (("127.0.0.1", "127.0.0.8"), "ann", "no")]),
    ("short and octal addresses", ["host {d} all 127.1/32 md5", "host {d} all 0x7f.0.0.07/32 password"], [(LO, "ann", "md5"), (OTHER, "ann", "password")]),
    ("samehost", ["host {d} all samehost md5", "host {d} all all password"], [(LO, "ann", "md5"), (SIX, "ann", "md5"), (OTHER, "ann", "password")]),
    ("samenet", ["host {d} all samenet md5", "host {d} all all password"], [(LO, "ann", "md5"), (SIX, "ann", "md5"), (OTHER, "ann", "md5")]),
    ("quoted keywords of addresses are host names", ['host {d} all "all" md5', 'host {d} all "samehost" md5', "host {d} all all password"], [(LO, "ann", "password")]),
    ("user lists", ["host {d} ann,bob,  carol all md5", 'host {d} "a b","qu""ote" all password'],
     [(LO, "ann", "md5"), (LO, "carol", "md5"), (LO, "dave", "no"), (LO, "a b", "password"), (LO, 'qu"ote', "password")]),
    ("names are compared with case", ["host {d} Ann all md5"], [(LO, "ann", "no")]),
    ("keywords are compared with case", ["host {d} ALL all md5"], [(LO, "ann", "no")]),
    ("a quoted all is a user", ['host {d} "all" all md5'], [(LO, "all", "md5"), (LO, "ann", "no")]),
    ("a quote behind the first character leaves a keyword one", ['host {d} a"ll" all md5'], [(LO, "ann", "md5")]),
    ("a group never matches and hides the rest of its list", ["host {d} ann,+grp,bob all md5", "host {d} all all password"],
     [(LO, "ann", "md5"), (LO, "bob", "password"), (LO, "+grp", "password")]),
    ("a quoted group is a user", ['host {d} "+grp" all md5'], [(LO, "+grp", "md5")]),
    ("patterns are names", ["host {d} /^ann all md5"], [(LO, "ann", "no")]),
    ("database lists", ["host other,{d},\"x y\" all all md5"], [(LO, "ann", "md5")]),
    ("samegroup and samerole never match and hide the rest of their list", ["host samegroup,{d} all all md5", "host samerole,{d} all all md5", "host {d},samerole all all password"],
     [(LO, "ann", "password")]),
    ("quoted names of databases", ['host "{d}" all all md5'], [(LO, "ann", "md5")]),
    ("comments and blanks", ["  host\t{d}  all all  md5# note", "# host {d} all all trust", "host {d} \"#\" all trust"], [(LO, "ann", "md5")]),
    ("a backslash joins no lines", ["host {d} \\ all md5", "host {d} all all password"], [(LO, "ann", "password")]),
    ("carriage returns are blanks", ["host {d} all all md5\r"], [(LO, "ann", "md5")]),
    ("files with @", ["host {d} @users all md5", "host {d} @sub/more all password", 'host {d} "@users" all trust'],
     [(LO, "ann", "md5"), (LO, "bob", "md5"), (LO, "carol", "password"), (LO, "dave", "md5"), (LO, "all", "no")]),
    ("an @ file of keywords", ["host {d} @keywords all md5"], [(LO, "ann", "md5")]),
    ("a name behind a file", ["host {d} @users,all all md5"], [(LO, "all", "md5")]),
    ("options of pam with another method are dropped", ["host {d} all all md5 pamservice=x pam_use_hostname=1"], [(LO, "ann", "md5")]),
]
FILES = {"users": "ann # one\n\nbob,@sub/again\n", "sub/again": "dave\n", "sub/more": "@deeper carol\n", "sub/deeper": '"a b"\n', "keywords": "all\n"}

#: At the end of the file, for databases of any name: (lines, [(from, user, database, verdict)...])
LAST = [
    (["host sameuser ann 127.0.0.1/32 md5"], [(LO, "ann", "ann", "md5"), (LO, "ann", "bob", "no")]),
    (['host "sameuser","replication" bob all md5'], [(LO, "bob", "sameuser", "md5"), (LO, "bob", "bob", "no"), (LO, "bob", "replication", "md5")]),
    (['host "all" carol all md5', "host all carol 127.0.0.7/32 password"], [(LO, "carol", "all", "md5"), (LO, "carol", "x", "no"), (OTHER, "carol", "x", "password")]),
]

#: (line, message, hint); the line number is the row's place. None: nothing is wrong with the line.
BAD = [
    ("hostgssenc all all all md5", 'invalid connection type "hostgssenc"', ""),
    ("hostnogssenc all all all md5", 'invalid connection type "hostnogssenc"', ""),
    ("Host all all all md5", 'invalid connection type "Host"', ""),
    ('"host" all all all md5', None, ""),
    ("local,host all all md5", "multiple values specified for connection type", "Specify exactly one connection type per line."),
    ("local", "end-of-line before database specification", ""),
    ("local all", "end-of-line before role specification", ""),
    ("host all all", "end-of-line before IP address specification", ""),
    ("host all all 127.0.0.1,127.0.0.2 md5", "multiple values specified for host address", "Specify one address range per line."),
    ("host all all 127.0.0.1/33 md5", 'invalid CIDR mask in address "127.0.0.1/33"', ""),
    ("host all all ::1/129 md5", 'invalid CIDR mask in address "::1/129"', ""),
    ("host all all 127.0.0.1/ md5", 'invalid CIDR mask in address "127.0.0.1/"', ""),
    ("host all all 127.0.0.1/8x md5", 'invalid CIDR mask in address "127.0.0.1/8x"', ""),
    ('host all all "127.0.0.1/ 8" md5', None, ""),
    ("host all all 127.0.0.1/+8 md5", None, ""),
    ("host all all example.com/32 md5", 'specifying both host name and CIDR mask is invalid: "example.com/32"', ""),
    ("host all all 300.1.1.1/8 md5", 'specifying both host name and CIDR mask is invalid: "300.1.1.1/8"', ""),
    ("host all all ::1%lo/128 md5", 'specifying both host name and CIDR mask is invalid: "::1%lo/128"', ""),
    ("host all all 127.0.0.1", "end-of-line before netmask specification", "Specify an address range in CIDR notation, or provide a separate netmask."),
    ("host all all 127.0.0.1 255.0.0.0,255.0.0.0 md5", "multiple values specified for netmask", ""),
    ("host all all 127.0.0.1 md5", 'invalid IP mask "md5": Name or service not known', ""),
    ("host all all 127.0.0.1 ffff:: md5", "IP address and mask do not match", ""),
    ("local all all", "end-of-line before authentication method", ""),
    ("local all all md5,trust", "multiple values specified for authentication type", "Specify exactly one authentication type per line."),
    *((f"local all all {method}", f'invalid authentication method "{method}"', "") for method in ("ident", "peer", "gss", "sspi", "radius", "bsd", "crypt", "MD5")),
    ("local all all md5 clientcert", "authentication option not in name=value format: clientcert", ""),
    ("host all all all cert clientcert=1", 'unrecognized authentication option name: "clientcert"', ""),
    ("host all all all cert map=x", 'unrecognized authentication option name: "map"', ""),
    ("local all all md5 ldapport=1", 'authentication option "ldapport" is only valid for authentication methods ldap', ""),
    ("local all all pam backend_use_passwd=1", 'authentication option "backend_use_passwd" is only valid for authentication methods ldap', ""),
    ("local all all pam pamservice=x pam_use_hostname=1", None, ""),
    ("host all all all cert", None, ""),
    ("local all all cert", None, ""),
    ("local all all md5 pamservice=x", 'pamservice authentication option can only be configured for authentication method "pam"', ""),
    ("host all all all ldap", 'authentication method "ldap" requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix" to be set', ""),
    ("host all all all ldap ldapserver=h", 'authentication method "ldap" requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix" to be set', ""),
    ("host all all all ldap ldapurl=ldap://h", 'authentication method "ldap" requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix" to be set', ""),
    *((f"host all all all ldap {simple}=a {search}=b", "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl together with ldapprefix", "")
      for simple, search in (("ldapprefix", "ldapbasedn"), ("ldapsuffix", "ldapbinddn"), ("ldapprefix", "ldapbindpasswd"), ("ldapprefix", "ldapsearchattribute"), ("ldapsuffix", "ldapsearchfilter"))),
    ("host all all all ldap ldapprefix=a ldapurl=ldap://h/dc=x", "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl together with ldapprefix", ""),
    ("host all all all ldap ldapbasedn=b ldapsearchattribute=uid ldapsearchfilter=(x=y)", "cannot use ldapsearchattribute together with ldapsearchfilter", ""),
    ('host all all all ldap "ldapurl=ldap://h/dc=x?uid?sub?(a=b)"', "cannot use ldapsearchattribute together with ldapsearchfilter", ""),
    ("host all all all ldap ldapbasedn=b ldapport=0", 'invalid LDAP port number: "0"', ""),
    ("host all all all ldap ldapbasedn=b ldapport=x", 'invalid LDAP port number: "x"', ""),
    ("host all all all ldap ldapbasedn=b ldapport=12x", None, ""),
    ("host all all all ldap ldapbasedn=b ldapscheme=foo", 'invalid ldapscheme value: "foo"', ""),
    ("host all all all ldap ldapserver=h ldapprefix=", None, ""),
    ("host all all all ldap ldapbasedn=", None, ""),
    ('host all all all ldap "ldapserver=one two" ldapport=1 ldapscheme=ldaps ldaptls=yes ldapsuffix=", dc=x" backend_use_passwd=1', None, ""),
    ('host all all all ldap ldapurl="ldap://h/dc=x,dc=y?uid?sub" ldapbinddn=x ldapbindpasswd=y', None, ""),
    ("host all all all ldap ldapurl=ldap:///dc=x", None, ""),
]

#: Lines whose message stands alone in stock's log: (line, message of stock, message of ours).
UNPLACED = [
    ("host all all all ldap ldapurl=ldapi://h/dc=x", "unsupported LDAP URL scheme: ldapi", None),
    ("host all all all ldap ldapurl=http://h", 'could not parse LDAP URL "http://h": ', None),
    ("host all all all ldap ldapurl=ldap://h:x/dc=x", 'could not parse LDAP URL "ldap://h:x/dc=x": ', None),
    ("host all all all ldap ldapurl=ldap://h/dc=x?uid?foo", 'could not parse LDAP URL "ldap://h/dc=x?uid?foo": ', None),
    ("local all @missing trust", 'could not open secondary authentication file "@missing" as "', None),
    ("local all " + "x" * 256 + " trust", 'authentication file token too long, skipping: "xxx', None),
]


def verdict(pool, where, user, database, tls=None):
    """What the client is asked first: a method, "no" for no matching record, or the message of another error."""
    host, source = where
    try:
        if host == "unix":
            client = pool.client(unix=True, startup=False)
        else:
            client = pool.client(host=host, startup=False, **({"source": source} if source else {}))
    except OSError as error:
        raise unittest.SkipTest(f"no connection from {where}: {error}") from None
    try:
        if tls:
            client.send(wire.SSL_REQUEST)
            if client.byte() != "S":
                raise AssertionError("TLS was refused")
            client.socket = tls.wrap_socket(client.socket)
        client.send(wire.startup_packet(user, database))
        got = client.receive()
        if got.kind == "R":
            return ASKED[int.from_bytes(got.body[:4], "big")]
        fields = got.fields
        if fields.get("D", "").startswith("no pool_hba.conf entry for host"):
            return "no"
        # The server behind does not know such a database: the client was let in.
        if fields.get("C") in ("3D000", "28000"):
            return "trust"
        return f"{fields.get('M')}: {fields.get('D')}"
    finally:
        client.abort()


class Base(CompatCase):
    config = {"enable_pool_hba": True, "listen_addresses": "*", "num_init_children": 8}
    passwd = PASSWD
    start = False

    def put_files(self, files):
        for name, text in files.items():
            path = os.path.join(os.path.dirname(self.pool.hba_file), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.pool.write(path, text)


class Matching(Base):
    weight = 6
    hba = "".join(line.format(d=f"row{n}") + "\n" for n, (_, lines, _) in enumerate(ROWS) for line in lines) + "".join(line + "\n" for lines, _ in LAST for line in lines)

    def test_each_client_gets_the_record_that_stock_gives_it(self):
        self.put_files(FILES)
        self.pool.start()
        for number, (what, _, clients) in enumerate(ROWS):
            for where, user, expected in clients:
                with self.subTest(what=what, where=where, user=user):
                    self.assertEqual(verdict(self.pool, where, user, f"row{number}"), expected)
        for lines, clients in LAST:
            for where, user, database, expected in clients:
                with self.subTest(lines=lines, where=where, user=user, database=database):
                    self.assertEqual(verdict(self.pool, where, user, database), expected)


class BadLines(Base):
    hba = "".join(line + "\n" for line, _, _ in BAD)

    def entries(self, pool):
        """(line, message, hint) of the entries about the file, in the order of the log."""
        found, entry = [], None
        for text in pool.log().splitlines():
            match = re.search(r"(?:LOG|WARNING): +(.*)$", text)
            if match:
                entry = {"M": match[1]}
            elif entry is not None and "HINT: " in text:
                entry["H"] = text.split("HINT: ", 1)[1].strip()
            elif entry is not None and (context := re.search(r'CONTEXT: +line (\d+) of configuration file ".*pool_hba.conf"', text)):
                found.append((int(context[1]), entry["M"], entry.get("H", "")))
        return found

    def test_each_bad_line_is_reported_in_the_words_of_stock_and_nobody_is_let_in(self):
        self.pool.start()
        expected = [(n, message, hint) for n, (_, message, hint) in enumerate(BAD, 1) if message]
        self.assertEqual(sorted(self.entries(self.pool)), expected)
        fields = self.refused(unix=True)
        self.assertEqual((fields["S"], fields["M"], fields["D"], fields["H"]),
                         ("FATAL", "client authentication failed", "missing or erroneous pool_hba.conf file", "see pgpool log for details"))

    def test_what_is_only_odd_is_reported_and_the_file_counts(self):
        pool = self.another_pool("w", hba="hostssl all all all cert\nlocal all ann md5 pamservice=x\nhost all all all ldap ldapbasedn=b ldapscheme=foo\nhost all all all ldap ldapbasedn=b ldapport=-5\n")
        pool.start()
        self.assertEqual([entry for entry in sorted(self.entries(pool)) if entry[0] < 4], [
            (1, "hostssl record cannot match because SSL is disabled", "Set ssl = on in pgpool.conf"),
            (2, 'pamservice authentication option can only be configured for authentication method "pam"', ""),
            (3, 'invalid ldapscheme value: "foo"', "")])
        self.assertEqual(verdict(pool, UNIX, "ann", "app"), "md5")
        pool.stop()

    def test_a_file_without_a_record_and_a_missing_file_let_nobody_in(self):
        for number, (text, message) in enumerate([("# nothing\n", "contains no entries"), (None, "could not open configuration file")]):
            with self.subTest(text=text):
                pool = self.another_pool(f"e{number}", hba=text or "")
                if text is None:
                    os.unlink(pool.hba_file)
                pool.start()
                pool.wait_log(re.escape(message))
                with self.assertRaises(wire.ServerError) as caught:
                    pool.client(unix=True)
                self.assertEqual(caught.exception.fields["D"], "missing or erroneous pool_hba.conf file")
                pool.stop()

    def test_lines_that_stock_reports_without_their_place(self):
        pool = self.another_pool("u", hba="".join(line + "\n" for line, _, _ in UNPLACED) + "local all all trust\n")
        pool.start()
        for line, message, _ in UNPLACED:
            pool.wait_log(re.escape(message))
        with self.assertRaises(wire.ServerError):
            pool.client(unix=True)
        pool.stop()

    @stock_differs("it does not say in which line, and the reason of a bad URL is that of another error")
    def test_every_bad_line_has_its_place(self):
        pool = self.another_pool("v", hba="".join(line + "\n" for line, _, _ in UNPLACED) + "local all all trust\n")
        pool.start()
        placed = {line: message for line, message, _ in self.entries(pool)}
        for number, (line, message, _) in enumerate(UNPLACED, 1):
            self.assertTrue(placed.get(number, "").startswith(message), (number, line, placed))
        pool.stop()


class Reloading(Base):
    # A child of stock reads a file when its next client comes; the others still have the one before.
    config = {**Base.config, "num_init_children": 1}
    hba = "local all ann md5\n"
    start = True

    def test_a_good_file_counts_for_new_clients_and_a_bad_one_changes_nothing(self):
        self.assertEqual(verdict(self.pool, UNIX, "ann", "app"), "md5")
        self.pool.write(self.pool.hba_file, "local all ann scram-sha-256\nlocal all bob md5\n")
        self.pool.reload()
        proc.wait_for(lambda: verdict(self.pool, UNIX, "ann", "app") == "scram-sha-256", "the new rules")
        self.assertEqual(verdict(self.pool, UNIX, "bob", "app"), "md5")

        mark = self.pool.log_size()
        for bad in ("local all ann password\nlocal all all ident\n", "# nothing\n", "local all @gone trust\n"):
            self.pool.write(self.pool.hba_file, bad)
            self.pool.reload()
        self.pool.wait_log("could not open secondary authentication file", since=mark)
        time.sleep(1)
        for _ in range(12):
            self.assertEqual(verdict(self.pool, UNIX, "ann", "app"), "scram-sha-256")
            self.assertEqual(verdict(self.pool, UNIX, "bob", "app"), "md5")
        self.assertIn('invalid authentication method "ident"', self.pool.log(mark))

        self.put_files({"who": "ann\n"})
        self.pool.write(self.pool.hba_file, "local all @who password\n")
        self.pool.reload()
        proc.wait_for(lambda: verdict(self.pool, UNIX, "ann", "app") == "password", "the rules of the mended file")
        self.assertEqual(verdict(self.pool, UNIX, "bob", "app"), "no")


class InItsOwnNetwork(Pgpool):
    """Runs with an /etc/hosts of its own."""

    hosts_file = None

    def argv(self, *more):
        argv = super().argv(*more)
        return [*private_hosts(self.hosts_file), *argv]


def private_hosts(path):
    script = f"mount --bind '{path}' /etc/hosts && exec \"$@\""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


class HostNames(CompatCase):
    """Names go through /etc/hosts, which only this pgpool sees."""

    config = {"enable_pool_hba": True, "listen_addresses": "*", "num_init_children": 8}
    passwd = PASSWD
    start = False
    hosts = "127.0.0.1 localhost\n127.0.0.11 db1.example.test\n127.0.0.12 notexample.test\n127.0.0.13 deep.db1.example.test\n::1 six.example.test\n"
    rows = [
        ("a name", ["host {d} all db1.example.test md5"], [("127.0.0.11", "md5"), ("127.0.0.12", "no"), ("127.0.0.13", "no"), ("127.0.0.99", "no")]),
        ("names are compared without case", ["host {d} all DB1.Example.TEST md5"], [("127.0.0.11", "md5")]),
        ("a suffix", ["host {d} all .example.test md5", "host {d} all all password"], [("127.0.0.11", "md5"), ("127.0.0.13", "md5"), ("127.0.0.12", "password"), ("127.0.0.99", "password")]),
        ("a suffix without case", ["host {d} all .Example.TEST md5"], [("127.0.0.11", "md5")]),
        ("a domain without its dot is a name", ["host {d} all example.test md5"], [("127.0.0.11", "no")]),
        ("a suffix longer than the name", ["host {d} all .db1.example.test md5"], [("127.0.0.11", "no"), ("127.0.0.13", "md5")]),
        ("localhost", ["host {d} all localhost md5"], [(None, "md5"), ("127.0.0.99", "no")]),
        ("a quoted name", ['host {d} all "db1.example.test" md5'], [("127.0.0.11", "md5")]),
        ("IPv6", ["host {d} all six.example.test md5"], [("::1", "md5"), (None, "no")]),
        ("a name that nobody has, then an address", ["host {d} all nobody.test reject", "host {d} all 127.0.0.0/8 md5"], [("127.0.0.11", "md5"), ("127.0.0.99", "md5")]),
        ("a name that rejects", ["host {d} all .example.test reject", "host {d} all all md5"], [("127.0.0.11", "no"), ("127.0.0.12", "md5")]),
    ]
    hba = "".join(line.format(d=f"row{n}") + "\n" for n, (_, lines, _) in enumerate(rows) for line in lines)

    def test_each_client_gets_the_record_of_its_name(self):
        hosts = os.path.join(self.root, "hosts")
        with open(hosts, "w") as file:
            file.write(self.hosts)
        os.chmod(hosts, 0o644)
        probe = proc.run([*private_hosts(hosts), "cat", "/etc/hosts"])
        if probe.out != self.hosts:
            self.skipTest(f"this machine allows no mount namespace: {probe.err.strip()}")
        pool = InItsOwnNetwork(os.path.join(self.root, "names"), self.cluster.servers, config=self.config, hba=self.hba, passwd=self.passwd)
        pool.hosts_file = hosts
        self.addCleanup(pool.cleanup)
        pool.start()
        for number, (what, _, clients) in enumerate(self.rows):
            for source, expected in clients:
                where = ("::1", None) if source == "::1" else ("127.0.0.1", source)
                with self.subTest(what=what, source=source):
                    self.assertEqual(verdict(pool, where, "ann", f"row{number}"), expected)


class Tls(Base):
    """What hostssl and hostnossl make of a client with TLS."""

    hba = "hostssl one all all md5\nhostnossl one all all password\nhostnossl two all all md5\nhost two all 127.0.0.7/32 password\nhostssl two all samehost scram-sha-256\n"

    def certificate(self):
        key, certificate = self.pool.file("server.key"), self.pool.file("server.crt")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "30", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        os.chmod(key, 0o600)
        env.hand_over(key)
        env.hand_over(certificate)
        return key, certificate

    def test_the_records_of_clients_with_tls(self):
        key, certificate = self.certificate()
        self.pool.write_config(ssl=True, ssl_key=key, ssl_cert=certificate)
        if env.SUBJECT == "ours" and "the start will be refused: ssl" in proc.run(self.pool.argv("--check")).out:
            self.skipTest("this binary has no TLS")
        self.pool.start()
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        for where, database, with_tls, expected in [
            (LO, "one", True, "md5"), (LO, "one", False, "password"), (SIX, "one", True, "md5"),
            (LO, "two", True, "scram-sha-256"), (LO, "two", False, "md5"), (OTHER, "two", True, "password"), (OTHER, "two", False, "md5"),
            (("127.0.0.1", "127.0.0.8"), "two", True, "no"), (UNIX, "one", False, "no"),
        ]:
            with self.subTest(where=where, database=database, tls=with_tls):
                self.assertEqual(verdict(self.pool, where, "ann", database, tls if with_tls else None), expected)


