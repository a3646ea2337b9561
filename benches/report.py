"""Fills the tables of BENCHMARKS.md, and draws its plots, from what the benches left.

    SCALE=million cargo bench --bench scale        leaves target/tmp/scale.jsonl
    .ci/cost-gate                                  cost.json, beside it
    .ci/message-cost                               messages.json
    cargo bench --bench messages -- loopback 20000 loopback.json
    benches/peers/run                              peers.jsonl
    python3 benches/report.py                      fills the page

Where a file is missing, the tables that need it stay as they are.
"""

import json
import os
import re
import sys
from pathlib import Path

import peers_table
import plot

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PAGE = ROOT / "BENCHMARKS.md"
NAMES = {
    "floor": "no heartbeat",
    "select": "`select!` loop",
    "ktor": "ktor's loop",
    "registry": "ws-heartbeat",
    "pinger": "`pinger()`",
    "exact": "`pinger()`, no grid",
    "coarse": "`pinger()`, grid of 100 ms",
    "set": "`PingerSet`",
}


class Runs:
    def __init__(self, rows):
        self.machine = next(row for row in rows if row["mode"] == "machine")
        self.rows = [row for row in rows if row["mode"] != "machine"]

    def of(self, mode, **wanted):
        return [row for row in self.rows if row["mode"] == mode
                and all(row[key] == value for key, value in wanted.items())]

    def one(self, mode, contestant, connections, runtime="tokio", threads=1, **wanted):
        found = self.of(mode, contestant=contestant, connections=connections,
                        runtime=runtime, threads=threads, **wanted)
        return found[0] if found else None

    def like(self, row, contestant):
        return self.one("cycle", contestant, row["connections"], row["runtime"], row["threads"],
                        interval_ms=row["interval_ms"])

    def sizes(self, mode):
        return sorted({row["connections"] for row in self.of(mode)})

    def own(self, row, figure="cpu_ns_per_cycle"):
        """A run's figure less that of the same run without heartbeats."""
        if row is None:
            return None
        floor = self.like(row, "floor")
        return row[figure] - floor[figure] if floor else None

    def beside(self, row):
        loop = self.like(row, "select")
        own, of_loop = self.own(row), self.own(loop)
        return own / of_loop if own is not None and of_loop else None


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def table(head, rows):
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def where(row):
    return f"{row['runtime']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def machine(runs, _):
    told = runs.machine
    return table(["", ""], [
        ["Processor", f"{told['cpu']}, {told['cores']} cores"],
        ["Memory", told["memory"]],
        ["Linux", told["kernel"]],
        ["Compiler", told["rustc"]],
        ["Commit", f"`{told['commit']}`"],
        ["Load average at the start", str(told["load"])],
        ["Plan", told["plan"]],
        ["Rounds, of which the middle one counts", str(told["rounds"])],
    ])


def memory(runs, _):
    return table(
        ["", "connections", "bytes", "allocations", "resident bytes"],
        [[NAMES[row["contestant"]], number(row["connections"]), number(row["bytes"]),
          number(row["allocations"], 2), number(row["rss_bytes"])] for row in runs.of("memory")])


def cycle(runs, _):
    rows = []
    for row in runs.of("cycle"):
        own = None if row["contestant"] == "floor" else runs.own(row)
        short = row["cycles"] < 0.98 * row["connections"]
        rows.append([
            NAMES[row["contestant"]], where(row), number(row["connections"]),
            f"{row['interval_ms'] / 1000:g}",
            number(row["cpu_ns_per_cycle"]), number(own),
            number(runs.beside(row) if own is not None else None, 2),
            number(row["allocations_per_cycle"], 2),
            *(number(row[f"late_{which}_ms"], 1) for which in ("p50", "p99", "max")),
            number(100 * row["cycles"] / row["connections"]) + (" % (!)" if short else " %"),
        ])
    return table(["", "on", "connections", "each s", "CPU ns", "its own", "to `select!`", "allocations",
                  "late p50 ms", "p99", "max", "pings sent"], rows)


def death(runs, _):
    return table(
        ["", "on", "connections", "p50 ms", "p99", "max", "last after its deadline", "verdicts",
         "early"],
        [[NAMES[row["contestant"]], where(row), number(row["connections"]),
          *(number(row[f"verdict_{which}_ms"], 1) for which in ("p50", "p99", "max")),
          number(row["overdue_max_ms"], 1), number(row["verdicts"]), number(row["early"])]
         for row in runs.of("death")])


def join(runs, _):
    return table(
        ["", "on", "connections", "let in after ms", "CPU ms", "`totals()` µs", "`suspects()` µs"],
        [[NAMES[row["contestant"]], where(row), number(row["connections"]),
          number(row["join_ms"]), number(row["cpu_ms"]),
          *(number(row.get(which), 1) for which in ("totals_us", "suspects_us"))]
         for row in runs.of("join")])


def cost(_, figures):
    return table(["", "figure"], [[name, f"{figure:g}"] for name, figure in figures.items()])


SHAPES = {
    "burst": "received in bursts",
    "single": "received, one per wake-up",
    "send": "sent and flushed",
    "echo": "received and sent back",
}
WAYS = {
    "keep-alive": "`KeepAlive`",
    "controlled": "with a `Controller`",
    "activity": "with `Activity`",
    "ping-out": "a ping out",
    "select": "careful `select!` loop",
    "interval": "`interval` loop",
}


def messages(figures):
    rows = [[what, number(figures[f"{shape}, bare (all of it)"]),
             *("–" if (more := figures.get(f"{shape}, {way}")) is None else f"+{number(more)}"
               for way in WAYS)] for shape, what in SHAPES.items()]
    return table(["A message of 32 bytes", "bare socket", *WAYS.values()], rows)


def loopback(figures):
    names = {"bare": "bare socket", **WAYS}
    return table(["The server's CPU for an echo", "µs", "to the bare socket"],
                 [[name, number(figures[way], 2), number(figures[way] / figures["bare"], 2)]
                  for way, name in names.items() if way in figures])


def goals(runs, figures, of_messages, echoes):
    rows = []

    def goal(what, wanted, figure, met, digits=0, unit=""):
        result = "not measured" if figure is None else "met" if met(figure) else "**missed**"
        is_ = "–" if figure is None else number(figure, digits) + unit
        rows.append([what, wanted, is_, result])

    def at_most(limit):
        return lambda figure: figure <= limit

    def get(row, name):
        return row and row[name]

    for name, what, limit in (
        ("burst, keep-alive", "a message of a burst", 21),
        ("single, keep-alive", "a message that comes alone", 80),
        ("single, controlled", "the same with a `Controller`", 130),
        ("single, activity", "the same with `Activity`", 200),
        ("single, ping-out", "the same while a ping is out", 130),
        ("send, keep-alive", "a message that is sent and flushed", 75),
        ("echo, keep-alive", "an echo", 150),
    ):
        goal(f"instructions on top of the bare socket, {what}", f"≤ {limit}", of_messages[name], at_most(limit))
    goal("CPU of a server that echoes over the loopback, to the bare socket's", "≤ 1.06",
         echoes["keep-alive"] / echoes["bare"], at_most(1.06), 2)
    largest = max(runs.sizes("memory"))
    goal("bytes of an idle `pinger()`, task and handle included, sink excluded", "≤ 576",
         get(runs.one("memory", "pinger", largest), "bytes"), at_most(576))
    goal("allocations per cycle, `pinger()`", "≤ 0.04",
         figures["pinger(), allocations per cycle"], at_most(0.04), 3)
    million = 1_000_000
    large = runs.one("cycle", "set", million)
    small = large and runs.one("cycle", "set", 100_000, interval_ms=large["interval_ms"])
    share = runs.own(large, "cpu_share")
    goal("CPU of 1 000 000 members at 30 s, peers excluded", "≤ 1.8 %",
         share and 100 * share, at_most(1.8), 1, " %")
    growth = runs.own(large) and runs.own(small) and runs.own(large) / runs.own(small)
    goal("growth: CPU per cycle at 1 000 000 to that at 100 000", "≤ 1.5", growth, at_most(1.5), 2)
    joined = runs.one("join", "set", million)
    goal("1 000 000 members join while the set is driven", "≤ 1 500 ms",
         get(joined, "join_ms"), at_most(1500), 0, " ms")
    goal("`totals()` of 1 000 000", "≤ 20 µs", get(joined, "totals_us"), at_most(20), 1, " µs")
    dead = runs.one("death", "set", million)
    limit = 150 + get(dead, "grid_ms") if dead else 150
    goal("1 000 000 simultaneous deaths: the last verdict after its deadline",
         "≤ 150 ms + a grid step, none early", get(dead, "overdue_max_ms"),
         lambda late: late <= limit and dead["early"] == 0, 1, " ms")
    return table(["Figure", "Goal", "Measured", ""], rows)


def plots(runs):
    sizes = runs.sizes("cycle")
    contestants = ["select", "ktor", "registry", "pinger", "set"]

    def lines(figure, contestants):
        return {NAMES[name].replace("`", ""): [
            (size, value) for size in sizes
            if (value := figure(name, size)) is not None] for name in contestants}

    every = runs.of("cycle")[0]["interval_ms"]

    def share(name, size):
        row = runs.one("cycle", name, size, interval_ms=every)
        return row and 100 * row["cpu_share"]

    def megabytes(name, size):
        row = runs.one("memory", name, size)
        return row and row["bytes"] * size / 1e6

    plot.save(ROOT / "docs" / "scale-cpu.svg",
              f"CPU of a process with a ping for each connection every {every / 1000:g} s",
              "connections", "% of a core", lines(share, [*contestants, "floor"]))
    plot.save(ROOT / "docs" / "scale-memory.svg", "Memory of idle heartbeats, sinks excluded",
              "connections", "MB", lines(megabytes, contestants))


def peers(rows):
    return peers_table.table(rows)


def objects(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def main():
    names = ("scale.jsonl", "cost.json", "messages.json", "loopback.json", "peers.jsonl")
    paths = [TARGET / "tmp" / name for name in names]
    for path in paths:
        if not path.exists():
            print(f"{path} is not there: its tables stay as they are", file=sys.stderr)
    scale, costs, of_messages, echoes, sockets = (
        None if not path.exists() else objects(path) if path.suffix == ".jsonl" else json.loads(path.read_text())
        for path in paths)
    page = PAGE.read_text()

    def fill(section, *figures):
        nonlocal page
        if any(it is None for it in figures):
            return
        name = section.__name__
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(page):
            sys.exit(f"no place for {name} in {PAGE.name}")
        filled = section(*figures)
        page = marked.sub(lambda found: f"{found[1]}{filled}\n{found[2]}", page)

    runs = scale and Runs(scale)
    for section in (machine, memory, cycle, death, join, cost):
        fill(section, runs, costs)
    fill(messages, of_messages)
    fill(loopback, echoes)
    fill(goals, runs, costs, of_messages, echoes)
    fill(peers, sockets)
    if runs:
        plots(runs)
    PAGE.write_text(page)


main()
