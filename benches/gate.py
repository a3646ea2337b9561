"""Measures what a heartbeat costs and holds it against limits.toml.

usage: gate.py cost|messages [--accept]      called by .ci/cost-gate and .ci/message-cost
"""

import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
LIMITS = HERE / "limits.toml"
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
# What a message costs is what many cost less what few cost.
FEW, MANY = 2000, 22_000
# A look at the clock is in the first poll, and after each so many messages of a burst.
BATCH = 64
# Above what is measured when a limit is lowered.
MARGIN = 1.02
# With more above what is measured, a limit would let a change for the worse pass.
ROOM = 1.03


def run(*command, check=True):
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, text=True).stdout


def program(name):
    built = run("cargo", "bench", "--quiet", "--locked", "--no-run", "--bench", name,
                "--message-format=json")
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == name and message.get("executable"):
            return message["executable"]
    sys.exit(f"the bench {name} was not built")


def instructions(program, *arguments):
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program,
                *map(str, arguments)]
    done = subprocess.run(valgrind, check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def each(program, few, many, *arguments):
    both = [instructions(program, *arguments, count) for count in (few, many)]
    found = (both[1] - both[0]) / (many - few)
    if found <= 0:
        sys.exit(f"{' '.join(arguments)}: nothing was measured")
    return found


def measure_cost():
    bench = program("instructions")
    cost = {name: each(bench, *counts, name) for name, counts in COUNTS.items()}
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
    return {name: float(figure) for name, figure in figures.items()}


def measure_messages():
    bench = program("messages")
    figures = {}
    for shape in ("burst", "single", "send", "echo"):
        contestants = {"single": ["ping-out", "activity"]}.get(shape, [])
        # The loops send as the bare socket does.
        contestants = contestants + ([] if shape == "send" else ["select", "interval"])
        bare = each(bench, FEW, MANY, shape, "bare")
        figures[f"{shape}, bare (all of it)"] = bare
        for contestant in ["keep-alive", "controlled", *contestants]:
            more = each(bench, FEW, MANY, shape, contestant) - bare
            if more <= 0:
                sys.exit(f"{shape}, {contestant}: nothing was measured")
            figures[f"{shape}, {contestant}"] = more
    messages = 1000 * BATCH
    looks = run(bench, "looks", str(messages)).splitlines()
    for name, count in (line.split() for line in looks):
        figures[f"burst, {name.replace('_', ' ')}"] = int(count) / messages
    return figures


KINDS = {"cost": measure_cost, "messages": measure_messages}


def lower(limits, figures):
    """Lowers limits in place; a line keeps its reason."""
    text = LIMITS.read_text()
    for name, limit in limits.items():
        room = figures[name] * MARGIN
        new = math.ceil(room) if room >= 100 else round(room, 1 if room >= 10 else 5)
        if name in figures and new < limit:
            old = f'"{name}" = {{ limit = {limit}, '
            if text.count(old) != 1:
                sys.exit(f"{name}: its limit is not written as {old!r}")
            text = text.replace(old, f'"{name}" = {{ limit = {new}, ')
            print(f"{name}: {limit} is {new} from now on; does its reason still hold?")
    LIMITS.write_text(text)


def read(kind):
    return {name: entry["limit"] for name, entry in tomllib.loads(LIMITS.read_text())[kind].items()}


def main():
    kind, *options = sys.argv[1:] or [None]
    if kind not in KINDS or options not in ([], ["--accept"]):
        sys.exit(__doc__)
    figures = {name: round(figure, 5) for name, figure in KINDS[kind]().items()}
    kept = TARGET / "tmp" / f"{kind}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(figures, indent=4) + "\n")
    missing = read(kind).keys() - figures.keys()
    if options and not missing:
        lower(read(kind), figures)
    limits = read(kind)

    print(f"{'':<84}{'is':>10}{'limit':>10}")
    for name, figure in figures.items():
        print(f"{name:<84}{figure:>10.6g}{limits.get(name, '-'):>10}")
    broken = [name for name, limit in limits.items() if name in figures and figures[name] > limit]
    for name, limit in limits.items():
        if name in figures and limit > figures[name] * ROOM:
            above = f"{(limit / figures[name] - 1) * 100:.1f} %" if figures[name] else limit
            print(f"limit {above} above what is measured, which --accept lowers: {name}")
    for name in missing:
        print(f"not measured: {name}", file=sys.stderr)
    for name in broken:
        print(f"limit broken: {name}", file=sys.stderr)
    sys.exit(bool(missing or broken))


main()
