"""The PCP protocol as a client speaks it: frames, the login hash, one connection."""

import hashlib
import socket
import time
from collections import namedtuple

from . import env


class Frame(namedtuple("Frame", "kind body")):
    """One packet without its length; `kind` is a letter."""

    def texts(self):
        """The NUL-terminated texts of the payload."""
        parts = self.body.split(b"\0")
        if parts and parts[-1] == b"":
            parts.pop()
        return [part.decode("utf-8", "replace") for part in parts]

    def fields(self):
        """Of an E or N packet: text by field letter."""
        return {part[0]: part[1:] for part in self.texts() if part}


def encode(kind, body=b""):
    return kind.encode("latin-1") + (len(body) + 4).to_bytes(4, "big") + body


def split(raw):
    """(complete frames as (Frame, their bytes), the rest that is no frame)."""
    found, at = [], 0
    while len(raw) - at >= 5:
        length = int.from_bytes(raw[at + 1:at + 5], "big")
        if length < 4 or len(raw) - at < 1 + length:
            break
        whole = raw[at:at + 1 + length]
        found.append((Frame(chr(whole[0]), whole[5:]), whole))
        at += 1 + length
    return found, raw[at:]


def md5(text):
    return hashlib.md5(text if isinstance(text, bytes) else text.encode()).hexdigest()


def login_response(user, password, salt):
    """What a client answers to a salt."""
    return md5(md5(md5(password) + user).encode() + salt)


class Client:
    """One connection; `receive()` gives None when the server has closed."""

    def __init__(self, host=None, port=None, unix=None):
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(10 * env.SLOW)
            self.socket.connect(unix)
        else:
            self.socket = socket.create_connection((host, port), timeout=10 * env.SLOW)
        self.buffer, self.closed = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, raw):
        try:
            self.socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def receive(self, wait):
        """The next frame, None at the end of the stream; TimeoutError when neither comes."""
        end = time.monotonic() + wait
        while True:
            found, _ = split(self.buffer)
            if found:
                frame, raw = found[0]
                self.buffer = self.buffer[len(raw):]
                return frame
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {wait:.0f} s")
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                self.closed = True
                return None
            self.buffer += more

    def quiet(self, seconds):
        """Frames that still come within `seconds`."""
        found = []
        while not self.closed:
            try:
                frame = self.receive(seconds)
            except (TimeoutError, socket.timeout):
                break
            if frame is None:
                break
            found.append(frame)
        return found

    def reply(self, wait):
        """All frames that answer one request: remarks, then an error, one packet, or a list to its end."""
        found = []
        while True:
            frame = self.receive(wait)
            if frame is None:
                return found
            found.append(frame)
            if frame.kind == "N":
                continue
            first = frame.body.split(b"\0")[0]
            in_list = frame.kind in "ipb" and first in (b"ArraySize", b"NodeInfo", b"ProcessInfo", b"ProcessConfig")
            if not in_list:
                return found
