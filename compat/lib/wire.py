"""A client of protocol 3 that can say anything, also what a driver never would.

Builders (`parse`, `bind`, ...) return bytes; `Client` sends bytes and returns
`Message`s. Nothing is hidden: tests see every message in its order.
"""

import base64
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import time
from collections import namedtuple

from . import env

SSL_REQUEST = struct.pack(">ii", 8, 80877103)
GSS_REQUEST = struct.pack(">ii", 8, 80877104)


class Closed(Exception):
    """The other side closed the connection."""


class ServerError(Exception):
    """An ErrorResponse where a test expected none."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')} | {fields.get('D', '')}")
        self.fields = fields
        self.code = fields.get("C")
        self.message = fields.get("M")


class Message(namedtuple("Message", "kind body")):
    """One message of the server: its type letter and its body."""

    __slots__ = ()

    @property
    def fields(self):
        """Fields of an ErrorResponse or NoticeResponse by letter."""
        pairs = {}
        for part in self.body.split(b"\0"):
            if part:
                pairs[chr(part[0])] = part[1:].decode("utf-8", "replace")
        return pairs

    @property
    def values(self):
        """Columns of a DataRow as text, None for NULL."""
        count, at, row = struct.unpack(">h", self.body[:2])[0], 2, []
        for _ in range(count):
            size = struct.unpack(">i", self.body[at : at + 4])[0]
            at += 4
            if size < 0:
                row.append(None)
            else:
                row.append(self.body[at : at + size].decode("utf-8", "replace"))
                at += size
        return tuple(row)

    @property
    def columns(self):
        """Column names of a RowDescription."""
        count, at, names = struct.unpack(">h", self.body[:2])[0], 2, []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            names.append(self.body[at:end].decode())
            at = end + 19
        return names

    @property
    def text(self):
        return self.body.rstrip(b"\0").decode("utf-8", "replace")


def message(kind, body=b""):
    return kind.encode() + struct.pack(">i", len(body) + 4) + body


def cstring(text):
    return text.encode() + b"\0"


def query(sql):
    return message("Q", cstring(sql))


def parse(sql, name="", types=()):
    return message("P", cstring(name) + cstring(sql) + struct.pack(">h", len(types)) + b"".join(struct.pack(">i", t) for t in types))


def bind(params=(), statement="", portal="", result_formats=()):
    body = cstring(portal) + cstring(statement) + struct.pack(">hh", 0, len(params))
    for value in params:
        if value is None:
            body += struct.pack(">i", -1)
        else:
            raw = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack(">i", len(raw)) + raw
    return message("B", body + struct.pack(">h", len(result_formats)) + b"".join(struct.pack(">h", f) for f in result_formats))


def describe(name="", what="P"):
    return message("D", what.encode() + cstring(name))


def execute(portal="", limit=0):
    return message("E", cstring(portal) + struct.pack(">i", limit))


def close(name="", what="S"):
    return message("C", what.encode() + cstring(name))


def sync():
    return message("S")


def flush():
    return message("H")


def terminate():
    return message("X")


def copy_data(raw):
    return message("d", raw)


def copy_done():
    return message("c")


def copy_fail(reason):
    return message("f", cstring(reason))


def extended(sql, params=(), name="", limit=0):
    """Parse, Bind, Describe, Execute of one statement, without Sync."""
    return parse(sql, name) + bind(params, name) + describe() + execute(limit=limit)


def startup_packet(user, database=None, options=None, version=0x30000, raw_pairs=None):
    pairs = b""
    if user is not None:
        pairs += cstring("user") + cstring(user)
    if database is not None:
        pairs += cstring("database") + cstring(database)
    for name, value in (options or {}).items():
        pairs += cstring(name) + cstring(value)
    if raw_pairs is not None:
        pairs = raw_pairs
    return struct.pack(">ii", len(pairs) + 9, version) + pairs + b"\0"


def cancel_packet(pid, key):
    return struct.pack(">iiiI", 16, 80877102, pid, key)


class Result:
    """All messages up to ReadyForQuery, with the usual views on them."""

    def __init__(self, messages):
        self.messages = messages

    def of(self, kind):
        return [m for m in self.messages if m.kind == kind]

    @property
    def kinds(self):
        return "".join(m.kind for m in self.messages)

    @property
    def rows(self):
        return [m.values for m in self.of("D")]

    @property
    def tags(self):
        return [m.text for m in self.of("C")]

    @property
    def error(self):
        errors = self.of("E")
        return errors[0].fields if errors else None

    @property
    def status(self):
        ready = self.of("Z")
        return ready[-1].body.decode() if ready else None

    @property
    def columns(self):
        described = self.of("T")
        return described[-1].columns if described else None

    def ok(self):
        if self.error:
            raise ServerError(self.error)
        return self

    def __repr__(self):
        return f"<{self.kinds} {self.rows[:5]} {self.error}>"


class Client:
    """One connection. `startup=False` leaves the first word to the test; `source` is the address to come from.
    `tls` is an ssl.SSLContext: TLS is asked for, or begun without asking (`direct`), before the first word."""

    def __init__(self, *, host="127.0.0.1", port, unix=None, user="app", database="app", password=None,
                 options=None, startup=True, timeout=20.0, source=None, tls=None, direct=False):
        self.timeout = timeout * env.SLOW
        self.user, self.password = user, password
        self.parameters, self.key, self.auth_codes, self.notices = {}, None, [], []
        self._buffer = bytearray()
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(self.timeout)
            self.socket.connect(f"{unix}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port), self.timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            try:
                self._begin_tls(tls, direct)
            except BaseException:
                self.abort()
                raise
        if startup:
            try:
                self.send(startup_packet(user, database, options))
                self.login()
            except BaseException:
                self.abort()
                raise

    def _begin_tls(self, tls, direct):
        if not direct:
            self.socket.sendall(SSL_REQUEST)
            answer = self.socket.recv(1)
            if answer != b"S":
                raise Closed(f"the answer to the SSL request is {answer!r}")
        try:
            self.socket = tls.wrap_socket(self.socket)
        except ssl.SSLError as error:
            raise Closed(f"TLS: {error}") from None

    # Lifetime

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Says Terminate and waits until the other side has closed: the slot is free then, or nearly."""
        try:
            self.socket.sendall(terminate())
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(2)
            while self.socket.recv(65536):
                pass
        except OSError:
            pass
        self.abort()

    def abort(self):
        """Vanishes without a word."""
        self.socket.close()

    # Messages

    def send(self, raw):
        try:
            self.socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as error:
            raise Closed(str(error)) from None

    def _fill(self, wait=None):
        self.socket.settimeout(self.timeout if wait is None else wait)
        try:
            got = self.socket.recv(262144)
        except socket.timeout:
            raise TimeoutError(f"no answer within {self.timeout if wait is None else wait:.1f} s") from None
        except (ConnectionResetError, ssl.SSLError) as error:
            raise Closed(str(error)) from None
        if not got:
            raise Closed("end of file")
        self._buffer += got

    def byte(self):
        """One bare byte, the answer to SSLRequest and GSSENCRequest."""
        while not self._buffer:
            self._fill()
        return chr(self._buffer.pop(0))

    def receive(self, wait=None):
        while len(self._buffer) < 5:
            self._fill(wait)
        size = struct.unpack(">i", self._buffer[1:5])[0]
        if not 4 <= size < 1 << 30:
            raise AssertionError(f"impossible length {size} of message {bytes(self._buffer[:1])!r}")
        while len(self._buffer) < size + 1:
            self._fill(wait)
        found = Message(chr(self._buffer[0]), bytes(self._buffer[5 : size + 1]))
        del self._buffer[: size + 1]
        if found.kind == "S":
            name, value = found.body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        elif found.kind == "N":
            self.notices.append(found.fields)
        return found

    def until(self, kinds="Z"):
        """Everything up to and with the first message of one of these kinds."""
        seen = []
        while True:
            try:
                seen.append(self.receive())
            except (Closed, TimeoutError) as error:
                raise type(error)(f"{error}; seen so far: {[(m.kind, m.fields if m.kind in 'EN' else m.body[:40]) for m in seen[-8:]]}") from None
            if seen[-1].kind in kinds:
                return Result(seen)

    def until_closed(self):
        """Everything until the other side closes."""
        seen = []
        while True:
            try:
                seen.append(self.receive())
            except Closed:
                return Result(seen)

    def quiet(self, seconds):
        """True when nothing arrives for `seconds`."""
        return not self._buffer and not select.select([self.socket], [], [], seconds)[0]

    def is_closed(self, within=5.0):
        """Whether the other side has closed, or does so within the time; messages before that are skipped."""
        end = time.monotonic() + within * env.SLOW
        while time.monotonic() < end:
            try:
                self.receive(wait=max(0.05, end - time.monotonic()))
            except Closed:
                return True
            except TimeoutError:
                return False
        return False

    # Conversations

    def query(self, sql):
        """Simple query, to ReadyForQuery; errors stay in the result."""
        self.send(query(sql))
        return self.until()

    def rows(self, sql):
        """Rows of a simple query that must succeed."""
        return self.query(sql).ok().rows

    def value(self, sql):
        return self.rows(sql)[0][0]

    def pid(self):
        """The server process behind this session (node that statements go to)."""
        return int(self.value("SELECT pg_backend_pid()"))

    def exchange(self, raw):
        """Sends `raw` (which ends with Sync or a Query) and reads to ReadyForQuery."""
        self.send(raw)
        return self.until()

    def copy_in(self, sql, chunks):
        self.send(query(sql))
        seen = self.until("GEZ")
        if seen.messages[-1].kind != "G":
            return seen if seen.messages[-1].kind == "Z" else Result(seen.messages + self.until().messages)
        for chunk in chunks:
            self.send(copy_data(chunk))
        self.send(copy_done())
        return Result(seen.messages + self.until().messages)

    # Login

    def login(self):
        """Answers authentication requests until ReadyForQuery."""
        while True:
            got = self.receive()
            if got.kind == "R":
                self._authenticate(struct.unpack(">i", got.body[:4])[0], got.body[4:])
            elif got.kind == "K":
                self.key = struct.unpack(">iI", got.body)
            elif got.kind == "E":
                raise ServerError(got.fields)
            elif got.kind == "Z":
                return
            elif got.kind not in "SNv":
                raise AssertionError(f"{got} during login")

    def _authenticate(self, code, rest):
        self.auth_codes.append(code)
        if code == 0:
            return
        if self.password is None:
            raise AssertionError(f"the server asks for a password (code {code}), the test has none")
        if code == 3:
            self.send(message("p", cstring(self.password)))
        elif code == 5:
            inner = hashlib.md5((self.password + self.user).encode()).hexdigest()
            self.send(message("p", cstring("md5" + hashlib.md5(inner.encode() + rest[:4]).hexdigest())))
        elif code == 10:
            self._nonce = base64.b64encode(os.urandom(18)).decode()
            self._bare = f"n=,r={self._nonce}"
            first = ("n,," + self._bare).encode()
            self.send(message("p", cstring("SCRAM-SHA-256") + struct.pack(">i", len(first)) + first))
        elif code == 11:
            server_first = rest.decode()
            parts = dict(p.split("=", 1) for p in server_first.split(","))
            salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
            client_key = hmac.digest(salted, b"Client Key", "sha256")
            without_proof = f"c=biws,r={parts['r']}"
            signed = f"{self._bare},{server_first},{without_proof}".encode()
            signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
            proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
            self._server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
            self.send(message("p", f"{without_proof},p={proof}".encode()))
        elif code == 12:
            if base64.b64decode(rest.decode().split("v=", 1)[1]) != self._server_signature:
                raise AssertionError("the server's SCRAM signature is wrong")
        else:
            raise AssertionError(f"unknown authentication request {code}")
