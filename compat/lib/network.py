"""A network of the test's own, in which packets can be dropped without a word."""

import ctypes
import os
import shutil
import subprocess

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def unavailable():
    """Why there can be none here; None when there can."""
    if os.geteuid() != 0:
        return "only root may make a network of its own"
    missing = [name for name in ("unshare", "ip", "nft") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "nft", _TABLE], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return f"packets cannot be dropped here: {tried.stderr.strip()}" if tried.returncode else None


_TABLE = "add table inet away; add chain inet away input { type filter hook input priority 0; }"


def leave():
    """From now on this thread, and what it starts, is in a network with nothing but a loopback interface.

    There is no way back: for the first lines of a class, which has a process of its own.
    """
    if _LIBC.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("ip", "link", "set", "lo", "up")
    _run("nft", _TABLE)


def drop(*ports):
    """Whatever goes to or comes from these ports is lost; connections stay open and say nothing."""
    for port in ports:
        _run("nft", f"add rule inet away input tcp dport {port} drop; add rule inet away input tcp sport {port} drop")


def drop_confirmations(port):
    """What the server at this port confirms with nothing else to say is lost: a request arrives, and its sender does not know."""
    _run("nft", f"add rule inet away input tcp sport {port} tcp flags & (syn | fin | rst | psh) == 0 drop")


def restore():
    """All packets arrive again."""
    _run("nft", "flush chain inet away input")


def _run(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
