"""Prints the coverage of each file in an lcov file, and fails below the floors."""

import os
import sys

LINES, BRANCHES = 95.0, 90.0
FLOORS = (
    "src/machine/machine.rs",
    "src/machine/record.rs",
    "src/machine/deadline.rs",
    "src/machine/proof.rs",
    "src/machine/turn.rs",
    "src/shared.rs",
    "src/drive.rs",
    "src/handle/pong_sender.rs",
    "src/pinger.rs",
    "src/keep_alive/reader.rs",
    "src/keep_alive/writer.rs",
)


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
        low = name in FLOORS and (share(lines) < LINES or share(branches) < BRANCHES)
        failed |= low
        note = f"  below {LINES} or {BRANCHES}" if low else ""
        print(f"{name:32}{share(lines):8.1f}%{share(branches):9.1f}%{note}")
    missing = [name for name in FLOORS if name not in files]
    if missing:
        print("nothing was measured of", *missing)
    sys.exit(1 if failed or missing else 0)


main()
