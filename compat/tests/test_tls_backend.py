"""TLS between pgpool and its servers."""

import os
import re
import socket
import ssl
import threading
import time

from lib import certs, fakeserver, proc, wire
from lib.case import CompatCase, ours_only
from lib.certs import context
from lib.server import pg

IS_TLS = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class Base(CompatCase):
    """Servers with a certificate for localhost and 127.0.0.1 that ask for client certificates of the same authority."""

    #: What pgpool-rs.conf says.
    own = ""

    @classmethod
    def _build(cls, where, home, add_cleanup):
        where.authority = certs.Authority(os.path.join(home, "ca"))
        where.pair = where.authority.issue("server", san="DNS:localhost,IP:127.0.0.1")
        cls.server_settings = {"ssl": "on", "ssl_cert_file": where.pair.cert, "ssl_key_file": where.pair.key, "ssl_ca_file": where.authority.ca}
        super()._build(where, home, add_cleanup)

    @classmethod
    def make_pool(cls, where, home, **changes):
        pool = super().make_pool(where, home, **changes)
        cls.write_own(pool, cls.own.format(ca=where.authority.ca))
        return pool

    @staticmethod
    def write_own(pool, text):
        pool.write(pool.file("pgpool-rs.conf"), text)

    def show(self, pair):
        """From now on the primary shows this certificate."""
        server = self.cluster.primary
        server.set(ssl_cert_file=pair.cert, ssl_key_file=pair.key)
        server.value("SELECT pg_reload_conf()")
        with open(pair.cert) as file:
            wanted = ssl.PEM_cert_to_DER_cert(file.read())

        def shown():
            client = server.client(host="127.0.0.1", tls=context(), startup=False)
            self.addCleanup(client.abort)
            return client.socket.getpeercert(binary_form=True) == wanted

        self.eventually(shown, "the server to show it")

    def pool_with(self, own, name="own", **kwargs):
        pool = self.another_pool(name, **kwargs)
        self.write_own(pool, own)
        return pool

    def outcome(self, own, name, **kwargs):
        """TLS or not of a session's server connection, or the error that the client gets."""
        config = {"search_primary_node_timeout": 1, **kwargs.pop("config", {})}
        pool = self.pool_with(own, name, config=config, **kwargs).start()
        try:
            with pool.client() as client:
                return client.value(IS_TLS)
        except wire.ServerError as error:
            return error.message
        finally:
            self.log_of_last = pool.log()
            pool.stop()


class AsStock(Base):
    """ssl = on, and nothing of ours: TLS where the server has it, verified if ssl_ca_cert is set."""

    nodes = 2
    config = {"ssl": True, "num_init_children": 4, "sr_check_period": 1, "health_check_period": 1}
    weight = 14

    def test_the_servers_are_connected_by_tls(self):
        self.assertEqual(self.client().rows(IS_TLS), [("t", "TLSv1.3")])
        self.eventually(lambda: all(s.value("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app' AND ssl") != "0" for s in self.cluster.servers), "TLS at both servers")

    def test_cached_connections_are_used_again(self):
        with self.client() as client:
            pid = client.pid()
        time.sleep(0.5)
        pids = set()
        for _ in range(8):
            with self.client() as client:
                pids.add(client.pid())
                self.assertEqual(client.value(IS_TLS), "t")
        self.assertLessEqual(len(pids | {pid}), 4)
        self.assertNotIn("pool_ssl", self.pool.log())

    def test_a_result_of_100_megabytes_arrives_unchanged(self):
        client = self.client(timeout=120)
        result = client.query("SELECT g, repeat(md5(g::text), 32) FROM generate_series(1, 100000) g")
        self.assertEqual(len(result.rows), 100000)
        self.assertEqual({len(value) for _, value in result.rows}, {1024})
        self.assertEqual([int(number) for number, _ in result.rows], list(range(1, 100001)))

    def test_copy_in_of_50_megabytes(self):
        client = self.client(timeout=120)
        client.query("CREATE TABLE IF NOT EXISTS copied (t text)").ok()
        client.query("TRUNCATE copied").ok()
        line = b"z" * 999 + b"\n"
        self.assertEqual(client.copy_in("COPY copied FROM STDIN", [line * 100] * 500).tags, ["COPY 50000"])
        self.assertEqual(client.value("SELECT sum(length(t)) FROM copied"), str(50000 * 999))

    def test_many_small_results_and_pipelines(self):
        client = self.client()
        batch = b"".join(wire.extended("SELECT $1::text", [str(n)]) for n in range(3000)) + wire.sync()
        self.assertEqual([row[0] for row in client.exchange(batch).rows], [str(n) for n in range(3000)])

    def test_a_cancel_request_stops_the_statement(self):
        client = self.client()
        client.send(wire.query("SELECT pg_sleep(30)"))
        self.wait_running("pg_sleep(30)")
        self.client(startup=False).send(wire.cancel_packet(*client.key))
        self.assertEqual(client.until().error["C"], "57014")

    def test_notices_of_a_server_arrive_while_the_session_is_idle(self):
        client = self.client()
        client.query("LISTEN bell").ok()
        with self.cluster.primary.client() as other:
            other.query("NOTIFY bell, 'rings'").ok()
        self.assertEqual(client.receive(wait=5).kind, "A")

    def test_the_end_of_a_server_connection_reaches_the_client(self):
        client = self.client()
        pid = client.pid()
        self.cluster.primary.value(f"SELECT pg_terminate_backend({pid})")
        self.assertTrue(client.is_closed())
        self.assertEqual(self.client().value("SELECT 1"), "1")

    def test_password_methods_work_inside(self):
        # With SCRAM, the certificate is bound into the login.
        for user, password in (("md5user", "md5pw"), ("scramuser", "scrampw"), ("pwuser", "clearpw")):
            with self.client(user=user, password=password) as client:
                self.assertEqual(client.value(IS_TLS), "t")


class NoPlainText(Base):
    """The servers take TLS only: every connection of pgpool's own has it, too."""

    nodes = 2
    start = False
    config = {"ssl": True, "num_init_children": 2, "sr_check_period": 1, "health_check_period": 1}
    weight = 8

    def test_health_check_replication_check_and_primary_search_come_by_tls(self):
        for server in self.cluster.servers:
            path = os.path.join(server.data, "pg_hba.conf")
            with open(path) as hba:
                text = hba.read()
            with open(path, "w") as hba:
                hba.write("hostnossl all,replication hcuser,app,md5user 127.0.0.1/32 reject\nhostnossl all repmgr 127.0.0.1/32 reject\n" + text)
            server.value("SELECT pg_reload_conf()")
        time.sleep(0.5)
        self.pool.start()
        self.pool.wait_log(re.escape("primary node is 0"))
        with self.client() as client:
            self.assertEqual(client.value(IS_TLS), "t")
            time.sleep(4)
            rows = client.rows("SHOW POOL_NODES")
        self.assertEqual([row[3] for row in rows], ["up", "up"])
        self.assertNotRegex(self.pool.log(), "pg_hba.conf rejects|health check retrying|failed to")


class StockVerifies(Base):
    start = False
    weight = 8

    def test_ssl_ca_cert_must_have_signed_the_servers_certificate(self):
        other = certs.Authority(os.path.join(self.root, "other")).ca
        pool = self.another_pool("good", config={"ssl": True, "ssl_ca_cert": self.authority.ca}).start()
        with pool.client() as client:
            self.assertEqual(client.value(IS_TLS), "t")
        pool.stop()
        pool = self.another_pool("bad", config={"ssl": True, "ssl_ca_cert": other, "search_primary_node_timeout": 1})
        pool.launch()
        pool.wait_log(r'pool_ssl: "SSL_connect": "certificate verify failed')
        proc.never(lambda: self.reaches(pool), "a session with a server that could not be verified", 3)

    @ours_only("stock goes on in plain text")
    def test_a_ca_file_that_is_missing_costs_the_verification_and_not_tls(self):
        pool = self.another_pool("missing", config={"ssl": True, "ssl_ca_cert": "/nowhere.ca"}).start()
        with pool.client() as client:
            self.assertEqual(client.value(IS_TLS), "t")
        pool.wait_log(re.escape('could not load root certificate file "/nowhere.ca"'))

    def reaches(self, pool):
        try:
            with pool.client(timeout=2) as client:
                return client.value("SELECT 1") == "1"
        except (wire.Closed, wire.ServerError, OSError, TimeoutError):
            return False


@ours_only("backend_sslmode of pgpool-rs.conf")
class SslModes(Base):
    start = False
    config = {"num_init_children": 2}
    weight = 14

    def test_each_mode_with_a_server_that_has_tls(self):
        ca = f"backend_ssl_ca_cert = '{self.authority.ca}'\n"
        for number, (own, expected) in enumerate((
            ("", "f"),
            ("backend_sslmode = 'disable'\n", "f"),
            ("backend_sslmode = prefer\n", "t"),
            ("backend_sslmode = 'require'\n", "t"),
            ("backend_sslmode = 'verify-ca'\n" + ca, "t"),
            ("backend_sslmode = 'verify-full'\n" + ca, "t"),
            ("backend_sslmode = 'verify-full'\nbackend_sslmode0 = 'disable'\n" + ca, "f"),
            ("backend_sslmode = 'disable'\nbackend_sslmode0 = 'verify-full'\nbackend_ssl_ca_cert0 = '{0}'\n".format(self.authority.ca), "t"),
        )):
            with self.subTest(own=own):
                self.assertEqual(self.outcome(own, f"m{number}"), expected, self.log_of_last)

    def test_ssl_on_and_disable(self):
        self.assertEqual(self.outcome("backend_sslmode = 'disable'\n", "d", config={"ssl": True}), "f")

    def test_verify_full_compares_with_backend_hostname(self):
        self.show(self.authority.issue("narrow", san="DNS:localhost"))
        own = f"backend_sslmode = '{{}}'\nbackend_ssl_ca_cert = '{self.authority.ca}'\n"
        try:
            self.assertEqual(self.outcome(own.format("verify-full"), "right", hosts={0: "localhost"}), "t", self.log_of_last)
            self.assertIn("failed to create a backend 0 connection", self.outcome(own.format("verify-full"), "wrong"))
            self.assertRegex(self.log_of_last, r'pool_ssl: "SSL_connect": "certificate verify failed \(IP address mismatch\)')
            self.assertEqual(self.outcome(own.format("verify-ca"), "ca"), "t")
        finally:
            self.show(self.pair)

    def test_a_wrong_authority_an_expired_and_a_revoked_certificate_are_refused(self):
        other = certs.Authority(os.path.join(self.root, "other")).ca
        self.assertIn("failed to create", self.outcome(f"backend_sslmode = 'verify-ca'\nbackend_ssl_ca_cert = '{other}'\n", "other"))
        expired = self.authority.issue("expired", san="IP:127.0.0.1", expired=True)
        revoked = self.authority.issue("revoked", san="IP:127.0.0.1")
        self.authority.revoke(revoked)
        crl = self.authority.crl()
        own = f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{self.authority.ca}'\nbackend_ssl_crl_file = '{crl}'\n"
        try:
            self.assertEqual(self.outcome(own, "valid"), "t", self.log_of_last)
            for name, pair, reason in (("expired", expired, "certificate has expired"), ("revoked", revoked, "certificate revoked")):
                with self.subTest(name):
                    self.show(pair)
                    self.assertIn("failed to create", self.outcome(own, name))
                    self.assertIn(reason, self.log_of_last)
        finally:
            self.show(self.pair)

    def test_files_that_are_missing_are_named_and_no_session_goes_without_them(self):
        for number, own in enumerate((
            "backend_sslmode = 'verify-full'\n",
            "backend_sslmode = 'verify-ca'\nbackend_ssl_ca_cert = '/nowhere.crt'\n",
            "backend_sslmode = 'require'\nbackend_ssl_cert = '/nowhere.crt'\nbackend_ssl_key = '/nowhere.key'\n",
        )):
            with self.subTest(own=own):
                self.assertIn("failed to create", self.outcome(own, f"f{number}"))
                self.assertRegex(self.log_of_last, r"WARNING: [^\n]*pgpool-rs.conf:\d")

    def test_a_failed_verification_is_no_reason_for_a_failover(self):
        other = certs.Authority(os.path.join(self.root, "other2")).ca
        pool = self.pool_with(f"backend_sslmode = 'verify-ca'\nbackend_ssl_ca_cert = '{other}'\n", "nofailover",
                              config={"health_check_period": 1, "health_check_max_retries": 0, "failover_on_backend_error": True, "search_primary_node_timeout": 1}).start()
        for _ in range(4):
            try:
                pool.client().close()
            except (wire.ServerError, wire.Closed):
                pass
            time.sleep(1)
        with pool.client(database="pgpool_admin", user="scramuser", password="scrampw") as client:
            self.assertNotEqual(client.rows("SHOW POOL_NODES")[0][3], "down")
        self.assertNotIn("starting degeneration", pool.log())


@ours_only("backend_sslmode of pgpool-rs.conf")
class WithoutTls(CompatCase):
    """A server that answers N."""

    start = False
    config = {"num_init_children": 2}

    def test_only_what_requires_tls_fails(self):
        for mode, fails in (("prefer", False), ("require", True)):
            pool = self.another_pool(mode, config={"search_primary_node_timeout": 1})
            pool.write(pool.file("pgpool-rs.conf"), f"backend_sslmode = '{mode}'\n")
            pool.start()
            if fails:
                with self.assertRaises(wire.ServerError):
                    pool.client()
                pool.wait_log(re.escape("the server does not support SSL"))
            else:
                with pool.client() as client:
                    self.assertEqual(client.value("SELECT 1"), "1")
            pool.stop()


@ours_only("backend_ssl_cert of pgpool-rs.conf")
class ClientCertificate(Base):
    """PostgreSQL's method cert: the certificate is the login."""

    start = False
    config = {"num_init_children": 2, "health_check_period": 1, "health_check_user": "app", "sr_check_user": "app"}

    def test_the_server_lets_the_certificate_in_and_nothing_else(self):
        server = self.cluster.primary
        path = os.path.join(server.data, "pg_hba.conf")
        with open(path) as hba:
            text = hba.read()
        with open(path, "w") as hba:
            hba.write("hostssl all app 127.0.0.1/32 cert\n" + text)
        server.value("SELECT pg_reload_conf()")
        time.sleep(0.5)
        pair, wrong = self.authority.issue("app"), self.authority.issue("somebody")
        full = f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{self.authority.ca}'\n"
        show = lambda pair: f"backend_ssl_cert = '{pair.cert}'\nbackend_ssl_key = '{pair.key}'\n"
        self.assertEqual(self.outcome(full + show(pair), "right"), "t", self.log_of_last)
        self.assertRegex(self.log_of_last, "primary node is 0")
        self.assertIn("certificate authentication failed", self.outcome(full + show(wrong), "wrong"))
        self.assertIn("requires a valid client certificate", self.outcome(full, "none"))

    def test_a_certificate_that_the_server_does_not_take_is_no_reason_for_a_failover(self):
        foreign = certs.Authority(os.path.join(self.root, "foreign")).issue("app")
        pool = self.pool_with(f"backend_sslmode = 'require'\nbackend_ssl_cert = '{foreign.cert}'\nbackend_ssl_key = '{foreign.key}'\n", "foreign",
                              config={"health_check_max_retries": 0, "failover_on_backend_error": True, "search_primary_node_timeout": 1}).start()
        for _ in range(5):
            with self.assertRaises((wire.ServerError, wire.Closed)):
                pool.client()
            time.sleep(1)
        with pool.client(database="pgpool_admin", user="scramuser", password="scrampw") as client:
            self.assertNotEqual(client.rows("SHOW POOL_NODES")[0][3], "down")
        self.assertNotIn("starting degeneration", pool.log())


@ours_only("certificates are read again at a reload")
class Reload(Base):
    fresh = True
    start = False
    config = {"num_init_children": 2}

    def test_a_new_authority_is_taken_at_a_reload(self):
        path = os.path.join(self.root, "backends.crt")
        other = certs.Authority(os.path.join(self.root, "other")).ca

        def put(ca):
            with open(ca) as source, open(path, "w") as target:
                target.write(source.read())

        put(other)
        pool = self.pool_with(f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{path}'\n", config={"search_primary_node_timeout": 1}).start()
        with self.assertRaises(wire.ServerError):
            pool.client()
        put(self.authority.ca)
        pool.reload()

        def connects():
            try:
                with pool.client() as client:
                    return client.value(IS_TLS) == "t"
            except (wire.ServerError, wire.Closed):
                return False

        self.eventually(connects, "a session")
        with pool.client() as staying:
            pid = staying.pid()
            with open(path, "w") as file:
                file.write("nothing\n")
            mark = pool.log_size()
            pool.reload()
            pool.wait_log("go on with the old certificates", since=mark)
            self.assertEqual(staying.pid(), pid)
        self.assertTrue(connects())


class TlsServer:
    """A server of the tests behind TLS: `accept` brings an accepted socket to its start-up packet."""

    def __init__(self, accept):
        self.accept, self.sessions = accept, []
        self.listener = socket.create_server(("127.0.0.1", proc.free_port()))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            sock.settimeout(10)
            sock = self.accept(sock)
            if sock is None:
                return
            sock.settimeout(None)
            session = fakeserver.Session(sock, 1000 + len(self.sessions))
            self.sessions.append(session)
            while True:
                data = sock.recv(65536)
                answer = session.feed(data) if data else None
                if answer is None:
                    return
                sock.sendall(answer)
        except OSError:
            pass
        finally:
            if sock is not None:
                sock.close()

    def close(self):
        self.listener.close()


class Fake(CompatCase):
    """In front of servers that PostgreSQL 15 cannot be."""

    start = False
    config = {"num_init_children": 2}

    def server(self, accept):
        made = TlsServer(accept)
        self.addCleanup(made.close)
        return made

    def pool_of(self, server, own="", **config):
        pool = self.another_pool("fake", config={"search_primary_node_timeout": 1, "backend_clustering_mode": "raw", **config}, per_node={0: {"backend_port": server.port}})
        # The folder is that of other tests, too.
        pool.write(pool.file("pgpool-rs.conf"), own)
        return pool

    @staticmethod
    def request(sock):
        """Reads the first eight bytes, as one who knows what comes."""
        got = b""
        while len(got) < 8:
            chunk = sock.recv(8 - len(got))
            if not chunk:
                raise OSError("end")
            got += chunk
        return got

    def pair_and_ca(self):
        authority = certs.Authority(os.path.join(self.root, f"ca{len(os.listdir(self.root))}"))
        return authority.issue("fake", san="IP:127.0.0.1"), authority.ca

    def test_plain_text_that_comes_with_the_answer_is_never_protocol(self):
        believed = []

        def accept(sock):
            self.request(sock)
            # A man in the middle: the S, and a whole login in plain text behind it.
            sock.sendall(b"S" + wire.message("R", b"\0\0\0\0") + wire.message("Z", b"I"))
            try:
                rest = sock.recv(65536)
                # Nothing, or the beginning of a handshake that the bytes in between will break.
                if rest and rest[0] not in (0x16, 0x15):
                    believed.append(rest)
                sock.recv(65536)
            except OSError:
                pass
            return None

        pool = self.pool_of(self.server(accept), ssl=True)
        pool.launch()
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                with pool.client(timeout=2):
                    self.fail("a session without a server")
            except (wire.Closed, wire.ServerError, OSError, TimeoutError):
                time.sleep(0.2)
        self.assertEqual(believed, [])
        pool.wait_log(re.escape("received unencrypted data after SSL re"))

    @ours_only("what a server says before TLS is not passed on (CVE-2024-10977)")
    def test_an_error_before_tls_reaches_nobody(self):
        def accept(sock):
            self.request(sock)
            sock.sendall(wire.message("E", b"SFATAL\0C28000\0Msend your password to evil.example\0\0"))
            return None

        pool = self.pool_of(self.server(accept), ssl=True).start()
        fields = {}
        try:
            pool.client()
        except wire.ServerError as error:
            fields = error.fields
        self.assertNotIn("evil.example", str(fields) + pool.log())
        self.assertIn("failed to create a backend 0 connection", fields["M"])

    @ours_only("backend_sslnegotiation")
    def test_direct_tls_with_a_server_that_understands_it(self):
        pair, ca = self.pair_and_ca()
        seen = []

        def accept(sock):
            seen.append(sock.recv(1, socket.MSG_PEEK))
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.cert, pair.key)
            tls.set_alpn_protocols(["postgresql"])
            return tls.wrap_socket(sock, server_side=True)

        pool = self.pool_of(self.server(accept), f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{ca}'\nbackend_sslnegotiation = 'direct'\n").start()
        with pool.client() as client:
            self.assertEqual(client.value("SELECT 1"), "1")
        self.assertEqual(set(seen), {b"\x16"})

    @ours_only("backend_sslnegotiation")
    def test_direct_tls_with_a_server_of_another_protocol_fails(self):
        pair, ca = self.pair_and_ca()

        def accept(sock):
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.cert, pair.key)
            return tls.wrap_socket(sock, server_side=True)

        pool = self.pool_of(self.server(accept), f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{ca}'\nbackend_sslnegotiation = 'direct'\n").start()
        with self.assertRaises(wire.ServerError):
            pool.client()
        pool.wait_log(re.escape("without ALPN"))

    @ours_only("a cancel request goes by TLS where sessions do")
    def test_a_cancel_request_is_encrypted(self):
        pair, ca = self.pair_and_ca()
        first, inside = [], []

        class Watched(fakeserver.Session):
            def feed(self, data):
                inside.append(data[4:8])
                return super().feed(data)

        def accept(sock):
            first.append(self.request(sock))
            sock.sendall(b"S")
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.cert, pair.key)
            return tls.wrap_socket(sock, server_side=True)

        original, fakeserver.Session = fakeserver.Session, Watched
        self.addCleanup(setattr, fakeserver, "Session", original)
        pool = self.pool_of(self.server(accept), f"backend_sslmode = 'verify-full'\nbackend_ssl_ca_cert = '{ca}'\n").start()
        with pool.client() as client:
            canceller = pool.client(startup=False)
            canceller.send(wire.cancel_packet(*client.key))
            self.assertTrue(canceller.is_closed())
        self.assertEqual(set(first), {wire.SSL_REQUEST})
        self.assertIn(wire.cancel_packet(0, 0)[4:8], inside)

    @ours_only("a server that stops in the middle of TLS holds up no login for ever")
    def test_a_server_that_does_not_answer_the_request_is_given_up_after_connect_timeout(self):
        def accept(sock):
            time.sleep(9)
            return None

        pool = self.pool_of(self.server(accept), "backend_sslmode = 'require'\n", connect_timeout=1000).start()
        began = time.monotonic()
        with self.assertRaises((wire.ServerError, wire.Closed)):
            pool.client(timeout=15)
        self.assertLess(time.monotonic() - began, 6)


class BetweenUs:
    """Takes pgpool's connections by TLS with a certificate of its own and passes everything on to a real server by TLS."""

    def __init__(self, server_port, pair, change=lambda data: data):
        self.server_port, self.pair, self.change = server_port, pair, change
        #: What pgpool has said on each connection.
        self.heard = []
        self.listener = socket.create_server(("127.0.0.1", proc.free_port()))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        try:
            near.settimeout(10)
            if near.recv(8) != wire.SSL_REQUEST:
                return near.close()
            near.sendall(b"S")
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.pair.cert, self.pair.key)
            near = tls.wrap_socket(near, server_side=True)
            far = socket.create_connection(("127.0.0.1", self.server_port), 10)
            far.sendall(wire.SSL_REQUEST)
            far.recv(1)
            far = context().wrap_socket(far)
        except OSError:
            return None
        said = bytearray()
        self.heard.append(said)

        def pump(source, target, pass_on):
            try:
                while data := source.recv(65536):
                    target.sendall(pass_on(data))
            except OSError:
                pass
            for sock in (source, target):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        def listen(data):
            said.extend(data)
            return data

        for sock in (near, far):
            sock.settimeout(60)
        threading.Thread(target=pump, args=(far, near, self.change), daemon=True).start()
        pump(near, far, listen)
        return None

    def close(self):
        self.listener.close()


@ours_only("SCRAM channel binding")
class ChannelBinding(Base):
    """PostgreSQL itself judges whether the channel is the one that pgpool sees."""

    start = False
    config = {"num_init_children": 2, "ssl": True, "search_primary_node_timeout": 1}

    def between(self, pair, change=lambda data: data):
        made = BetweenUs(self.cluster.primary.port, pair, change)
        self.addCleanup(made.close)
        checks = {"sr_check_user": "scramuser", "sr_check_password": "scrampw", "sr_check_period": 1}
        pool = self.pool_with("backend_sslmode = 'require'\n", f"b{made.port}", config=checks, per_node={0: {"backend_port": made.port}})
        return made, pool.start()

    def refusal(self, pool):
        with self.assertRaises(wire.ServerError) as caught:
            pool.client(user="scramuser", password="scrampw")
        return caught.exception.fields

    def test_channels_are_bound_in_sessions_and_checks(self):
        between, pool = self.between(self.pair)
        with pool.client(user="scramuser", password="scrampw") as client:
            self.assertEqual(client.value("SELECT current_user"), "scramuser")
        of_session = [said for said in between.heard if b"database\0app\0" in said]
        of_checks = [said for said in between.heard if b"database\0postgres\0" in said]
        for said in (of_session[0], of_checks[0]):
            self.assertIn(b"SCRAM-SHA-256-PLUS\0", said)
            self.assertIn(b"p=tls-server-end-point,,", said)

    def test_a_man_in_the_middle_with_another_certificate_is_found_out(self):
        _, pool = self.between(certs.Authority(os.path.join(self.root, "strangers")).issue("stranger", san="IP:127.0.0.1"))
        fields = self.refusal(pool)
        self.assertEqual((fields["M"], fields["D"]), ("authentication failed", "SCRAM channel binding check failed"))
        pool.wait_log("replication|primary")
        pool.wait_log(re.escape("SCRAM channel binding check failed"))

    def test_striking_the_better_mechanism_off_the_list_is_found_out(self):
        def offer(*names):
            return wire.message("R", b"\0\0\0\x0a" + b"".join(name + b"\0" for name in names) + b"\0")

        whole, less = offer(b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"), offer(b"SCRAM-SHA-256")
        between, pool = self.between(self.pair, lambda data: data.replace(whole, less))
        self.assertEqual(self.refusal(pool)["D"], "SCRAM channel binding negotiation error")
        self.assertTrue(all(b"SCRAM-SHA-256-PLUS" not in said for said in between.heard))
