"""TLS between clients and pgpool."""

import hashlib
import os
import random
import re
import socket
import ssl
import struct
import threading
import time

from lib import certs, env, proc, wire
from lib.case import CompatCase, ours_only, slow, stock_differs
from lib.certs import context
from lib.server import pg

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class Base(CompatCase):
    """A pgpool with a certificate for localhost and 127.0.0.1; its server speaks plain text."""

    @classmethod
    def _build(cls, where, home, add_cleanup):
        where.authority = certs.Authority(os.path.join(home, "ca"))
        where.own = where.authority.issue("pgpool", san="DNS:localhost,IP:127.0.0.1")
        super()._build(where, home, add_cleanup)

    @classmethod
    def make_pool(cls, where, home, **changes):
        config = {"ssl": True, "ssl_cert": where.own.cert, "ssl_key": where.own.key, **changes.pop("config", {})}
        return super().make_pool(where, home, config=config, **changes)

    def psql(self, conninfo, sql="SELECT 'here'", pool=None, user="app", host="127.0.0.1"):
        pool = pool or self.pool
        command = [pg("psql"), "-X", "-A", "-t", "-c", sql, f"host={host} hostaddr=127.0.0.1 port={pool.port} user={user} dbname=app {conninfo}"]
        return proc.run(command)

    def raw(self):
        client = self.client(startup=False)
        return client


class Clients(Base):
    config = {"num_init_children": 6, "log_connections": True}
    weight = 20

    def test_psql_connects_in_every_sslmode_and_version(self):
        root = f"sslrootcert={self.authority.ca}"
        for version in ("TLSv1.2", "TLSv1.3"):
            limits = f"ssl_min_protocol_version={version} ssl_max_protocol_version={version}"
            for mode in ("disable", "allow", "prefer", "require", f"verify-ca {root}", f"verify-full {root}"):
                with self.subTest(mode=mode, version=version):
                    done = self.psql(f"sslmode={mode} {limits}")
                    self.assertEqual((done.code, done.out.strip()), (0, "here"), done)

    def test_psql_sees_the_right_host_and_no_other(self):
        root = f"sslrootcert={self.authority.ca}"
        self.assertEqual(self.psql(f"sslmode=verify-full {root}", host="localhost").code, 0)
        done = self.psql(f"sslmode=verify-full {root}", host="elsewhere")
        self.assertEqual(done.code, 2)
        self.assertIn("does not match host name", done.err)

    def test_psql_says_that_the_session_is_encrypted(self):
        done = proc.run([pg("psql"), "-X", f"host=127.0.0.1 port={self.pool.port} user=app dbname=app sslmode=require"], stdin="\\conninfo\n")
        self.assertRegex(done.out, r"SSL connection \(protocol: TLSv1\.3, cipher: TLS_\w+")

    def test_plain_clients_are_still_served(self):
        self.assertEqual(self.client().value("SELECT 1"), "1")
        self.assertEqual(self.client(unix=True).value("SELECT 1"), "1")

    @ours_only("PostgreSQL answers N on its unix socket, too")
    def test_on_the_unix_socket_there_is_no_tls(self):
        client = self.client(unix=True, startup=False)
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "N")

    def test_gss_is_refused_and_tls_may_follow(self):
        client = self.raw()
        client.send(wire.GSS_REQUEST)
        self.assertEqual(client.byte(), "N")
        client._begin_tls(context(), False)
        client.send(wire.startup_packet("app", "app"))
        client.login()
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_old_tls_is_refused_as_the_systems_openssl_says(self):
        limit = context()
        limit.minimum_version = limit.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((wire.Closed, OSError)):
            self.client(tls=limit)

    @ours_only("the command")
    def test_show_tells_version_and_cipher(self):
        plain, old, new = self.client(), self.client(tls=context(version=V12)), self.client(tls=context(version=V13))
        result = plain.query("SHOW POOL_SSL")
        self.assertEqual(result.columns, ["pool_pid", "database", "username", "client_host", "client_port", "ssl", "version", "cipher", "client_cn"])
        rows = {row[4]: row for row in result.rows}
        for client, expected in ((plain, ("off", "", "")), (old, ("on", "TLSv1.2", old.socket.cipher()[0])), (new, ("on", "TLSv1.3", new.socket.cipher()[0]))):
            self.assertEqual(tuple(rows[str(client.socket.getsockname()[1])][5:8]), expected)

    @ours_only("admin_database")
    def test_admin_sessions_are_encrypted_too(self):
        with self.client(tls=context(), database="pgpool_admin", user="scramuser", password="scrampw") as client:
            self.assertEqual(len(client.rows("SHOW POOL_NODES")), 1)

    def test_small_statements_and_pipelines(self):
        for version in (V12, V13):
            client = self.client(tls=context(version=version))
            for number in range(50):
                self.assertEqual(client.value(f"SELECT {number}"), str(number))
            batch = b"".join(wire.extended("SELECT $1::text", [str(n)]) for n in range(2000)) + wire.sync()
            result = client.exchange(batch)
            self.assertEqual([row[0] for row in result.rows], [str(n) for n in range(2000)])

    def test_messages_cut_into_single_bytes_of_records(self):
        client = self.client(tls=context())
        for byte in wire.query("SELECT 'in pieces'"):
            client.send(bytes([byte]))
        self.assertEqual(client.until().rows, [("in pieces",)])

    def test_a_result_of_100_megabytes_arrives_unchanged(self):
        for version in (V12, V13):
            with self.subTest(version=version):
                client = self.client(tls=context(version=version), timeout=120)
                sql = "SELECT g, repeat(chr(65 + g % 26), 1000) FROM generate_series(1, 100000) g"
                client.send(wire.query(sql))
                total, digest = self.drain(client)
                direct = self.direct(timeout=120)
                direct.send(wire.query(sql))
                self.assertEqual((total, digest), self.drain(direct))
                self.assertGreater(total, 100_000_000)

    def test_a_client_that_reads_slowly_gets_all_of_it(self):
        client = self.client(tls=context(), timeout=60)
        client.send(wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"))
        time.sleep(2)
        total = 0
        while True:
            chunk = client.socket.recv(4096)
            total += len(chunk)
            if chunk.endswith(b"Z\0\0\0\x05I"):
                break
        self.assertGreater(total, 20_000_000)

    @staticmethod
    def drain(client):
        """Length and hash of an answer up to its ReadyForQuery."""
        seen, total, tail = hashlib.md5(), 0, b""
        while not tail.endswith(b"Z\0\0\0\x05I"):
            chunk = client.socket.recv(1 << 20)
            if not chunk:
                raise wire.Closed("end of file")
            seen.update(chunk)
            total += len(chunk)
            tail = (tail + chunk)[-6:]
        return total, seen.hexdigest()

    def test_copy_in_of_50_megabytes(self):
        client = self.client(tls=context(), timeout=120)
        client.query("CREATE TABLE IF NOT EXISTS copied (t text)").ok()
        client.query("TRUNCATE copied").ok()
        line = b"y" * 999 + b"\n"
        result = client.copy_in("COPY copied FROM STDIN", [line * 100] * 500)
        self.assertEqual(result.tags, ["COPY 50000"])
        self.assertEqual(client.rows("SELECT count(*), sum(length(t)) FROM copied"), [("50000", str(50000 * 999))])

    def test_a_cancel_request_reaches_the_session(self):
        for inside in (None, context()):
            with self.subTest(inside=inside):
                client = self.client(tls=context())
                began = time.monotonic()
                client.send(wire.query("SELECT pg_sleep(30)"))
                self.wait_running("pg_sleep(30)")
                cancel = self.client(startup=False, tls=inside)
                cancel.send(wire.cancel_packet(*client.key))
                self.assertEqual(client.until().error["C"], "57014")
                self.assertLess(time.monotonic() - began, 15)

    @ours_only("stock sends tickets")
    def test_no_ticket_for_another_session_is_sent(self):
        for version in (V12, V13):
            client = self.client(tls=context(version=version))
            client.value("SELECT 1")
            self.assertFalse(client.socket.session is not None and client.socket.session.has_ticket)

    def test_many_sessions_one_after_another_use_the_cache(self):
        with self.client(tls=context()) as client:
            pid = client.pid()
        pids = set()
        for _ in range(12):
            with self.client(tls=context()) as client:
                pids.add(client.pid())
        self.assertLessEqual(len(pids | {pid}), 6)

    def test_many_clients_at_once(self):
        failed = []

        def work(number):
            try:
                with self.pool.client(tls=context(version=(V12, V13)[number % 2]), timeout=60) as client:
                    for _ in range(5):
                        if client.value(f"SELECT {number}") != str(number):
                            failed.append(number)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                failed.append(repr(error))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        self.assertEqual(failed, [])

    def test_an_error_at_the_login_reaches_the_client_through_tls(self):
        self.assertEqual(self.refused(tls=context(), database="nosuch")["C"], "3D000")

    @ours_only("a session that is cut is told")
    def test_a_session_that_is_cut_is_told_and_closed_in_the_way_of_tls(self):
        pool = self.another_pool("cut", config={"ssl": True, "ssl_cert": self.own.cert, "ssl_key": self.own.key}).start()
        client = pool.client(tls=context())
        self.addCleanup(client.abort)
        client.value("SELECT 1")
        pool.stop()
        self.assertEqual(client.receive().fields["C"], "57P01")
        # A cut without close_notify would be an error of TLS.
        self.assertEqual(client.socket.recv(1), b"")


class BeforeTheHandshake(Base):
    config = {"num_init_children": 3, "authentication_timeout": 3}
    weight = 12

    def test_bytes_that_come_with_the_request_are_never_protocol(self):
        for more in (wire.startup_packet("app", "app"), wire.startup_packet("app", "app") + wire.query("SELECT 1"), b"x"):
            client = self.raw()
            client.send(wire.SSL_REQUEST + more)
            self.assertEqual(client.byte(), "S")
            self.assertEqual(client.until_closed().kinds, "")
        self.pool.wait_log(re.escape("received unencrypted data after SSL request"))
        self.assertEqual(self.client().value("SELECT 1"), "1")

    def test_bytes_in_plain_text_behind_the_answer_break_the_handshake(self):
        client = self.raw()
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "S")
        client.send(wire.startup_packet("app", "app"))
        self.assertTrue(self.ends(client))

    def ends(self, client, within=2.0):
        """The connection closes without a byte of PostgreSQL's protocol (an alert of TLS may come)."""
        client.socket.settimeout(within)
        got = b""
        try:
            while True:
                chunk = client.socket.recv(4096)
                if not chunk:
                    break
                got += chunk
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return got == b"" or got[0] == 0x15

    def test_random_bytes_as_a_handshake_end_only_their_connection(self):
        chance = random.Random(7)
        staying = self.client(tls=context())
        for number in range(30):
            client = self.raw()
            client.send(wire.SSL_REQUEST)
            self.assertEqual(client.byte(), "S")
            junk = bytes(chance.randrange(256) for _ in range(chance.randrange(5, 3000)))
            if number % 3 == 0:
                junk = b"\x16\x03\x01" + struct.pack(">H", len(junk)) + junk
            try:
                client.send(junk)
                client.socket.shutdown(socket.SHUT_WR)
            except (wire.Closed, OSError):
                pass
            self.assertTrue(self.ends(client, 10))
            client.abort()
        self.assertEqual(staying.value("SELECT 1"), "1")

    @stock_differs("each such stranger occupies a child")
    def test_half_a_handshake_is_closed_by_authentication_timeout_and_disturbs_nobody(self):
        hello = self.client_hello()
        slow_ones = []
        for cut in (0, 1, 5, 100, len(hello) // 2, len(hello) - 1):
            client = self.raw()
            client.send(wire.SSL_REQUEST)
            self.assertEqual(client.byte(), "S")
            client.send(hello[:cut])
            slow_ones.append(client)
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            with self.pool.client(tls=context()) as client:
                self.assertEqual(client.value("SELECT 1"), "1")
        for client in slow_ones:
            self.assertTrue(self.ends(client, 10))
        self.assertLess(time.monotonic() - began, 9)
        self.pool.wait_log(re.escape("authentication timeout"))

    @staticmethod
    def client_hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = context().wrap_bio(incoming, outgoing)
        try:
            handshake.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    def test_a_handshake_byte_by_byte_succeeds(self):
        client = self.raw()
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "S")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context().wrap_bio(incoming, outgoing)
        while True:
            try:
                session.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            for byte in outgoing.read():
                client.socket.sendall(bytes([byte]))
            if done:
                break
            incoming.write(client.socket.recv(65536))
        session.write(wire.startup_packet("app", "app"))
        client.socket.sendall(outgoing.read())
        got = b""
        while not got.endswith(b"Z\0\0\0\x05I"):
            incoming.write(client.socket.recv(65536))
            try:
                while True:
                    got += session.read(65536)
            except ssl.SSLWantReadError:
                pass
        self.assertTrue(got.startswith(b"R\0\0\0\x08\0\0\0\0"))

    def test_a_second_request_inside_is_an_error(self):
        client = self.client(tls=context(), startup=False)
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.socket.recv(1), b"E")
        self.assertTrue(client.is_closed())

    def test_a_client_that_leaves_after_the_answer_leaves_nothing(self):
        for _ in range(10):
            client = self.raw()
            client.send(wire.SSL_REQUEST)
            client.byte()
            client.abort()
        self.assertEqual(self.client(tls=context()).value("SELECT 1"), "1")

    @ours_only("direct TLS, as PostgreSQL 17")
    def test_direct_tls_needs_the_name_of_the_protocol(self):
        with self.pool.client(tls=context(), direct=True) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
            self.assertEqual(client.socket.selected_alpn_protocol(), "postgresql")
        with self.assertRaises((wire.Closed, OSError)):
            self.pool.client(tls=context(alpn=None), direct=True)
        self.pool.wait_log("direct SSL connection request without ALPN")
        other = context(alpn=None)
        other.set_alpn_protocols(["http/1.1"])
        for direct in (True, False):
            with self.assertRaises((wire.Closed, OSError)):
                self.pool.client(tls=other, direct=direct)


class Off(CompatCase):
    config = {"num_init_children": 2}

    def test_requests_are_answered_n_and_plain_text_follows(self):
        client = self.client(startup=False)
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "N")
        client.send(wire.startup_packet("app", "app"))
        client.login()
        self.assertEqual(client.value("SELECT 1"), "1")

    @ours_only("bytes before the answer are refused, as by PostgreSQL")
    def test_bytes_that_come_with_the_request_are_refused(self):
        client = self.client(startup=False)
        client.send(wire.SSL_REQUEST + wire.startup_packet("app", "app"))
        self.assertEqual(client.byte(), "N")
        self.assertEqual(client.receive().fields["C"], "08P01")
        self.assertTrue(client.is_closed())

    @ours_only("a line in the log")
    def test_a_tls_handshake_without_a_request_is_closed(self):
        with self.assertRaises((wire.Closed, OSError)):
            self.pool.client(tls=context(), direct=True)


class Hba(Base):
    config = {"enable_pool_hba": True, "num_init_children": 3}
    hba = "hostssl all app 127.0.0.1/32 trust\nhostnossl all postgres 127.0.0.1/32 trust\nhost all scramuser 127.0.0.1/32 scram-sha-256\n"

    def test_hostssl_and_hostnossl_records_match_what_they_say(self):
        self.assertEqual(self.client(tls=context(), user="app").value("SELECT 1"), "1")
        self.assertEqual(self.client(user="postgres").value("SELECT 1"), "1")
        fields = self.refused(user="app")
        self.assertEqual(fields["D"], 'no pool_hba.conf entry for host "127.0.0.1", user "app", database "app", SSL off')
        fields = self.refused(tls=context(), user="postgres")
        self.assertEqual(fields["D"], 'no pool_hba.conf entry for host "127.0.0.1", user "postgres", database "app", SSL on')

    def test_a_password_dialogue_inside_tls(self):
        for version in (V12, V13):
            client = self.client(tls=context(version=version), user="scramuser", password="scrampw")
            self.assertEqual(client.value("SELECT current_user"), "scramuser")
        self.assertEqual(self.refused(tls=context(), user="scramuser", password="wrong")["M"], "authentication failed")


class ClientCertificates(Base):
    """With ssl_ca_cert, a client may show a certificate, and a bad one ends the handshake."""

    config = {"num_init_children": 3}
    weight = 8

    @classmethod
    def _build(cls, where, home, add_cleanup):
        authority = certs.Authority(os.path.join(home, "clients"), "client-ca")
        where.clients = authority
        where.good, where.bad = authority.issue("app"), authority.issue("gone")
        where.late = authority.issue("late", expired=True)
        authority.revoke(where.bad)
        where.crl = authority.crl()
        super()._build(where, home, add_cleanup)

    @classmethod
    def make_pool(cls, where, home, **changes):
        config = {"ssl_ca_cert": where.clients.ca, "ssl_crl_file": where.crl}
        return super().make_pool(where, home, config=config, **changes)

    def accepted(self, pair, version):
        """Whether a session begins. In TLS 1.3 the refusal comes with the first read."""
        try:
            with self.pool.client(tls=context(pair, version)) as client:
                return client.value("SELECT 1") == "1"
        except (wire.Closed, OSError):
            return False

    def test_a_good_certificate_and_none_are_taken_and_bad_ones_are_not(self):
        foreign = certs.Authority(os.path.join(self.root, "foreign")).issue("app")
        for version in (V12, V13):
            with self.subTest(version=version):
                self.assertTrue(self.accepted(None, version))
                self.assertTrue(self.accepted(self.good, version))
                self.assertFalse(self.accepted(self.bad, version), "revoked")
                self.assertFalse(self.accepted(self.late, version), "expired")
                self.assertFalse(self.accepted(foreign, version), "of another authority")
        log = self.pool.log()
        self.assertRegex(log, r'pool_ssl: "SSL_accept": "certificate verify failed')

    @ours_only("the command")
    def test_show_tells_the_name(self):
        client = self.client(tls=context(self.good))
        self.assertEqual(client.rows("SHOW POOL_SSL")[0][8], "app")

    @ours_only("the reason of a refusal")
    def test_the_log_tells_why_a_certificate_is_not_taken(self):
        mark = self.pool.log_size()
        self.accepted(self.bad, V13)
        self.accepted(self.late, V13)
        self.pool.wait_log("certificate verify failed .certificate revoked", since=mark)
        self.pool.wait_log("certificate verify failed .certificate has expired", since=mark)

    def test_a_revoked_authority_does_not_stop_plain_clients(self):
        self.assertEqual(self.client().value("SELECT 1"), "1")


class Files(Base):
    """What is missing or wrong costs TLS and nothing else; the log says what."""

    fresh = False
    start = False
    config = {"num_init_children": 2}
    weight = 14

    def answer(self, **config):
        pool = self.another_pool("".join(random.choices("abcdefgh", k=8)), config={"ssl": True, "ssl_cert": self.own.cert, "ssl_key": self.own.key, **config}).start()
        client = pool.client(startup=False)
        client.send(wire.SSL_REQUEST)
        answer = client.byte()
        client.abort()
        with pool.client() as plain:
            self.assertEqual(plain.value("SELECT 1"), "1")
        log = pool.log()
        pool.stop()
        return answer, log

    def test_without_a_usable_certificate_there_is_no_tls_and_a_warning(self):
        other = self.authority.issue("other")
        for config, text in (
            ({"ssl_cert": "", "ssl_key": ""}, 'could not load server certificate file ""'),
            ({"ssl_cert": "/nowhere.crt"}, 'could not load server certificate file "/nowhere.crt"'),
            ({"ssl_key": "/nowhere.key"}, 'could not access private key file "/nowhere.key": No such file or directory'),
            ({"ssl_key": other.key}, f'could not load private key file "{other.key}": key values mismatch'),
            ({"ssl_ecdh_curve": "nonsense"}, "ECDH: unrecognized curve name: nonsense"),
            ({"ssl_ca_cert": "/nowhere.ca"}, 'could not load root certificate file "/nowhere.ca"'),
            ({"ssl_ca_cert": self.authority.ca, "ssl_crl_file": "/nowhere.crl"}, 'could not load SSL certificate revocation list file "/nowhere.crl"'),
            ({"ssl_key": self.authority.encrypted(self.own, "phrase")}, "cannot be reloaded because it requires a passphrase"),
        ):
            with self.subTest(config=config):
                answer, log = self.answer(**config)
                self.assertEqual(answer, "N")
                self.assertRegex(log, r"WARNING: [^\n]*" + re.escape(text))

    def test_a_key_that_others_may_read_is_a_warning(self):
        path = self.own.key + ".open"
        with open(self.own.key) as source, open(path, "w") as target:
            target.write(source.read())
        os.chmod(path, 0o644)
        env.hand_over(path)
        answer, log = self.answer(ssl_key=path)
        self.assertEqual(answer, "S")
        self.assertRegex(log, r"WARNING: [^\n]*has group or world access")

    def test_a_missing_file_of_dh_parameters_is_a_warning(self):
        answer, log = self.answer(ssl_dh_params_file="/nowhere.dh")
        self.assertEqual(answer, "S")
        self.assertIn('could not open DH parameters file "/nowhere.dh"', log)

    def test_the_pass_phrase_comes_from_the_command(self):
        key = self.authority.encrypted(self.own, "open-sesame")
        self.assertEqual(self.answer(ssl_key=key, ssl_passphrase_command="echo open-sesame # %p")[0], "S")
        answer, log = self.answer(ssl_key=key, ssl_passphrase_command="echo open-barley")
        self.assertEqual(answer, "N")
        self.assertNotIn("open-barley", log)

    def test_relative_paths_begin_where_pgpool_conf_lies(self):
        pool = self.another_pool("relative", config={"ssl": True, "ssl_cert": "here.crt", "ssl_key": "here.key"})
        self.authority.copy(self.own, pool.file("here.crt"), pool.file("here.key"))
        pool.start()
        with pool.client(tls=context()) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
        pool.stop()

    @ours_only("stock offers no DHE, whatever the parameters")
    def test_diffie_hellman_works_with_and_without_a_file_of_parameters(self):
        rsa = self.authority.issue("rsa-dh", rsa=2048)
        params = self.authority.file("dh.pem")
        certs.openssl("genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:modp_2048", "-out", params)
        env.hand_over(params)
        for number, file in enumerate(("", params)):
            pool = self.another_pool(f"dh{number}", config={"ssl": True, "ssl_cert": rsa.cert, "ssl_key": rsa.key, "ssl_dh_params_file": file}).start()
            tls = context(version=V12)
            tls.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
            with pool.client(tls=tls) as client:
                self.assertEqual(client.value("SELECT 1"), "1")
                self.assertEqual(client.socket.cipher()[0], "DHE-RSA-AES256-GCM-SHA384")
            self.assertNotIn("WARNING", pool.log())
            pool.stop()

    def test_ciphers_and_curve_are_obeyed(self):
        rsa = self.authority.issue("rsa", rsa=2048)
        pool = self.another_pool("ciphers", config={
            "ssl": True, "ssl_cert": rsa.cert, "ssl_key": rsa.key, "ssl_ecdh_curve": "secp384r1", "ssl_prefer_server_ciphers": True,
            "ssl_ciphers": "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
        }).start()

        def cipher(wanted):
            tls = context(version=V12)
            tls.set_ciphers(wanted)
            with pool.client(tls=tls) as client:
                client.value("SELECT 1")
                return client.socket.cipher()[0]

        self.assertEqual(cipher("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"), "ECDHE-RSA-AES256-GCM-SHA384")
        with self.assertRaises((wire.Closed, OSError)):
            cipher("ECDHE-RSA-CHACHA20-POLY1305")
        narrow = context(version=V13)
        narrow.set_ecdh_curve("prime256v1")
        with self.assertRaises((wire.Closed, OSError)):
            pool.client(tls=narrow)
        pool.stop()

    @ours_only("--check")
    def test_check_names_what_is_missing_and_runs_nothing(self):
        key = self.authority.encrypted(self.own, "phrase")
        ran = self.pool.file("ran")
        pool = self.another_pool("check", config={"ssl": True, "ssl_cert": "/nowhere.crt", "ssl_key": key, "ssl_ca_cert": "/nowhere.ca", "ssl_passphrase_command": f"touch {ran}; echo phrase"})
        done = proc.run(pool.argv("--check"))
        self.assertEqual(done.code, 0, done)
        for text in ('could not load server certificate file "/nowhere.crt"', 'could not load root certificate file "/nowhere.ca"'):
            self.assertRegex(done.out, r"pgpool.conf:\d+:\d+: warning: " + re.escape(text))
        self.assertFalse(os.path.exists(ran))


class Reload(Base):
    """New certificates at a reload; stock takes them at the next start of a child."""

    fresh = True
    config = {"num_init_children": 4}
    weight = 6

    def shown(self):
        """What a client is shown now."""
        client = self.client(tls=context(), startup=False)
        return client.socket.getpeercert(binary_form=True)

    @ours_only("certificates are read again at a reload")
    def test_new_certificates_are_shown_after_a_reload_and_sessions_go_on(self):
        before = self.shown()
        staying = self.client(tls=context())
        self.authority.copy(self.authority.issue("new", san="DNS:localhost"), self.own.cert, self.own.key)
        self.assertEqual(self.shown(), before)
        self.pool.reload()
        self.eventually(lambda: self.shown() != before, "the new certificate")
        self.assertEqual(staying.value("SELECT 1"), "1")

    @ours_only("certificates are read again at a reload")
    def test_a_bad_certificate_keeps_the_old_one_and_says_so(self):
        before = self.shown()
        mark = self.pool.log_size()
        with open(self.own.cert, "w") as file:
            file.write("no certificate\n")
        self.pool.reload()
        self.pool.wait_log(r"pgpool.conf:\d+:\d+: [^\n]*could not load server certificate file", since=mark)
        self.pool.wait_log("clients are shown the old certificate", since=mark)
        self.assertEqual(self.shown(), before)
        self.assertEqual(self.client(tls=context()).value("SELECT 1"), "1")

    @ours_only("certificates are read again at a reload")
    def test_a_client_that_is_revoked_is_refused_after_a_reload(self):
        client = self.authority.issue("client")
        crl = self.authority.crl()
        pool = self.another_pool("crl", config={"ssl": True, "ssl_cert": self.own.cert, "ssl_key": self.own.key, "ssl_ca_cert": self.authority.ca, "ssl_crl_file": crl}).start()

        def accepted():
            try:
                with pool.client(tls=context(client)) as session:
                    return session.value("SELECT 1") == "1"
            except (wire.Closed, OSError):
                return False

        self.assertTrue(accepted())
        self.authority.revoke(client)
        self.authority.crl()
        pool.reload()
        self.eventually(lambda: not accepted(), "the refusal")


@slow
class ManyHandshakes(Base):
    """Handshakes with a slow key take nothing from the sessions that are there."""

    config = {"num_init_children": 8, "enable_pool_hba": True}
    hba = "host all app 127.0.0.1/32 trust\n"

    @classmethod
    def make_pool(cls, where, home, **changes):
        where.own = where.authority.issue("slow", san="DNS:localhost", rsa=4096)
        return super().make_pool(where, home, **changes)

    def test_sessions_answer_while_strangers_shake_hands(self):
        client = self.client()
        seen = []
        # A session that waits behind handshakes does so each time; a busy machine has better moments.
        while not seen or seen[-1][0] <= 10 or seen[-1][1] >= 0.05:
            self.assertLess(len(seen), 5, f"handshakes, and the median of the waits: {seen}")
            seen.append(self.waits_beside_handshakes(client))

    def waits_beside_handshakes(self, client):
        """How many handshakes there were in three seconds, and the median of the seconds that a session waited for an answer."""
        end = time.monotonic() + 3
        done = [0]

        def shake():
            while time.monotonic() < end:
                try:
                    self.pool.client(tls=context(), startup=False).abort()
                    done[0] += 1
                except (wire.Closed, OSError):
                    pass

        threads = [threading.Thread(target=shake) for _ in range(3)]
        for t in threads:
            t.start()
        waits = []
        while time.monotonic() < end:
            began = time.monotonic()
            client.value("SELECT 1")
            waits.append(time.monotonic() - began)
        for t in threads:
            t.join(10)
        waits.sort()
        return done[0], waits[len(waits) // 2]
