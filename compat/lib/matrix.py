"""The authentication matrix: every way in, tried on one subject and compared with compat/auth/matrix.tsv.

A cell is pool_hba method x allow_clear_text_frontend_auth x form of the user's pool_passwd entry x
method of the server x what the client answers, on a new server connection or on a cached one.
There is one server, one role per (entry, server method), and one pgpool per (pool_hba method, clear
text allowed) with a single child and a pool of one, so that it is known what is cached.

compat/auth/README.md says how the table is read.
"""

import os
import queue
import threading
import time
from collections import namedtuple

from . import env, ldap, pam, proc, tools
from .attempt import KINDS, Attempt, Messages, scram_verifier, stored_md5
from .certs import Authority
from .server import Cluster
from .subject import Pgpool

FOLDER = os.path.join(env.TOP, "compat", "auth")
TABLE = os.path.join(FOLDER, "matrix.tsv")
MESSAGES = os.path.join(FOLDER, "messages.tsv")

HBA = ("off", "trust", "reject", "none", "md5", "scram-sha-256", "password", "cert", "pam", "ldap")
CLEAR = ("off", "on")
ENTRIES = ("none", "bare", "text", "aes", "md5", "scram")
BACKENDS = ("trust", "password", "md5", "scram-sha-256", "cert")
STATES = ("new", "reuse")
COLUMNS = ("hba", "clear", "entry", "backend", "state", *KINDS, "ours", "reason")

#: Methods of pool_hba.conf whose rows are left out for a subject, and why. The rows stay in the table.
NOT_YET = {"stock": {}, "ours": {}}

PASSWORD = "c0rrect-Horse"
KEY = "the key of the pool"
FLUSHER = "flusher"

Place = namedtuple("Place", "hba clear")
Row = namedtuple("Row", "hba clear entry backend state")


class Cell(namedtuple("Cell", "hba clear entry backend state kind")):
    __slots__ = ()

    @property
    def place(self):
        return Place(self.hba, self.clear)

    @property
    def row(self):
        return Row(*self[:5])

    @property
    def user(self):
        return user_of(self.entry, self.backend)

    def __str__(self):
        return f"pool_hba {self.hba}, clear text {self.clear}, entry {self.entry}, server {self.backend}, {self.state}: {self.kind}"


def user_of(entry, backend):
    return f"{entry}_{backend.split('-')[0]}"


def applies(cell):
    """Whether there is such a cell at all."""
    if cell.hba == "cert":
        return cell.kind in CERTIFICATES
    if cell.kind == "stored":
        return cell.entry not in ("none", "bare")
    return True


#: What the kinds mean under the method cert, where a certificate is shown and no password.
CERTIFICATES = {
    "right": "the user's name, from our authority",
    "wrong": "another name",
    "longer": "the user's name and one character more",
    "shorter": "the user's name without its last character",
    "stored": "the user's name, from an authority that we do not know",
    "empty": "TLS without a certificate",
    "missing": "no TLS",
    "other": "the user's name in capital letters",
}


def may_succeed(cell):
    """Without the right password nobody gets in, unless a record or the server's own says that none is needed."""
    if cell.hba == "cert":
        return cell.kind in ("right", "other")
    return cell.kind == "right" or cell.hba == "trust" or (cell.hba == "off" and cell.backend == "trust")


# The table


class Table:
    """Expected outcomes, per subject."""

    def __init__(self, path=TABLE):
        self.path, self.comment = path, []
        #: cell -> outcome on stock; cell -> (outcome on ours, reason) where it differs.
        self.stock, self.ours = {}, {}
        with open(path, encoding="utf-8") as file:
            lines = [(n, line.rstrip("\n")) for n, line in enumerate(file, 1)]
        for number, line in lines:
            if line.startswith("#"):
                self.comment.append(line)
            elif line and not line.startswith("hba\t"):
                self._row(number, line)

    def _row(self, number, line):
        fields = line.split("\t")
        fields += [""] * (len(COLUMNS) - len(fields))
        if len(fields) != len(COLUMNS):
            raise AssertionError(f"{self.path}:{number}: {len(fields)} columns, not {len(COLUMNS)}")
        named = dict(zip(COLUMNS, fields))
        axes = [_words(named[c], known) for c, known in zip(COLUMNS, (HBA, CLEAR, ENTRIES, BACKENDS, STATES))]
        ours = dict(part.strip().split("=", 1) for part in named["ours"].split(";") if part.strip())
        unknown = set(ours) - set(KINDS) - {"*"}
        if unknown or any(a is None for a in axes):
            raise AssertionError(f"{self.path}:{number}: unknown word in {line!r}")
        if ours and named["reason"] in ("", "?") and not os.environ.get("COMPAT_RECORDING"):
            raise AssertionError(f"{self.path}:{number}: a difference without a reason")
        for cell in cells_of(*axes):
            if not applies(cell):
                continue
            if cell in self.stock:
                raise AssertionError(f"{self.path}:{number}: {cell} is there twice")
            self.stock[cell] = named[cell.kind]
            mine = ours.get(cell.kind, ours.get("*"))
            if mine is not None:
                self.ours[cell] = (mine, named["reason"])

    def expected(self, cell, subject):
        """The outcome, or None when the cell is not for this subject ('-')."""
        outcome = self.stock.get(cell, "-")
        if subject == "ours" and cell in self.ours:
            outcome = self.ours[cell][0]
        return None if outcome == "-" else outcome

    def gaps(self):
        """Cells that exist and that no row covers. A cached connection exists only where the right password gets in."""
        missing = []
        for cell in cells_of(HBA, CLEAR, ENTRIES, BACKENDS, STATES):
            if not applies(cell) or cell in self.stock:
                continue
            if cell.state == "new" or any(self.good_login(cell, s) for s in ("stock", "ours")):
                missing.append(cell)
        return missing

    def good_login(self, cell, subject):
        first = self.expected(Cell(*cell[:4], "new", "right"), subject)
        return first is not None and is_success(first)


def _words(text, known):
    if text == "*":
        return list(known)
    words = text.split(",")
    return words if set(words) <= set(known) else None


def cells_of(*axes):
    return [Cell(h, c, e, b, s, k) for h in axes[0] for c in axes[1] for e in axes[2] for b in axes[3] for s in axes[4] for k in KINDS]


#: In the column `ours`: refused, by whatever message.
REFUSED = "refused"


def is_refusal(outcome):
    return "?" not in outcome and outcome.rpartition(" ")[2][:1] in "EWP"


def is_success(outcome):
    return outcome == "0" or outcome.endswith(",0")


# Running


Verdict = namedtuple("Verdict", "cell outcome expected fault seconds")


class Matrix:
    """The server, its roles and the pgpools of one run; `config` changes the settings of all of these."""

    def __init__(self, root, subject, template=None, config=None):
        self.root, self.subject, self.config = root, subject, config or {}
        #: Errors and notices that clients have seen.
        self.heard = []
        self.messages = Messages(MESSAGES)
        self.cluster = Cluster(root, 1, template or os.path.join(root, "template"))
        self.authority = Authority(os.path.join(root, "certs"))
        self.stranger = Authority(os.path.join(root, "strangers"), "somebody else's")
        self.pools, self.slapd = [], None
        self.entries = self._entries()
        self.key_file = os.path.join(root, "pgpoolkey")
        _write(self.key_file, KEY + "\n", 0o600)
        self._roles()

    def stop(self):
        for pool in self.pools:
            pool.cleanup()
        if self.slapd is not None:
            self.slapd.stop()
        self.cluster.stop()

    def _entries(self):
        """What pool_passwd says of each user."""
        texts = {}
        aes = aes_text(self.root, PASSWORD)
        verifier = scram_verifier(PASSWORD)
        for entry in ENTRIES:
            for backend in BACKENDS:
                user = user_of(entry, backend)
                texts[user] = {"none": None, "bare": PASSWORD, "text": "TEXT" + PASSWORD, "aes": aes,
                               "md5": stored_md5(PASSWORD, user), "scram": verifier}[entry]
        texts[FLUSHER] = "TEXT" + PASSWORD
        return texts

    def _roles(self):
        server = self.cluster.primary
        cert, key = self.authority.server()
        server.set(ssl="on", ssl_cert_file=cert, ssl_key_file=key, ssl_ca_file=self.authority.ca)
        statements, hba, ident = [], [f"host all {FLUSHER} all trust"], []
        for backend in BACKENDS:
            statements.append(f"SET password_encryption = '{'md5' if backend == 'md5' else 'scram-sha-256'}'")
            for entry in ENTRIES:
                user = user_of(entry, backend)
                # As an operator copies it from the server to pool_passwd.
                copied = entry == "scram" and backend != "md5"
                statements.append(f"CREATE ROLE {user} LOGIN PASSWORD '{self.entries[user] if copied else PASSWORD}'")
                if backend == "cert":
                    hba.append(f"hostssl all {user} all cert map=proxy")
                    hba.append(f"host all {user} all reject")
                    ident.append(f"proxy localhost {user}")
                else:
                    hba.append(f"host all {user} all {backend}")
        statements.append(f"CREATE ROLE {FLUSHER} LOGIN")
        server.rows("; ".join(statements))
        path = os.path.join(server.data, "pg_hba.conf")
        with open(path) as old:
            text = old.read()
        _write(path, "\n".join(hba) + "\n" + text, 0o600)
        _write(os.path.join(server.data, "pg_ident.conf"), "\n".join(ident) + "\n", 0o600)
        server.stop()
        server.start()

    def pool(self, place):
        """The pgpool of a (pool_hba method, clear text) pair; call it from the main thread."""
        config = {
            "num_init_children": 1, "max_pool": 1, "child_life_time": 0, "enable_pool_hba": place.hba != "off",
            "allow_clear_text_frontend_auth": place.clear == "on", "health_check_period": 0, **self.config,
        }
        hba = "local all all trust\n"
        if place.hba == "cert":
            cert, key = self.authority.server()
            config.update(ssl=True, ssl_cert=cert, ssl_key=key, ssl_ca_cert=self.authority.ca)
            hba += "hostssl all all all cert\n"
        elif place.hba == "ldap":
            hba += f'host all all all ldap ldapserver=127.0.0.1 ldapport={self.directory().port} ldapprefix="cn=" ldapsuffix=",{ldap.PEOPLE}"\n'
        elif place.hba not in ("off", "none"):
            hba += f"host all all all {place.hba}\n"
        passwd = "".join(f"{user}:{text}\n" for user, text in self.entries.items() if text is not None)
        pool = Pgpool(os.path.join(self.root, f"{place.hba}-{place.clear}"), self.cluster.servers, subject=self.subject, config=config, hba=hba,
                      passwd=passwd, flags={0: "ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER"})
        # Ours alone reads this: thousands of failed logins from one address are what the matrix is.
        pool.write(pool.file("pgpool-rs.conf"), "auth_failure_delay_max = 0\n")
        if place.hba == "pam":
            pool.namespace = self._namespace(pool.home)
        self.pools.append(pool)
        pool.start("-k", self.key_file)
        return pool

    def _namespace(self, home):
        """A PAM stack that takes our one password for everybody."""
        namespace = pam.Namespace(home)
        _write(os.path.join(namespace.home, "check.sh"), f"#!/bin/sh\n[ \"$(tr -d '\\000')\" = '{PASSWORD}' ]\n", 0o755)
        return namespace

    def directory(self):
        """A directory server that knows all roles."""
        if self.slapd is None:
            self.slapd = ldap.Slapd(self.root)
            people = os.path.join(self.root, "people.ldif")
            _write(people, "".join(f"dn: cn={user},{ldap.PEOPLE}\nobjectClass: inetOrgPerson\ncn: {user}\nsn: {user}\nuserPassword: {PASSWORD}\n\n" for user in self.entries))
            done = proc.run(["/usr/sbin/slapadd", "-f", self.slapd.conf, "-l", people])
            if done.code != 0:
                raise AssertionError(repr(done))
            self.slapd.start()
        return self.slapd

    def certificate(self, cell):
        """The TLS of a client under the method cert; None for a client without TLS."""
        if cell.kind == "missing":
            return None
        if cell.kind == "empty":
            return self.authority.context()
        if cell.kind == "stored":
            # The right name, but nobody we trust says so. Only the client's side must take our server.
            return self.authority.context(self.stranger.issue(cell.user))
        name = {"right": cell.user, "wrong": "somebody", "longer": cell.user + "x", "shorter": cell.user[:-1], "other": cell.user.upper()}[cell.kind]
        return self.authority.context(self.authority.issue(name))

    def attempt(self, pool, cell):
        tls = self.certificate(cell) if cell.hba == "cert" else None
        kind = "right" if cell.hba == "cert" else cell.kind
        got = Attempt(kind, messages=self.messages, user=cell.user, password=PASSWORD, stored=self.entries[cell.user], port=pool.port, tls=tls)
        self.heard += got.errors + got.notices
        return got

    def run(self, table, cells, *, jobs=4, record=False):
        """Runs the cells, place by place; yields a Verdict for each."""
        todo, done = queue.Queue(), queue.Queue()
        places = {}
        for cell in cells:
            places.setdefault(cell.place, []).append(cell)
        for place, wanted in places.items():
            todo.put((self.pool(place), place, wanted))

        def work():
            while True:
                try:
                    pool, place, wanted = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    _Tour(self, table, pool, done.put, record).run(wanted)
                except BaseException as error:  # noqa: BLE001 - the run must report it, whatever it is
                    done.put((place, error))

        workers = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(places)))]
        for worker in workers:
            worker.start()
        while any(w.is_alive() for w in workers) or not done.empty():
            try:
                got = done.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(got, tuple) and isinstance(got[-1], BaseException) and not isinstance(got, Verdict):
                raise AssertionError(f"the tour of {got[0]} broke off") from got[-1]
            yield got


class _Tour:
    """One pgpool, its cells one after the other."""

    def __init__(self, matrix, table, pool, report, record):
        self.matrix, self.table, self.pool, self.report, self.record = matrix, table, pool, report, record
        #: Who is in the child's cache, as far as we know, and the server processes seen.
        self.cached, self.pids = None, {}

    def run(self, cells):
        # Neighbours have different users, so that the pool of one never holds what a new connection needs.
        new = [c for c in cells if c.state == "new"]
        for cell in sorted(new, key=lambda c: list(KINDS).index(c.kind)):
            self.new(cell)
        gets_in = {}
        for cell in (c for c in cells if c.state == "reuse"):
            if cell.user not in gets_in:
                gets_in[cell.user] = self.matrix.attempt(self.pool, cell._replace(state="new", kind="right"))
                self._note(cell.user, gets_in[cell.user])
            if gets_in[cell.user].succeeded:
                self.reuse(cell)
            elif not self.record and self.table.expected(cell, self.matrix.subject) is not None:
                self._say(cell, f"no good login ({gets_in[cell.user].outcome})", None, 0)

    def new(self, cell):
        if self.cached == cell.user:
            self.flush()
        began = time.monotonic()
        got = self.matrix.attempt(self.pool, cell)
        fault = None
        if got.succeeded and got.backend_pid in self.pids.get(cell.user, ()):
            fault = "a new connection was wanted and a cached one was given"
        self._note(cell.user, got)
        self._say(cell, got.outcome, fault, began, got)

    def reuse(self, cell):
        began, fault = time.monotonic(), None
        if self.cached != cell.user:
            # Where a child of stock crashed, its parent ends the next one as well.
            for _ in range(3):
                good = self.matrix.attempt(self.pool, cell._replace(kind="right"))
                self._note(cell.user, good)
                if good.succeeded:
                    break
            if not good.succeeded:
                return self._say(cell, f"the good login failed ({good.outcome})", "no good login", began)
        before = self.pids[cell.user][-1]
        got = self.matrix.attempt(self.pool, cell)
        if got.succeeded and got.backend_pid != before:
            fault = "the cached connection was not used"
        self._note(cell.user, got)
        self._say(cell, got.outcome, fault, began, got)

    def flush(self):
        """Puts somebody else's connection into the cache."""
        cell = Cell(*self.pool_place, "none", "trust", "new", "right")
        tls = self.matrix.authority.context(self.matrix.authority.issue(FLUSHER)) if cell.hba == "cert" else None
        got = Attempt("right", messages=self.matrix.messages, user=FLUSHER, password=PASSWORD, port=self.pool.port, tls=tls)
        self._note(FLUSHER, got)

    @property
    def pool_place(self):
        hba, clear = os.path.basename(self.pool.home).rsplit("-", 1)
        return Place(hba, clear)

    def _note(self, user, got):
        if got.succeeded:
            self.pids.setdefault(user, []).append(got.backend_pid)
            self.cached = user
            got.close()
        else:
            # A child of stock may have ended with its cache.
            self.cached = None if self.cached == user else self.cached

    def _say(self, cell, outcome, fault, began, got=None):
        expected = self.table.expected(cell, self.matrix.subject)
        if got is not None and got.succeeded and self.matrix.subject == "ours" and not may_succeed(cell):
            fault = "a login without the right password"
        if fault is None and not self.record and outcome != expected and not (expected == REFUSED and is_refusal(outcome)):
            fault = "not as the table says"
        self.report(Verdict(cell, outcome, expected, fault, time.monotonic() - began if began else 0))


def aes_text(folder, password, key=KEY):
    """`AES...`, as the stock tool makes it."""
    path = os.path.join(folder, "enc.key")
    _write(path, key + "\n", 0o600)
    done = proc.run([tools.stock_tool("pg_enc"), "-k", path, password])
    for line in done.out.splitlines():
        if line.startswith("pool_passwd string: AES"):
            return line.partition(": ")[2]
    raise AssertionError(repr(done))


def _write(path, text, mode=0o644):
    with open(path, "w") as out:
        out.write(text)
    os.chmod(path, mode)
    env.hand_over(path)
