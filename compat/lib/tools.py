"""The stock programs, run against the pgpool under test as an operator runs them."""

import json
import os
import shutil

from . import proc
from .server import pg

_WHERE = ("/usr/sbin", "/usr/bin")


def stock_tool(name):
    """The Debian (or RPM) place of a stock pcp_* tool; never one of ours."""
    for folder in _WHERE:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise AssertionError(f"{name} is not installed: run compat/setup")


def pcp(pool, tool, *args, user=None, host=None, timeout=30, password_file=None):
    """Runs `pcp_<tool>` with the password from .pcppass; over TCP unless `host` is a socket folder."""
    from .subject import PCP_USER

    return proc.run(
        [stock_tool(f"pcp_{tool}"), "-h", host or pool.pcp_host, "-p", str(pool.pcp_port), "-U", user or PCP_USER, "-w", *map(str, args)],
        extra_env={"PCPPASSFILE": password_file or pool.pcppass},
        timeout=timeout,
    )


def pcp_ok(pool, tool, *args, **kwargs):
    """Runs a tool that must succeed. A failed command exits 0 too, so its text counts."""
    done = pcp(pool, tool, *args, **kwargs)
    if done.code != 0 or "ERROR" in done.err or "FATAL" in done.err:
        raise AssertionError(repr(done))
    return done


def verbose_blocks(text):
    """`Name : value` lines of `-v` output, as one dict per block."""
    blocks, block = [], {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if block:
                blocks.append(block)
            block = {}
            continue
        name = name.strip()
        if name in block:
            blocks.append(block)
            block = {}
        block[name] = value.strip()
    if block:
        blocks.append(block)
    return blocks


def node_info(pool, node):
    """`pcp_node_info -v` of one node by field name."""
    return verbose_blocks(pcp_ok(pool, "node_info", "-v", "-n", node).out)[0]


def psql(port, sql, *args, host="127.0.0.1", user="app", database="app", timeout=60, password=None, stdin=None):
    """psql without a startup file: unaligned, tuples only, unless `args` say otherwise."""
    command = [pg("psql"), "-X", "-h", host, "-p", str(port), "-U", user, "-d", database]
    if sql is not None:
        command += ["-c", sql]
    return proc.run(command + list(args or ("-A", "-t")), timeout=timeout, stdin=stdin, extra_env={"PGPASSWORD": password} if password else None)


def pgbench(port, *args, host="127.0.0.1", user="app", database="app", timeout=120, extra_env=None):
    return proc.run([pgbench_path(), "-h", host, "-p", str(port), "-U", user, *map(str, args), database], timeout=timeout, extra_env=extra_env)


def pgbench_path():
    beside = pg("pgbench")
    return beside if os.path.exists(beside) else shutil.which("pgbench") or beside


def events(pool, *options):
    """What `pgpool events` (ours) prints, as one dict per event."""
    done = proc.run(pool.argv("events", "--json", *options))
    if done.code != 0:
        raise AssertionError(repr(done))
    return [json.loads(line) for line in done.out.splitlines()]


def what_if(pool, request):
    """What `pgpool --what-if` (ours) prints, as lines without their indentation."""
    done = proc.run(pool.argv("--what-if", request))
    if done.code != 0:
        raise AssertionError(repr(done))
    return [line.strip() for line in done.out.splitlines()]
