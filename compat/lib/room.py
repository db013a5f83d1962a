"""Machines for scripts that want whole machines: absolute paths, host names, fixed ports, ssh, sudo, systemctl.

A `Room` is a process, network and IPC namespace whose loopback interface has some addresses; a `Host` in it is a
host name, a file tree of its own (programs are the machine's, everything else is private) and an sshd on its
address. Hosts share the room's network, so what listens on a fixed port does so on the host's address; or each has
a network of its own, with a cable to a switch in the room (lib/switch.py).
Nothing of the machine is changed, and when we end, or are killed, the kernel ends everything in the room.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess

from . import env, proc

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

# With SIGCHLD ignored the kernel reaps the orphans of which this is the parent: a daemon that has ended must
# not look alive to pg_ctl. (A shell cannot ignore it.)
_INIT = """\
ip link set lo up
for address in "$@"; do ip address add "$address/32" dev lo; done
echo ready
exec env --ignore-signal=CHLD sleep infinity
"""

_HOST = """\
root=$1 name=$2
cd "$root"
while read -r kind path; do
    case $kind in
    bind) mount --rbind "$path" ".$path" ;;
    esac
done < mounts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t proc proc proc
hostname "$name"
if [ -n "$3" ]; then
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
    ip link set lo up
    ip address add "$3/24" dev eth0
    ip link set eth0 up
fi
exec chroot . /usr/sbin/sshd -D -E /var/log/sshd.log
"""

_SSHD = """\
ListenAddress {address}
HostKey /etc/ssh/host_key
UsePAM no
PasswordAuthentication no
PidFile none
MaxStartups 100
"""

#: What programs need of /etc; the rest of it is the machine's business.
_ETC = ("nsswitch.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "profile", "bash.bashrc", "services",
        "protocols", "login.defs", "localtime", "ssl", "perl", "postgresql-common")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "ip": "iproute2", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}


def unavailable():
    """Why there can be no room here; None when there can."""
    if os.geteuid() != 0:
        return "only root may make namespaces with a network of their own"
    missing = [f"{name} ({package})" for name, package in _NEEDED.items() if shutil.which(name) is None]
    if not os.access("/usr/sbin/sshd", os.X_OK):
        missing.append("sshd (openssh-server)")
    if missing:
        return f"not installed: {', '.join(missing)}; run compat/setup"
    tried = subprocess.run([*_unshare(), "sh", "-c", "ip link set lo up"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return f"namespaces cannot be had here: {tried.stderr.strip()}" if tried.returncode else None


def _unshare():
    return ["unshare", "--mount", "--propagation", "private", "--net", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]


class Room:
    """Its files lie in `home`. `stop()` ends every process in it."""

    def __init__(self, home, addresses=()):
        self.home, self.children = home, []
        self.process = proc.start([*_unshare(), "sh", "-e", "-c", _INIT, "sh", *addresses], log=subprocess.PIPE, as_root=True)
        said = self.process.stdout.readline()
        if said != b"ready\n":
            raise AssertionError(f"no room: {(said + self.process.stdout.read()).decode(errors='replace')}")
        self.pid = proc.tree(self.process.pid)[1]
        self.keys = os.path.join(home, "keys")
        os.mkdir(self.keys, 0o700)
        for name in ("host_key", "id_rsa"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", os.path.join(self.keys, name)], check=True)

    def stop(self):
        for one in self.children:
            # An nsenter whose child was stopped would not see its end, which the kernel waits for.
            one.send_signal(signal.SIGCONT)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            proc.wait_for(lambda: not proc.alive(self.pid), "the room to be empty")
        for one in self.children:
            one.wait(10)
        self.process.stdout.close()

    def network(self):
        """Sockets that this thread makes meanwhile belong to the room."""
        return network_of(self.pid)

    def command(self, argv, stdin=None):
        """Root runs a program of the machine in the room's network; it must succeed."""
        done = proc.run(["nsenter", "--target", str(self.pid), "--net", "--", *argv], stdin=stdin, as_root=True)
        if done.code != 0:
            raise AssertionError(repr(done))
        return done.out


@contextlib.contextmanager
def network_of(pid):
    """Sockets that this thread makes meanwhile belong to the network of a process."""
    with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{pid}/ns/net") as theirs:
        _enter(theirs)
        try:
            yield
        finally:
            _enter(ours)


def _enter(namespace):
    if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _network(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


def others_in_network(pid):
    """All processes in the network of this one, without it."""
    here, found = _network(pid), []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if _network(entry) == here and int(entry) != pid:
                found.append(int(entry))
        except OSError:
            continue
    return found


class Host:
    """A file tree under `root`, in which tests may read and write directly, and an sshd for the account."""

    def __init__(self, room, name, address="127.0.0.1", neighbours="", switch=None):
        """`neighbours` are further lines of /etc/hosts; with a `switch` the host has a network of its own."""
        self.room, self.name, self.address, self.switch = room, name, address, switch
        self.account = pwd.getpwnam(env.ACCOUNT)
        self.root = os.path.join(room.home, name)
        self.home = f"/home/{env.ACCOUNT}"
        self._tree(neighbours)

    def path(self, inside):
        """Where we find what the host calls `inside`."""
        return self.root + inside

    def write(self, inside, text, mode=0o644, append=False):
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a" if append else "w") as out:
            out.write(text)
        os.chmod(path, mode)
        env.hand_over(path)

    def read(self, inside):
        """The text of a file; empty when it is not there."""
        try:
            with open(self.path(inside), errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def folder(self, inside, mode=0o755, owned=True):
        path = self.path(inside)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        if owned:
            env.hand_over(path)

    def link(self, inside, target):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        os.symlink(target, self.path(inside))

    def copy(self, source, inside, mode=0o755):
        os.makedirs(os.path.dirname(self.path(inside)), exist_ok=True)
        shutil.copy(source, self.path(inside))
        os.chmod(self.path(inside), mode)
        env.hand_over(self.path(inside))

    def _tree(self, neighbours):
        """Folders and files of the root; what is the machine's is listed in `mounts`."""
        mounts = []

        def share(path):
            if os.path.islink(path):
                self.link(path, os.readlink(path))
            else:
                os.makedirs(self.path(path), exist_ok=True)
                mounts.append(f"bind {path}\n")

        os.mkdir(self.root, 0o755)
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev"):
            if os.path.lexists(f"/{name}"):
                share(f"/{name}")
        for name in sorted(os.listdir("/usr")):
            if name != "local":
                share(f"/usr/{name}")
        for name in ("usr/local/bin", "usr/local/sbin", "etc/ssh", "proc", "run/sshd", "var/log", "var/lib", "root", "opt"):
            self.folder(f"/{name}", owned=False)
        self.folder("/run/postgresql", 0o2775)
        self.folder("/tmp", 0o1777, owned=False)
        self.link("/var/run", "/run")
        for name in _ETC:
            if os.path.exists(f"/etc/{name}"):
                subprocess.run(["cp", "-a", f"/etc/{name}", self.path(f"/etc/{name}")], check=True)
        uid, gid = self.account.pw_uid, self.account.pw_gid
        with open("/etc/passwd") as passwd:
            others = [line for line in passwd if not line.startswith(env.ACCOUNT + ":")]
        self.write("/etc/passwd", "".join(others) + f"{env.ACCOUNT}:x:{uid}:{gid}::{self.home}:/bin/bash\n")
        # No password, but not locked either: sshd lets no locked account in.
        self.write("/etc/shadow", f"root:*:19000:0:99999:7:::\n{env.ACCOUNT}:*:19000:0:99999:7:::\n", 0o600)
        shutil.copy("/etc/group", self.path("/etc/group"))
        self.write("/etc/hostname", self.name + "\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n{neighbours}")
        self.write("/etc/ssh/ssh_config", "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n")
        self.write("/etc/ssh/sshd_config", _SSHD.format(address=self.address))
        for file in ("/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/ssh/ssh_config", "/etc/ssh/sshd_config"):
            os.chown(self.path(file), 0, 0)
        shutil.copy(os.path.join(self.room.keys, "host_key"), self.path("/etc/ssh/host_key"))
        self.folder(self.home)
        self.folder(f"{self.home}/.ssh", 0o700)
        self.copy(os.path.join(self.room.keys, "id_rsa"), f"{self.home}/.ssh/id_rsa", 0o600)
        self.copy(os.path.join(self.room.keys, "id_rsa.pub"), f"{self.home}/.ssh/authorized_keys", 0o600)
        self.write(f"{self.home}/.bash_profile", ". ~/.bashrc\n")
        self.write(f"{self.home}/.bashrc", "[ -f /etc/profile ] && . /etc/profile\n")
        with open(self.path("/mounts"), "w") as file:
            file.write("".join(mounts))

    def start(self):
        """The host is there when its sshd answers."""
        enter = ["nsenter", "--target", str(self.room.pid), "--mount", "--net", "--ipc", "--pid", "--"]
        with open(self.path("/var/log/start.log"), "wb") as log:
            own, address = (["--net"], [self.address]) if self.switch else ([], [""])
            self.process = proc.start([*enter, "unshare", "--mount", "--propagation", "private", "--uts", *own, "sh", "-e", "-c", _HOST, "sh", self.root, self.name, *address], log=log, as_root=True)
        self.room.children.append(self.process)
        if self.switch:
            self.switch.plug(self.name, proc.wait_for(self._separated, f"the network of {self.name}"))

        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"host {self.name} did not start: {self.read('/var/log/start.log')}{self.read('/var/log/sshd.log')}")
            family = proc.tree(self.process.pid)
            if len(family) < 2 or "Server listening" not in self.read("/var/log/sshd.log"):
                return None
            return family[1]

        self.pid = proc.wait_for(answers, lambda: f"sshd of {self.name}: {self.read('/var/log/sshd.log')}")
        return self

    def _separated(self):
        """The process of the host once its network is another one than the room's."""
        family = proc.tree(self.process.pid)
        try:
            return family[1] if len(family) > 1 and _network(family[1]) not in (_network(self.room.pid), _network("self")) else None
        except OSError:
            return None

    def network(self):
        """Sockets that this thread makes meanwhile belong to the host."""
        return network_of(self.pid)

    def processes(self):
        """All that runs on a host with a network of its own, but for its sshd."""
        return others_in_network(self.pid)

    # Commands

    def argv(self, command, root=False, login=True, rights=()):
        """What runs a list, or a shell text, in the host; with `login` as after a login, else as a service.
        `rights` are capabilities that the account and what it starts have."""
        words = ["bash", *(["-l"] if login else []), "-c", command] if isinstance(command, str) else list(command)
        may = [f"{kind}-caps={','.join('+' + one for one in rights)}" for kind in ("--inh", "--ambient")] if rights else []
        who = [] if root else ["setpriv", "--reuid", env.ACCOUNT, "--regid", env.ACCOUNT, "--init-groups", *may]
        account = ("root", "/root") if root else (env.ACCOUNT, self.home)
        variables = [f"PATH={_PATH}", "LANG=C.UTF-8", f"USER={account[0]}", f"LOGNAME={account[0]}", f"HOME={account[1]}", "SHELL=/bin/bash"]
        return ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--net", "--ipc", "--pid", "--root", "--wd", "--", *who, "env", "-i", *variables, *words]

    def run(self, command, *, root=False, timeout=60):
        """Runs it to its end, as the account after a login."""
        return proc.run(self.argv(command, root=root), timeout=timeout, as_root=True)

    def ok(self, command, **kwargs):
        """A command that must succeed; returns what it printed."""
        done = self.run(command, **kwargs)
        if done.code != 0:
            raise AssertionError(f"on {self.name}: {done!r}")
        return done.out

    def service(self, command, log, rights=()):
        """Starts a long running program as a unit of the account would; `log` is a path of the host."""
        with open(self.path(log), "ab") as out:
            process = proc.start(self.argv(command, login=False, rights=rights), log=out, as_root=True)
        self.room.children.append(process)
        return process
