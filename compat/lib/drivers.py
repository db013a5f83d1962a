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


def _file(name):
    return os.path.join(FOLDER, name)


def _python(script):
    with _alone("venv") as venv:
        if not _fresh(venv, "requirements.txt"):
            shutil.rmtree(venv, ignore_errors=True)
            _install(["/usr/bin/python3", "-m", "venv", venv])
            _install([os.path.join(venv, "bin", "pip"), "install", "--disable-pip-version-check", "--no-deps", "-r", _file("requirements.txt")])
            _stamp(venv, "requirements.txt")
        # -B: nothing is written beside the sources.
        return [os.path.join(venv, "bin", "python"), "-B", _file(script)], {}


def _node(script):
    with _alone("node") as home:
        if not _fresh(home, "package.json", "package-lock.json"):
            shutil.rmtree(home, ignore_errors=True)
            os.makedirs(home)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_file(name), home)
            _install(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=home)
            _stamp(home, "package.json", "package-lock.json")
        return ["node", _file(script)], {"LOGIN_MODULES": os.path.join(home, "node_modules")}


def _java(name):
    with _alone("java-" + name.lower()) as home:
        if not _fresh(home, name + ".java"):
            os.makedirs(home, exist_ok=True)
            _install(["javac", "-encoding", "UTF-8", "-cp", JDBC, "-d", home, _file(name + ".java")])
            _stamp(home, name + ".java")
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{home}:{JDBC}", name], {}


def _rust(example, source):
    with _alone("cargo"):
        built = os.path.join(TARGET, "debug", "examples", example)
        if not os.path.exists(built) or os.path.getmtime(built) < os.path.getmtime(_file(source)):
            _install(["cargo", "build", "--locked", "--quiet", "--example", example], cwd=env.TOP)
        return [built], {}


def any_mode():
    """Path of pgpool without the refusal of modes that are not there yet (compat/any_mode.rs), made from the sources as they are."""
    built = os.path.join(TARGET, "debug", "examples", "any-mode")
    sources = [os.path.join(env.TOP, *words) for words in (("Cargo.lock",), ("Cargo.toml",), ("compat", "any_mode.rs"))]
    for folder, _, names in os.walk(os.path.join(env.TOP, "src")):
        sources += [os.path.join(folder, name) for name in names]
    # Cargo is asked only when it has something to do: it waits for whoever builds meanwhile.
    if not os.path.exists(built) or os.path.getmtime(built) < max(map(os.path.getmtime, sources)):
        cargo = shutil.which("cargo", path=os.environ.get("PATH", "") + os.pathsep + os.path.expanduser("~/.cargo/bin"))
        if cargo is None:
            raise unittest.SkipTest("compat/any_mode.rs cannot be built: there is no cargo")
        with _alone("cargo"):
            _install([cargo, "build", "--locked", "--quiet", "--example", "any-mode"], cwd=env.TOP)
    return built


def _c(source):
    with _alone("c-" + source.removesuffix(".c")) as built:
        if not _fresh(built, source):
            _install(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-I/usr/include/postgresql", "-o", built, _file(source), "-lpq"])
            _stamp(built, source)
        return [built], {}


#: Programs that log in and run one statement.
PROGRAMS = {
    "psql": lambda: ([_file("login.sh")], {"LOGIN_PSQL": pg("psql")}),
    "psycopg": lambda: _python("login.py"),
    "node-postgres": lambda: _node("login.js"),
    "JDBC": lambda: _java("Login"),
    "tokio-postgres": lambda: _rust("driver-login", "login.rs"),
}

#: Programs that do all that their driver can, and print what it says.
WORKLOADS = {
    "psycopg": lambda: _python("work_psycopg.py"),
    "psycopg2": lambda: _python("work_psycopg2.py"),
    "asyncpg": lambda: _python("work_asyncpg.py"),
    "node-postgres": lambda: _node("work.js"),
    "JDBC": lambda: _java("Work"),
    "tokio-postgres": lambda: _rust("driver-work", "work.rs"),
    "libpq": lambda: _c("work.c"),
}


def prepare(name, programs=None):
    """Installs or builds what the driver needs; raises SkipTest only when a registry is not there."""
    return (programs or PROGRAMS)[name]()


def _run(program, place, seconds):
    argv, more = program
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment.update({"LC_ALL": "C.UTF-8", "HOME": CACHE, **more, **{"LOGIN_" + k: v for k, v in place.items()}})
    return subprocess.run(argv, capture_output=True, encoding="utf-8", errors="backslashreplace", env=environment, stdin=subprocess.DEVNULL, timeout=seconds * env.SLOW)


def login(program, *, host, port, user, password, database="app", sslmode="disable", rootcert=""):
    """Runs a driver's program: (its line or None, what it said on the standard error)."""
    place = {"HOST": host, "PORT": str(port), "USER": user, "PASSWORD": password, "DATABASE": database, "SSLMODE": sslmode, "ROOTCERT": rootcert}
    done = _run(program, place, 60)
    return (done.stdout.strip() if done.returncode == 0 else None), done.stderr.strip()


def work(program, port, seconds=60):
    """Runs a workload as user app: the lines of its transcript; how it ended, if not well, is the last."""
    place = {"HOST": "127.0.0.1", "PORT": str(port), "USER": "app", "PASSWORD": "none", "DATABASE": "app", "SSLMODE": "disable"}
    try:
        done = _run(program, place, seconds)
    except subprocess.TimeoutExpired as error:
        return [*(error.stdout or b"").decode("utf-8", "replace").splitlines(), f"*** did not end within {seconds * env.SLOW:.0f} s"]
    lines = done.stdout.splitlines()
    return lines if done.returncode == 0 else [*lines, f"*** exit status {done.returncode}", *done.stderr.splitlines()[-15:]]
