"""Certificates for tests: an authority of our own, made with the openssl command in a scratch folder."""

import os
import ssl
import subprocess
import threading
import time
from collections import namedtuple

from . import env

_SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1"

#: What `openssl ca` needs: it alone makes revocation lists, and certificates of the past.
_CONFIG = """\
[ca]
default_ca = here
[here]
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
"""

#: A certificate and its key, as files.
Pair = namedtuple("Pair", "cert key")


class Authority:
    """A CA in `folder`; `issue()` gives (certificate, key) files that the servers' account can read."""

    def __init__(self, folder, name="tests"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        env.hand_over(folder)
        self.ca, self.ca_key = self.file("ca.crt"), self.file("ca.key")
        self._made, self._lock = {}, threading.Lock()
        for file, text in (("openssl.cnf", _CONFIG.format(folder=folder)), ("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "1000\n")):
            with open(self.file(file), "w") as out:
                out.write(text)
        self._key(self.ca_key)
        openssl("req", "-x509", "-new", "-key", self.ca_key, "-subj", f"/CN={name}", "-days", "30", "-out", self.ca,
                "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        self._hand_over(self.ca)

    def file(self, name):
        return os.path.join(self.folder, name)

    def _hand_over(self, path, mode=0o644):
        os.chmod(path, mode)
        env.hand_over(path)

    def _key(self, path, rsa=0):
        kind = ["RSA", "-pkeyopt", f"rsa_keygen_bits:{rsa}"] if rsa else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        openssl("genpkey", "-algorithm", *kind, "-out", path)
        self._hand_over(path, 0o600)

    def issue(self, name, extension=None, *, san=None, rsa=0, expired=False):
        """A certificate with this CN; the second call for a name returns the same one.

        `san` as openssl writes it (`DNS:localhost,IP:127.0.0.1`); `rsa` is the length of an RSA key.
        """
        with self._lock:
            if name not in self._made:
                stem = f"c{len(self._made)}"
                pair = Pair(self.file(stem + ".crt"), self.file(stem + ".key"))
                self._key(pair.key, rsa)
                extension = extension or (f"subjectAltName={san}" if san else None)
                what = ["-key", pair.key, "-subj", "/CN=" + name.replace("/", r"\/"), "-addext", "basicConstraints=CA:FALSE"]
                what += ["-addext", extension] if extension else []
                if expired:
                    self._expired(what, pair.cert)
                else:
                    openssl("req", "-x509", "-new", "-CA", self.ca, "-CAkey", self.ca_key, "-days", "30", "-out", pair.cert, *what)
                self._hand_over(pair.cert)
                self._made[name] = pair
            return self._made[name]

    def _expired(self, what, cert):
        request = cert + ".csr"
        openssl("req", "-new", "-out", request, *what)
        past = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - days * 86400)) for days in (20, 10)]
        openssl("ca", "-batch", "-notext", "-config", self.file("openssl.cnf"), "-in", request, "-out", cert, "-startdate", past[0], "-enddate", past[1])

    def server(self):
        """For localhost and 127.0.0.1."""
        return self.issue("localhost", _SERVER)

    def revoke(self, pair):
        openssl("ca", "-config", self.file("openssl.cnf"), "-revoke", pair.cert)

    def crl(self):
        """The list of what is revoked now; always the same file."""
        openssl("ca", "-config", self.file("openssl.cnf"), "-gencrl", "-out", self.file("crl.pem"))
        self._hand_over(self.file("crl.pem"))
        return self.file("crl.pem")

    def encrypted(self, pair, phrase):
        """The key of `pair` with a pass phrase."""
        path = pair.key + ".enc"
        openssl("pkey", "-in", pair.key, "-aes256", "-passout", f"pass:{phrase}", "-out", path)
        self._hand_over(path, 0o600)
        return path

    def copy(self, pair, cert, key):
        """Puts `pair` in the place of other files."""
        for source, target in ((pair.cert, cert), (pair.key, key)):
            with open(source, "rb") as file:
                content = file.read()
            with open(target, "wb") as file:
                file.write(content)
            self._hand_over(target, 0o600)

    def context(self, cert=None, verify=True):
        """A client's context: checks the server against this CA, shows `cert`, a pair of issue()."""
        context = ssl.create_default_context(cafile=self.ca)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if cert:
            context.load_cert_chain(*cert)
        return context


def context(pair=None, version=None, alpn="postgresql"):
    """A client's context that takes any server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if pair:
        made.load_cert_chain(*pair)
    if version:
        made.minimum_version = made.maximum_version = version
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


def openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(args)}: {done.stderr}")
