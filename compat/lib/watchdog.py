"""The system in use (lib/seed.py) with its watchdog: three hosts with networks of their own, a pgpool on each.

Each host's pgpool is the original or ours, and reads the system's 4.0 file, or the same in the words of 4.3, which
is all that stock 4.3.5 understands. The commands for the virtual IP are the system's; pgpool's process has the
right to do what `sudo` would let them do.
"""

import os
import re
import signal
import time

from . import env, proc, room, seed, switch, tools
from .switch import Switch

#: The clients' address: in no host.
CLIENTS = "192.168.122.1"
#: What removes the address of ours when pgpool cannot, as the kernel names it.
GUARD = "address-guard"
_BINARY = "/usr/local/sbin/pgpool"
_FOLDER = "/etc/pgpool-II"
_START = [_BINARY, "-f", f"{_FOLDER}/pgpool.conf", "-F", f"{_FOLDER}/pcp.conf", "-a", f"{_FOLDER}/pool_hba.conf", "-n"]

#: Beside the system's own parameters: what makes tests short. Its own ones are for the bench.
SHORT = {
    "num_init_children": 12,
    "wd_interval": 1,
    "wd_heartbeat_keepalive": 1,
    "wd_heartbeat_deadtime": 5,
    "health_check_period": 4,
    "health_check_timeout": 3,
    "health_check_max_retries": 1,
    "sr_check_period": 2,
}
#: The same, and a failover needs votes: that is not what a file of 4.0 means unless it says so.
VOTES = {**SHORT, "failover_when_quorum_exists": "on", "failover_require_consensus": "on"}
SHORT_LEASE = 3
#: When the promotions that a host ordered began and ended: failover.sh promotes by ssh, which is a stand-in that tells.
PROMOTIONS = "/var/log/pgpool/promotions"
_SSH = f"""\
#!/bin/sh
case "$*" in
*"standby promote"*) date +%s.%N >>{PROMOTIONS}; /usr/bin/ssh "$@"; code=$?; date +%s.%N >>{PROMOTIONS}; exit $code ;;
esac
exec /usr/bin/ssh "$@"
"""

#: Lines of the log that say nothing but that somebody has asked.
_NOISE = re.compile(r"^.*(?i:pcp worker|pcp process|pcp child|SO_REUSE).*\n", re.M)


def unavailable():
    """Why there can be no such site here; None when there can."""
    missing = seed.missing()
    if missing:
        return f"{', '.join(missing)} not in {env.SEED}: the system in use is not part of this repository (PGPOOL_SEED names its folder)"
    absent = [f"{path} ({package})" for path, package in (("/bin/ping", "iputils-ping"), ("/usr/bin/arping", "iputils-arping"), (f"{env.PG_BIN}/repmgr", "postgresql-15-repmgr")) if not os.path.exists(path)]
    if absent:
        return f"not installed: {', '.join(absent)}; run compat/setup"
    return room.unavailable() or switch.unavailable()


class Site(seed.Seed):
    """`subjects` says what runs on each host; `settings` go over the system's parameters (SHORT, or {} for its own)."""

    addresses = ()
    vip = seed.VIP

    def __init__(self, home, subjects=None, settings=None, dialect=None, own="", ids=None):
        """`ids`: the node ids of the hosts, if they are not their places; what has no pgpool_node_id is told by pgpool-rs.conf."""
        self.subjects = list(subjects or [env.SUBJECT] * 3)
        self.ids = ids
        self.settings, self.dialect, self.own = SHORT if settings is None else settings, dialect, own
        self.processes, self.marks, self.extra_env = [None] * 3, [0] * 3, [{}, {}, {}]
        super().__init__(home, None)

    def _network(self):
        self.switch = Switch(self.room, CLIENTS)

    def _install_pgpool(self, _):
        for number, host in enumerate(self.hosts):
            host.copy(os.path.join(env.SEED, "pool_hba.conf"), f"{_FOLDER}/pool_hba.conf", 0o644)
            host.write("/usr/local/bin/ssh", _SSH, 0o755)
            self.install(number, self.subjects[number])

    # Files

    def install(self, number, subject, dialect=None):
        """Puts a binary and its configuration on a host whose pgpool does not run; `dialect` "4.0" or "4.3"."""
        host = self.hosts[number]
        self.subjects[number] = subject
        if os.path.exists(host.path(_BINARY)):
            os.remove(host.path(_BINARY))
        binary = env.STOCK if subject == "stock" else os.environ.get("COMPAT_BINARY_COPY") or env.ours_binary()
        host.copy(binary, _BINARY)
        newer = (dialect or self.dialect or ("4.3" if subject == "stock" else "4.0")) == "4.3"
        host.write(f"{_FOLDER}/pgpool.conf", self._text(number, newer))
        node_id = host.path(f"{_FOLDER}/pgpool_node_id")
        if newer:
            host.write(f"{_FOLDER}/pgpool_node_id", f"{(self.ids or range(3))[number]}\n")
        elif os.path.exists(node_id):
            os.remove(node_id)
        own = self.own or (f"wd_write_lease = {SHORT_LEASE}\n" if self.settings else "")
        host.write(f"{_FOLDER}/pgpool-rs.conf", own + (f"node_id = {self.ids[number]}\n" if self.ids and not newer else ""))

    def configure(self, number, line):
        """One more line for the next start on this host."""
        path = f"{_FOLDER}/pgpool.conf"
        self.hosts[number].write(path, f"{self.hosts[number].read(path)}{line}\n")

    def _text(self, number, newer):
        """The system's file with the lines that its description says to change on each host."""
        with open(os.path.join(env.SEED, "pgpool.conf")) as file:
            text = file.read()
        others = [n for n in range(3) if n != number]
        if newer:
            lines = [line for line in text.splitlines() if not re.match(r"(wd_hostname|wd_port|heartbeat_|other_)", line)]
            for n, name in zip(self.ids or range(3), seed.NAMES):
                lines += [f"hostname{n} = '{name}'", f"wd_port{n} = 9000", f"pgpool_port{n} = 9999", f"heartbeat_hostname{n} = '{name}'", f"heartbeat_port{n} = 9694"]
            text = "\n".join(lines).replace("follow_master_command", "follow_primary_command") + "\n"
            # What 4.3.5 knows no more, or would warn of.
            text = re.sub(r"^(master_slave_mode|master_slave_sub_mode|replication_mode|debug_level) .*\n", "", text, flags=re.M)
            text += "backend_clustering_mode = 'streaming_replication'\n"
        else:
            text = re.sub(r"^wd_hostname = .*$", f"wd_hostname = {seed.NAMES[number]}", text, flags=re.M)
            for place, other in enumerate(others):
                text = re.sub(rf"^other_pgpool_hostname{place} = .*$", f"other_pgpool_hostname{place} = '{seed.NAMES[other]}'", text, flags=re.M)
        for name, value in self.settings.items():
            text, changed = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.M)
            text += "" if changed else f"{name} = {value}\n"
        return text

    # pgpool's life

    def launch(self, *numbers):
        """Starts pgpool on these hosts, as their unit does, and returns at once."""
        for number in numbers:
            host = self.hosts[number]
            self.marks[number] = len(self.log(number))
            words = ["env", *(f"{k}={v}" for k, v in self.extra_env[number].items()), *_START]
            self.processes[number] = host.service(words, self.log_path, rights=("net_admin", "net_raw"))

    def wait_started(self, *numbers, timeout=60):
        """Until each has said that it started, which it does after it has joined."""
        for number in numbers:
            proc.wait_for(lambda n=number: self._started(n), lambda n=number: f"pgpool on {seed.NAMES[n]} to start:\n{self.log(n)[-3000:]}", timeout=timeout)

    def _started(self, number):
        if self.processes[number].poll() is not None:
            raise AssertionError(f"pgpool on {seed.NAMES[number]} ended at the start:\n{self.log(number)[-3000:]}")
        return "successfully started" in self.said(number)

    def start(self, *numbers, timeout=60):
        self.launch(*numbers)
        self.wait_started(*numbers, timeout=timeout)

    def start_all(self):
        """All three, and they watch each other."""
        self.start(0, 1, 2)
        self.wait_leader()
        self.wait_watching()

    def wait_watching(self, timeout=150):
        """Until each that runs has heard heartbeats of all others; stock looks for that each tenth wd_interval."""
        for number in range(3):
            if self.running(number):
                proc.wait_for(lambda n=number: "lifecheck started" in self.said(n), lambda n=number: f"the lifecheck of {seed.NAMES[n]}\n{self.log()}", timeout=timeout)

    def starts_in_vain(self, number):
        """The exit status of a start on this host that has to fail; what runs there already goes on."""
        started = self.hosts[number].service(_START, self.log_path, rights=("net_admin", "net_raw"))
        return started.wait(30)

    def running(self, number):
        return self.processes[number] is not None and self.processes[number].poll() is None

    def stop_pgpool(self, number, mode="fast"):
        """As the unit does."""
        self.hosts[number].ok([*_START[:3], "-m", mode, "stop"], timeout=60)
        self.ended(number)

    def ended(self, number):
        if self.processes[number] is not None:
            self.processes[number].wait(20)
            self.processes[number] = None

    def pids(self, number):
        """pgpool's processes on a host, and those that it has started."""
        return [pid for pid in proc.tree(self.processes[number].pid) if pid != self.processes[number].pid]

    def signal(self, number, sig, name=None):
        """To all of pgpool on a host, or to what has this name there, as of an operator who goes by names."""
        pids = [pid for pid in self.pids(number) if name in (None, proc.name(pid))]
        # nsenter, their parent, stops with its child and does not go on with it.
        for pid in (self.processes[number].pid, *pids) if sig == signal.SIGCONT else pids:
            _kill(pid, sig)

    def kill_pgpool(self, number, name=None):
        """kill -9 of all of pgpool on a host, or of what has this name."""
        self.signal(number, signal.SIGKILL, name)
        self.ended(number)

    def guard(self, number):
        """The process of ours that removes the address when pgpool cannot; None without one."""
        found = [pid for pid in self.hosts[number].processes() if proc.name(pid) == GUARD]
        return found[0] if found else None

    def kill_host(self, number, at_once=False):
        """kill -9 of everything on a host, but its network stays as it was. `at_once`: nobody sees another one end,
        the guard of the address not its pgpool."""
        found = self.hosts[number].processes()
        for sig in (signal.SIGSTOP, signal.SIGKILL) if at_once else (signal.SIGKILL,):
            for pid in found:
                _kill(pid, sig)
        proc.wait_for(lambda: not self.hosts[number].processes(), f"all processes of {seed.NAMES[number]} to be gone")
        self.ended(number)
        # A process that is still ending has left the network already, and its number is not free: a start would find its pid file's.
        proc.wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found), f"the numbers of the killed processes of {seed.NAMES[number]} to be free")

    def reset(self):
        """As after the set-up: no pgpool, servers as they were, all cables whole, no address left."""
        self.switch.heal()
        for number, host in enumerate(self.hosts):
            self.switch.plug_in_again(host.name)
            for pid in host.processes():
                _kill(pid, signal.SIGCONT)
            self.kill_host(number)
            self.drop_address(number)
            for name in ("/run/pgpool", "/tmp"):
                for file in os.listdir(host.path(name)):
                    if os.path.isfile(host.path(f"{name}/{file}")) or file.startswith(".s."):
                        os.remove(host.path(f"{name}/{file}"))
            for name in os.listdir(host.path("/var/log/pgpool")):
                os.remove(host.path(f"/var/log/pgpool/{name}"))
            self.install(number, self.subjects[number])
        self.restore()

    def drop_address(self, number):
        """As an operator does where a killed process has left it."""
        self.hosts[number].run(["ip", "address", "del", f"{seed.VIP}/24", "dev", "eth0"], root=True)

    def synchronous(self):
        """An acknowledged row is on pg02, too, which is promoted when pg01 goes: nothing may be lost then."""
        self.sql(0, "alter system set synchronous_standby_names = '\\\"pg02.localnet\\\"'")
        self.sql(0, "select pg_reload_conf()")
        proc.wait_for(lambda: self.sql(0, "select count(*) from pg_stat_replication where sync_state = 'sync'") == "1", "a synchronous standby")

    # What is to be seen

    def log(self, number=None):
        if number is None:
            return "\n".join(f"--- {name} ---\n{_NOISE.sub('', self.log(n))[-2500:]}" for n, name in enumerate(seed.NAMES))
        return self.hosts[number].read(self.log_path)

    def said(self, number):
        """pgpool's log on a host since its last start."""
        return self.log(number)[self.marks[number]:]

    def holders(self):
        return switch.holders(self.hosts, seed.VIP)

    def holder(self):
        """The number of the host that has the address; None when there is none."""
        found = self.holders()
        return seed.NAMES.index(found[0]) if len(found) == 1 else None

    def watchdog_info(self, number, *more, host="localhost"):
        """pcp_watchdog_info -v as (of the cluster, [of each node]), asked from a host; None without an answer."""
        done = self.hosts[number].run(["env", "PATH=/usr/local/bin:/usr/bin:/bin", "pcp_watchdog_info", "-h", host, "-p", "9898", "-w", "-v", *map(str, more)], timeout=20)
        blocks = tools.verbose_blocks(done.out)
        blocks = [block for block in blocks if any(block.values())]
        return (blocks[0], blocks[1:]) if done.code == 0 and blocks else None

    def leader(self, number):
        """The number of the leader, as a node sees it."""
        seen = self.watchdog_info(number)
        name = seen[0].get("Leader Host Name") if seen else None
        return seed.NAMES.index(name) if name in seed.NAMES else None

    def settled(self, *among):
        """The leader, when these nodes agree on it, and it is the one host that has the address; else None."""
        among = among or [n for n in range(3) if self.running(n)]
        holder = self.holder()
        return holder if holder is not None and all(self.leader(n) == holder for n in among) else None

    def wait_leader(self, *among, but=None, timeout=60):
        """The leader once all agree; `but` may not be it."""

        def agreed():
            found = self.settled(*among)
            return None if found is None or found == but else [found]

        return proc.wait_for(agreed, lambda: f"one leader with the address; holders {self.holders()}\n{self.log()}", timeout=timeout, pause=0.2)[0]

    def wait_listed(self, wanted, timeout=40):
        """Until each running node lists all members so: {host name: state}."""

        def listed(number):
            seen = self.watchdog_info(number)
            return {node["Host Name"]: node["Status Name"] for node in seen[1]} if seen else None

        for number in range(3):
            if self.running(number):
                proc.wait_for(lambda n=number: listed(n) == wanted, lambda n=number: f"{seed.NAMES[n]} to list {wanted}; it lists {listed(n)}\n{self.log()}", timeout=timeout, pause=0.2)

    def backends(self, number):
        """The states of the backends as pgpool on this host has them: up, down, quarantine; the roles."""
        found = []
        for node in range(3):
            done = self.hosts[number].run(["env", "PATH=/usr/local/bin:/usr/bin:/bin", "pcp_node_info", "-h", "localhost", "-p", "9898", "-w", "-v", "-n", str(node)], timeout=20)
            block = (tools.verbose_blocks(done.out) or [{}])[0]
            found.append((block.get("Status Name", "?").replace("waiting", "up"), block.get("Role", "?")))
        return found

    def wait_backends(self, number, *wanted, timeout=40):
        proc.wait_for(lambda: [state for state, _ in self.backends(number)] == list(wanted), lambda: f"the backends on {seed.NAMES[number]} to be {wanted}; they are {self.backends(number)}\n{self.log()}", timeout=timeout, pause=0.2)

    def primaries(self):
        """Servers that are no standby."""
        return [n for n in range(3) if self._is_primary(n)]

    def _is_primary(self, node):
        try:
            return self.sql(node, "select pg_is_in_recovery()") == "f"
        except AssertionError:
            return False


def _kill(pid, sig):
    try:
        os.kill(pid, sig)
    except OSError:
        pass


