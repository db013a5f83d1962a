"""Random conversations, with load balancing: what PostgreSQL answers to each must be what the client of pgpool reads.

The seed is printed; COMPAT_SEED repeats it, COMPAT_ROUNDS sets how many; without it a test ends early on a
slow machine. It ends with the first difference,
made as short as it can be, or with as many as COMPAT_DIFFERENCES says. Commits wait until the standbys
have replayed them, so that where a read goes makes no difference to its answer.
"""

import os
import random
import sys
import time

from lib import env, shrink, talk, wire
from lib.case import CompatCase, stock_differs

ROUNDS = int(os.environ.get("COMPAT_ROUNDS", "150"))
#: Seconds of a test whose rounds nobody has asked for.
LIMIT = float("inf") if "COMPAT_ROUNDS" in os.environ else 50
DIFFERENCES = int(os.environ.get("COMPAT_DIFFERENCES", "1"))


def _brief(answers):
    """Lines for a report; of long results only where they begin and end."""
    lines = [f"      {a}" for a in answers]
    return lines if len(lines) < 60 else [*lines[:20], f"      ... {len(lines) - 40} more", *lines[-20:]]


class _Conversations:
    """What the classes share; they differ in nodes and settings."""

    weight = 40
    #: How often a conversation is tried before it counts as one that does not differ.
    tries = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.primary.rows(talk.FIXTURE)
        cls.tidier = cls.cluster.primary.client(options={"options": "-c lock_timeout=10s"})
        cls.addClassCleanup(cls.tidier.close)

    def tidy(self):
        if self.tidier.query(talk.RESET).error:
            # A session of the subject that hangs holds its locks.
            self.tidier.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            self.tidier.query(talk.RESET).ok()

    def heard(self, connect, bursts, seed, within):
        self.tidy()
        try:
            with connect() as client:
                return talk.play(client, bursts, random.Random(seed), within)
        except (wire.Closed, wire.ServerError, TimeoutError) as error:
            return [[("no session", str(error))]]

    def both(self, bursts, seed, within):
        """Answers of PostgreSQL and of the subject."""
        direct = self.heard(lambda: self.cluster.primary.client(host="127.0.0.1", user="app"), bursts, seed, within)
        return direct, self.heard(self.pool.client, bursts, seed, within)

    def report(self, bursts, seed, first):
        """The least conversation that differs, and how; `first` are the answers that differed."""

        found = (bursts, first)

        def differs(fewer):
            nonlocal found
            if any(talk.harmless(burst) != burst for burst in fewer):
                return False
            # Nodes are chosen by chance.
            for _ in range(self.tries):
                answers = self.both(fewer, seed, 2 * env.SLOW)
                if answers[0] != answers[1]:
                    found = (fewer, answers)
                    return True
            return False

        if differs(bursts):
            what = "the shortest conversation found that differs"
            least = shrink.shrink(bursts, differs)
            if not differs(least):
                what += " (now and then)"
        else:
            what = "a difference that did not come again"
        bursts, (expected, got) = found
        lines = [f"COMPAT_SEED={seed}: {what}", talk.shown(bursts)]
        for n in range(max(len(expected), len(got))):
            one, other = (side[n] if n < len(side) else [("nothing",)] for side in (expected, got))
            if one != other:
                lines += [f"  burst {n} directly:", *_brief(one), f"  burst {n} through pgpool:", *_brief(other)]
        return "\n".join(lines)

    def rounds(self, count, calm):
        base = int(os.environ.get("COMPAT_SEED", "0")) or random.randrange(1, 1 << 30)
        print(f"{self.id()}: COMPAT_SEED={base} COMPAT_ROUNDS={count}", file=sys.stderr)
        reports, start = [], time.monotonic()
        end = start + 90 * env.SLOW
        for seed in range(base, base + count):
            if time.monotonic() > start + LIMIT:
                break
            bursts = talk.script(random.Random(seed), calm)
            try:
                answers = self.both(bursts, seed, 10 * env.SLOW)
                if answers[0] != answers[1]:
                    reports.append(self.report(bursts, seed, answers))
            except Exception as error:
                raise AssertionError(f"COMPAT_SEED={seed}\n{talk.shown(bursts)}") from error
            # Reports take their time, and the class has a limit.
            if len(reports) >= DIFFERENCES or reports and time.monotonic() > end:
                break
        if reports:
            self.fail("\n\n".join(reports))

    @stock_differs("4.3.5 crashes, hangs or ends sessions on many of them (known-defects 1 to 6)")
    def test_conversations_that_a_sensible_client_might_hold(self):
        self.rounds(ROUNDS, calm=True)

    @stock_differs("as above")
    def test_conversations_of_any_kind(self):
        self.rounds(ROUNDS, calm=False)


class OneStandby(_Conversations, CompatCase):
    """Every balanced read of every session goes to the standby."""

    nodes = 2
    config = {"num_init_children": 4, "load_balance_mode": True}
    per_node = {0: {"backend_weight": 0}}
    server_settings = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "1 (*)"}


class EachStatementItsNode(_Conversations, CompatCase):
    """Each balanced read goes to another of three nodes, of which the last is the primary."""

    nodes = 3
    primary = 2
    tries = 3
    config = {"num_init_children": 4, "load_balance_mode": True, "statement_level_load_balance": True}
    server_settings = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "2 (*)"}
