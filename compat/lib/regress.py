"""PostgreSQL's own regression suite: one pass of it against a server or what stands before it."""

import difflib
import os
import re
import subprocess
import time

from . import env, proc, server

#: What the suite reads or loads, beside the schedule.
_PARTS = ("sql", "expected", "data", "parallel_schedule", "resultmap", "pg_regress", "regress.so", "refint.so", "autoinc.so")
_LINE = re.compile(r"^(?:test)?\s*(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))\b")

#: What cannot be as on one server when others do a part of the reading: the lines of a test's output that may differ.
BY_NATURE = {
    "stats": (re.compile(r" [tf]( +\| [tf])*"), "it looks on the primary for the scans of a table, and they ran on a standby"),
}

#: Every commit waits until both standbys show it, so that it does not matter to the suite's many sessions where each
#: reads. The rest is as in the server that the suite starts for itself.
SERVER_SETTINGS = {
    "synchronous_commit": "remote_apply",
    "synchronous_standby_names": "FIRST 2 (server1, server2)",
    "shared_buffers": "128MB",
    "max_prepared_transactions": "2",
    "log_temp_files": "128kB",
    "log_lock_waits": "on",
    # A session whose standby holds a lock that replay wants is waited for this long; then its statement fails.
    "max_standby_streaming_delay": "10s",
}


def source():
    """The built source tree: compat/pg-source fetches and builds it the first time."""
    done = subprocess.run([os.path.join(env.TOP, "compat", "pg-source"), "--build"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise AssertionError("there is no source of PostgreSQL to take the regression suite from, see above")
    return os.path.join(done.stdout.strip(), "src", "test", "regress")


class Pass:
    """The suite in a folder of its own, run once."""

    def __init__(self, name, folder, suite):
        self.name, self.folder = name, folder
        self.verdicts, self.seconds, self.trouble = {}, 0.0, None
        results = os.path.join(folder, "results")
        os.makedirs(results)
        env.hand_over(results)
        for part in _PARTS:
            server.checked(["cp", "-r", "--no-preserve=ownership", os.path.join(suite, part), folder])

    def run(self, port, schedule, limit, say):
        """`say` gets a line now and then. Past `limit` seconds the pass is given up."""
        path = os.path.join(self.folder, "schedule")
        with open(path, "w") as out:
            # A test of chance.
            out.write("ignore: random\n")
            out.writelines(f"test: {' '.join(group)}\n" for group in schedule)
        wanted = [test for group in schedule for test in group]
        log = os.path.join(self.folder, "log")
        argv = [os.path.join(self.folder, "pg_regress"), f"--inputdir={self.folder}", f"--outputdir={self.folder}", f"--dlpath={self.folder}",
                f"--bindir={env.PG_BIN}", "--host=127.0.0.1", f"--port={port}", "--user=postgres", "--max-concurrent-tests=20", f"--schedule={path}"]
        began = time.monotonic()
        with open(log, "ab") as out:
            process = proc.start(argv, log=out, cwd=self.folder)
        told = 0
        try:
            while process.poll() is None:
                time.sleep(0.2)
                self.seconds = time.monotonic() - began
                if self.seconds > limit * env.SLOW:
                    self.trouble = f"given up after {self.seconds:.0f} s"
                    break
                if self.seconds > told + 30:
                    told = self.seconds
                    say(f"{self.name}: {len(self._read(log))} of {len(wanted)} tests after {self.seconds:.0f} s")
        finally:
            proc.end_session(process.pid)
            process.wait()
        self.seconds = time.monotonic() - began
        self.verdicts = self._read(log)
        if len(self.verdicts) < len(wanted) and self.trouble is None:
            with open(log, errors="replace") as text:
                self.trouble = f"pg_regress ended with status {process.returncode}; it said last:\n{text.read()[-1000:]}"
        return self

    @staticmethod
    def _read(log):
        with open(log, errors="replace") as text:
            return {m.group(1): m.group(2) == "ok" for m in map(_LINE.match, text) if m}

    def output(self, test):
        try:
            with open(os.path.join(self.folder, "results", f"{test}.out"), errors="replace") as out:
                # Where the suite lies is not the same in both passes.
                return out.read().replace(self.folder, "").splitlines()
        except OSError:
            return []

    def passes(self, test, other=None):
        """As pg_regress says, or its output is that of the `other` pass."""
        if self.verdicts.get(test):
            return True
        return other is not None and test in self.verdicts and self.output(test) == other.output(test) != []


def difference(test, direct, through):
    return list(difflib.unified_diff(direct.output(test), through.output(test), f"{test}, directly", f"{test}, {through.name}", lineterm=""))


def differs_by_nature(test, direct, through):
    """Why, or None."""
    if test not in BY_NATURE or test not in through.verdicts:
        return None
    lines, why = BY_NATURE[test]
    changed = [line[1:] for line in difference(test, direct, through)[2:] if line[:1] in "+-"]
    return why if all(lines.fullmatch(line) for line in changed) else None


def schedule(folder, only=()):
    """The groups of parallel_schedule; with `only`, of these tests and of those that make what nearly all need."""
    with open(os.path.join(folder, "parallel_schedule")) as text:
        groups = [line.split()[1:] for line in text if line.startswith("test:")]
    if not only:
        return groups
    wanted = {"test_setup", "copy", "create_index", *only}
    unknown = set(only) - {test for group in groups for test in group}
    if unknown:
        raise AssertionError(f"parallel_schedule has no test {', '.join(sorted(unknown))}")
    return [kept for kept in ([test for test in group if test in wanted] for group in groups) if kept]
