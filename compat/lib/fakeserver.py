"""A backend that does next to nothing: trust login, and the same row for every query.

Holds thousands of connections in one small process, where PostgreSQL would
need a process each. Run as `python3 fakeserver.py PORT`; prints "ready".
"""

import resource
import selectors
import socket
import struct
import sys


def message(kind, body=b""):
    return kind + struct.pack(">i", len(body) + 4) + body


_PARAMETERS = b"".join(
    message(b"S", n + b"\0" + v + b"\0")
    for n, v in (
        (b"server_version", b"15.0"), (b"server_encoding", b"UTF8"), (b"client_encoding", b"UTF8"), (b"application_name", b""),
        (b"is_superuser", b"off"), (b"session_authorization", b"app"), (b"DateStyle", b"ISO, MDY"), (b"IntervalStyle", b"postgres"),
        (b"TimeZone", b"UTC"), (b"integer_datetimes", b"on"), (b"standard_conforming_strings", b"on"), (b"in_hot_standby", b"off"), (b"default_transaction_read_only", b"off"),
    )
)
_READY = message(b"Z", b"I")
_ROW = message(b"T", struct.pack(">h", 1) + b"x\0" + struct.pack(">ihihih", 0, 0, 25, -1, -1, 0))


def _value(sql):
    for word, value in ((b"pg_is_in_recovery", b"f"), (b"server_version_num", b"150000"), (b"version()", b"PostgreSQL 15.0 on nothing")):
        if word in sql:
            return value
    return b"1"


def _result(sql):
    word = sql.split(b" ")[0].strip(b"\0; ").upper()
    if word not in (b"SELECT", b"SHOW", b""):
        return message(b"C", word + b"\0")
    value = _value(sql)
    return message(b"D", struct.pack(">hi", 1, len(value)) + value) + message(b"C", b"SELECT 1\0")


class Session:
    __slots__ = ("socket", "buffer", "started", "sql", "number")

    def __init__(self, sock, number):
        self.socket, self.buffer, self.started, self.sql, self.number = sock, b"", False, b"", number

    def feed(self, data):
        """Answer to what has come in, or None to close."""
        self.buffer += data
        out = b""
        while True:
            if not self.started:
                if len(self.buffer) < 8:
                    break
                size, code = struct.unpack(">ii", self.buffer[:8])
                if len(self.buffer) < size:
                    break
                self.buffer = self.buffer[size:]
                if code in (80877103, 80877104):
                    out += b"N"
                elif code == 80877102:
                    return None
                else:
                    self.started = True
                    out += message(b"R", struct.pack(">i", 0)) + _PARAMETERS + message(b"K", struct.pack(">ii", self.number, 42)) + _READY
                continue
            if len(self.buffer) < 5:
                break
            size = struct.unpack(">i", self.buffer[1:5])[0]
            if len(self.buffer) < size + 1:
                break
            kind, body = self.buffer[:1], self.buffer[5 : size + 1]
            self.buffer = self.buffer[size + 1 :]
            if kind == b"X":
                return None
            if kind == b"Q":
                for sql in [s for s in body.rstrip(b"\0").split(b";") if s.strip()] or [b""]:
                    answer = _result(sql.strip())
                    out += (_ROW if answer.startswith(b"D") else b"") + answer
                out += _READY
            elif kind == b"P":
                self.sql = body.split(b"\0")[1]
                out += message(b"1")
            elif kind == b"B":
                out += message(b"2")
            elif kind == b"D":
                out += (message(b"t", struct.pack(">h", 0)) if body[:1] == b"S" else b"") + (_ROW if _result(self.sql).startswith(b"D") else message(b"n"))
            elif kind == b"E":
                out += _result(self.sql)
            elif kind == b"C":
                out += message(b"3")
            elif kind == b"S":
                out += _READY
        return out


def serve(port):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    listener.setblocking(False)
    poll = selectors.EpollSelector()
    poll.register(listener, selectors.EVENT_READ, None)
    print("ready", flush=True)
    number = 1000
    while True:
        for key, _ in poll.select():
            session = key.data
            if session is None:
                try:
                    while True:
                        sock, _ = listener.accept()
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        sock.setblocking(False)
                        number += 1
                        poll.register(sock, selectors.EVENT_READ, Session(sock, number))
                except BlockingIOError:
                    continue
            try:
                data = session.socket.recv(65536)
                answer = session.feed(data) if data else None
                if answer:
                    session.socket.sendall(answer)
            except OSError:
                answer = None
            if answer is None:
                poll.unregister(session.socket)
                session.socket.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
