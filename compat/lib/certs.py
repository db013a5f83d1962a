"""Certificates of the tests: an authority in a scratch folder that issues them by the openssl command."""

import os
import re
import ssl
import subprocess
import threading
import time

from . import env

_CONFIG = """\
[ca]
default_ca = here
[here]
dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
unique_subject = no
policy = any
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
"""


def _openssl(*args, stdin=None):
    done = subprocess.run(["openssl", *args], input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(args)}: {done.stderr}")
    return done.stdout


class Pair:
    """A certificate and its key, as files."""

    def __init__(self, cert, key):
        self.cert, self.key = cert, key

    def __iter__(self):
        return iter((self.cert, self.key))

    def libpq(self):
        return f"sslcert={self.cert} sslkey={self.key}"


class Authority:
    """`ca` is its own certificate; `issue()` makes others; `crl()` tells which of them are revoked."""

    def __init__(self, folder, cn="compat-ca"):
        self.folder, self._lock, self._made = folder, threading.Lock(), {}
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.ca, self.key = self.file("ca.crt"), self.file("ca.key")
        self._write("openssl.cnf", _CONFIG.format(folder=folder))
        self._write("index.txt", "")
        self._write("serial", "1000\n")
        self._write("crlnumber", "1000\n")
        _openssl("req", "-x509", *self._new_key(self.key), "-out", self.ca, "-subj", f"/CN={cn}", "-days", "30")
        self._own(self.key, self.ca)

    def file(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        with open(self.file(name), "w") as out:
            out.write(text)

    def _new_key(self, path, rsa=0):
        kind = ["rsa:%d" % rsa] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        return ["-newkey", *kind, "-nodes", "-keyout", path]

    def _own(self, key, *others):
        os.chmod(key, 0o600)
        for path in (key, *others):
            env.hand_over(path)

    def issue(self, name, cn=None, san=None, rsa=0, expired=False):
        """`san` as openssl writes it: `DNS:localhost,IP:127.0.0.1`. Files are named for `name`; the same call
        gives the same pair. The authority's index of what it has issued is a file: one at a time."""
        wanted = (name, cn, san, rsa, expired)
        with self._lock:
            if wanted not in self._made:
                self._made[wanted] = self._issue(*wanted)
            return self._made[wanted]

    def _issue(self, name, cn, san, rsa, expired):
        stem = re.sub(r"\W", lambda odd: f"-{ord(odd[0])}-", name)
        pair = Pair(self.file(f"{stem}.crt"), self.file(f"{stem}.key"))
        request = self.file(f"{stem}.csr")
        more = ["-addext", f"subjectAltName={san}"] if san else []
        _openssl("req", "-new", *self._new_key(pair.key, rsa), "-out", request, "-subj", "/CN=" + (cn or name).replace("/", r"\/"), *more)
        when = []
        if expired:
            stamp = lambda days: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - days * 86400))
            when = ["-startdate", stamp(20), "-enddate", stamp(10)]
        _openssl("ca", "-batch", "-notext", "-config", self.file("openssl.cnf"), "-in", request, "-out", pair.cert, *when)
        self._own(pair.key, pair.cert)
        return pair

    def server(self):
        """For localhost and 127.0.0.1."""
        return self.issue("localhost", san="DNS:localhost,IP:127.0.0.1")

    def context(self, pair=None, verify=True):
        """What a client wants that checks the server's name against this authority, and shows `pair`."""
        made = ssl.create_default_context(cafile=self.ca)
        if not verify:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if pair:
            made.load_cert_chain(*pair)
        return made

    def revoke(self, pair):
        _openssl("ca", "-config", self.file("openssl.cnf"), "-revoke", pair.cert)

    def crl(self, name="crl.pem"):
        _openssl("ca", "-config", self.file("openssl.cnf"), "-gencrl", "-out", self.file(name))
        env.hand_over(self.file(name))
        return self.file(name)

    def encrypted(self, pair, phrase):
        """The key of `pair` with a pass phrase."""
        path = pair.key + ".enc"
        _openssl("pkey", "-in", pair.key, "-aes256", "-passout", f"pass:{phrase}", "-out", path)
        self._own(path)
        return path

    def copy(self, pair, cert, key):
        """Puts `pair` in the place of other files."""
        for source, target in ((pair.cert, cert), (pair.key, key)):
            with open(source, "rb") as file:
                content = file.read()
            with open(target, "wb") as file:
                file.write(content)
            os.chmod(target, 0o600)
            env.hand_over(target)


def context(pair=None, version=None, ca=None, alpn=True):
    """What a client of TLS wants. Without `ca` it takes any certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if ca:
        made.load_verify_locations(ca)
        made.verify_mode = ssl.CERT_REQUIRED
    if pair:
        made.load_cert_chain(pair.cert, pair.key)
    if version:
        made.minimum_version = made.maximum_version = version
    if alpn:
        made.set_alpn_protocols(["postgresql"])
    return made
