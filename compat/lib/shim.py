"""Ends the pgpool under test at a chosen moment, or shows it another wall clock; see shim.c.

The machine's clock is never touched, and the program is the one that operators get.
"""

import os
import subprocess

from . import env


class Shim:
    """The library, compiled into `home`, and the clock that it shows."""

    def __init__(self, home):
        self.library = os.path.join(home, "shim.so")
        self.clock = os.path.join(home, "clock")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)
        os.chmod(self.library, 0o755)
        self.set_clock(0)

    def set_clock(self, seconds):
        """By how much the wall clock is wrong from now on."""
        part = self.clock + ".part"
        with open(part, "w") as out:
            out.write(str(seconds))
        env.hand_over(part)
        os.replace(part, self.clock)

    def environment(self, kill=None):
        """For `Pgpool.extra_env`. `kill` is like "rename:pgpool_status:2:after"."""
        found = {"LD_PRELOAD": self.library, "SHIM_CLOCK": self.clock}
        if kill:
            found["SHIM_KILL"] = kill
        return found
