"""How a connection begins: addresses, negotiation, start-up packets that are odd or wrong."""

import os
import socket
import struct

from lib import wire
from lib.case import CompatCase, ours_only, stock_differs


class Addresses(CompatCase):
    config = {"listen_addresses": "*"}

    def test_ipv4_is_served(self):
        self.assertEqual(self.client(host="127.0.0.1").value("SELECT 1"), "1")

    def test_ipv6_is_served(self):
        self.assertEqual(self.client(host="::1").value("SELECT 1"), "1")

    def test_the_unix_socket_is_served_and_open_to_everyone(self):
        self.assertEqual(self.client(unix=True).value("SELECT 1"), "1")
        mode = os.stat(f"{self.pool.run_dir}/.s.PGSQL.{self.pool.port}").st_mode
        self.assertEqual(mode & 0o777, 0o777)

    def test_nagle_is_off_so_that_small_answers_are_not_delayed(self):
        import time

        client, took = self.client(), []
        while not took or took[-1] >= 1.9:
            # Now and then the machine itself is that slow.
            self.assertLess(len(took), 5, f"50 short queries: {took} s; delayed acknowledgements cost 40 ms each")
            began = time.monotonic()
            for _ in range(50):
                client.exchange(wire.parse("SELECT 1") + wire.bind() + wire.execute() + wire.sync())
            took.append(time.monotonic() - began)


class OnlyLocal(CompatCase):
    config = {"listen_addresses": ""}

    def test_empty_listen_addresses_means_unix_socket_only(self):
        self.assertEqual(self.client(unix=True).value("SELECT 1"), "1")
        with self.assertRaises(ConnectionRefusedError):
            self.pool.client()


class Negotiation(CompatCase):
    def bare(self):
        return self.client(startup=False)

    def start_on(self, client, **kwargs):
        client.send(wire.startup_packet("app", "app", **kwargs))
        client.login()
        return client

    def test_ssl_request_is_answered_n_and_the_session_goes_on_in_the_clear(self):
        client = self.bare()
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "N")
        self.assertEqual(self.start_on(client).value("SELECT 1"), "1")

    def test_gss_request_is_answered_n_and_ssl_request_may_follow(self):
        client = self.bare()
        client.send(wire.GSS_REQUEST)
        self.assertEqual(client.byte(), "N")
        client.send(wire.SSL_REQUEST)
        self.assertEqual(client.byte(), "N")
        self.assertEqual(self.start_on(client).value("SELECT 1"), "1")

    def test_the_server_reports_its_parameters_and_a_cancel_key(self):
        client, direct = self.client(), self.direct()
        for name in ("server_version", "server_encoding", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone", "integer_datetimes"):
            self.assertEqual(client.parameters.get(name), direct.parameters[name], name)
        self.assertIsNotNone(client.key)

    def test_options_and_settings_of_the_startup_packet_reach_the_server(self):
        client = self.client(options={"application_name": "compat-7", "options": "-c work_mem=5MB", "extra_float_digits": "2"})
        self.assertEqual(client.value("SHOW application_name"), "compat-7")
        self.assertEqual(client.value("SHOW work_mem"), "5MB")
        self.assertEqual(client.value("SHOW extra_float_digits"), "2")

    @stock_differs("4.3.5 ends such sessions with XX000 \"backend response with kind 'v'\"; later releases forward the negotiation")
    def test_a_newer_minor_protocol_is_negotiated_down_and_works(self):
        client = self.bare()
        client.send(wire.startup_packet("app", "app", version=0x30002))
        first = client.receive()
        seen = [first]
        while seen[-1].kind != "Z":
            seen.append(client.receive())
        kinds = [m.kind for m in seen]
        self.assertIn("v", kinds)
        offered = next(m for m in seen if m.kind == "v")
        self.assertEqual(struct.unpack(">i", offered.body[:4])[0] & 0xFFFF, 0)
        self.assertEqual(client.value("SELECT 1"), "1")

    @stock_differs("4.3.5 ends such sessions with XX000 \"backend response with kind 'v'\"; later releases forward the negotiation")
    def test_an_unknown_protocol_option_is_named_in_the_negotiation(self):
        client = self.bare()
        client.send(wire.startup_packet("app", "app", {"_pq_.colour": "blue"}))
        seen = client.until("Z")
        offered = seen.of("v")
        self.assertEqual(len(offered), 1)
        self.assertIn(b"_pq_.colour", offered[0].body)
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_protocol_2_is_refused_with_a_text_that_an_old_client_can_read(self):
        client = self.bare()
        packet = struct.pack(">ii", 296, 0x20000) + b"app".ljust(64, b"\0") + b"app".ljust(32, b"\0") + b"\0" * 192
        client.send(packet)
        client.socket.settimeout(client.timeout)
        got = b""
        while chunk := client.socket.recv(4096):
            got += chunk
        self.assertTrue(got.startswith(b"E"), got)
        self.assertIn(b"unsupported frontend protocol 2.0", got)

    def test_other_major_protocols_are_closed_without_a_message(self):
        for major in (1, 4):
            with self.subTest(major=major):
                client = self.bare()
                client.send(wire.startup_packet("app", "app", version=major << 16))
                self.assertEqual(client.until_closed().kinds.replace("E", ""), "")
                self.pool.wait_log(rf"invalid major no: {major} in startup packet")

    def test_impossible_lengths_are_closed_without_a_message(self):
        for length in (0, 3, 4, 10005, 0x7FFFFFFF, -1):
            with self.subTest(length=length):
                client = self.bare()
                client.send(struct.pack(">i", length) + b"\0\3\0\0junk")
                self.assertTrue(client.is_closed())
        self.assertTrue(self.can_connect())

    def test_a_startup_packet_without_a_user_is_28000(self):
        client = self.bare()
        client.send(wire.startup_packet(None, "app"))
        seen = client.until_closed()
        self.assertEqual(seen.error["C"], "28000")
        self.assertEqual(seen.error["M"], "no PostgreSQL user name specified in startup packet")

    def test_no_database_means_the_database_named_like_the_user(self):
        self.assertEqual(self.client(database=None).value("SELECT current_database()"), "app")

    def test_an_unknown_database_gives_the_error_of_the_server(self):
        self.assertEqual(self.refused(database="nowhere")["C"], "3D000")

    def test_an_unknown_role_gives_the_error_of_the_server(self):
        self.assertEqual(self.refused(user="nobody_here")["C"], "28000")

    def test_a_cancel_request_with_an_unknown_key_is_closed_without_an_answer(self):
        client = self.bare()
        client.send(wire.cancel_packet(4194400, 12345))
        self.assertEqual(client.until_closed().messages, [])
        self.pool.wait_log(r"invalid cancel key: pid:4194400")

    @ours_only("a cancel key is a secret")
    def test_the_log_does_not_show_the_key_of_a_cancel_request(self):
        with self.client() as session:
            pid, key = session.key
            for sent in (key, key ^ 1):
                client = self.bare()
                client.send(wire.cancel_packet(pid, sent))
                self.assertTrue(client.is_closed())
        self.pool.wait_log(f"canceling backend pid:{pid}")
        self.pool.wait_log(f"invalid cancel key: pid:{pid}")
        for sent in (key, key ^ 1):
            self.assertNotIn(str(sent), self.pool.log())

    def test_a_startup_packet_that_arrives_byte_by_byte_is_taken(self):
        import time

        client = self.bare()
        for byte in wire.startup_packet("app", "app"):
            client.send(bytes([byte]))
            time.sleep(0.002)
        client.login()
        self.assertEqual(client.value("SELECT 1"), "1")

    def test_a_query_sent_together_with_the_startup_packet_is_answered(self):
        client = self.bare()
        client.send(wire.startup_packet("app", "app") + wire.query("SELECT 42"))
        client.login()
        self.assertEqual(client.until().rows, [("42",)])

    def test_bytes_after_ssl_request_do_not_break_the_next_client(self):
        client = self.bare()
        client.send(wire.SSL_REQUEST + b"\x16\x03\x01garbage")
        client.byte()
        client.is_closed(within=3)
        self.assertTrue(self.can_connect())

    def test_a_connection_that_closes_at_once_leaves_no_trace(self):
        for _ in range(30):
            socket.create_connection(("127.0.0.1", self.pool.port)).close()
        self.assertTrue(self.can_connect())


class AuthenticationTimeout(CompatCase):
    config = {"authentication_timeout": 1, "num_init_children": 2}

    def test_a_client_that_says_nothing_is_closed_after_authentication_timeout(self):
        silent = self.client(startup=False)
        self.assertTrue(silent.is_closed(within=8))
        self.pool.wait_log("authentication timeout")
        self.eventually(self.can_connect, "sessions")


class Replication(CompatCase):
    def test_a_replication_connection_gets_an_answer(self):
        try:
            client = self.pool.client(user="postgres", options={"replication": "database"}, timeout=5)
        except (wire.ServerError, wire.Closed):
            return
        self.addCleanup(client.close)
        self.assertIn(client.query("IDENTIFY_SYSTEM").kinds[-1], "Z")
