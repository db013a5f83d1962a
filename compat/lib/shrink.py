"""Makes a conversation that shows a difference as short as it can be (delta debugging)."""

import time


def _without(bursts, at, count):
    """`bursts` without `count` of all their steps from step `at` on; bursts that are empty then are gone."""
    left, number = [], 0
    for burst in bursts:
        kept = [s for n, s in enumerate(burst, number) if not at <= n < at + count]
        number += len(burst)
        if kept:
            left.append(kept)
    return left


def _joined(bursts):
    """Each way to send two neighbouring bursts as one."""
    for n in range(len(bursts) - 1):
        yield bursts[:n] + [bursts[n] + bursts[n + 1]] + bursts[n + 2 :]


def shrink(bursts, differs, seconds=60.0):
    """The shortest conversation found within the time for which `differs(bursts)` holds."""
    end = time.monotonic() + seconds
    size = max(1, sum(map(len, bursts)) // 2)
    while size:
        at, smaller = 0, False
        while at < sum(map(len, bursts)) and time.monotonic() < end:
            attempt = _without(bursts, at, size)
            if attempt and differs(attempt):
                bursts, smaller = attempt, True
            else:
                at += size
        if not smaller:
            size //= 2
        size = min(size, sum(map(len, bursts)))
        if time.monotonic() >= end:
            return bursts
    for attempt in _joined(bursts):
        if time.monotonic() < end and differs(attempt):
            return shrink(attempt, differs, end - time.monotonic())
    return bursts
