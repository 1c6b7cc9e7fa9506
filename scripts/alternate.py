#!/usr/bin/env python3
"""Runs two commands by turns and compares the medians of their wall times.

    alternate.py ROUNDS LIMIT NAME PREPARE COMMAND NAME PREPARE COMMAND

The first command is ours, the second what it is measured against. PREPARE is run by a shell before
each run and not measured; COMMAND is run without one, output to /dev/null, and must succeed. By
turns, so that whatever else the machine does meets both alike. Prints one line of a table; LIMIT
is the ratio to reach, `-` if the ratio is only for information.

The peak memory is that of the largest process of a command; what is smaller than this program
itself is shown as its size, about 10 MiB.
"""

import os
import shlex
import statistics
import subprocess
import sys
import time


def run(command):
    """Seconds, and the peak memory in KiB."""
    words = shlex.split(command)
    null = os.open(os.devnull, os.O_RDWR)
    begin = time.perf_counter()
    files = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1)]
    child = os.posix_spawnp(words[0], words, os.environ, file_actions=files)
    _, status, usage = os.wait4(child, 0)
    took = time.perf_counter() - begin
    os.close(null)
    if status != 0:
        sys.exit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return took, usage.ru_maxrss


def shown(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def main():
    rounds, limit, *rest = sys.argv[1:]
    sides = [rest[0:3], rest[3:6]]
    times, memory = [[], []], [0, 0]
    # The first round warms caches and does not count.
    for number in range(int(rounds) + 1):
        for side, (_, prepare, command) in enumerate(sides):
            if prepare:
                subprocess.run(["bash", "-euc", prepare], check=True, stdout=subprocess.DEVNULL)
            took, peak = run(command)
            memory[side] = max(memory[side], peak)
            if number:
                times[side].append(took)
    ours, theirs = (statistics.median(series) for series in times)
    ratio = ours / theirs
    verdict = "" if limit == "-" else "yes" if ratio <= float(limit) else "NO"
    wanted = "" if limit == "-" else f"≤ {limit}"
    print(
        f"| {sides[0][0]} | {shown(ours)} | {sides[1][0]} | {shown(theirs)} | {ratio:.2f} "
        f"| {wanted} | {verdict} | {memory[0] / 1024:.0f} MiB |",
        flush=True,
    )


main()
