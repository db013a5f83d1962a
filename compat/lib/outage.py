"""What clients notice of a failover: a writer that goes on whatever happens, and ways in which a primary ends."""

import os
import re
import signal
import statistics
import threading
import time

from . import env, proc, wire
from .server import Cluster
from .subject import SEED_40, Pgpool

#: How the primary ends: what an operator or an accident does to its server.
WAYS = {
    "fast": lambda server: server.process.send_signal(signal.SIGINT),
    "immediate": lambda server: server.process.send_signal(signal.SIGQUIT),
    "postmaster": lambda server: server.process.kill(),
    "power": lambda server: _kill_all(server),
    "hung": lambda server: server.pause(),
    "stopped": lambda server: os.kill(server.process.pid, signal.SIGSTOP),
}
#: In words. PostgreSQL cuts the sessions in the first four; in the last two only silence tells.
SAID = {
    "fast": "pg_ctl stop -m fast",
    "immediate": "pg_ctl stop -m immediate",
    "postmaster": "kill -9 of the postmaster",
    "power": "kill -9 of all its processes",
    "hung": "SIGSTOP of all its processes",
    "stopped": "SIGSTOP of the postmaster",
}
CUT = ("fast", "immediate", "postmaster", "power")


def _kill_all(server):
    for pid in server.all_of_it():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


class Writer:
    """Inserts 0, 1, 2 ... as fast as answers come, each with a connection that lives as long as it can.

    `every=True` connects anew for each row, so that it also sees what new clients see.
    """

    def __init__(self, port, user="md5user", password="md5pw", every=False, patience=200.0):
        self.where = {"port": port, "user": user, "password": password, "timeout": patience}
        self.every = every
        self.acknowledged, self.errors, self.cuts = [], [], 0
        self._next, self._stop = 0, threading.Event()
        self._client = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        proc.wait_for(lambda: len(self.acknowledged) > 20, "the writer to write", timeout=30)
        return self

    def _run(self):
        while not self._stop.is_set():
            try:
                self._client = client = wire.Client(**self.where)
                while not self._stop.is_set():
                    number, self._next = self._next, self._next + 1
                    seen = client.query(f"INSERT INTO written VALUES ({number})")
                    now = time.monotonic()
                    if seen.error:
                        self.errors.append((now, seen.error["C"], seen.error["M"]))
                        time.sleep(0.02)
                    else:
                        self.acknowledged.append((now, number))
                    if self.every:
                        break
                client.close()
                continue
            except wire.ServerError as error:
                self.errors.append((time.monotonic(), error.fields["C"], error.message))
            except (OSError, wire.Closed, TimeoutError) as error:
                code = re.search(r"'C': '(\w{5})'", str(error))
                self.errors.append((time.monotonic(), code.group(1) if code else "closed", str(error)[:200]))
                self.cuts += 1
            time.sleep(0.01)

    def writes_since(self, moment):
        return bool(self.acknowledged) and self.acknowledged[-1][0] > moment

    def outage(self):
        """Seconds of the longest time without an acknowledged row, and when it ended."""
        times = [at for at, _ in self.acknowledged]
        gaps = [(after - before, after) for before, after in zip(times, times[1:])]
        return max(gaps)

    def refused_by_a_standby(self):
        return sum(1 for _, code, _ in self.errors if code == "25006")

    def lost(self, server):
        """Acknowledged rows that `server` does not have."""
        there = {int(row[0]) for row in server.rows("SELECT a FROM written")}
        return sorted({number for _, number in self.acknowledged} - there)

    def stop(self):
        self._stop.set()
        self._thread.join(5)
        if self._thread.is_alive() and self._client is not None:
            self._client.abort()
            self._thread.join(5)


class Promotion:
    """failover.sh, with the times at which it began and ended."""

    def __init__(self, home):
        self.times = os.path.join(home, "promotion.times")
        self.script = os.path.join(home, "timed_failover.sh")
        with open(os.path.join(env.TOP, "compat", "hooks", "failover.sh")) as source:
            text = source.read()
        inner = os.path.join(home, "failover.sh")
        for path, content in ((inner, text), (self.script, f'#!/bin/sh\ndate +%s.%N >> {self.times}\n{inner} "$@"\ndate +%s.%N >> {self.times}\n')):
            with open(path, "w") as out:
                out.write(content)
            os.chmod(path, 0o755)
            env.hand_over(path)
        self.command = f"{self.script} %d %h %P %m %H %R"

    def calls(self):
        try:
            with open(self.times) as file:
                return len(file.read().split()) // 2
        except OSError:
            return 0

    def seconds(self):
        with open(self.times) as file:
            began, ended = map(float, file.read().split()[:2])
        return ended - began


class Site:
    """Three servers, the second of which has every acknowledged row, and pgpool with the seed's parameters."""

    def __init__(self, home, subject, **config):
        self.cluster = Cluster(home, 3, os.environ.get("COMPAT_TEMPLATE"))
        self.pool = None
        try:
            primary = self.cluster.primary
            primary.rows("CREATE TABLE written(a int); GRANT ALL ON written TO PUBLIC")
            primary.rows("CREATE DATABASE repmgr OWNER repmgr", database="postgres")
            # The promoted one must not wait for itself: the primary alone is told.
            primary.set(synchronous_standby_names="server1")
            primary.rows("SELECT pg_reload_conf()")
            proc.wait_for(lambda: primary.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1", "a synchronous standby", timeout=30)
            self.promotion = Promotion(home)
            users = {"md5user": "md5pw", "hcuser": "hcuser", "repmgr": "rep123"}
            settings = {**SEED_40, "num_init_children": 8, "failover_command": self.promotion.command, **config}
            self.pool = Pgpool(os.path.join(home, "p"), self.cluster.servers, dialect="4.0", subject=subject, config=settings,
                               passwd=Pgpool.md5_entries(users))
            self.pool.start(timeout=60)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.pool is not None:
            self.pool.cleanup()
        for server in self.cluster.servers:
            server.resume()
        self.cluster.stop()


class Failover:
    """One failover with a writer: what it cost."""

    def __init__(self, site, way, every=False, patience=120.0):
        writer = Writer(site.pool.port, every=every).start()
        try:
            # So that the health checks of stock are at any phase.
            time.sleep(0.5)
            self.began = time.monotonic()
            WAYS[way](site.cluster[0])
            promoted = lambda: site.promotion.calls() > 0  # noqa: E731
            proc.wait_for(promoted, lambda: f"a failover after {SAID[way]}; pgpool's log:\n{site.pool.log()[-3000:]}", timeout=patience)
            moment = time.monotonic()
            proc.wait_for(lambda: writer.writes_since(moment), lambda: f"writes after the promotion; last errors: {writer.errors[-3:]}", timeout=patience)
            time.sleep(0.5)
        finally:
            writer.stop()
        self.outage, _ = writer.outage()
        self.promotion = site.promotion.seconds()
        self.written = len(writer.acknowledged)
        self.lost = writer.lost(site.cluster[1])
        self.to_a_standby = writer.refused_by_a_standby()
        self.errors = writer.errors

    def __repr__(self):
        return f"outage {self.outage:.2f} s, promotion {self.promotion:.2f} s, {len(self.lost)} of {self.written} rows lost, {self.to_a_standby} errors 25006"


def summary(values):
    return f"median {statistics.median(values):6.2f} s  worst {max(values):6.2f} s of {len(values)}"
