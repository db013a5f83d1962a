"""One login as it is judged by the authentication matrix: what the client was asked, and how it ended.

A *kind* says what the client answers when it is asked for its password. Only
`right` knows the password; everybody else must not get in unless somebody
decided that no password is needed.
"""

import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import struct

from . import env, wire

#: What the client answers. The order is that of the table's columns.
KINDS = {
    "right": "the role's password",
    "wrong": "another password of the same length",
    "longer": "the password and one character more",
    "shorter": "the password without its last character",
    "stored": "the text that stands in pool_passwd, as if it were the password",
    "empty": "an empty password",
    "overlong": "a password message of more than 1,024 bytes that begins with the password",
    "missing": "nothing: the client ends its side of the connection instead",
    "other": "a query instead of a password message",
}

#: How long a login may take before it counts as hanging.
PATIENCE = 10.0
OVERLONG = 1100


def typed(kind, password, stored=None):
    """The password that a client of this kind holds; None where none is sent."""
    if kind == "wrong":
        return password[:-1] + ("x" if password[-1] != "x" else "y")
    return {
        "right": password,
        "longer": password + "x",
        "shorter": password[:-1],
        "stored": stored,
        "empty": "",
        "overlong": password,
    }.get(kind)


class Attempt(wire.Client):
    """A client that answers as its kind does and never raises: `outcome` says what happened.

    outcome: `5,0` for a success after these requests, `5 E1` for an error (named
    by `Messages`) after these, `closed` or `hang` in its place when no error came.
    """

    def __init__(self, kind, *, messages, user, password, stored=None, tls=None, **where):
        self.kind, self.errors, self.asked = kind, [], False
        self.result, self.served, self.backend_pid, self.detail = "hang", None, None, ""
        self._saved = typed(kind, password, stored)
        try:
            super().__init__(user=user, password=self._saved, startup=False, timeout=PATIENCE, **{k: v for k, v in where.items() if k != "database"})
        except OSError as error:
            self.socket, self.result, self.detail = None, "unreachable", str(error)
            self.outcome = self.result
            return
        try:
            if tls is not None:
                self.start_tls(tls)
            self.send(wire.startup_packet(user, where.get("database", "app")))
            self.login()
            self.served, pid = self.rows("SELECT current_user, pg_backend_pid()")[0]
            self.backend_pid = int(pid)
            self.result = "" if self.served == user else f"logged in as {self.served}"
        except wire.ServerError as error:
            self.errors.append(error.fields)
            self._rest()
        except wire.Closed as error:
            # Behind a handshake that this side took for done, the other side's alert comes as an error of reading.
            self.result, self.detail = "tls-refused" if "[SSL:" in str(error) else "closed", str(error)
        except TimeoutError:
            self.result = "hang"
        except ssl.SSLError as error:
            # The words of OpenSSL differ between releases; its alert does not.
            self.result, self.detail = "tls-refused", str(error)
        except (AssertionError, OSError) as error:
            self.result, self.detail = f"broken ({error})", str(error)
        if self.errors:
            self.result = "+".join(messages.name(e, user) for e in self.errors)
        self.outcome = " ".join(x for x in (",".join(map(str, self.auth_codes)), self.result) if x)
        if self.result:
            self.abort()

    @property
    def succeeded(self):
        return self.result == ""

    def start_tls(self, context):
        self.send(wire.SSL_REQUEST)
        answer = self.byte()
        if answer != "S":
            raise AssertionError(f"answer {answer!r} to SSLRequest")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def _rest(self):
        """Further errors up to the end: some refusals come twice."""
        try:
            while True:
                got = self.receive(wait=PATIENCE * env.SLOW)
                if got.kind == "E":
                    self.errors.append(got.fields)
        except (wire.Closed, TimeoutError, OSError):
            pass

    def _authenticate(self, code, rest):
        if code in (0, 12):
            if code == 12 and self.kind != "right":
                self.auth_codes.append(code)
                return
            return super()._authenticate(code, rest)
        if self.kind == "missing":
            self.auth_codes.append(code)
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise wire.Closed(str(error)) from None
            return None
        if self.kind == "other":
            self.auth_codes.append(code)
            return self.send(wire.query("SELECT 1"))
        if self.kind == "overlong":
            self.auth_codes.append(code)
            return self.send(wire.message("p", self._overlong(code)))
        return super()._authenticate(code, rest)

    def _overlong(self, code):
        filling = "x" * OVERLONG
        if code == 10:
            first = f"n,,n={filling},r={base64.b64encode(os.urandom(18)).decode()}".encode()
            return wire.cstring("SCRAM-SHA-256") + struct.pack(">i", len(first)) + first
        if code == 5:
            return wire.cstring("md5" + hashlib.md5(b"").hexdigest() + filling)
        return wire.cstring(self._saved + filling)


class Messages:
    """Names for error messages: a file of `id severity sqlstate message detail`, tab-separated.

    `{user}` and `{n}` stand for the user's name and for any number.
    """

    def __init__(self, path):
        self.path, self.known = path, {}
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.strip() and not line.startswith("#"):
                    name, *fields = line.rstrip("\n").split("\t")
                    if name != "id":
                        self.known[tuple((fields + [""] * 4)[:4])] = name

    @staticmethod
    def key(fields, user):
        def general(text):
            text = re.sub(rf'(?<![\w-]){re.escape(user)}(?![\w-])', "{user}", text)
            return re.sub(r"\b\d{2,}\b(?!\.)", "{n}", text) if "length" in text else text

        return (fields.get("S", ""), fields.get("C", ""), general(fields.get("M", "")), general(fields.get("D", "")).replace("\n", "\\n"))

    def name(self, fields, user):
        key = self.key(fields, user)
        return self.known.get(key) or "?<" + " | ".join(key) + ">"


def stored_md5(password, user):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def scram_verifier(password, salt=None, iterations=4096):
    """What PostgreSQL stores for a password, for roles whose secret we choose ourselves."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(x).decode() for x in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"
