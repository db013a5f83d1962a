"""The rows `watchdog` and `watchdog_all` of compat/bench: faults of three hosts with the system's own parameters (lib/faults.py)."""

import os

from . import env, faults, watchdog

#: The system's wd_heartbeat_deadtime, which its file does not set.
DEADTIME = 30

#: By row: what is done, and the seconds of an outage that are allowed beside the promotion (None: no limit is set).
SCENARIOS = {
    "watchdog": {
        "primary": (lambda stage: stage.kill_primary(), faults.PRIMARY_LIMIT),
        "cut": (lambda stage: stage.cut(timeout=240), DEADTIME + faults.CUT_LIMIT),
        "host": (lambda stage: stage.kill_host(timeout=240), None),
    },
    "watchdog_all": {
        "pgpool": (lambda stage: stage.kill_pgpool(), None),
        "stop": (lambda stage: stage.stop_leader(), None),
        "suspend": (lambda stage: stage.suspend(), None),
        "cut_out": (lambda stage: stage.cut(("out",), timeout=240), DEADTIME + faults.CUT_LIMIT),
        "cut_in": (lambda stage: stage.cut(("in",), timeout=240), DEADTIME + faults.CUT_LIMIT),
        "follower": (lambda stage: stage.cut_others(), None),
        "flap": (lambda stage: stage.flap(times=10, seconds=5), None),
        "clock_back": (lambda stage: stage.clocks(-3600), None),
        "clock_forward": (lambda stage: stage.clocks(3600), None),
    },
}


def measure(rows, names, rounds, verdict):
    """Prints a line for each run; returns what was measured by subject and scenario."""
    reason = watchdog.unavailable()
    if reason:
        print(f"watchdog    left out: {reason}", flush=True)
        return {}
    results = {}
    root = env.scratch("pgpool-bench-")
    # The servers' set-up is made once.
    os.environ.setdefault("COMPAT_SEED_TEMPLATE", os.path.join(root, "seed"))
    try:
        for row in rows:
            for name, (scenario, limit) in SCENARIOS[row].items():
                for subject in names:
                    reports = [report for report in (_run(os.path.join(root, "site"), subject, name, scenario) for _ in range(rounds)) if report]
                    if reports:
                        results[f"{subject} {name}"] = [_figures(report) for report in reports]
                    if subject == "ours":
                        verdict(f"watchdog {name}: runs that did not end as they have to", rounds - len(reports), 0, "at most")
                    if reports and subject == "ours":
                        _judge(name, reports, limit, verdict)
    finally:
        env.remove(root)
    return results


def _run(home, subject, name, scenario):
    site = None
    os.makedirs(home)
    os.chmod(home, 0o755)
    stage = None
    try:
        site = watchdog.Site(home, [subject] * 3, {})
        stage = faults.Stage(site, DEADTIME)
        report = scenario(stage)
        print(f"watchdog    {subject:6} {name:13} {report}", flush=True)
        return report
    except AssertionError as error:
        print(f"watchdog    {subject:6} {name:13} {str(error).splitlines()[0]}", flush=True)
        return None
    finally:
        if stage is not None and stage.witness is not None:
            stage.witness.end()
        if site is not None:
            site.stop()
        env.remove(home)


def _figures(report):
    return {"outage": report.outage, "promotion": report.promotion, "lost": report.lost, "on their way": report.behind, "written": report.written,
            "two holders": report.doubled, "no holder": report.orphaned, "to an old primary": report.two_primaries}


def _judge(name, reports, limit, verdict):
    if limit is not None:
        verdict(f"watchdog {name}: seconds without a write outside beside the promotion, worst", max(one.outage - one.promotion for one in reports), limit, "at most")
    verdict(f"watchdog {name}: acknowledged rows lost", sum(sum(one.lost.values()) for one in reports), 0, "at most")
    verdict(f"watchdog {name}: rows to an old primary", sum(one.two_primaries for one in reports), 0, "at most")
    verdict(f"watchdog {name}: seconds with two holders of the address, worst", max(one.doubled for one in reports), DEADTIME, "at most")
