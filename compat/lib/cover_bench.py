"""The row `lease` of compat/bench: what a write costs when its answer waits for a majority of the watchdog nodes.

Three pgpools on this host before one server. Writers of one row each, through the leader and through a standby; the
write lease on, off, and the original, in turn.
"""

import os
import re

from . import env, proc, tools
from .pgpools import Pgpools
from .server import Cluster

#: By name: the subject, and what pgpool-rs.conf says.
KINDS = {"lease on": ("ours", ""), "lease off": ("ours", "wd_write_lease = 0\n"), "stock": ("stock", "")}
CLIENTS = (1, 16)


def measure(names, rounds, seconds):
    """Prints a line for each kind and number of clients; returns milliseconds per write."""
    root = env.scratch("pgpool-bench-")
    results, cluster, sets = {}, None, {}
    try:
        cluster = Cluster(root, 1, settings={"max_connections": "300"})
        with cluster.primary.client(user="app") as client:
            client.query("CREATE TABLE written (n int)").ok()
        script = os.path.join(root, "insert.sql")
        with open(script, "w") as out:
            out.write("INSERT INTO written VALUES (1);\n")
        for number, (kind, (subject, own)) in enumerate(KINDS.items()):
            if subject in names:
                config = {"load_balance_mode": False, "num_init_children": 32, "memory_cache_enabled": False}
                sets[kind] = Pgpools(os.path.join(root, f"s{number}"), cluster.servers, [subject] * 3, config)
                for pool in sets[kind]:
                    pool.write(pool.file("pgpool-rs.conf"), own)
                sets[kind].start()
                proc.wait_for(lambda p=sets[kind]: p.leader() is not None, f"a leader, {kind}", timeout=60)
        proc.wait_for(lambda: all("which is on from now" in pool.log() for pool in sets.get("lease on", ())), "the lease", timeout=60)
        for _ in range(rounds):
            for clients in CLIENTS:
                for kind, pools in sets.items():
                    leader = pools.leader()
                    for place, pool in (("leader", pools[leader]), ("standby", pools[(leader + 1) % 3])):
                        done = tools.pgbench(pool.port, "-n", "-f", script, "-T", seconds, "-c", clients, user="app", timeout=seconds + 60)
                        if done.code != 0:
                            raise AssertionError(repr(done))
                        rate = float(re.search(r"tps = ([\d.]+)", done.out).group(1))
                        results.setdefault((clients, place, kind), []).append(1000 * clients / rate)
    finally:
        for pools in sets.values():
            pools.cleanup()
        if cluster:
            cluster.stop()
        env.remove(root)
    for (clients, place, kind), samples in results.items():
        middle = sorted(samples)[len(samples) // 2]
        print(f"lease       {clients:2} writers through the {place:8} {kind:10} {middle:7.3f} ms per write, {min(samples):.3f} to {max(samples):.3f}", flush=True)
    return {" ".join(map(str, key)): samples for key, samples in results.items()}
