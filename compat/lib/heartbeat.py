"""How long the session threads of a pgpool keep a client waiting while others log in: the row `stall` of compat/bench.

A client that has not logged in may ask for TLS again and again, and the thread that serves it answers
`N` by itself: no server, no other thread. Between question and answer the thread can have been busy with
others for no longer than the processor time that it has used meanwhile, which the kernel counts
(schedstat). The rest of the time is the machine's: that the thread, or we, had to wait for a processor.
On a busy machine we wait long after the answer is there, and "meanwhile" is many logins: then what one of
them costs in all is the surer measure.
"""

import os
import socket
import subprocess
import sys
import threading
import time

from . import wire
from .server import PASSWORDS

#: Between two questions.
PAUSE = 0.0005
#: Of a storm, at one time.
CLIENTS = 16
#: After an answer: the thread has gone to sleep, so that the kernel has counted what it has used.
SETTLE = 0.0003


class Heart:
    """Connections to every session thread of a pgpool: a new client goes to the thread that has the fewest."""

    def __init__(self, port, pid):
        tasks = f"/proc/{pid}/task"
        self.counters = []
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm") as comm:
                if comm.read().startswith("worker"):
                    self.counters.append(open(f"{tasks}/{task}/schedstat", "rb", buffering=0))
        self.sockets = [socket.create_connection(("127.0.0.1", port), 5) for _ in self.counters]
        for sock in self.sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.turn = 0

    def used(self):
        """Nanoseconds of processor time, by thread."""
        return [int(os.pread(counter.fileno(), 100, 0).split()[0]) for counter in self.counters]

    def beat(self):
        """Milliseconds to the answer, and milliseconds of processor time that a thread (the one that used most) has used meanwhile."""
        sock = self.sockets[self.turn % len(self.sockets)]
        self.turn += 1
        before = self.used()
        began = time.perf_counter()
        sock.sendall(wire.SSL_REQUEST)
        if sock.recv(1) != b"N":
            raise AssertionError("no answer to an SSLRequest")
        took = time.perf_counter() - began
        time.sleep(SETTLE)
        return took * 1e3, max(after - then for after, then in zip(self.used(), before)) / 1e6

    def listen(self, seconds):
        """The beats of so many seconds: times to the answer, and processor times, each sorted."""
        beats = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            beats.append(self.beat())
            time.sleep(PAUSE)
        return [sorted(column) for column in zip(*beats)]

    def close(self):
        for file in self.sockets + self.counters:
            file.close()


def summary(values):
    shares = (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("max", 1))
    return {name: values[min(len(values) - 1, int(len(values) * share))] for name, share in shares}


class Nothing:
    def __init__(self, port):
        pass

    def stop(self):
        return 0


class Storm:
    """Clients in a process of their own, until it is stopped; `one(port, number)` is what each does again and again."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, "-B", "-m", "lib.heartbeat", type(self).__name__, str(port)], cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        """How often it was done."""
        count, _ = self.process.communicate("\n", timeout=30)
        return int(count)


class Logins(Storm):
    """SCRAM from the client to the server. The client's own key is derived in its process, which costs pgpool nothing."""

    @staticmethod
    def one(port, number):
        wire.Client(port=port, user="scramuser", password=PASSWORDS["scramuser"], timeout=10).close()


class Guesses(Storm):
    """Wrong passwords in clear text against a SCRAM secret: each costs pgpool a derived key."""

    @staticmethod
    def one(port, number):
        client = wire.Client(port=port, startup=False, timeout=10)
        client.send(wire.startup_packet("guessed", "app"))
        client.until("R")
        client.send(wire.message("p", wire.cstring(f"wrong {number} {time.monotonic()}")))
        client.until_closed()
        client.abort()


def storm(name, port):
    """Runs until something comes on standard input; prints how often it was done."""
    over, done, one = threading.Event(), [0] * CLIENTS, {"Logins": Logins, "Guesses": Guesses}[name].one

    def again(number):
        while not over.is_set():
            one(port, number)
            done[number] += 1

    os.nice(20)
    threads = [threading.Thread(target=again, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    over.set()
    for thread in threads:
        thread.join(15)
    print(sum(done))


if __name__ == "__main__":
    storm(sys.argv[1], int(sys.argv[2]))
