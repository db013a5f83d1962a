"""Certificates for tests: an authority of our own, made with the openssl command in a scratch folder."""

import os
import ssl
import subprocess
import threading

from . import env

_SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Authority:
    """A CA in `folder`; `issue()` gives (certificate, key) files that the servers' account can read."""

    def __init__(self, folder, name="tests"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        env.hand_over(folder)
        self.ca, self.ca_key = self._file("ca.crt"), self._file("ca.key")
        self._made, self._lock = {}, threading.Lock()
        self._key(self.ca_key)
        _openssl("req", "-x509", "-new", "-key", self.ca_key, "-subj", f"/CN={name}", "-days", "30", "-out", self.ca,
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        self._hand_over(self.ca)

    def _file(self, name):
        return os.path.join(self.folder, name)

    def _hand_over(self, path, mode=0o644):
        os.chmod(path, mode)
        env.hand_over(path)

    def _key(self, path):
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
        self._hand_over(path, 0o600)

    def issue(self, name, extension=None):
        """A certificate with this CN; the second call for a name returns the same one."""
        with self._lock:
            if name not in self._made:
                stem = f"c{len(self._made)}"
                cert, key = self._file(stem + ".crt"), self._file(stem + ".key")
                self._key(key)
                more = ["-addext", extension] if extension else []
                _openssl("req", "-x509", "-new", "-key", key, "-CA", self.ca, "-CAkey", self.ca_key, "-subj", "/CN=" + name.replace("/", r"\/"),
                         "-addext", "basicConstraints=CA:FALSE", "-days", "30", "-out", cert, *more)
                self._hand_over(cert)
                self._made[name] = (cert, key)
            return self._made[name]

    def server(self):
        """For localhost and 127.0.0.1."""
        return self.issue("localhost", _SERVER)

    def context(self, cert=None, verify=True):
        """A client's context: checks the server against this CA, shows `cert`, a pair of issue()."""
        context = ssl.create_default_context(cafile=self.ca)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if cert:
            context.load_cert_chain(*cert)
        return context


def _openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(args)}: {done.stderr}")
