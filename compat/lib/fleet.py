"""Any number of pgpools and servers, each on a host of its own: what the three hosts of the system in use cannot be.

A host is a network with an address and a cable to a switch (lib/switch.py). Files are the machine's: pgpools and
servers have folders of their own, and tools reach a pgpool by the sockets in its folder. Nothing of the machine is
changed, and no packet leaves it.
"""

import os
import signal
import subprocess
import unittest

from . import env, proc, switch, tools, wire
from .case import CompatCase
from .hook import Recorder
from .pgpools import KEY, Pgpools
from .room import Room, network_of, others_in_network
from .room import unavailable as no_room
from .server import Cluster, Server, pg
from .switch import Switch
from .witness import Watch

VIP = "10.99.0.100"
#: The clients' address: in no host.
CLIENTS = "10.99.0.1"

_HOST = """\
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip link set lo up
ip address add "$1/24" dev eth0
ip link set eth0 up
echo ready
exec sleep infinity
"""

#: What makes tests short, and the virtual IP.
CONFIG = {
    "listen_addresses": "*",
    "num_init_children": 4,
    "max_pool": 1,
    "wd_interval": 1,
    "wd_heartbeat_keepalive": 1,
    "wd_heartbeat_deadtime": 5,
    "health_check_period": 2,
    "health_check_timeout": 2,
    "connect_timeout": 1000,
    "delegate_IP": VIP,
    "if_up_cmd": "/sbin/ip addr add $_IP_$/24 dev eth0 label eth0:0",
    "if_down_cmd": "/sbin/ip addr del $_IP_$/24 dev eth0",
    "arping_cmd": "/usr/bin/arping -c 1 -U $_IP_$ -I eth0",
}

#: Ends failover_command only when the test says so.
_HOLD = """\
while [ -e {hold} ]; do sleep 0.05; done
"""


def unavailable():
    """Why there can be no such hosts here; None when there can."""
    absent = [f"{path} ({package})" for path, package in (("/bin/ping", "iputils-ping"), ("/usr/bin/arping", "iputils-arping")) if not os.path.exists(path)]
    if absent:
        return f"not installed: {', '.join(absent)}; run compat/setup"
    return no_room() or switch.unavailable()


class Host:
    """A network of its own, on a switch, and shared memory of its own; `pid` is the process that keeps both."""

    def __init__(self, room, cable, name, address):
        self.name, self.address = name, address
        self.process = proc.start(["unshare", "--net", "--ipc", "sh", "-e", "-c", _HOST, "sh", address], log=subprocess.PIPE, as_root=True)
        self.pid = self.process.pid
        room.children.append(self.process)
        ours = os.readlink("/proc/self/ns/net")
        proc.wait_for(lambda: os.readlink(f"/proc/{self.pid}/ns/net") != ours, f"the network of {name}")
        cable.plug(name, self.pid)
        said = self.process.stdout.readline()
        if said != b"ready\n":
            raise AssertionError(f"no host {name}: {(said + self.process.stdout.read()).decode(errors='replace')}")

    def wrap(self, argv, sig=signal.SIGINT, rights=("net_admin", "net_raw")):
        """Runs it here, as the servers' account, which has these rights; to be started by root."""
        may = [f"{kind}-caps={','.join('+' + one for one in rights)}" for kind in ("--inh", "--ambient")] if rights else []
        return ["nsenter", *(f"--{kind}=/proc/{self.pid}/ns/{kind}" for kind in ("net", "ipc")), "--", "setpriv", "--reuid", env.ACCOUNT, "--regid", env.ACCOUNT, "--init-groups", *may,
                "--pdeathsig", signal.Signals(sig).name[3:], "--", *argv]

    def network(self):
        """Sockets that this thread makes meanwhile belong to the host."""
        return network_of(self.pid)

    def processes(self):
        return others_in_network(self.pid)

    def kill_all(self):
        """kill -9 of all that runs here."""

        def left():
            for pid in (found := self.processes()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            return not [pid for pid in found if proc.alive(pid)]

        proc.wait_for(left, f"all processes of {self.name} to be gone")

    def drop_address(self):
        proc.run(["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", "address", "del", f"{VIP}/24", "dev", "eth0"], as_root=True)

    def stop(self):
        self.kill_all()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class HostedServer(Server):
    """A PostgreSQL on a host of its own; `host` is set before it starts."""

    host = None

    def follow(self, primary):
        super().follow(primary)
        self.set(primary_conninfo=f"host={primary.host.address} port={primary.port} user=repmgr password=rep123 application_name={self.name}")

    def start(self, wait=True):
        with open(self.logfile, "ab") as log:
            argv = [pg("postgres"), "-D", self.data, "-p", str(self.port), "-k", self.home]
            self.process = proc.start(self.host.wrap(argv, signal.SIGQUIT, rights=()), log=log, as_root=True)
        if wait:
            self.wait_ready()
        return self

    def create(self, source):
        super().create(source)
        self.set(listen_addresses="*")
        with open(os.path.join(self.data, "pg_hba.conf"), "a") as hba:
            hba.write("host all all samenet trust\nhost replication all samenet trust\n")
        return self


class Fleet(Pgpools):
    """`nodes` pgpools on hosts of their own (pgpool0, pgpool1, ...), and `servers` PostgreSQL (server0 is the primary).

    `subjects` are those of the nodes where they are not all the one under test."""

    vip = VIP

    def __init__(self, home, nodes=3, servers=1, subjects=None, config=None, per_pool=None):
        self.room, self.cluster, self.nodes = Room(home), None, []
        self.cable = Switch(self.room, CLIENTS)
        try:
            self._build(home, nodes, servers, subjects or [env.SUBJECT] * nodes, config or {}, per_pool or {})
        except BaseException:
            self.stop()
            raise

    def _build(self, home, nodes, servers, subjects, config, per_pool):
        self.hosts = [Host(self.room, self.cable, f"pgpool{n}", f"10.99.0.{11 + n}") for n in range(nodes)]
        self.server_hosts = [Host(self.room, self.cable, f"server{n}", f"10.99.0.{51 + n}") for n in range(servers)]

        def make(root, node):
            server = HostedServer(root, node)
            server.host = self.server_hosts[node]
            return server

        self.cluster = Cluster(home, servers, os.environ.get("COMPAT_TEMPLATE") or os.path.join(home, "template"), make=make)
        self.hold = os.path.join(home, "hold")
        self.hook = Recorder(home, _HOLD.format(hold=self.hold))
        script = os.path.join(env.TOP, "compat", "hooks", "failover.sh")
        with open(script) as file:
            text = file.read()
        self.failover_sh = os.path.join(home, "failover.sh")
        with open(self.failover_sh, "w") as file:
            file.write(text)
        os.chmod(self.failover_sh, 0o755)
        own = {n: {"failover_command": f"{self.hook.command('failover', f'%d pgpool{n}')} && {self.failover_sh} %d %h %P %m %H %R", **per_pool.get(n, {})} for n in range(nodes)}
        super().__init__(home, self.cluster.servers, subjects, {**CONFIG, **config}, own, [host.address for host in self.hosts])
        for pool, host in zip(self.nodes, self.hosts):
            pool.namespace, pool.pcp_host = host, pool.run_dir
            pool.hosts = {n: server.address for n, server in enumerate(self.server_hosts)}
            pool.write_config()
            # Less than the dead time, as ours wants it; stock does not look for this file.
            pool.write(pool.file("pgpool-rs.conf"), "wd_write_lease = 3\n")

    def stop(self):
        self.release_hooks()
        if self.cluster is not None:
            self.cluster.stop()
        for host in (*getattr(self, "hosts", ()), *getattr(self, "server_hosts", ())):
            host.stop()
        for pool in self.nodes:
            pool.cleanup()
        self.room.stop()

    # failover_command

    def hold_hooks(self):
        """From now on failover_command does not end, before it has done anything."""
        open(self.hold, "w").close()

    def release_hooks(self):
        if getattr(self, "hold", None) and os.path.exists(self.hold):
            os.unlink(self.hold)

    def failovers(self):
        """(backend, host that ran the command) of each call of failover_command."""
        return [(int(call[0]), call[1]) for call in self.hook.calls("failover")]

    def wait_hook(self, backend, count=1, timeout=60):
        """Until failover_command runs for it; returns where."""
        proc.wait_for(lambda: [n for n, _ in self.failovers()].count(backend) >= count, lambda: f"failover_command for backend {backend}, call {count}; calls {self.failovers()}\n{self.log()}", timeout=timeout)
        return [host for n, host in self.failovers() if n == backend][-1]

    # Faults

    def launch(self, *numbers):
        """Starts pgpool on these hosts (on all) at the same moment; returns at once."""
        for number in numbers or range(len(self.nodes)):
            pool = self.nodes[number]
            pool.mark = pool.log_size()
            pool.launch()

    def wait_started(self, *numbers, timeout=90):
        for number in numbers or range(len(self.nodes)):
            self.nodes[number].wait_log(r"successfully started", since=self.nodes[number].mark, timeout=timeout)

    def die(self, *numbers):
        """As a power cut of a pgpool's host: nothing runs on, and no address stays."""
        for number in numbers:
            self.hosts[number].kill_all()
            self.hosts[number].drop_address()
            self.nodes[number].cleanup()

    def end(self):
        """All pgpools, at the same moment and at once."""
        for pool in self.nodes:
            if pool.running:
                pool.signal(signal.SIGINT)
        for pool in self.nodes:
            if pool.running:
                pool.wait_end(30)

    def signal_all(self, number, sig):
        for pid in self.hosts[number].processes():
            os.kill(pid, sig)

    def wd_cli(self, number, *words):
        """The stock tool at the local socket of a node."""
        return proc.run([tools.stock_tool("wd_cli"), "-f", self.nodes[number].conf, "-k", KEY, *words])

    # What is to be seen

    def running(self):
        return [number for number, pool in enumerate(self.nodes) if pool.running]

    def log(self):
        return "\n".join(f"--- {host.name} ---\n{pool.log()[-3000:]}" for host, pool in zip(self.hosts, self.nodes))

    def holders(self):
        """Numbers of the hosts that have the virtual IP."""
        return [int(name.removeprefix("pgpool")) for name in switch.holders(self.hosts, VIP)]

    def info(self, number):
        """pcp_watchdog_info -v of a node as (of the cluster, [of each node]); None without an answer."""
        done = tools.pcp(self.nodes[number], "watchdog_info", "-v", timeout=20)
        blocks = [block for block in tools.verbose_blocks(done.out) if any(block.values())]
        return (blocks[0], blocks[1:]) if done.code == 0 and blocks else None

    def shown(self, number):
        """State words of all nodes, as one of them shows them."""
        seen = self.info(number)
        states = {int(node["Pgpool port"]): node["Status Name"] for node in seen[1]} if seen else {}
        return [states.get(pool.port, "?") for pool in self.nodes]

    def wait_listed(self, number, wanted, timeout=40):
        """Until this node shows these states, by number of the node."""
        proc.wait_for(lambda: wanted.items() <= dict(enumerate(self.shown(number))).items(), lambda: f"node {number} to show {wanted}; it shows {self.shown(number)}\n{self.log()}", timeout=timeout, pause=0.2)

    def settled(self):
        """The leader, when all that run agree on it and it alone has the address; else None."""
        held = self.holders()
        if len(held) != 1:
            return None
        return held[0] if all([n for n, state in enumerate(self.shown(seer)) if state == "LEADER"] == held for seer in self.running()) else None

    def wait_leader(self, but=None, timeout=60):
        """The leader, once all agree; `but` may not be it."""

        def agreed():
            found = self.settled()
            return None if found is None or found == but else [found]

        return proc.wait_for(agreed, lambda: f"one leader with the address; holders {self.holders()}, listed {[self.shown(n) for n in self.running()]}\n{self.log()}", timeout=timeout, pause=0.2)[0]

    def wait_quorum(self, number, text, held, timeout=40):
        """Until a node shows this quorum, and it has the address or nobody has."""
        proc.wait_for(lambda: (self.info(number) or [{}])[0].get("Quorum state") == text and self.holders() == ([number] if held else []),
                      lambda: f"{text!r} at node {number}, and the address {'there' if held else 'nowhere'}; holders {self.holders()}, {self.info(number)}\n{self.log()}", timeout=timeout, pause=0.2)

    @staticmethod
    def backends(pool):
        """As of any Pgpools, but empty when the tool gets no answer, as for a moment after a failover of stock."""
        return [(block.get("Status Name"), block.get("Role")) for block in tools.verbose_blocks(tools.pcp(pool, "node_info", "-v", timeout=20).out)]

    def show_pool_nodes(self, number):
        """SHOW pool_nodes of a node, as dicts; over the socket in its folder."""
        with self.nodes[number].client(unix=True, user="app", timeout=20) as client:
            result = client.query("SHOW pool_nodes").ok()
            return [dict(zip(result.columns, row)) for row in result.rows]

    def client_at_address(self):
        """A client outside of all hosts, at the virtual IP."""
        with self.room.network():
            return wire.Client(host=VIP, port=self.nodes[self.holders()[0]].port, user="app", database="app", timeout=10)

    def client_of(self, number, timeout=10):
        """A client outside of all hosts, at the own address of a node."""
        with self.room.network():
            return wire.Client(host=self.hosts[number].address, port=self.nodes[number].port, user="app", database="app", timeout=timeout)

    def writes_through_address(self):
        """Whether a row of such a client is taken, by a primary."""
        try:
            with self.client_at_address() as client:
                for statement in ("CREATE TABLE IF NOT EXISTS touched(at timestamptz)", "INSERT INTO touched VALUES (now())"):
                    client.query(statement).ok()
                return True
        except (OSError, IndexError, wire.ServerError, wire.Closed, TimeoutError):
            return False


class FleetCase(CompatCase):
    """`fleets` are the arguments of each fleet of the class; nothing is started. Several are led through the same steps
    side by side, as most of it is waiting."""

    fleets = ({},)
    weight = 60
    waits = True

    @classmethod
    def _build(cls, where, home, add_cleanup):
        reason = unavailable()
        if reason:
            raise unittest.SkipTest(reason)
        where.all = []
        for number, arguments in enumerate(cls.fleets):
            folder = os.path.join(home, f"f{number}")
            os.mkdir(folder)
            os.chmod(folder, 0o755)
            env.hand_over(folder)
            where.all.append(Fleet(folder, **arguments))
            add_cleanup(where.all[-1].stop)
        where.fleet = where.all[0]

    def log_tail(self):
        return "\n".join(fleet.log() for fleet in getattr(self, "all", ()))

    def watch(self, fleet):
        """Looks from now on who has the address; `doubled()` of it is for how many seconds two had it."""
        seen = Watch(fleet)
        seen.start()
        self.addCleanup(seen.end)
        return seen
