"""Processes: started so that they die with us, waited for, measured from /proc.

Nothing is ever ended by name; every process is one we started, or a
descendant or member of the session of one.
"""

import ctypes
import os
import random
import signal
import socket
import subprocess
import time

from . import env

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def in_own_mounts(script, argv, sig=signal.SIGINT):
    """`argv` behind a shell `script` that root runs in a mount namespace of its own; start it with `as_root=True`.

    What the script mounts is seen by `argv` alone and ends with it. Words of the account's login come
    after the script, so nothing else of root is left.
    """
    # The kernel forgets a parent-death signal when the user changes.
    login = f"exec setpriv --reuid {env.ACCOUNT} --regid {env.ACCOUNT} --init-groups --pdeathsig {signal.Signals(sig).name[3:]} -- \"$@\""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", f"{script}\n{login}", "sh", *argv]


def start(argv, *, log=None, sig=signal.SIGKILL, cwd=None, extra_env=None, stdin=subprocess.DEVNULL, as_root=False):
    """Starts `argv` as the servers' account in a session of its own; `as_root` for a wrapper that drops root itself.

    The kernel sends `sig` to it when we die, so an interrupted run leaves nothing behind.
    Must be called from the main thread, whose end is what the kernel watches.
    """

    def last_words():
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)

    environment = env.account_env()
    environment.update(extra_env or {})
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=log if log is not None else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if log is not None else subprocess.DEVNULL,
        cwd=cwd or "/",
        env=environment,
        start_new_session=True,
        preexec_fn=last_words,
        **({} if as_root else env.demote()),
    )


class Ran:
    """What a finished program said."""

    def __init__(self, argv, code, out, err):
        self.argv, self.code, self.out, self.err = argv, code, out, err

    def __repr__(self):
        return f"{' '.join(self.argv)}\n  exit {self.code}\n  stdout: {self.out!r}\n  stderr: {self.err!r}"


def run(argv, *, timeout=60, extra_env=None, stdin=None, cwd=None, as_root=False):
    """Runs a program as the servers' account to its end; `as_root` for a wrapper that drops root itself."""
    environment = env.account_env()
    environment.update(extra_env or {})
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout * env.SLOW,
            env=environment,
            cwd=cwd or "/",
            start_new_session=True,
            **({} if as_root else env.demote()),
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{' '.join(argv)} did not end within {timeout * env.SLOW:.0f} s; it said {late.stdout!r} {late.stderr!r}") from None
    return Ran(argv, done.returncode, done.stdout, done.stderr)


def wait_for(condition, what, timeout=15.0, pause=0.05):
    """Polls until `condition()` is true and returns its value."""
    end = time.monotonic() + timeout * env.SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * env.SLOW:.0f} s in vain for {what() if callable(what) else what}")
        time.sleep(pause)


def never(condition, what, seconds):
    """Fails when `condition()` becomes true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            raise AssertionError(f"{what} happened")
        time.sleep(0.05)


_reserved = []


def free_port():
    """A TCP port that is free on IPv4 and IPv6 and that no other run of the harness has.

    Reserved until we end by an abstract unix socket of that name. It lies below the kernel's
    ephemeral range, where no outgoing connection can snatch it.
    """
    while True:
        port = random.randrange(12000, 32000)
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mark.bind(f"\0pgpool-compat-port-{port}")
        except OSError:
            mark.close()
            continue
        _reserved.append(mark)
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((host, port))
        except OSError:
            continue
        return port


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def name(pid):
    """As the kernel has it, of which `pkill` and `killall` know; None when it has ended."""
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return None


def tree(pid):
    """`pid` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo.extend(children.get(one, ()))
    return found


def session_members(sid):
    """Living processes of the session `sid`, for instance orphans after a kill -9 of its leader."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == sid and fields[0] != "Z":
                found.append(int(entry))
    return found


def memory_kb(pids, field="Pss"):
    """Sum of a field of smaps_rollup (Pss, Rss) over `pids`, in kB."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                for line in rollup:
                    if line.startswith(field + ":"):
                        total += int(line.split()[1])
                        break
        except OSError:
            continue
    return total


def cpu_seconds(pids):
    """CPU time of all threads of `pids`, from schedstat: nanoseconds, not ticks."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                try:
                    with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
                        total += int(stat.read().split()[0])
                except OSError:
                    continue
        except OSError:
            continue
    return total / 1e9


def end_session(sid, first=signal.SIGTERM, patience=5.0):
    """Ends every process of a session that we started."""
    for sig, wait in ((first, patience), (signal.SIGKILL, 5.0)):
        for pid in session_members(sid):
            try:
                os.kill(pid, sig)
            except OSError:
                pass
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if not session_members(sid):
                return
            time.sleep(0.02)
