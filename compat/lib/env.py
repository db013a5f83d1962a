"""What the run was asked for: which subject, how patient, where scratch files go.

Everything comes from the environment, so that a test behaves the same whether
`compat/run`, `make` or `python3 -m unittest` started it.
"""

import os
import pwd
import shutil
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PG_BIN = os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin")
STOCK = os.environ.get("STOCK_PGPOOL", "/usr/sbin/pgpool")
SUBJECT = os.environ.get("SUBJECT", "ours")
#: Factor on every time limit; raise it on a busy or slow machine.
SLOW = float(os.environ.get("COMPAT_SLOW", "1"))
#: The system in use whose files and scripts must run unchanged; it is no part of this repository.
SEED = os.environ.get("PGPOOL_SEED", os.path.join(os.path.dirname(TOP), "shared", "seed"))
#: Servers and proxies refuse root; they run as this account when we are root.
ACCOUNT = "postgres"


def ours_binary():
    """The binary under test: PGPOOL_BIN, or what cargo built in release mode."""
    named = os.environ.get("PGPOOL_BIN")
    if named:
        return os.path.abspath(named)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target"))
    return os.path.join(target, "release", "pgpool")


def subject_binary(subject=None):
    return STOCK if (subject or SUBJECT) == "stock" else ours_binary()


def demote():
    """Arguments for Popen that drop root, empty when we are not root."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam(ACCOUNT)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": [who.pw_gid]}


def account_env():
    """Environment of servers, proxies and tools: no PG* of the caller leaks in."""
    env = {k: v for k, v in os.environ.items() if k == "PG_BIN" or not k.startswith(("PG", "PCP", "NOTIFY"))}
    env.update({"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "HOME": "/nonexistent", "PGCONNECT_TIMEOUT": "15"})
    if os.geteuid() == 0:
        env.update({"USER": ACCOUNT, "LOGNAME": ACCOUNT})
    return env


def hand_over(path):
    """Gives `path` to the account that servers run as."""
    if os.geteuid() == 0:
        who = pwd.getpwnam(ACCOUNT)
        os.chown(path, who.pw_uid, who.pw_gid)


def scratch(prefix="pgpool-compat-"):
    """A new folder that the servers' account can reach; unix socket paths in it stay short."""
    base = tempfile.gettempdir()
    if os.geteuid() == 0 and not _reachable(base):
        base = "/tmp"
    path = tempfile.mkdtemp(prefix=prefix, dir=base)
    os.chmod(path, 0o755)
    hand_over(path)
    return path


def _reachable(path):
    """Whether others may enter every folder on the way."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
