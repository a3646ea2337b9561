"""Fills the tables of BENCHMARKS.md, and draws its plots, from what the benches left.

`cargo bench --bench scale` leaves target/tmp/scale.jsonl, `.ci/cost-gate` target/tmp/cost.json, and
`benches/peers/run` target/tmp/peers.jsonl; then

    python3 benches/report.py

fills what there are figures for: the tables of the first two need both. Other files: report.py SCALE COST PEERS.
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


def cost(_, figures):
    return table(["", "figure"], [[name, f"{figure:g}"] for name, figure in figures.items()])


def goals(runs, figures):
    rows = []

    def goal(what, wanted, figure, met, digits=0, unit=""):
        result = "not measured" if figure is None else "met" if met(figure) else "**failed**"
        is_ = "–" if figure is None else number(figure, digits) + unit
        rows.append([what, wanted, is_, result])

    def at_most(limit):
        return lambda figure: figure <= limit

    def at_least(limit):
        return lambda figure: figure >= limit

    def get(row, name):
        return row and row[name]

    largest = max(runs.sizes("memory"))
    goal("bytes of an idle `pinger()`, task and handle included, sink excluded", "≤ 576",
         get(runs.one("memory", "pinger", largest), "bytes"), at_most(576))
    goal("allocations per cycle, `pinger()`", "≤ 1",
         figures["pinger(), allocations per cycle"], at_most(1), 2)
    machine = figures["pinger(), mock timer and null sink, "
                      "instructions per cycle"]
    goal("instructions per cycle of the pure machine, `Bytes` apart", "≤ 400 (250)",
         machine, at_most(400))
    goal("instructions of an idle poll", "≤ 50", figures["pinger(), instructions per idle poll"],
         at_most(50))
    goal("instructions of a stray pong", "≤ 60", figures["pinger(), instructions per stray pong"],
         at_most(60))
    goal("on tokio with real channel sinks, per cycle, to `select!`", "≤ 0.65",
         figures["pinger() beside the select! loop"], at_most(0.65), 2)
    for name, step in ("coarse", "of 100 ms"), ("pinger", "by default"):
        for runtime, limit in ("tokio", 4), ("futures-timer", 6):
            exact, grid = (runs.own(runs.one("cycle", which, 10_000, runtime))
                           for which in ("exact", name))
            goal(f"the grid {step} at 10 000 on {runtime}: CPU of a cycle without it to that with it",
                 f"≥ {limit}", exact / grid if exact and grid else None, at_least(limit), 1)
    million = 1_000_000
    goal("bytes of each of 1 000 000 members, sinks excluded", "≤ 96 (48)",
         get(runs.one("memory", "set", million), "bytes"), at_most(96))
    goal("instructions per cycle of a `PingerSet` of 100 000, `Bytes`, channel and peer included",
         "≤ 500", figures["PingerSet of 99 840, instructions per cycle, channel and peer included"],
         at_most(500))
    large = runs.one("cycle", "set", million)
    small = large and runs.one("cycle", "set", 100_000, interval_ms=large["interval_ms"])
    share = runs.own(large, "cpu_share")
    goal("CPU of 1 000 000 members at 30 s, peers excluded", "≤ 4 %",
         share and 100 * share, at_most(4), 1, " %")
    growth = runs.own(large) and runs.own(small) and runs.own(large) / runs.own(small)
    goal("growth: CPU per cycle at 1 000 000 to that at 100 000", "≤ 1.5", growth, at_most(1.5), 2)
    dead = runs.one("death", "set", million)
    limit = 250 + get(dead, "grid_ms") if dead else 250
    goal("1 000 000 simultaneous deaths: the last verdict after its deadline",
         "≤ 250 ms + a grid step, none early", get(dead, "overdue_max_ms"),
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
    scale, costs, sockets = (Path(given or TARGET / "tmp" / default) for given, default in zip(
        (sys.argv[1:] + [None] * 3)[:3], ("scale.jsonl", "cost.json", "peers.jsonl")))
    page = PAGE.read_text()

    def fill(section, *figures):
        nonlocal page
        name = section.__name__
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(page):
            sys.exit(f"no place for {name} in {PAGE.name}")
        filled = section(*figures)
        page = marked.sub(lambda found: f"{found[1]}{filled}\n{found[2]}", page)

    missing = [path for path in (scale, costs, sockets) if not path.exists()]
    for path in missing:
        print(f"{path} is not there: its tables stay as they are", file=sys.stderr)
    if scale not in missing and costs not in missing:
        runs = Runs(objects(scale))
        figures = json.loads(costs.read_text())
        for section in (machine, goals, memory, cycle, death, cost):
            fill(section, runs, figures)
        plots(runs)
    if sockets not in missing:
        fill(peers, objects(sockets))
    PAGE.write_text(page)


main()
