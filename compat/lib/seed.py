"""The system in use (env.SEED), set up as its description says, on three hosts of a room; its watchdog is in lib/watchdog.py.

Its scripts and its pgpool.conf are read where they lie and run as they are. Around them:

* What PostgreSQL 15 and repmgr 5 want otherwise than 11 and 4: a link for /usr/pgsql-11/bin, md5 passwords,
  a quoted node_name, a view of the old pg_stat_wal_receiver (recover_failed_node.sh counts its columns).
* `sudo` and `systemctl` are small stand-ins. The server of a host listens on its address only, as the hosts
  share a network; nothing is synced, its shared memory is small, and its checkpoints do not take their time.
* failover.sh gets the last line that it lacks, and pgpool_recovery.sh a folder for its log and the
  pgpool_remote_start that is called after it.
* pgpool runs on the first host alone, with use_watchdog off (stock 4.3.5 needs more: `_install_pgpool`); the
  address that its watchdog would bring up is there.

What the servers hold after the set-up is kept in a folder, COMPAT_SEED_TEMPLATE if that is set, from which the next
ones of this run begin.
"""

import fcntl
import os
import shutil
import subprocess

from . import env, proc
from .room import Host, Room

NAMES = ("pg01.localnet", "pg02.localnet", "pg03.localnet")
ADDRESSES = ("192.168.122.10", "192.168.122.11", "192.168.122.12")
VIP = "192.168.122.99"
PGDATA = "/u01/pg11/data"
SCRIPTS = "/opt/pgpool/scripts"
REPMGR = "/usr/pgsql-11/bin/repmgr -f /etc/repmgr/11/repmgr.conf"
_FILES = ("pgpool.conf", "pool_hba.conf", "failover.sh", "follow_master.sh", "pgpool_recovery.sh", "recover_failed_node.sh", "archive.sh", "ip_w.sh", "arping_w.sh")

_BASHRC = """\
[ -f /etc/profile ] && . /etc/profile
export PGDATA=/u01/pg11/data
export PGVER=11
"""

_SUDO = """\
#!/bin/sh
# Debian's arping lies elsewhere than CentOS's.
[ "$1" != /usr/sbin/arping ] || { shift; set -- /usr/bin/arping "$@"; }
exec "$@"
"""

_SYSTEMCTL = """\
#!/bin/sh
# The unit postgresql: there is no systemd in the room.
export PGDATA=/u01/pg11/data PATH=$PATH:/usr/pgsql-11/bin
running() { pg_ctl status >/dev/null; }
case "$*" in
"start postgresql")
    running || exec pg_ctl -w -l /var/log/postgres/start.log -o "-c listen_addresses=$(hostname -i)" start >/dev/null </dev/null ;;
"stop postgresql") ! running || exec pg_ctl -w -m fast stop >/dev/null ;;
"restart postgresql") "$0" stop postgresql; exec "$0" start postgresql ;;
*) echo "systemctl $*: what is that?" >&2; exit 1 ;;
esac
"""

_CONF = """\
logging_collector = on
log_directory = '/var/log/postgres'
log_line_prefix = '%m %c %u - '
log_statement = 'all'
shared_buffers = 16MB
fsync = off
checkpoint_completion_target = 0
listen_addresses = '*'
max_replication_slots = 5
max_wal_senders = 5
archive_mode = on
archive_command = '/opt/postgres/scripts/archive.sh  %p %f'
wal_level = replica
hot_standby = on
hot_standby_feedback = on
wal_log_hints = on
password_encryption = md5
pgpool.pg_ctl = '/usr/pgsql-11/bin/pg_ctl'
"""

_HBA = """\
local  replication  repmgr                  trust
host   replication  repmgr   127.0.0.1/32   trust
host   replication  repmgr   0.0.0.0/0      md5
local  repmgr       repmgr                  trust
host   repmgr       repmgr   127.0.0.1/32   trust
host   repmgr       repmgr   0.0.0.0/0      md5
host   all          all      0.0.0.0/0      md5
"""

_REPMGR = """\
node_id={number}
node_name='{name}'
conninfo='host={name} dbname=repmgr user=repmgr password=rep123 connect_timeout=2'
data_directory='/u01/pg11/data'
use_replication_slots=yes
reconnect_attempts=10
reconnect_interval=1
restore_command = 'cp /u02/archive/%f %p'
log_facility=STDERR
failover=manual
monitor_interval_secs=5
pg_bindir='/usr/pgsql-11/bin'
pg_basebackup_options='--no-sync'
service_start_command = 'sudo systemctl start postgresql'
service_stop_command = 'sudo systemctl stop postgresql'
service_restart_command = 'sudo systemctl restart postgresql'
service_reload_command = 'pg_ctl reload'
promote_command='repmgr -f /etc/repmgr/11/repmgr.conf standby promote'
follow_command='repmgr -f /etc/repmgr/11/repmgr.conf standby follow -W --upstream-node-id=%n'
"""

_ROLES = """\
create user repmgr with superuser login password 'rep123';
alter user repmgr set search_path to repmgr, "$user", public;
create user hcuser with login password 'hcuser';
create user cl_owner nosuperuser nocreatedb login password 'cl_owner';
create database repmgr with owner = repmgr encoding = 'UTF8';
create database critlib encoding = 'UTF8';
"""

# 14 columns, the last is conninfo; found before the real one on the search_path of whom the script logs in as.
_OLD_VIEW = """\
create schema old_catalog;
create view old_catalog.pg_stat_wal_receiver as
    select pid, status, receive_start_lsn, receive_start_tli, flushed_lsn as received_lsn, received_tli, last_msg_send_time,
           last_msg_receipt_time, latest_end_lsn, latest_end_time, slot_name, sender_host, sender_port, conninfo
    from pg_catalog.pg_stat_wal_receiver;
alter role postgres set search_path to old_catalog, pg_catalog, "$user", public;
"""

_CRITLIB = """\
create schema cl_owner authorization cl_owner;
create table cl_owner.written(n int primary key, at timestamptz default clock_timestamp());
alter table cl_owner.written owner to cl_owner;
"""

_REMOTE_START = """\
#!/bin/sh
# $1 host and $2 data directory of the node to start; pgpool_recovery.sh has started it already.
ssh -T -n postgres@"$1" "sudo systemctl start postgresql"
"""


def missing():
    """The files of the system in use that are not here; tests say so and skip."""
    return [name for name in _FILES if not os.path.exists(os.path.join(env.SEED, name))]


def _line(text, name):
    """The line of a parameter in pgpool.conf."""
    return next(line for line in text.splitlines(keepends=True) if line.startswith(name))


def _copy(source, target):
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


class Seed:
    """Three servers, the first the primary; `start_pgpool()` starts the subject on the first host."""

    #: Without a switch the hosts share the room's network, which has these addresses.
    addresses = (*ADDRESSES, VIP)

    def __init__(self, home, binary):
        self.room, self.switch = Room(home, self.addresses), None
        self.template = os.environ.get("COMPAT_SEED_TEMPLATE") or os.path.join(home, "template")
        self.log_path = "/var/log/pgpool/pgpool.log"
        try:
            self._network()
            self.hosts = [self._host(number) for number in range(3)]
            self._install_pgpool(binary)
            for host in self.hosts:
                host.start()
            self._servers()
        except BaseException:
            self.stop()
            raise

    def _network(self):
        pass

    def stop(self):
        self.room.stop()

    def __getitem__(self, node):
        return self.hosts[node]

    # Set-up

    def _host(self, number):
        others = "".join(f"{a} {n}\n" for a, n in zip(ADDRESSES, NAMES) if n != NAMES[number])
        host = Host(self.room, NAMES[number], ADDRESSES[number], others, self.switch)
        host.link("/usr/pgsql-11/bin", env.PG_BIN)
        for tool in ("pcp_node_info", "pcp_attach_node", "pcp_detach_node", "pcp_recovery_node", "pcp_watchdog_info", "wd_cli", "pg_md5"):
            host.link(f"/usr/local/bin/{tool}", f"/usr/sbin/{tool}")  # Debian has them where no login looks
        host.link("/usr/local/bin/psql", os.path.join(env.PG_BIN, "psql"))
        host.write("/etc/profile.d/postgres.sh", "export PATH=$PATH:/usr/pgsql-11/bin\n")
        host.write(f"{host.home}/.bashrc", _BASHRC)
        host.write(f"{host.home}/.pgpass", "*:*:repmgr:repmgr:rep123\n*:*:replication:repmgr:rep123\n", 0o600)
        host.write(f"{host.home}/.pcppass", "*:*:postgres:secret\n", 0o600)
        host.write("/usr/local/bin/sudo", _SUDO, 0o755)
        host.write("/usr/local/bin/systemctl", _SYSTEMCTL, 0o755)
        for folder in ("/u01/pg11/data", "/u02/archive"):
            host.folder(folder, 0o700)
        host.folder("/etc/pgpool-II")
        for name in ("postgres", "repmgr", "pgpool", "pgool"):
            host.folder(f"/var/log/{name}")
        host.folder("/run/pgpool")
        host.write("/etc/repmgr/11/repmgr.conf", _REPMGR.format(number=number + 1, name=NAMES[number]))
        for name in ("archive.sh", "recover_failed_node.sh"):
            self._script(host, name, "/opt/postgres/scripts")
        for name in ("failover.sh", "follow_master.sh", "ip_w.sh", "arping_w.sh"):
            self._script(host, name, SCRIPTS)
        return host

    @staticmethod
    def _script(host, name, folder):
        host.copy(os.path.join(env.SEED, name), f"{folder}/{name}")
        if subprocess.run(["bash", "-n", host.path(f"{folder}/{name}")], capture_output=True).returncode != 0:
            host.write(f"{folder}/{name}", "\n) 2>&1 | tee -a $LOGFILE\n", 0o755, append=True)

    def _install_pgpool(self, binary):
        host = self.hosts[0]
        host.copy(binary, "/usr/local/sbin/pgpool")
        with open(os.path.join(env.SEED, "pgpool.conf")) as file:
            text = file.read()
        if env.SUBJECT == "stock":
            # 4.3.5 does not start with what 4.0 says about the watchdog, and follows only by the newer name.
            text = text[:text.index("# WATCHDOG")]
            text += "\n" + _line(text, "follow_master_command").replace("follow_master", "follow_primary", 1)
        else:
            text = text.replace(_line(text, "use_watchdog"), "use_watchdog = off\n")
        host.write("/etc/pgpool-II/pgpool.conf", text)
        host.copy(os.path.join(env.SEED, "pool_hba.conf"), "/etc/pgpool-II/pool_hba.conf", 0o644)

    def _servers(self):
        """Servers as after the set-up, running."""
        with open(self.template + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.isdir(self.template):
                self._primary()
                self._standbys()
                # The primary first: so that the standbys have all that it wrote.
                for host in self.hosts:
                    host.ok("sudo systemctl stop postgresql")
                self._save()
        self.restore()

    def _save(self):
        saved = self.template + ".new"
        for number, host in enumerate(self.hosts):
            os.makedirs(f"{saved}/{number}")
            for name, inside in (("data", PGDATA), ("archive", "/u02/archive")):
                _copy(host.path(inside), f"{saved}/{number}/{name}")
        for name in ("pool_passwd", "pcp.conf"):
            shutil.copy(self.hosts[0].path(f"/etc/pgpool-II/{name}"), saved)
        os.rename(saved, self.template)

    def restore(self):
        """Replaces what the servers hold by what they held after the set-up, and starts them; none may be running."""
        for number, host in enumerate(self.hosts):
            for name, inside in (("data", PGDATA), ("archive", "/u02/archive")):
                shutil.rmtree(host.path(inside))
                _copy(f"{self.template}/{number}/{name}", host.path(inside))
            for name in ("pool_passwd", "pcp.conf"):
                host.copy(os.path.join(self.template, name), f"/etc/pgpool-II/{name}", 0o644)
        for host in self.hosts:
            host.ok("sudo systemctl start postgresql")

    def _primary(self):
        host = self.hosts[0]
        host.ok("pg_ctl initdb -o '--auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --wal-segsize=4'", timeout=120)
        host.write(f"{PGDATA}/postgresql.conf", "include_dir = 'conf.d'\n", append=True)
        host.folder(f"{PGDATA}/conf.d")
        host.write(f"{PGDATA}/conf.d/custom.conf", _CONF)
        host.write(f"{PGDATA}/pg_hba.conf", _HBA, append=True)
        host.copy(os.path.join(env.SEED, "pgpool_recovery.sh"), f"{PGDATA}/pgpool_recovery.sh")
        host.write(f"{PGDATA}/pgpool_remote_start", _REMOTE_START, 0o755)
        host.ok("sudo systemctl start postgresql")
        for database, sql in (("postgres", _ROLES), ("postgres", _OLD_VIEW), ("critlib", _CRITLIB), ("template1", "create extension pgpool_recovery;")):
            host.write("/tmp/setup.sql", sql)
            host.ok(f"psql -v ON_ERROR_STOP=1 -q -d {database} -f /tmp/setup.sql")
        host.ok(f"{REPMGR} master register")
        host.ok("psql -A -t -F: -c \"select rolname, rolpassword from pg_authid where rolpassword like 'md5%'\" > /etc/pgpool-II/pool_passwd")
        host.ok("hash=$(pg_md5 secret) && echo \"postgres:$hash\" > /etc/pgpool-II/pcp.conf")

    def _standbys(self):
        for host in self.hosts[1:]:
            host.ok(f"repmgr -h {NAMES[0]} -U repmgr -d repmgr -D {PGDATA} -f /etc/repmgr/11/repmgr.conf standby clone --fast-checkpoint", timeout=120)
            host.ok("sudo systemctl start postgresql")
            host.ok(f"{REPMGR} standby register --force")

    # pgpool

    def start_pgpool(self):
        """As the unit does, but for the two files that are looked for in a compiled-in folder."""
        self.process = self.hosts[0].service(["pgpool", "-f", "/etc/pgpool-II/pgpool.conf", "-F", "/etc/pgpool-II/pcp.conf", "-a", "/etc/pgpool-II/pool_hba.conf", "-n"], self.log_path)
        proc.wait_for(lambda: "successfully started" in self.log() or self._ended(), lambda: f"the start:\n{self.log()[-3000:]}", timeout=30)

    def _ended(self):
        if self.process.poll() is not None:
            raise AssertionError(f"pgpool ended at the start:\n{self.log()[-3000:]}")

    def log(self):
        return self.hosts[0].read(self.log_path)

    # What operators and clients see

    def pool_nodes(self):
        """show pool_nodes as a list of dicts."""
        text = self.hosts[0].ok(f"psql -A -h {VIP} -p 9999 -U repmgr -d repmgr -P footer=off -c 'show pool_nodes'")
        names, *rows = [line.split("|") for line in text.splitlines()]
        return [dict(zip(names, row)) for row in rows]

    def states(self):
        """(status, role) of each node; None while nobody answers."""
        try:
            return [(n["status"] if n["status"] != "waiting" else "up", n["role"]) for n in self.pool_nodes()]
        except AssertionError:
            return None

    def sql(self, node, sql, database="postgres"):
        """Asks the server of a host itself."""
        return self.hosts[node].ok(f"psql -A -t -d {database} -c \"{sql}\"").strip()

    def standbys_of(self, node):
        """Names of the servers that stream from it."""
        return sorted(self.sql(node, "select application_name from pg_stat_replication where state = 'streaming'").split())

    def kill_server(self, node):
        """kill -9 of the postmaster; its processes see that and end."""
        self.hosts[node].ok(f"kill -9 $(head -n 1 {PGDATA}/postmaster.pid)")
