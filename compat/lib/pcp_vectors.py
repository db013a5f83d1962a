"""Recorded PCP dialogues: what they need around the server, how they are played, what must come back.

A vector is a file of the form of `fixtures/pcp/*.json`. What differs from run to run (salts, pids, times,
ports, host names, positions in the log's source) is left out of the comparison; everything else counts.
"""

import glob
import json
import os
import re
from collections import namedtuple

from . import env, pcp_wire

#: max_pool of the recorded servers.
MAX_POOL = 4

#: One node of the cluster: the number that PCP shows (1 waiting, 2 up, 3 down), and whether PostgreSQL runs.
NodeState = namedtuple("NodeState", "status running")
#: A client session of the proxy that the vector saw.
Session = namedtuple("Session", "database user open in_transaction")

Need = namedtuple("Need", "release version mode primary checks collector children disallow recovery_timeout nodes sessions named recovery")

MODES_NOT_STARTED = ("native_replication", "snapshot_isolation")


def load(folder):
    files = sorted(glob.glob(os.path.join(folder, "*.json")))
    return [Vector(path) for path in files]


class Vector:
    def __init__(self, path):
        with open(path) as file:
            data = json.load(file)
        self.name = data.get("name") or os.path.basename(path)[:-5]
        self.server = data.get("server_version") or ""
        self.user = data.get("user") or ""
        self.password_in_conf = data.get("password_in_pcp_conf") or ""
        self.password_used = data.get("password_used_by_client") or ""
        self.notes = data.get("notes") or ""
        self.order = data.get("order") or []
        client = bytes.fromhex("".join(data.get("client_bytes_hex") or []))
        server = bytes.fromhex("".join(data.get("server_bytes_hex") or []))
        self.requests, self.tail = pcp_wire.split(client)
        self.expected = [frame for frame, _ in pcp_wire.split(server)[0]]

    # What it is about

    @property
    def about(self):
        return f"{self.name} {self.notes}".lower()

    @property
    def command(self):
        """The first request that is not of the login."""
        return next((frame for frame, _ in self.requests if frame.kind not in "MR"), None)

    @property
    def answer(self):
        """The first reply that is not of the login."""
        return next((frame for frame in self.expected if frame.kind not in "mrN"), None)

    def asks(self, kinds):
        return self.command is not None and self.command.kind in kinds

    def answered(self, kinds):
        return self.answer is not None and self.answer.kind in kinds

    @property
    def message(self):
        """Message and detail of the first error, in one text."""
        error = next((frame for frame in self.expected if frame.kind == "E"), None)
        if error is None:
            return ""
        fields = error.fields()
        return f"{fields.get('M', '')} {fields.get('D', '')}"

    @property
    def unknown_user(self):
        return "authentication failed for user" in self.message and self.password_used == self.password_in_conf

    @property
    def unix(self):
        return "unix_socket" in self.name or "unix socket" in self.notes

    @property
    def changes(self):
        """Leaves the server in another state than it found it."""
        return any(frame.kind in "CDdJjTtO" for frame, _ in self.requests) and not self.answered("E") or self.recovery is not None

    @property
    def may_change(self):
        """Asks for something that another server might do."""
        return any(frame.kind in "CDdJjTtOZ" for frame, _ in self.requests)

    @property
    def stops(self):
        return self.asks("Tt") and self.answered("t")

    @property
    def node(self):
        """The node id in the request, as atoi reads it."""
        text = self.command.texts()[0] if self.command and self.command.texts() else ""
        digits = re.match(r"\s*[-+]?\d+", text)
        return int(digits.group()) if digits else 0

    # What it needs

    def skip(self, subject, version):
        """Why it cannot be played, or None. `version` is the release of the subject ("4.3"); None: all are emulated."""
        if not self.requests and not self.tail:
            return "no requests in it"
        if self.server == "mock":
            return "a scripted server answered: it says what tools make of a reply"
        if not re.match(r"\d+\.\d+", self.server):
            return f"recorded from a server of unknown release {self.server!r}"
        if version and not self.server.startswith(version + "."):
            return f"recorded from a {self.server} server, the subject is {version}"
        if "watchdog" in self.about and not any(w in self.about for w in ("no_watchdog", "disabled", "use_watchdog=off")) \
                and "not enabled" not in self.message:
            return "needs a watchdog cluster"
        if self.asks("Jj") and self.answered("d"):
            return "a promotion changes the whole cluster: test_follow carries them out, and shows where ours refuses"
        if self.asks("O") and self.recovery is None and re.search(r"command failed|remote start|CHECKPOINT|checking if", self.message):
            return "needs an online recovery that fails in a way of its own"
        if self.answered("g"):
            return "needs the query cache"
        rows = self.node_rows()
        if any(row.quarantine == "1" for row in rows):
            return "quarantine needs a watchdog"
        if any(row.status == "0" for row in rows):
            return "has a slot without a backend"
        if len(rows) > 1 and rows[0].role == "3" and not any(row.role == "2" for row in rows) and any(row.status != "3" for row in rows):
            return "a cluster without a primary"
        contradiction = [row for row in rows if (row.role, row.pg_role) in (("2", "standby"), ("3", "primary"))]
        if contradiction:
            return "a view of the cluster that only a promotion leaves behind"
        if subject == "ours" and self.mode in MODES_NOT_STARTED:
            return f"{self.mode} is refused at start by this release"
        return None

    @property
    def mode(self):
        words = "streaming_replication|native_replication|logical_replication|slony|raw|snapshot_isolation"
        found = re.search(rf"backend_clustering_mode=({words})", self.notes) or re.search(rf"_mode_({words})", self.name)
        return found.group(1) if found else "streaming_replication"

    @property
    def recovery(self):
        """How the first stage of an online recovery of node 1 goes: works, fails, missing; busy: one goes on already."""
        if "recovery_runs" in self.name:
            return "busy"
        if self.asks("O") and self.answered("c"):
            return "works"
        if self.asks("O") and "execution of command failed" in self.message:
            return "missing" if "does not exist" in self.notes else "fails"
        return None

    NodeRow = namedtuple("NodeRow", "node status quarantine pg_status role pg_role")

    def node_rows(self):
        """The rows of the first node info reply that is a list."""
        if not any(frame.kind == "I" for frame, _ in self.requests):
            return []
        rows = []
        asked = next((f for f, _ in self.requests if f.kind == "I" and not f.body.startswith(b"9")), None)
        texts = asked.texts()[0] if asked and asked.texts() else "0"
        first = int(texts) if texts.isdigit() else 0
        for frame in self.expected:
            words = frame.texts()
            if frame.kind == "i" and words[:1] == ["NodeInfo"] and len(words) in (13, 14):
                rows.append(self.NodeRow(first + len(rows), words[3], words[4], words[5], words[7], words[8]))
        return rows

    @property
    def node_count(self):
        """Nodes of the recorded cluster, as far as the replies tell; two when they do not."""
        counts = [0]
        for frame in self.expected:
            words = frame.texts()
            if frame.kind == "l" and len(words) > 1:
                counts.append(int(words[1]))
            elif words[:1] == ["ProcessInfo"] and len(words) >= 18:
                counts.append(int(words[5]) + 1)
            elif words[:1] == ["ProcessConfig"] and re.fullmatch(r"backend_hostname\d+", words[1]):
                counts.append(int(words[1][16:]) + 1)
            elif frame.kind == "h" and len(words) == 21:
                counts.append(int(words[1]) + 1)
        counts += [row.node + 1 for row in self.node_rows()]
        missing = re.search(r"stats data for node ID (\d+) does not exist", self.message)
        if missing:
            counts.append(int(missing.group(1)))
        told = max(counts)
        single = not any(f.kind in "lbp" or f.texts()[:1] == ["ArraySize"] and f.texts()[1:] != ["1"] for f in self.expected)
        return max(told, 2) if single and not missing else told or 2

    def need(self):
        """What must be around the server under test."""
        nodes = {number: NodeState(2, True) for number in range(self.node_count)}
        primary, checks, children = 0, self.mode == "streaming_replication", 32
        for row in self.node_rows():
            nodes[row.node] = NodeState(int(row.status), row.pg_status != "down")
            checks = checks and row.pg_status != "unknown"
            if row.role == "2":
                primary = row.node
            elif row.role == "3" and row.node == 0 and len(self.node_rows()) == 1:
                primary = 1
        if self.answered("h"):
            words = self.answer.texts()
            node, status, role = int(words[1]), words[4], words[5]
            if status == "down":
                nodes[node] = NodeState(3, False)
            if role == "standby" and node == 0:
                primary = 1
        if self.asks("C") and self.node < len(nodes) and " up" not in self.about.replace("_", " "):
            nodes[self.node] = NodeState(3, True)
        down = re.search(r"node id : (\d+) status: \[3\]", self.message)
        if down:
            nodes[int(down.group(1))] = NodeState(3, True)
        if re.search(r"already primary|primary server cannot", self.message):
            primary = self.node
        if self.recovery is not None:
            nodes[1] = NodeState(3, False)
        disallow = re.search(r"node_id: (\d+) .*failover is disallowed", self.message)
        if self.answered("n"):
            children = int(self.answer.texts()[1])
        if self.answered("p") and self.command.texts() == ["0"]:
            children = int(self.answer.texts()[1]) // (MAX_POOL * len(nodes))
        timeout = re.search(r"recovery_timeout=(\d+)", self.notes)
        return Need(
            release="4.7" if self.server.startswith(("4.4", "4.5", "4.6", "4.7")) else "4.3",
            version=self.server,
            mode=self.mode,
            primary=primary,
            checks=checks,
            collector=self.answered("v"),
            children=children,
            disallow=int(disallow.group(1)) if disallow else None,
            recovery_timeout=int(timeout.group(1)) if timeout else 90,
            nodes=tuple(nodes[n] for n in sorted(nodes)),
            sessions=tuple(self.sessions()),
            named=not self.nameless_standby(),
            recovery=self.recovery,
        )

    def nameless_standby(self):
        """Whether a healthy standby is shown without a state: the primary did not know it by the configured name."""
        rows = [f.texts() for f in self.expected if f.texts()[:1] == ["NodeInfo"] and len(f.texts()) in (13, 14)]
        return any(w[3] in "12" and w[5] == "up" and w[8] == "standby" and w[-3] == "" for w in rows)

    def sessions(self):
        """Client sessions, one per process that holds a connection in the recorded process info."""
        found = {}
        for words in self.process_rows(self.expected):
            if len(words) >= 18 and words[6]:
                found[words[1]] = Session(words[6], words[7], words[16] == "1", words[17] == "Idle in transaction")
        if not found and re.search(r"session stays connected|client_stays", self.about):
            found["-"] = Session("test", "postgres", True, False)
        return found.values()

    @staticmethod
    def process_rows(frames):
        return [f.texts() for f in frames if f.kind == "p" and f.body.startswith(b"ProcessInfo\0")]

    # Playing it

    def play(self, connect, password=None, user=None):
        """Sends the requests, each after the answer to the one before; returns (frames, server closed or None)."""
        user, password = user or self.user, password or self.password_used
        got, salt = [], None
        with connect(self.unix) as client:
            for frame, raw in self.requests:
                if frame.kind == "R" and salt is not None:
                    text = pcp_wire.login_response(user, password, salt)
                    raw, salt = pcp_wire.encode("R", f"{user}\0{text}\0".encode()), None
                if frame.kind == "P" and frame.texts() != ["0"] and self.answered("p"):
                    raw = pcp_wire.encode("P", f"{self.a_process(connect, user, password)}\0".encode())
                client.send(raw)
                if frame.kind in "XF":
                    continue
                wait = (30 + 2 * self.need().recovery_timeout if frame.kind in "dj" else 30) * env.SLOW
                answer = client.reply(wait)
                got += answer
                if answer and answer[-1].kind == "m":
                    salt = answer[-1].body
                got += self.remarks(client)
                if client.closed:
                    break
            if self.tail and not client.closed:
                client.send(self.tail)
                got += client.reply(30 * env.SLOW)
            if not self.server_closes:
                return got, None
            got += client.quiet(3 * env.SLOW)
            return got, client.closed

    def remarks(self, client):
        """Debug messages behind a reply, where the recorded server sent some."""
        return client.quiet(0.3) if any(frame.kind == "N" for frame in self.expected) else []

    @property
    def server_closes(self):
        ends = [who for who, what, *_ in self.order if what == "EOF"]
        goodbye = any(frame.kind == "X" for frame, _ in self.requests)
        return goodbye or ends[:1] == ["server"]

    def a_process(self, connect, user, password):
        """A process of the server under test that holds a connection, else any."""
        with connect(False) as client:
            client.send(pcp_wire.encode("M"))
            salt = client.reply(10)[-1].body
            client.send(pcp_wire.encode("R", f"{user}\0{pcp_wire.login_response(user, password, salt)}\0".encode()))
            client.reply(10)
            client.send(pcp_wire.encode("P", b"0\0"))
            rows = self.process_rows(client.reply(30 * env.SLOW))
        return next((words[1] for words in rows if words[6]), rows[0][1] if rows else "0")

    # Judging it

    def difference(self, got, closed, subject, facts=True):
        """None, or what differs in one line. Without `facts` only the form of lists and numbers counts."""
        expected = self.no_such_node(got) if subject == "stock" else self.on_purpose(got)
        wanted, seen = normal(expected), normal(got)
        if not facts:
            wanted, seen = forms(wanted), forms(seen)
        if any(w[0] == "N" for w in wanted) and not any(s[0] == "N" for s in seen):
            # Debug messages are the server's to send or not.
            wanted = [w for w in wanted if w[0] != "N"]
        for place, pair in enumerate(zip(wanted, seen)):
            if pair[0] != pair[1]:
                return f"answer {place + 1}: expected {short(pair[0])}, got {short(pair[1])}"
        if len(wanted) != len(seen):
            more = wanted[len(seen):] or seen[len(wanted):]
            return f"expected {len(wanted)} answers, got {len(seen)}: {short(more[0])}"
        if closed is False:
            return "the connection stays open"
        return None

    def no_such_node(self, got):
        """Stock refuses to detach a node that is not configured, or not, by what its shared memory holds."""
        expected = list(self.expected)
        if self.asks("Dd") and not self.answered("E") and self.node >= self.node_count and got[-1:] and "status: [0]" in repr(got[-1]):
            expected[-1] = got[-1]
        return expected

    def on_purpose(self, got):
        """The expected frames with the differences that docs/differences.md lists."""
        expected = self.no_such_node(got)
        for place, (frame, answer) in enumerate(zip(expected, got)):
            if is_unchecked(frame) and is_skipped(answer):
                expected[place] = answer
        refusal = next((f for f in got if f.kind == "E"), None)
        if refusal is None or not expected:
            return expected
        text = refusal.fields().get("M", "")
        if self.asks("CDd") and not self.answered("E") and self.node >= self.node_count and "out of range" in text:
            return expected[:-1] + [refusal]
        wanted = expected[-1].fields() if expected[-1].kind == "E" else {}
        if self.asks("O") and wanted.get("M") == text and refusal.fields().get("D", "").startswith(wanted.get("D", "") + ": "):
            return expected[:-1] + [refusal]
        if self.asks("V") and "unknown PCP packet" in self.message and text == "process log rotation request failed":
            return expected[:-1] + [refusal]
        return expected


def short(item):
    text = repr(item)
    return text if len(text) < 200 else text[:200] + "..."


def normal(frames):
    """What counts of the frames, comparable."""
    found, rows = [], []
    for frame in frames:
        words = frame.texts()
        if frame.kind == "m":
            found.append(("m", len(frame.body)))
        elif frame.kind in "EN":
            fields = [w for w in words if w and w[0] not in "FL"]
            found.append((frame.kind, *(re.sub(r"pid \[\d+\]", "pid [P]", w) for w in fields)))
        elif words[:1] == ["NodeInfo"]:
            found.append(("i", *node_info(words)))
        elif frame.kind == "i" and len(words) > 2:
            found.append(("i", words[0], "HOST", "PORT", *words[3:-1], digits(words[-1])))
        elif frame.kind == "n":
            found.append(("n", *words[:2], all(w.isdigit() for w in words[2:]), len(words)))
        elif words[:1] == ["ProcessInfo"]:
            rows.append(process_info(words))
        elif frame.kind == "b" and words[:1] == ["ProcessConfig"]:
            # Values are those of the file at hand; names, order and descriptions are the server's.
            found.append(("b", words[1], words[-1]))
        elif frame.kind == "h" and len(words) == 21:
            found.append(("h", *health_check(words)))
        else:
            if rows and words[:1] == ["CommandComplete"]:
                found += [("p", len(rows)), *sorted(r for r in rows if r is not None)]
                rows = []
            found.append((frame.kind, *words))
    return found


def forms(items):
    """What is left when nothing is known about the cluster: kinds and numbers of fields, repetitions once."""
    found = []
    for item in items:
        if item[0] in "iplhnb" and item[1:2] != ("ArraySize",):
            item = (item[0], "fields", len(item) if item[0] in "ilh" else 0)
        elif item[1:2] == ("ArraySize",):
            item = item[:2]
        if item not in found[-1:]:
            found.append(item)
    return found


def digits(word):
    return "N" if word.isdigit() else word


def time(word):
    return "T" if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", word) else word


def node_info(words):
    """Host, port, delay and time are left out; the delay's place depends on the layout."""
    host, port, *middle = words[1:-1]
    delay = 7 if len(words) == 14 else 6
    middle[delay] = digits(middle[delay])
    return ("NodeInfo", "HOST", "PORT", *middle, digits(words[-1]))


def process_info(words):
    """None for an empty place; else pool, node, database, user, protocol, connected, status."""
    if len(words) < 18:
        return ("old", *words[2:4], *words[6:8], words[9], words[11])
    if not words[6]:
        return None
    return ("p", words[5], words[6], words[7], time(words[8]), words[12], words[13], words[16], words[17])


def is_unchecked(frame):
    """Statistics of a node that was down at the start: releases before 4.4.16 have no health check for it."""
    words = frame.texts()
    return frame.kind == "h" and len(words) == 21 and words[4] == "down" and set(words[7:12]) == {"0"}


def is_skipped(frame):
    """The same from newer releases and ours: every round was skipped, and nothing else happened."""
    words = frame.texts()
    if frame.kind != "h" or len(words) != 21 or words[4] != "down":
        return False
    total, success, fail, skip, retry = words[7:12]
    times = [bool(t) for t in words[17:]]
    return total == skip != "0" and {success, fail, retry} == {"0"} and times == [True, False, True, False]


def health_check(words):
    """Id, status, role, whether checks were made, and which texts are numbers and times."""
    number, _host, _port, status, role, changed, total, *counts = words[1:]
    made = "none" if total == "0" else "some"
    shapes = tuple("N" if re.fullmatch(r"-?\d+(\.\d{6})?|-nan", c) else "?" for c in counts[:9])
    return (number, status, role, time(changed), made, shapes, time(counts[9]) if made == "some" else counts[9])
