"""A cluster made by Debian's pgpool_setup with the subject as its pgpool, alone on a host of a room.

The scripts that pgpool_setup generates reach a node by `ssh localhost`, copy a file over /tmp and start servers
that nobody waits for, hence the host. They call pgpool and the pcp tools in PGPOOL_INSTALL_DIR: the first is
the subject, the others are stock's.
"""

import os

from . import env, proc
from .room import Host, Room

SAMPLES = "/usr/share/doc/pgpool2/examples"
SCRIPT = "/usr/sbin/pgpool_setup"
#: pgpool_setup's own ports: pgpool, PCP, and the servers from here on.
PORT, PCP_PORT, SERVER_PORT = 11000, 11001, 11002


def missing():
    """What of pgpool_setup is not installed here, for tests that skip."""
    return [path for path in (SCRIPT, f"{SAMPLES}/pgpool.conf.sample", "/usr/bin/ed") if not os.path.exists(path)]


class SetupCluster:
    """`made` is what pgpool_setup has printed; the cluster is stopped, as the script leaves it."""

    def __init__(self, home, nodes, binary, options=""):
        self.nodes = nodes
        self.room = Room(home)
        try:
            self.host = Host(self.room, "setup")
            self.top = f"{self.host.home}/cluster"
            self.host.folder(self.top)
            self.host.folder("/run/sockets")
            self.host.copy(binary, "/opt/p/bin/pgpool")
            for tool in ("recovery_node", "attach_node", "detach_node", "node_info", "promote_node", "node_count", "stop_pgpool", "reload_config"):
                self.host.link(f"/opt/p/bin/pcp_{tool}", f"/usr/sbin/pcp_{tool}")
            for tool in ("pg_md5", "pg_enc"):
                self.host.link(f"/opt/p/sbin/{tool}", f"/usr/sbin/{tool}")
            self.host.start()
            variables = f"PGPOOL_INSTALL_DIR=/opt/p PGPOOLDIR={SAMPLES} PGSOCKET_DIR=/run/sockets PGBIN={env.PG_BIN}"
            # A server that it starts would hold a pipe open.
            done = self.host.run(f"cd {self.top} && {variables} {SCRIPT} -n {nodes} {options} >{self.host.home}/made 2>&1 </dev/null", timeout=180)
            self.made = self.host.read(f"{self.host.home}/made")
            if done.code != 0:
                raise AssertionError(f"pgpool_setup failed with status {done.code}:\n{self.made[-3000:]}\n{self.log()[-3000:]}")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.room.stop()

    def generated(self, name):
        """Runs a script that pgpool_setup has made in the top folder."""
        self.host.ok(f"cd {self.top} && ./{name} >{self.host.home}/{name}.out 2>&1 </dev/null", timeout=90)

    def log(self, name="pgpool.log"):
        return self.host.read(f"{self.top}/log/{name}")

    def pool_nodes(self):
        """show pool_nodes as a list of dicts."""
        text = self.host.ok(f"{env.PG_BIN}/psql -A -h localhost -p {PORT} -d test -P footer=off -c 'show pool_nodes'", timeout=30)
        names, *rows = [line.split("|") for line in text.splitlines()]
        return [dict(zip(names, row)) for row in rows]

    def states(self):
        """(status, role) of each node; None while nobody answers. A node that waits for its first client is up."""
        try:
            return [(n["status"] if n["status"] != "waiting" else "up", n["role"]) for n in self.pool_nodes()]
        except AssertionError:
            return None

    def wait_states(self, wanted, timeout):
        proc.wait_for(lambda: self.states() == wanted, lambda: f"show pool_nodes to say {wanted}; says {self.states()}\n{self.log()[-3000:]}\n{self.log('failover.log')}", timeout)

    def sql(self, port, sql):
        return self.host.ok(f"{env.PG_BIN}/psql -A -t -h localhost -p {port} -d test -c \"{sql}\"", timeout=30).strip()

    def standbys_of(self, node):
        """application_name of the servers that stream from it."""
        return sorted(self.sql(SERVER_PORT + node, "select application_name from pg_stat_replication where state = 'streaming'").split())

    def pcp(self, tool, *arguments, timeout=90):
        return self.host.run(f"PCPPASSFILE={self.top}/pcppass /opt/p/bin/pcp_{tool} -w -h localhost -p {PCP_PORT} {' '.join(arguments)}", timeout=timeout)

    def kill_server(self, node):
        """kill -9 of the postmaster; its processes see that and end."""
        self.host.ok(f"kill -9 $(head -n 1 {self.top}/data{node}/postmaster.pid)")

    def processes(self):
        """Command lines in the room, without its own."""
        lines = self.host.ok("ps -e -o args=", root=True).splitlines()
        return [line for line in lines if "postgres" in line or "pgpool" in line]
