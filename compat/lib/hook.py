"""Hook commands that record how they were called, one file per call, in the order of calls."""

import json
import os
import stat

from . import env

_RECORD = """\
#!/bin/sh
# Records its arguments (one per line, counted) and sleeps $HOOK_SLEEP seconds.
# $1 is the name of the hook; the calls are numbered by their time.
call="{calls}/$(date +%s%N).$1.$$"
name=$1
shift
{{
    printf 'name=%s\\n' "$name"
    printf 'count=%s\\n' "$#"
    for word in "$@"; do printf 'arg=%s\\n' "$word"; done
    printf 'cwd=%s\\n' "$(pwd)"
}} > "$call.part"
mv "$call.part" "$call"
{more}
"""


class Recorder:
    """A shell script `record`; `command(name, placeholders)` is the text for pgpool.conf."""

    def __init__(self, home, more=""):
        self.calls_dir = os.path.join(home, "calls")
        self.script = os.path.join(home, "record.sh")
        self.held = os.path.join(home, "held")
        os.makedirs(self.calls_dir, exist_ok=True)
        env.hand_over(self.calls_dir)
        with open(self.script, "w") as script:
            script.write(_RECORD.format(calls=self.calls_dir, more=more))
        os.chmod(self.script, stat.S_IRWXU | 0o055)

    def command(self, name, placeholders="%d %h %p %D %m %H %M %P %r %R"):
        return f"{self.script} {name} {placeholders}"

    def hold(self):
        """Shell text that ends at `release`: for a command that goes on as long as the test looks at what is done meanwhile."""
        open(self.held, "w").close()
        return f"while [ -e {self.held} ]; do sleep 0.05; done"

    def release(self):
        os.unlink(self.held)

    def calls(self, name=None):
        """Argument lists in the order of calls."""
        found = []
        for entry in sorted(os.listdir(self.calls_dir)):
            if entry.endswith(".part"):
                continue
            with open(os.path.join(self.calls_dir, entry)) as call:
                lines = call.read().splitlines()
            if name is None or lines[0] == f"name={name}":
                found.append([line[4:] for line in lines if line.startswith("arg=")])
        return found

    def __repr__(self):
        return json.dumps(self.calls(), indent=1)
