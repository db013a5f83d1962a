"""A slapd of the tests' own on free loopback ports: plain with StartTLS, and LDAPS.

    dc=example,dc=com
      ou=people   app, md5user, repmgr, hcuser (not the server's password), and twin twice in sub-units
      ou=closed   scramuser: to be read by cn=reader alone
"""

import errno
import os
import random
import signal
import socket
import struct
import subprocess
import threading

from . import env, proc

SUFFIX = "dc=example,dc=com"
PEOPLE = f"ou=people,{SUFFIX}"
CLOSED = f"ou=closed,{SUFFIX}"
READER, READER_PASSWORD = f"cn=reader,{SUFFIX}", "reader secret"
#: User and password in the directory.
PASSWORDS = {"app": "ldap-app", "md5user": "md5pw", "scramuser": "scrampw", "repmgr": "rep123", "hcuser": "ldap-hcuser"}

_CONF = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/slapd.pid
argsfile {home}/slapd.args
loglevel stats
TLSCACertificateFile {home}/ca.pem
TLSCertificateFile {home}/server.pem
TLSCertificateKeyFile {home}/server.key
{more}
database mdb
suffix "{suffix}"
rootdn "cn=root,{suffix}"
rootpw root
directory {home}/db
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=closed,{suffix}" by dn.exact="cn=reader,{suffix}" read by * none
access to * by * read
"""


def _person(dn, uid, password, mail=None):
    cn = dn.split(",ou=", 1)[0].split("=", 1)[1]
    lines = [f"dn: {dn}", "objectClass: inetOrgPerson", f"uid: {uid}", "sn: test", f"userPassword: {password}"]
    if dn.startswith("cn="):
        lines.append("cn: " + cn.replace("\\", ""))
    else:
        lines.append(f"cn: {uid}")
    if mail:
        lines.append(f"mail: {mail}")
    return "\n".join(lines) + "\n\n"


def _ldif():
    text = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n\n"
    text += f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: {READER_PASSWORD}\n\n"
    for unit in ("people", "closed"):
        text += f"dn: ou={unit},{SUFFIX}\nobjectClass: organizationalUnit\nou: {unit}\n\n"
    for unit in ("north", "south"):
        text += f"dn: ou={unit},{PEOPLE}\nobjectClass: organizationalUnit\nou: {unit}\n\n"
        text += _person(f"uid=twin,ou={unit},{PEOPLE}", "twin", "ldap-twin")
    text += _person(f"cn=app,{PEOPLE}", "app", PASSWORDS["app"], "app@example.com")
    for user in ("md5user", "repmgr", "hcuser"):
        text += _person(f"cn={user},{PEOPLE}", user, PASSWORDS[user])
    text += _person(f"cn=scramuser,{CLOSED}", "scramuser", PASSWORDS["scramuser"])
    # A name that is special in a distinguished name, and one that is special in a filter.
    text += _person(f"cn=smith\\, john,{PEOPLE}", "smith, john", "ldap-smith")
    # What an unescaped "smith, john" must never reach.
    text += f"dn: ou=deep,{PEOPLE}\nobjectClass: organizationalUnit\nou: deep\n\n"
    text += _person(f"cn=app,ou=deep,{PEOPLE}", "deep", "ldap-deep")
    # A referral to a server that must never be asked.
    text += f"dn: ou=elsewhere,{SUFFIX}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\nref: ldap://127.0.0.1:{{trap}}/ou=people,{SUFFIX}\n\n"
    return text


def certificates(home):
    """A certification authority of the test's own, and a server certificate for localhost and 127.0.0.1."""

    def openssl(*args):
        done = proc.run(["openssl", *args], cwd=home)
        if done.code != 0:
            raise AssertionError(repr(done))

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=compat test authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
            "-keyout", "server.key", "-out", "server.csr")
    with open(os.path.join(home, "ext"), "w") as ext:
        ext.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "ext", "-out", "server.pem")
    return os.path.join(home, "ca.pem")


class Slapd:
    """A directory server; `more` are further global lines of its slapd.conf."""

    def __init__(self, home, more=""):
        self.home = os.path.join(home, "ldap")
        os.makedirs(os.path.join(self.home, "db"))
        for folder in (self.home, os.path.join(self.home, "db")):
            env.hand_over(folder)
        self.ca = certificates(self.home)
        self.port, self.tls_port, self.trap = proc.free_port(), proc.free_port(), proc.free_port()
        self.logfile, self.process = os.path.join(self.home, "log"), None
        conf = os.path.join(self.home, "slapd.conf")
        ldif = os.path.join(self.home, "data.ldif")
        for path, text in ((conf, _CONF.format(home=self.home, suffix=SUFFIX, more=more)), (ldif, _ldif().replace("{trap}", str(self.trap)))):
            with open(path, "w") as out:
                out.write(text)
            env.hand_over(path)
        done = proc.run(["/usr/sbin/slapadd", "-f", conf, "-l", ldif])
        if done.code != 0:
            raise AssertionError(repr(done))
        self.conf = conf

    def start(self):
        with open(self.logfile, "ab") as log:
            urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
            self.process = proc.start(["/usr/sbin/slapd", "-f", self.conf, "-h", urls, "-d", "256"], log=log, sig=signal.SIGTERM)
        proc.wait_for(self._answers, lambda: f"slapd to listen; log:\n{self.log()[-2000:]}")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"slapd ended at start:\n{self.log()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def log(self, since=0):
        with open(self.logfile, errors="replace") as log:
            return log.read()[since:]

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class NameServer:
    """DNS that knows one thing: the SRV records of _ldap._tcp.example.com, on port 53 of a loopback address of its own. Needs root."""

    def __init__(self, ports):
        self.socket, self.address = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), None
        while self.address is None:
            # Another run may have one, too.
            address = f"127.77.{random.randrange(256)}.{random.randrange(1, 255)}"
            try:
                self.socket.bind((address, 53))
                self.address = address
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        self.ports, self.asked = ports, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, sender = self.socket.recvfrom(4096)
            except OSError:
                return
            question, labels = query[12:], []
            while question[0]:
                labels.append(question[1 : 1 + question[0]].decode())
                question = question[1 + question[0] :]
            kind = struct.unpack(">H", question[1:3])[0]
            name = ".".join(labels)
            self.asked.append((name, kind))
            known = (name, kind) == ("_ldap._tcp.example.com", 33)
            answer = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(self.ports) if known else 0, 0, 0)
            answer += query[12 : 12 + sum(len(label) + 1 for label in labels) + 5]
            for number, port in enumerate(self.ports if known else ()):
                # A host that needs no second question. The later one is to be tried first.
                target = b"".join(bytes([len(part)]) + part.encode() for part in "127.0.0.1".split(".")) + b"\0"
                answer += b"\xc0\x0c" + struct.pack(">HHIHHHH", 33, 1, 60, 6 + len(target), 10 - number, 1, port) + target
            self.socket.sendto(answer, sender)

    def close(self):
        self.socket.close()


class Stub:
    """A server that answers a request with these bytes and closes; without any it says nothing at all."""

    def __init__(self, answer=b"", port=0):
        self.answer, self.connections = answer, []
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.answer:
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        try:
            connection.recv(4096)
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        self.socket.close()
        for connection in self.connections:
            connection.close()
