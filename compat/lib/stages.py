"""An online recovery in two stages, as the manual has it for native replication: a copy, then what was written meanwhile.

The first stage copies the source while clients work. The second runs while nobody does: it saves what sequences
have handed out, and has the last WAL archived (`pgpool_switch_xlog` of the extension). The start script starts the
copy, which reads the archive to its end and is a server of its own then.
"""

import os
import time
from collections import namedtuple

from . import env
from .recovery import Scripts
from .server import pg

FIRST, SECOND, START = "copy.sh", "catch_up.sh", "pgpool_remote_start"

#: For servers whose WAL is archived beside their data directory.
ARCHIVING = {"archive_mode": "on", "archive_command": "cp %p ../archive/%f"}

_NOTE = """\
#!/bin/sh
# A line per call: time, then the words, between tabs.
{{ date +%s.%N; printf '%s\\n' "$@"; }} | paste -s - >> "{home}/calls"
"""

_FIRST = """\
#!/bin/sh
# $1 data directory of the source, $2 host and $3 data directory of the node to make, $4 port of the source
"{home}/note" {name} "$@"
{before}
rm -rf "$3"
"{pg_basebackup}" -h 127.0.0.1 -p "$4" -U postgres -D "$3" -X fetch -c fast -N || exit 1
echo "restore_command = 'cp \\"$1/../archive/%f\\" %p'" >> "$3/postgresql.auto.conf"
touch "$3/recovery.signal"
"""

_SECOND = """\
#!/bin/sh
# The words of the first stage.
"{home}/note" {name} "$@"
{before}
ask() {{ "{psql}" -X -A -t -h 127.0.0.1 -p "$port" -U postgres -v ON_ERROR_STOP=1 "$@"; }}
port=$4
for database in $(ask -d template1 -c "SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn"); do
    ask -d "$database" -c "SELECT setval(oid, nextval(oid)) FROM pg_class WHERE relkind = 'S'" || exit 1
done
ask -d template1 -c "SELECT pgpool_switch_xlog('$1/../archive')" || exit 1
"{home}/note" "{name} done"
"""

_START = """\
#!/bin/sh
# $1 host and $2 data directory of the node to start
"{home}/note" {name} "$@"
{before}
port=$(cat "{home}/port.$(basename "$(dirname "$2")")")
"{postgres}" -D "$2" -p "$port" -k "$(dirname "$2")" >> "{home}/started.log" 2>&1 < /dev/null &
"""

_TEXTS = {FIRST: _FIRST, SECOND: _SECOND, START: _START}

#: A script that was called: when, and with which words.
Call = namedtuple("Call", "at script words")


class Stages(Scripts):
    """Installs the three scripts at node 0."""

    def __init__(self, cluster, home):
        super().__init__(cluster, home, FIRST)
        self._write(os.path.join(self.home, "note"), _NOTE.format(home=self.home), 0o755)
        for server in cluster.servers:
            archive = os.path.join(server.home, "archive")
            os.makedirs(archive, exist_ok=True)
            env.hand_over(archive)

    def install(self, **before):
        """`first`, `second` and `start` are shell text that runs before the work of each."""
        self.cluster.primary.rows("CREATE EXTENSION IF NOT EXISTS pgpool_recovery", database="template1")
        for script, name in ((FIRST, "first"), (SECOND, "second"), (START, "start")):
            self.write(script, before.get(name, ""))
        return self

    def write(self, script, before=""):
        text = _TEXTS[script].format(home=self.home, name=script, before=before, **{tool: pg(tool) for tool in ("pg_basebackup", "psql", "postgres")})
        self._write(self._place(script), text, 0o755)

    @property
    def calls(self):
        lines = [line.split("\t") for line in self._lines("calls") or ()]
        return [Call(float(at), script, words) for at, script, *words in lines]

    @property
    def names(self):
        """What has run, in its order."""
        return [call.script for call in self.calls]

    def of(self, script):
        """The last call of a script."""
        return [call for call in self.calls if call.script == script][-1]


def now():
    """On the clock of `Call.at`."""
    return time.time()
