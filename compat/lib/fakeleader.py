"""A watchdog node that leads, lets others join and answers the questions that `answers` has; for tests of what it leaves out.

Its side of the original protocol, no more: it introduces itself as the leader, tells of itself when asked, and accepts who
joins. There is no wd_authkey.
"""

import json
import socket
import struct
import threading

from . import proc

_FRAME = struct.Struct(">cIi")


class FakeLeader:
    """Node `node_id`; `of` is the pgpool that it leads, `listed` what the configuration says of all nodes."""

    def __init__(self, listed, node_id, of):
        self.name = {key: listed[f"{key}{node_id}"] for key in ("hostname", "wd_port", "pgpool_port")}
        self.node_id, self.peer = node_id, of
        #: Type bytes of all packets that came.
        self.came = []
        self._ids = iter(range(2, 1 << 30))
        self._over, self._lock = threading.Event(), threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.name["wd_port"]))
        self._sockets = [self._listener]
        self._thread(self._accept)
        self._thread(self._dial)

    @staticmethod
    def _thread(what, *args):
        threading.Thread(target=what, args=args, daemon=True).start()

    def stop(self):
        self._over.set()
        for sock in self._sockets:
            sock.close()

    def wait_came(self, kind, timeout=40):
        proc.wait_for(lambda: kind in self.came, lambda: f"a packet {kind!r}; there came {self.came}", timeout=timeout)

    def _info(self):
        port = self.name["pgpool_port"]
        return json.dumps({
            "PGPOOL_VERSION": "4.3.5", "DATA_VERSION_MAJOR": "1", "DATA_VERSION_MINOR": "2", "State": 4, "WdPort": self.name["wd_port"], "PgpoolPort": port,
            "WdPriority": 1, "PgpoolNodeId": self.node_id, "NodeName": f"{self.name['hostname']}:{port} Linux fake", "HostName": self.name["hostname"], "VIP": "",
            "SecondsSinceStartup": 100, "SecondsSinceCurrentState": 90, "QuorumStatus": 1, "AliveNodeCount": 1, "Escalated": 1,
        }, separators=(",", ":")).encode()

    def _send(self, sock, kind, number=None, payload=b""):
        with self._lock:
            sock.sendall(_FRAME.pack(kind, number if number is not None else next(self._ids), len(payload)) + payload)

    def _accept(self):
        while not self._over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._thread(self._serve, sock)

    def _dial(self):
        """The own connection, over which this node introduces itself."""
        while not self._over.wait(0.1):
            try:
                sock = socket.create_connection(("127.0.0.1", self.peer.wd_port), 5)
            except OSError:
                continue
            sock.settimeout(None)
            self._sockets.append(sock)
            self._send(sock, b"A", payload=self._info())
            self._serve(sock)

    def _serve(self, sock):
        try:
            stream = sock.makefile("rb")
            while head := stream.read(_FRAME.size):
                kind, number, size = _FRAME.unpack(head)
                stream.read(size)
                self.came.append(kind.decode())
                if kind in b"AB":
                    self._send(sock, b"I", number, self._info())
                elif kind == b"J":
                    self._send(sock, b"G", number)
        except (OSError, ValueError, struct.error):
            pass
