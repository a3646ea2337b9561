"""Measures what a heartbeat costs and holds it against limits.json: called by .ci/cost-gate."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIMITS = HERE / "limits.json"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
# All members of a set once: what comes before the second round is the start.
ROUND = 99_840
# What both counts share (the start, the runtime) goes away in the difference.
COUNTS = {
    "core": (1000, 11000),
    "payload": (1000, 11000),
    "machine": (1000, 11000),
    "idle-poll": (1000, 11000),
    "stray-pong": (1000, 11000),
    "tokio-pinger": (1000, 11000),
    "tokio-select": (1000, 11000),
    "tokio-ktor": (1000, 11000),
    "alone-pinger": (1000, 11000),
    "alone-select": (1000, 11000),
    "channel": (ROUND, 2 * ROUND),
    "set": (ROUND, 2 * ROUND),
}
# Above what is measured when a limit is accepted.
MARGIN = 1.02


def run(*command, check=True):
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, text=True).stdout


def program():
    built = run("cargo", "bench", "--quiet", "--locked", "--no-run", "--bench", "instructions",
                "--message-format=json")
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "instructions" and message.get("executable"):
            return message["executable"]
    sys.exit("the bench was not built")


def instructions(program, cost, count):
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                program, cost, str(count)]
    done = subprocess.run(valgrind, check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def each(program, cost):
    few, many = COUNTS[cost]
    both = [instructions(program, cost, count) for count in (few, many)]
    found = (both[1] - both[0]) / (many - few)
    if found <= 0:
        sys.exit(f"{cost}: nothing was measured")
    return found


def measure():
    bench = program()
    cost = {name: each(bench, name) for name in COUNTS}
    counts = dict(line.split() for line in run(bench, "counts").splitlines())
    # It has limits of its own, which are not what is asked here.
    footprint = run("cargo", "run", "--quiet", "--locked", "--release", "--example", "footprint",
                    check=False)
    footprint = dict(line.split(": ") for line in footprint.splitlines())
    whole = "inline plus heap bytes per idle heartbeat with task"
    figures = {
        "Heartbeat, bytes": footprint["heartbeat.bytes"],
        "pinger(), bytes with task and handle": footprint[f"pinger.{whole}"],
        "select! loop, bytes with task and handle": footprint[f"select loop.{whole}"],
        "ktor's loop, bytes with task and handle": footprint[f"ktor loop.{whole}"],
        "pinger(), allocations per cycle": footprint["pinger.allocations per cycle"],
        "pinger(), allocations per idle poll": footprint["pinger.allocations per idle poll"],
        "pinger(), allocations per stray pong": footprint["pinger.allocations per stray pong"],
        "PingerSet, bytes per member with handle": counts["set-bytes"],
        "PingerSet, allocations per cycle": counts["set-allocations"],
        "pinger(), wake-ups per cycle": counts["pinger-wakes"],
        "pinger(), arms of the timer per cycle": counts["pinger-arms"],
        "PingerSet, looks per member and cycle": counts["set-looks"],
        "core, instructions per cycle": cost["core"],
        "pinger(), mock timer and null sink, instructions per cycle": cost["machine"],
        "pinger(), instructions per idle poll": cost["idle-poll"],
        "pinger(), instructions per stray pong": cost["stray-pong"],
        "pinger(), one of 100 due together on tokio, instructions per cycle":
            cost["tokio-pinger"],
        "select! loop, one of 100 due together on tokio, instructions per cycle":
            cost["tokio-select"],
        "ktor's loop, one of 100 due together on tokio, instructions per cycle":
            cost["tokio-ktor"],
        "pinger() beside the select! loop": cost["tokio-pinger"] / cost["tokio-select"],
        "pinger(), the only one on tokio, instructions per cycle": cost["alone-pinger"],
        "select! loop, the only one on tokio, instructions per cycle": cost["alone-select"],
        "PingerSet of 99 840, instructions per cycle, channel and peer included": cost["set"],
        "PingerSet of 99 840, instructions per cycle without the channel's":
            cost["set"] - cost["channel"],
        "channel and peer alone, instructions per cycle": cost["channel"],
        "16 bytes in an allocation of their own, instructions": cost["payload"],
    }
    return {name: round(float(figure), 3) for name, figure in figures.items()}


def ours(name):
    return name.startswith(("Heartbeat", "core", "pinger()", "PingerSet"))


def accept(figures):
    limits = {}
    for name, figure in filter(lambda item: ours(item[0]), figures.items()):
        limit = figure * MARGIN
        limits[name] = round(limit, 3) if limit < 10 else math.ceil(limit)
    LIMITS.write_text(json.dumps(limits, indent=4) + "\n")


def main():
    figures = measure()
    kept = TARGET / "tmp" / "cost.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures, indent=4) + "\n")
    if sys.argv[1:] == ["--accept"]:
        accept(figures)
    limits = json.loads(LIMITS.read_text())

    print(f"{'':<84}{'is':>10}{'limit':>10}")
    for name, figure in figures.items():
        print(f"{name:<84}{figure:>10g}{limits.get(name, '-'):>10}")
    missing = limits.keys() - figures.keys()
    broken = [name for name, limit in limits.items() if name in figures and figures[name] > limit]
    for name in missing:
        print(f"not measured: {name}", file=sys.stderr)
    for name in broken:
        print(f"limit broken: {name}", file=sys.stderr)
    sys.exit(bool(missing or broken))


main()
