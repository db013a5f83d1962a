"""Several pgpools with a watchdog on one host: every one with a wd_port and a heartbeat port of its own on 127.0.0.1."""

import os
import re
import signal

from . import proc, tools
from .subject import Pgpool

KEY = "a watchdog key"

#: Fast, and with what a test wants to see: votes need a consensus of two health checks.
CONFIG = {
    "use_watchdog": True,
    "wd_authkey": KEY,
    "wd_interval": 2,
    "wd_heartbeat_deadtime": 10,
    "wd_lifecheck_method": "heartbeat",
    "failover_when_quorum_exists": True,
    "failover_require_consensus": True,
    "sr_check_period": 1,
    "health_check_period": 2,
    "health_check_timeout": 3,
    "health_check_max_retries": 1,
    "health_check_retry_delay": 1,
}


class Pgpools:
    """`subjects`: one for each node, "ours" or "stock". The node's number is its wd_priority from the end: the first leads."""

    def __init__(self, home, servers, subjects, config=None, per_pool=None, hosts=None):
        """`hosts`: the addresses of the nodes' hosts; `per_pool`: what is in the file of one node alone."""
        ports = [(proc.free_port(), proc.free_port()) for _ in subjects]
        self.nodes = []
        for number, subject in enumerate(subjects):
            folder = os.path.join(home, f"w{number}")
            own = {**CONFIG, "wd_priority": 10 - number, "wd_ipc_socket_dir": os.path.join(folder, "run"), **(config or {}), **((per_pool or {}).get(number, {}))}
            self.nodes.append(Pgpool(folder, servers, subject=subject, config=own))
        self.listed = {}
        for number, (pool, (wd_port, heartbeat_port)) in enumerate(zip(self.nodes, ports)):
            pool.wd_port = wd_port
            host = hosts[number] if hosts else "127.0.0.1"
            self.listed.update({
                f"hostname{number}": host, f"wd_port{number}": wd_port, f"pgpool_port{number}": pool.port,
                f"heartbeat_hostname{number}": host, f"heartbeat_port{number}": heartbeat_port,
            })
        for number, pool in enumerate(self.nodes):
            pool.write(pool.file("pgpool_node_id"), f"{number}\n")
            pool.write_config(**self.listed)

    def __getitem__(self, number):
        return self.nodes[number]

    def __iter__(self):
        return iter(self.nodes)

    def start(self, timeout=60.0):
        """All at once; returns when every node serves and the first knows who leads."""
        for pool in self.nodes:
            pool.launch()
        for pool in self.nodes:
            pool.wait_log(r"successfully started", timeout=timeout)
        proc.wait_for(lambda: self.leader() is not None, lambda: f"one leader; the first node sees {self.states()}")
        return self

    def cleanup(self):
        # Together: one that stops last would wait for nobody, and a new election costs seconds.
        for pool in self.nodes:
            if pool.running:
                pool.signal(signal.SIGINT)
        for pool in self.nodes:
            pool.cleanup()

    # What they show

    @staticmethod
    def seen_by(pool):
        """State by port for clients, as `pcp_watchdog_info` of this node has it; empty: it does not answer."""
        done = tools.pcp(pool, "watchdog_info")
        found = re.findall(r"^\S+:(\d+) .* (LEADER|STANDBY|[A-Z][A-Z ]+?) \d+ \S+$", done.out, re.M)
        return {int(port): state for port, state in found}

    def states(self, seen_from=0):
        """In the order of the nodes, as that one sees them."""
        seen = self.seen_by(self.nodes[seen_from])
        return [seen.get(pool.port, "") for pool in self.nodes]

    def leader(self, seen_from=0):
        states = self.states(seen_from)
        return states.index("LEADER") if states.count("LEADER") == 1 else None

    def wait_states(self, *states, timeout=40.0):
        """Until every node that runs sees these."""
        running = [number for number, pool in enumerate(self.nodes) if pool.running]
        proc.wait_for(lambda: all(self.states(n) == list(states) for n in running),
                      lambda: f"{states}, and they see {[self.states(n) for n in running]}", timeout=timeout)

    @staticmethod
    def backends(pool):
        """Status words and roles of the backends, as this node has them."""
        shown = tools.pcp_ok(pool, "node_info", "-v").out
        return [(block.get("Status Name"), block.get("Role")) for block in tools.verbose_blocks(shown)]

    def wait_backends(self, *words, timeout=40.0, nodes=None):
        """Until every node that runs has its backends so; `words` as ("up", "down"); waiting counts as up."""
        running = [pool for number, pool in enumerate(self.nodes) if pool.running and (nodes is None or number in nodes)]

        def now():
            return [["up" if status == "waiting" else status for status, _ in self.backends(pool)] for pool in running]

        proc.wait_for(lambda: all(got == list(words) for got in now()), lambda: f"{words}, and they have {now()}", timeout=timeout)

    def roles(self, pool):
        return [role for _, role in self.backends(pool)]
