"""PostgreSQL servers of our own: a primary and streaming standbys in a scratch folder.

`initdb` runs once per template; each node is a copy of it, which is a valid
way to make a standby as long as no copy has been started. Roles of the
template, with their password in PASSWORDS and their method over TCP:

    postgres  superuser, trust          app       owner of database app, trust
    md5user   md5                       scramuser scram-sha-256
    pwuser    clear text password       hcuser    md5, for health checks
    repmgr    md5, superuser, for replication checks
"""

import os
import shutil
import signal
import subprocess

from . import env, proc, wire

PASSWORDS = {"md5user": "md5pw", "scramuser": "scrampw", "pwuser": "clearpw", "hcuser": "hcuser", "repmgr": "rep123"}

_HBA = """\
local all         all                    trust
local replication all                    trust
host  all         md5user   all          md5
host  all         hcuser    all          md5
host  all         repmgr    all          md5
host  all         scramuser all          scram-sha-256
host  all         pwuser    all          password
host  all         all       127.0.0.1/32 trust
host  all         all       ::1/128      trust
host  replication all       127.0.0.1/32 trust
"""

_CONF = """\
listen_addresses = '127.0.0.1,::1'
fsync = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 300
superuser_reserved_connections = 3
wal_level = replica
max_wal_senders = 10
wal_keep_size = 64MB
hot_standby = on
wal_log_hints = on
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1s
autovacuum = off
log_min_messages = warning
log_line_prefix = '%m %u@%d %p: '
"""


def pg(name):
    return os.path.join(env.PG_BIN, name)


def checked(argv, **kwargs):
    done = proc.run(argv, **kwargs)
    if done.code != 0:
        raise AssertionError(repr(done))
    return done


def _initdb(data):
    checked([pg("initdb"), "-D", data, "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=4"], timeout=120)
    with open(os.path.join(data, "pg_hba.conf"), "w") as hba:
        hba.write(_HBA)
    with open(os.path.join(data, "postgresql.conf"), "a") as conf:
        conf.write(_CONF)
    roles = ["CREATE ROLE app LOGIN;", "CREATE DATABASE app OWNER app;"]
    for method, names in (("md5", ("md5user", "hcuser", "repmgr")), ("scram-sha-256", ("scramuser",)), ("md5", ("pwuser",))):
        roles.append(f"SET password_encryption = '{method}';")
        for name in names:
            rights = "SUPERUSER REPLICATION" if name == "repmgr" else ""
            roles.append(f"CREATE ROLE {name} LOGIN {rights} PASSWORD '{PASSWORDS[name]}';")
    roles.append("GRANT ALL ON DATABASE app TO PUBLIC;")
    checked([pg("postgres"), "--single", "-D", data, "-j", "postgres"], stdin="\n\n".join(r for r in roles) + "\n\n", timeout=60)


def template(path):
    """Makes the template data directory once; later calls return it at once."""
    done = os.path.join(path, ".ready")
    if not os.path.exists(done):
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path, mode=0o700)
        env.hand_over(path)
        _initdb(path)
        open(done, "w").close()
    return path


class Server:
    """One PostgreSQL; its unix socket and log lie beside its data directory."""

    def __init__(self, root, node, port=None):
        self.node = node
        self.name = f"server{node}"
        self.home = os.path.join(root, f"n{node}")
        self.data = os.path.join(self.home, "data")
        self.logfile = os.path.join(self.home, "log")
        self.port = port or proc.free_port()
        self.process = None
        os.makedirs(self.home, exist_ok=True)
        env.hand_over(self.home)

    # Making

    def create(self, source):
        checked(["cp", "-a", "--reflink=auto", source, self.data], timeout=120)
        return self

    def follow(self, primary):
        """Makes this (stopped) server a streaming standby of `primary`."""
        open(os.path.join(self.data, "standby.signal"), "w").close()
        env.hand_over(os.path.join(self.data, "standby.signal"))
        self.set(primary_conninfo=f"host=127.0.0.1 port={primary.port} user=repmgr password=rep123 application_name={self.name}",
                 recovery_target_timeline="latest")

    def rebuild_from(self, primary):
        """A fresh standby through pg_basebackup, as an operator would make one."""
        shutil.rmtree(self.data, ignore_errors=True)
        checked([pg("pg_basebackup"), "-h", primary.home, "-p", str(primary.port), "-U", "postgres", "-D", self.data, "-X", "stream", "-c", "fast", "-N"], timeout=120)
        self.follow(primary)
        return self.start()

    def set(self, **settings):
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = '{value}'\n")

    # Running

    def start(self, wait=True):
        log = open(self.logfile, "ab")
        self.process = proc.start([pg("postgres"), "-D", self.data, "-p", str(self.port), "-k", self.home], log=log, sig=signal.SIGQUIT)
        log.close()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended at start:\n{self.log()[-2000:]}")
            try:
                with self.client(timeout=2):
                    return True
            except (OSError, wire.ServerError, wire.Closed, TimeoutError):
                return False

        proc.wait_for(ready, lambda: f"{self.name} to accept connections; log:\n{self.log()[-2000:]}", timeout=60)
        return self

    def stop(self, mode="fast"):
        """smart, fast or immediate; waits for the end."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            try:
                self.process.wait(timeout=30 * env.SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def kill(self):
        """kill -9 of the postmaster and of all its processes, as a power cut of the host's server would."""
        victims = self.all_of_it()
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()
        self.process = None
        proc.wait_for(lambda: not any(proc.alive(p) for p in victims), "the killed server to be gone")

    def pause(self):
        """SIGSTOP of all processes: the port accepts (the kernel does), nobody answers."""
        for pid in self.all_of_it():
            try:
                os.kill(pid, signal.SIGSTOP)
            except OSError:
                pass  # a process of a session that has just ended

    def all_of_it(self):
        """The postmaster, stopped, and its processes: while one looks for them it starts no other."""
        os.kill(self.process.pid, signal.SIGSTOP)
        return proc.tree(self.process.pid)

    def resume(self):
        if self.process is None:
            return
        for pid in proc.tree(self.process.pid):
            try:
                os.kill(pid, signal.SIGCONT)
            except OSError:
                pass

    def promote(self):
        checked([pg("pg_ctl"), "promote", "-D", self.data, "-w"])

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    # Talking

    def client(self, **kwargs):
        """A raw client of the server itself, as superuser over the unix socket unless told otherwise."""
        where = {} if "host" in kwargs else {"unix": self.home}
        return wire.Client(**{"port": self.port, "user": "postgres", "database": "app", **where, **kwargs})

    def rows(self, sql, **kwargs):
        with self.client(**kwargs) as client:
            return client.rows(sql)

    def value(self, sql, **kwargs):
        return self.rows(sql, **kwargs)[0][0]

    def in_recovery(self):
        return self.value("SELECT pg_is_in_recovery()") == "t"

    def sessions(self, where="usename = 'app'"):
        """Pids of client sessions, as the server sees them."""
        return {int(r[0]) for r in self.rows(f"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND {where}")}

    def log(self):
        try:
            with open(self.logfile, errors="replace") as log:
                return log.read()
        except OSError:
            return ""


class Cluster:
    """Node `primary` and standbys of it, or servers that know nothing of each other; stops everything at the end."""

    def __init__(self, root, nodes=1, template_dir=None, primary=0, settings=None, streaming=True, make=Server):
        self.root = root
        source = template(template_dir or os.path.join(root, "template"))
        self.servers = [make(root, n).create(source) for n in range(nodes)]
        self.primary = self.servers[primary]
        for server in self.servers:
            server.set(**(settings or {}))
            if streaming and server is not self.primary:
                server.follow(self.primary)
        self.primary.start()
        for server in self.standbys:
            server.start(wait=False)
        for server in self.standbys:
            server.wait_ready()
        if streaming and self.standbys:
            self.wait_streaming()

    @property
    def standbys(self):
        return [s for s in self.servers if s is not self.primary]

    def __getitem__(self, node):
        return self.servers[node]

    def __len__(self):
        return len(self.servers)

    def wait_streaming(self):
        wanted = len([s for s in self.standbys if s.running])
        proc.wait_for(lambda: int(self.primary.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")) >= wanted,
                      "standbys to stream", timeout=40)

    def stop(self):
        for server in self.servers:
            server.resume()
            server.stop("immediate")
