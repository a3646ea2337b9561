"""Compares the two editions: see `.ci/first-edition`, which builds them and calls this.

usage: compare.py DIRECTORY [SEEDS | --seed N | --show N]
"""

import itertools
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from differences import AVOIDED, DIFFERENCES, Turn

# A script takes less than a millisecond.
SECONDS = 60
# So many lines of a transcript before a difference.
BEFORE = 14


class Hang(Exception):
    """A script that does not end."""


def command(program, *arguments):
    without = [word for feature in AVOIDED for word in ("--without", feature)]
    return [str(program), *map(str, arguments), *without]


def transcripts(program, seed, surface):
    """The options of a script, and the turns of its transcript: a list of lines for each."""
    arguments = command(program, seed, seed + 1, "--full", "--surface", surface)
    try:
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as hang:
        text = hang.stdout.decode() if hang.stdout else ""
        return text.split("\n")[0], [["  hangs"]]
    head, *lines = ran.stdout.rstrip("\n").split("\n")
    if ran.returncode:
        lines.append(f"  ends with {ran.returncode}: {ran.stderr.strip()}")
    turns = []
    for line in lines:
        if line.startswith("@") or not turns:
            turns.append([])
        turns[-1].append(line)
    return head, turns


def turns_of(head, surface, turns):
    """What the predicates are asked about."""
    options, state = head, "Idle"
    for lines in turns:
        states = [match[1] for line in lines if (match := re.match(r"  stats state=(\w+)", line))]
        after = states[-1] if states else state
        yield Turn(
            surface=surface,
            text=lines[0],
            state=state,
            after=after,
            options=options,
            any_pong="life: AnyPong" in options or "life: AnyPong" in lines[0],
            no_timeout="timeout: Never" in options,
        )
        given = re.findall(r"Configure\((Options \{.*?\})\)", lines[0])
        options = given[-1] if given else options
        state = after


def first_difference(one, other):
    pairs = itertools.zip_longest(one, other)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), None)


def without(counters, turns, begin):
    pattern = re.compile(rf" ({'|'.join(counters)})=\S+")
    return [turn if at < begin else [pattern.sub("", line) for line in turn] for at, turn in enumerate(turns)]


def excused(head, surface, first, present):
    """The entries that explain all that differs: a single one if possible. None if they do not."""
    seen = list(turns_of(head, surface, first))
    entries = [entry for entry in DIFFERENCES if entry.enabled]
    # An entry that leaves out a counter leaves more to compare than one that cuts the script off.
    entries.sort(key=lambda entry: not entry.counters)
    for some in [*([entry] for entry in entries), entries]:
        used = explain(some, seen, first, present)
        if used is not None:
            return used
    return None


def explain(entries, seen, first, present):
    used = []
    for entry in entries:
        at = first_difference(first, present)
        begin = next((at for at, turn in enumerate(seen) if entry.begins(turn)), None)
        if at is None or begin is None or begin > at:
            continue
        if entry.counters:
            first, present = (without(entry.counters, turns, begin) for turns in (first, present))
        else:
            first, present = first[:begin], present[:begin]
        if first_difference(first, present) != at:
            used.append(entry.contract)
    return used if first_difference(first, present) is None else None


def report(seed, surface, head, first, present):
    flat = [list(itertools.chain.from_iterable(turns)) for turns in (first, present)]
    at = first_difference(*flat)
    print(f"\nseed {seed}, {surface}: the present tree does not do as the first edition.")
    print(f"{head}\n")
    for line in flat[0][max(0, at - BEFORE) : at]:
        print(f"    {line}")
    for name, lines in (("first edition", flat[0]), ("present tree", flat[1])):
        print(f"  {name}:")
        for line in lines[at : at + 5] or ["  nothing more"]:
            print(f"    {line}")
    words = [lines[at].split() if at < len(lines) else [] for lines in flat]
    differ = [f"{a} is now {b}" for a, b in zip(*words) if a != b]
    print(f"\n  in short: {', '.join(differ) or 'one of them goes on'}")
    print(f"  again: .ci/first-edition --seed {seed}")


def compare(directory, seeds):
    programs = [directory / name for name in ("first", "present")]
    running = [
        subprocess.Popen(command(program, seeds.start, seeds.stop), stdout=subprocess.PIPE, text=True)
        for program in programs
    ]
    entries, checked, reached = Counter(), 0, []

    def hang(*_):
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    surfaces = ["bare", "slot", "stream", "keep_alive", "echo", "set"]
    expected = ((seed, surface) for seed in seeds for surface in surfaces)
    try:
        for seed, surface in expected:
            signal.alarm(SECONDS)
            try:
                lines = [program.stdout.readline().split() for program in running]
            except Hang:
                lines = [[], []]
            signal.alarm(0)
            checked += 1
            if lines[0] == lines[1] and len(lines[0]) == 3:
                continue
            (head, first), (_, present) = (transcripts(program, seed, surface) for program in programs)
            if first_difference(first, present) is None:
                print(f"seed {seed}, {surface}: one of the programs has ended, or not done the same twice")
                return 1
            used = excused(head, surface, first, present)
            if used is None or not all(len(line) == 3 for line in lines):
                report(seed, surface, head, first, present)
                return 1
            entries.update(used)
        reached = [line.rstrip("\n") for line in running[1].stdout]
    finally:
        for program in running:
            program.kill()
            program.communicate()
    print("\n".join(reached))
    for entry in DIFFERENCES:
        if entry.enabled:
            print(f"{entries[entry.contract]:8} transcripts excused by {entry.contract}")
    print(f"{checked} transcripts of {len(seeds)} scripts are those of the first edition")
    return 0


def main(directory, arguments):
    directory = Path(directory)
    match arguments:
        case []:
            return compare(directory, range(500))
        case ["--seed", seed]:
            return compare(directory, range(int(seed), int(seed) + 1))
        case ["--show", seed]:
            return subprocess.run(command(directory / "present", seed, int(seed) + 1, "--full")).returncode
        case [seeds] if seeds.isdigit():
            return compare(directory, range(int(seeds)))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
