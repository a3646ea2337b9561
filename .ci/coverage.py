"""Prints the coverage of each file in an lcov file, and fails below the floors."""

import os
import sys

# Of each file that decides who is cut off, or steers what does.
LINES, BRANCHES = 95.0, 90.0
DECIDING = (
    "src/drive.rs",
    "src/handle/",
    "src/keep_alive.rs",
    "src/keep_alive/",
    "src/machine/",
    "src/pinger.rs",
    "src/pinger_set.rs",
    "src/pinger_set/",
    "src/protocols/",
    "src/shared.rs",
    "src/shared/",
)
# Files with a floor of their own, and why.
LOWER = {
    "src/handle/probe.rs": (90.0, 60.0, "six branches, two of them of its unit test; `Debug`"),
    "src/keep_alive/split.rs": (85.0, 85.0, "16 branches; `Debug`, a lock that is poisoned, and two halves at once, which loom tries"),
    "src/machine/progress.rs": (95.0, 85.0, "eight branches, one of them for a heartbeat without a deadline"),
    "src/pinger_set.rs": (85.0, 90.0, "three methods that doctests alone run"),
    "src/pinger_set/chunk/probes.rs": (95.0, 80.0, "twelve branches, two of them for a list that is gone"),
    "src/shared/extras.rs": (95.0, 75.0, "four branches, one of them for a task that takes another's place"),
    "src/shared/reader.rs": (95.0, 85.0, "eight branches, one of them for a reader that comes back at that moment"),
}


def read(path):
    """By file: whether each line, and each side of each branch, was ever run."""
    files, lines, branches = {}, {}, {}
    with open(path, encoding="utf-8") as lcov:
        for record in lcov:
            kind, _, value = record.strip().partition(":")
            if kind == "SF":
                name = os.path.relpath(value)
                lines, branches = files.setdefault(name, ({}, {}))
            elif kind == "DA":
                line, count = value.split(",")[:2]
                lines[line] = lines.get(line, False) or count != "0"
            elif kind == "BRDA":
                line, block, branch, count = value.split(",")
                side = (line, block, branch)
                branches[side] = branches.get(side, False) or count not in ("0", "-")
    return files


def share(run):
    return 100.0 * sum(run.values()) / len(run) if run else 100.0


def main():
    files = read(sys.argv[1])
    failed = False
    print(f"{'':32}{'lines':>9}{'branches':>10}")
    for name, (lines, branches) in sorted(files.items()):
        floors = LOWER.get(name, (LINES, BRANCHES))[:2]
        decides = name.startswith(DECIDING)
        low = decides and (share(lines) < floors[0] or share(branches) < floors[1])
        failed |= low
        note = f"  below {floors[0]} or {floors[1]}" if low else ""
        print(f"{name:32}{share(lines):8.1f}%{share(branches):9.1f}%{note}")
    missing = [name for name in (*DECIDING, *LOWER) if not any(it.startswith(name) for it in files)]
    if missing:
        print("nothing was measured of", *missing)
    sys.exit(1 if failed or missing else 0)


main()
