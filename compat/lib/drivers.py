"""Drivers of applications, installed beside the build and run as programs of their own; see compat/drivers/README.md."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import unittest
from contextlib import contextmanager

from . import env
from .server import pg

FOLDER = os.path.join(env.TOP, "compat", "drivers")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(env.TOP, "target"))
CACHE = os.path.join(TARGET, "compat-drivers")
JDBC = "/usr/share/java/postgresql.jar"

_UNREACHABLE = re.compile(r"name resolution|Name or service not known|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|timed out|"
                          r"Failed to establish a new connection|Network is unreachable|Could not connect|spurious network error", re.I)


@contextmanager
def _alone(name):
    """One process at a time makes `name` in the cache; yields its path and whether it is there already."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield os.path.join(CACHE, name)


def _fresh(path, *sources):
    """Whether `path` was made from what the sources say now."""
    said = "".join(open(os.path.join(FOLDER, s), encoding="utf-8").read() for s in sources)
    stamp = path + ".stamp"
    try:
        with open(stamp, encoding="utf-8") as old:
            return old.read() == said
    except OSError:
        return False


def _stamp(path, *sources):
    said = "".join(open(os.path.join(FOLDER, s), encoding="utf-8").read() for s in sources)
    with open(path + ".stamp", "w", encoding="utf-8") as out:
        out.write(said)


def _install(argv, cwd=None):
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        text = f"{' '.join(argv)}\n{done.stdout[-1500:]}{done.stderr[-3000:]}"
        if _UNREACHABLE.search(text):
            print(f"compat: a package registry cannot be reached, so a driver is not tested:\n{text}", file=sys.stderr)
            raise unittest.SkipTest("a package registry cannot be reached")
        raise AssertionError(text)


def _psycopg():
    with _alone("venv") as venv:
        if not _fresh(venv, "requirements.txt"):
            shutil.rmtree(venv, ignore_errors=True)
            _install(["/usr/bin/python3", "-m", "venv", venv])
            _install([os.path.join(venv, "bin", "pip"), "install", "--disable-pip-version-check", "--no-deps", "-r", os.path.join(FOLDER, "requirements.txt")])
            _stamp(venv, "requirements.txt")
        return [os.path.join(venv, "bin", "python"), os.path.join(FOLDER, "login.py")], {}


def _node():
    with _alone("node") as home:
        if not _fresh(home, "package.json", "package-lock.json"):
            shutil.rmtree(home, ignore_errors=True)
            os.makedirs(home)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(os.path.join(FOLDER, name), home)
            _install(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=home)
            _stamp(home, "package.json", "package-lock.json")
        return ["node", os.path.join(FOLDER, "login.js")], {"LOGIN_MODULES": os.path.join(home, "node_modules")}


def _jdbc():
    with _alone("java") as home:
        if not _fresh(home, "Login.java"):
            os.makedirs(home, exist_ok=True)
            _install(["javac", "-encoding", "UTF-8", "-d", home, os.path.join(FOLDER, "Login.java")])
            _stamp(home, "Login.java")
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{home}:{JDBC}", "Login"], {}


def _tokio_postgres():
    with _alone("cargo"):
        built = os.path.join(TARGET, "debug", "examples", "driver-login")
        if not os.path.exists(built) or os.path.getmtime(built) < os.path.getmtime(os.path.join(FOLDER, "login.rs")):
            _install(["cargo", "build", "--locked", "--quiet", "--example", "driver-login"], cwd=env.TOP)
        return [built], {}


def _psql():
    return [os.path.join(FOLDER, "login.sh")], {"LOGIN_PSQL": pg("psql")}


PROGRAMS = {"psql": _psql, "psycopg": _psycopg, "node-postgres": _node, "JDBC": _jdbc, "tokio-postgres": _tokio_postgres}


def prepare(name):
    """Installs or builds what the driver needs; raises SkipTest only when a registry is not there."""
    return PROGRAMS[name]()


def login(program, *, host, port, user, password, database="app", sslmode="disable", rootcert=""):
    """Runs a driver's program: (its line or None, what it said on the standard error)."""
    argv, more = program
    place = {"HOST": host, "PORT": str(port), "USER": user, "PASSWORD": password, "DATABASE": database, "SSLMODE": sslmode, "ROOTCERT": rootcert}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment.update({"LC_ALL": "C.UTF-8", "HOME": CACHE, **more, **{"LOGIN_" + k: v for k, v in place.items()}})
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=60 * env.SLOW)
    return (done.stdout.strip() if done.returncode == 0 else None), done.stderr.strip()
