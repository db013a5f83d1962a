"""The pgpool under test: its files, its start and end, its log.

Both implementations get byte-identical files and are driven by the same
command line, signals and stock tools.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess

from . import env, proc, wire
from .server import PASSWORDS

#: What a 4.3 file of the tests says unless the test says otherwise.
BASE_43 = {
    "backend_clustering_mode": "streaming_replication",
    "listen_addresses": "127.0.0.1",
    "pcp_listen_addresses": "127.0.0.1",
    "enable_pool_hba": False,
    "pool_passwd": "pool_passwd",
    "num_init_children": 8,
    "max_pool": 4,
    "child_life_time": 300,
    "connection_life_time": 0,
    "load_balance_mode": False,
    "failover_on_backend_error": False,
    "failover_on_backend_shutdown": False,
    "search_primary_node_timeout": 10,
    "sr_check_period": 0,
    "sr_check_user": "repmgr",
    "sr_check_password": "rep123",
    "sr_check_database": "postgres",
    "health_check_period": 0,
    "health_check_user": "hcuser",
    "health_check_password": "hcuser",
    "health_check_database": "postgres",
    "connect_timeout": 10000,
}

#: The same words as an operator of 4.0 wrote them, with the values of the manual's three-node example:
#: no name of 4.2 or later may be here, or the dialect would be another one.
BASE_40 = {
    "listen_addresses": "*",
    "pcp_listen_addresses": "*",
    "listen_backlog_multiplier": 2,
    "serialize_accept": False,
    "enable_pool_hba": True,
    "pool_passwd": "pool_passwd",
    "authentication_timeout": 60,
    "ssl": False,
    "num_init_children": 20,
    "max_pool": 5,
    "child_life_time": 300,
    "child_max_connections": 0,
    "connection_life_time": 600,
    "client_idle_limit": 0,
    "debug_level": 0,
    "connection_cache": True,
    "reset_query_list": "ABORT; DISCARD ALL",
    "replication_mode": False,
    "load_balance_mode": False,
    "master_slave_mode": True,
    "master_slave_sub_mode": "stream",
    "sr_check_period": 1,
    "sr_check_user": "repmgr",
    "sr_check_password": "rep123",
    "sr_check_database": "postgres",
    "delay_threshold": 10000000,
    "failover_on_backend_error": "off",
    "search_primary_node_timeout": 300,
    "health_check_period": 2,
    "health_check_timeout": 10,
    "health_check_user": "hcuser",
    "health_check_password": "hcuser",
    "health_check_database": "postgres",
    "health_check_max_retries": 1,
    "health_check_retry_delay": 1,
    "connect_timeout": 10000,
}

#: The parameters of a three-node 4.0 installation. Left out: watchdog, online recovery, follow_master_command.
#: Other than there: one host, free ports, folders in the scratch folder.
SEED_40 = {
    "listen_addresses": "*",
    "pcp_listen_addresses": "*",
    "listen_backlog_multiplier": 2,
    "serialize_accept": False,
    "enable_pool_hba": True,
    "pool_passwd": "pool_passwd",
    "authentication_timeout": 60,
    "ssl": False,
    "num_init_children": 100,
    "max_pool": 5,
    "child_life_time": 300,
    "child_max_connections": 0,
    "connection_life_time": 600,
    "client_idle_limit": 0,
    "syslog_facility": "LOCAL1",
    "syslog_ident": "pgpool",
    "debug_level": 0,
    "connection_cache": True,
    "reset_query_list": "ABORT; DISCARD ALL",
    "replication_mode": False,
    "load_balance_mode": False,
    "master_slave_mode": True,
    "master_slave_sub_mode": "stream",
    "sr_check_period": 10,
    "sr_check_user": "repmgr",
    "sr_check_password": "rep123",
    "sr_check_database": "repmgr",
    "delay_threshold": 10000000,
    "failback_command": "echo failback %d %h %p %D %m %H %M %P",
    "failover_on_backend_error": "off",
    "search_primary_node_timeout": 300,
    "health_check_period": 40,
    "health_check_timeout": 10,
    "health_check_user": "hcuser",
    "health_check_password": "hcuser",
    "health_check_database": "postgres",
    "health_check_max_retries": 3,
    "health_check_retry_delay": 1,
    "connect_timeout": 10000,
}

HBA_SEED = """\
local   all         all                               trust
# IPv4 local connections:
host     all         all         0.0.0.0/0             md5
"""

PCP_USER, PCP_PASSWORD = "pcpadmin", "pcp secret"


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def value_text(value):
    if value is True or value is False:
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


class Pgpool:
    """Files in `home`; `start()` runs `pgpool -n` as the servers' account.

    `ours` is a program to run in the place of our own binary.
    """

    def __init__(self, home, servers, *, dialect="4.3", config=None, hba=None, passwd=None, subject=None,
                 flags=None, per_node=None, hosts=None, drop=(), ours=None):
        self.home, self.servers, self.ours = home, servers, ours
        self.subject = subject or env.SUBJECT
        self.dialect = dialect
        self.port, self.pcp_port = proc.free_port(), proc.free_port()
        self.run_dir = os.path.join(home, "run")
        self.log_dir = os.path.join(home, "state")
        self.logfile = os.path.join(home, "pgpool.log")
        self.conf = os.path.join(home, "pgpool.conf")
        self.hba_file = os.path.join(home, "pool_hba.conf")
        self.pcp_conf = os.path.join(home, "pcp.conf")
        self.pid_file = os.path.join(self.run_dir, "pgpool.pid")
        self.status_file = os.path.join(self.log_dir, "pgpool_status")
        self.pcppass = os.path.join(home, "pcppass")
        self.process, self._sessions = None, []
        #: Where the tools find it: an address, or a folder with its socket.
        self.pcp_host = "127.0.0.1"
        #: Set before the start: variables for its environment, a lib.pam.Namespace to run in, or a script
        #: for a mount namespace of its own (`proc.in_own_mounts`).
        self.extra_env, self.namespace, self.mounts = {}, None, ""
        self.flags, self.per_node, self.hosts, self.drop = flags or {}, per_node or {}, hosts or {}, set(drop)
        self.settings = dict(BASE_43 if dialect == "4.3" else BASE_40)
        self.settings.update(config or {})
        for folder in (home, self.run_dir, self.log_dir):
            os.makedirs(folder, exist_ok=True)
            env.hand_over(folder)
        self.binary = self._binary()
        self.write_config()
        self.write(self.hba_file, hba if hba is not None else HBA_SEED)
        if passwd is None:
            passwd = "".join(f"{u}:md5{md5(p + u)}\n" for u, p in PASSWORDS.items() if u in ("md5user", "hcuser", "repmgr"))
            passwd += f"scramuser:TEXT{PASSWORDS['scramuser']}\npwuser:TEXT{PASSWORDS['pwuser']}\n"
        self.write(os.path.join(home, "pool_passwd"), passwd)
        self.write(self.pcp_conf, f"# users of the tests\n{PCP_USER}:{md5(PCP_PASSWORD)}\n")
        self.write(self.pcppass, f"*:*:{PCP_USER}:{PCP_PASSWORD}\n", mode=0o600)

    def _binary(self):
        """The stock binary where it is; ours as a copy that the account can read wherever the build tree lies."""
        path = env.subject_binary(self.subject)
        if not os.path.exists(path):
            raise AssertionError(f"no binary of the subject {self.subject!r} at {path}: build it with `make build`, or set PGPOOL_BIN")
        if self.subject == "stock":
            return path
        path = self.ours or path
        shared = os.environ.get("COMPAT_BINARY_COPY")
        if shared and not self.ours:
            return shared
        copy = os.path.join(self.home, "bin", "pgpool")
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy(path, copy)
        os.chmod(copy, 0o755)
        # Read from the disk as an installed program is: what was just written is mapped in bigger pieces, which counts as memory.
        with open(copy, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return copy

    @staticmethod
    def md5_entries(passwords):
        """pool_passwd for these users."""
        return "".join(f"{u}:md5{md5(p + u)}\n" for u, p in passwords.items())

    def write(self, path, text, mode=0o644):
        with open(path, "w") as out:
            out.write(text)
        os.chmod(path, mode)
        env.hand_over(path)

    def file(self, name):
        return os.path.join(self.home, name)

    # Configuration

    def config_text(self):
        lines = [f"# written by the tests, dialect {self.dialect}"]
        settings = {
            **self.settings,
            "port": self.port,
            "socket_dir": self.run_dir,
            "pcp_port": self.pcp_port,
            "pcp_socket_dir": self.run_dir,
            "pid_file_name": self.pid_file,
            "logdir": self.log_dir,
        }
        lines += [f"{name} = {value_text(value)}" for name, value in settings.items() if value is not None and name not in self.drop]
        for server in self.servers:
            n = server.node
            node = {
                "backend_hostname": self.hosts.get(n, "127.0.0.1"),
                "backend_port": server.port,
                "backend_weight": 1,
                "backend_data_directory": server.data,
                "backend_flag": self.flags.get(n, "ALLOW_TO_FAILOVER"),
            }
            if self.dialect != "4.0":
                node["backend_application_name"] = server.name
            node.update(self.per_node.get(n, {}))
            lines += [f"{name}{n} = {value_text(value)}" for name, value in node.items()]
        return "\n".join(lines) + "\n"

    def write_config(self, **changes):
        """Rewrites pgpool.conf with these settings changed; None removes one."""
        self.settings.update(changes)
        self.write(self.conf, self.config_text())

    # Running

    def argv(self, *more):
        return [self.binary, "-f", self.conf, "-a", self.hba_file, "-F", self.pcp_conf, *more]

    def launch(self, *more):
        """Starts it and returns at once."""
        log = open(self.logfile, "ab")
        argv = self.argv("-n", *more)
        if self.namespace is not None:
            argv = self.namespace.wrap(argv)
        elif self.mounts:
            argv = proc.in_own_mounts(self.mounts, argv)
        as_root = self.namespace is not None or bool(self.mounts)
        self.process = proc.start(argv, log=log, sig=signal.SIGINT, cwd=self.home, extra_env=self.extra_env, as_root=as_root)
        log.close()
        self._sessions.append(self.process.pid)
        return self

    def start(self, *more, timeout=30.0):
        """Starts it and waits for "successfully started"."""
        mark = self.log_size()
        self.launch(*more)
        if self.settings.get("logging_collector"):
            proc.wait_for(lambda: "successfully started" in self.collected(), "the start in the collector's files", timeout=timeout)
        else:
            self.wait_log(r"successfully started", since=mark, timeout=timeout)
        return self

    def collected(self):
        """What the log collector has written."""
        folder = self.settings.get("log_directory", "")
        text = ""
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                text += file.read()
        return text

    def stop(self, sig=signal.SIGINT, timeout=20.0):
        """Ends it by a signal to the process we started; returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait_end(timeout)

    def wait_end(self, timeout=20.0):
        try:
            code = self.process.wait(timeout=timeout * env.SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pgpool did not end within {timeout * env.SLOW:.0f} s; log:\n{self.log()[-3000:]}") from None
        self.process = None
        return code

    def kill(self):
        """kill -9 of the main process alone, as the kernel's OOM killer would."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def cleanup(self):
        """Ends whatever is left of every start, orphans included."""
        for sid in self._sessions:
            proc.end_session(sid, signal.SIGINT, patience=5.0)
        if self.process is not None:
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                pass
        self.process, self._sessions = None, []

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, sig):
        self.process.send_signal(sig)

    def reload(self, **changes):
        """Changes settings and sends SIGHUP; waits until the log says so. Of ours, until the files have been read: this line
        comes before that. Stock's processes read them later, each when it has the time, and say nothing of it."""
        if changes:
            self.write_config(**changes)
        mark = self.log_size()
        self.signal(signal.SIGHUP)
        self.wait_log(r"reload config files", since=mark)
        if self.subject == "ours":
            self.wait_log(r"event \d+: reload of the configuration", since=mark)

    def pids(self):
        return proc.tree(self.process.pid)

    # Log

    def log(self, since=0):
        try:
            with open(self.logfile, "rb") as log:
                log.seek(since)
                return log.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def log_size(self):
        try:
            return os.path.getsize(self.logfile)
        except OSError:
            return 0

    def wait_log(self, pattern, since=0, timeout=20.0):
        """Waits until `pattern` is in the log after position `since`; returns the match."""

        def found():
            match = re.search(pattern, self.log(since))
            if match is None and self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"pgpool ended with status {self.process.returncode} before it said {pattern!r}; log:\n{self.log(since)[-3000:]}")
            return match

        return proc.wait_for(found, lambda: f"{pattern!r} in the log:\n{self.log(since)[-3000:]}", timeout=timeout)

    def leftovers(self):
        """Sockets and pid files that lie in the run directory."""
        return sorted(os.listdir(self.run_dir))

    # Talking

    def client(self, **kwargs):
        """A raw client, over TCP to 127.0.0.1 unless told otherwise; `unix=True` takes the unix socket."""
        if kwargs.get("unix") is True:
            kwargs["unix"] = self.run_dir
        return wire.Client(**{"port": self.port, **kwargs})

    def status_words(self):
        """The lines of the status file."""
        try:
            with open(self.status_file) as status:
                return status.read().split()
        except OSError:
            return None
