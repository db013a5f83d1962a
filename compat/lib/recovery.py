"""What online recovery needs at the servers: the stock extension and scripts in the primary's data directory.

The first stage has the interface of the seed's pgpool_recovery.sh (primary's data directory, host and data
directory of the new node) and uses of the further arguments only the primary's port, which every release gives.
"""

import os
import signal

from . import env, proc
from .server import pg

_STAGE = """\
#!/bin/sh
# $1 data directory of the primary, $2 host and $3 data directory of the node to make, $4 port of the primary
calls="{home}/calls"
for word in "$@"; do printf '%s\\n' "$word"; done > "$calls.part"
mv "$calls.part" "$calls"
{before}
rm -rf "$3"
"{pg_basebackup}" -h 127.0.0.1 -p "$4" -U postgres -D "$3" -X stream -c fast -N || exit 1
{after}
"""

_FOLLOW = """\
touch "$3/standby.signal"
echo "primary_conninfo = 'host=127.0.0.1 port=$4 user=repmgr password=rep123 application_name=$(basename "$(dirname "$3")" | sed s/^n/server/)'" >> "$3/postgresql.auto.conf"
"""

_START = """\
#!/bin/sh
# $1 host and $2 data directory of the node to start
printf '%s\\n' "$@" > "{home}/starts"
port=$(cat "{home}/port.$(basename "$(dirname "$2")")")
"{postgres}" -D "$2" -p "$port" -k "$(dirname "$2")" >> "{home}/started.log" 2>&1 < /dev/null &
"""


class Scripts:
    """Installs them at `cluster.primary`; `stop()` ends the servers that the start script has started."""

    def __init__(self, cluster, home, stage="basebackup.sh"):
        self.cluster, self.home, self.stage = cluster, os.path.join(home, "recovery"), stage
        os.makedirs(self.home)
        env.hand_over(self.home)
        for server in cluster.servers:
            self._write(os.path.join(self.home, f"port.n{server.node}"), f"{server.port}\n")

    def install(self, extension=True, before="", after=_FOLLOW, start=True):
        """`before` and `after` are shell text around the copying."""
        if extension:
            self.cluster.primary.rows("CREATE EXTENSION IF NOT EXISTS pgpool_recovery", database="template1")
        self.write_stage(before=before, after=after)
        if start:
            self._write(self._place("pgpool_remote_start"), _START.format(home=self.home, postgres=pg("postgres")), 0o755)
        return self

    def write_stage(self, before="", after=_FOLLOW):
        text = _STAGE.format(home=self.home, before=before, after=after, pg_basebackup=pg("pg_basebackup"))
        self._write(self._place(self.stage), text, 0o755)

    def remove(self, script):
        os.unlink(self._place(script))

    def _place(self, script):
        return os.path.join(self.cluster.primary.data, script)

    @staticmethod
    def _write(path, text, mode=0o644):
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        env.hand_over(path)

    @property
    def call(self):
        """The arguments of the last first stage; None: it has not run."""
        return self._lines("calls")

    @property
    def start_call(self):
        return self._lines("starts")

    def _lines(self, name):
        try:
            with open(os.path.join(self.home, name)) as file:
                return file.read().splitlines()
        except OSError:
            return None

    def stop(self):
        for server in self.cluster.servers:
            if server.process is None:
                self.stop_started(server)

    @staticmethod
    def stop_started(server):
        """Ends the postmaster that owns the data directory, if one runs."""
        try:
            with open(os.path.join(server.data, "postmaster.pid")) as file:
                pid = int(file.readline())
            with open(f"/proc/{pid}/cmdline") as file:
                ours = server.data in file.read()
        except (OSError, ValueError):
            return
        if ours and proc.alive(pid):
            os.kill(pid, signal.SIGQUIT)
            proc.wait_for(lambda: not proc.alive(pid), f"the started {server.name} to end")
