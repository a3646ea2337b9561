"""The tables of `benches/peers/run`, which prints them, and of BENCHMARKS.md."""

NAMES = {
    "bare": "tokio-tungstenite, no heartbeat",
    "keep-alive": "`KeepAlive`",
    "set": "`PingerSet`",
    "select": "careful `select!` loop",
    "naive": "`interval` loop",
    "one-task": "one task pings all in a row",
    "one-task-spread": "one task pings each in its turn",
    "queues-bare": "tokio-tungstenite and queues, no heartbeat",
    "queues-set": "`PingerSet` and queues",
    "queues-registry": "ws-heartbeat 0.1 and queues",
    "sockudo-bare": "sockudo-ws 3.1, no heartbeat",
    "sockudo": "sockudo-ws 3.1",
    "jsonrpsee-bare": "jsonrpsee 0.26, no heartbeat",
    "jsonrpsee": "jsonrpsee 0.26",
    "http2-bare": "hyper 1, HTTP/2, no keep-alive",
    "http2": "hyper 1, HTTP/2 keep-alive",
    "ws-bare": "Node, ws 8, no heartbeat",
    "ws": "Node, ws 8, its manual's heartbeat",
    "websockets-bare": "Python, websockets 17, no heartbeat",
    "websockets": "Python, websockets 17",
}


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", " ")


def table(rows):
    """In Markdown. A run's own figures are those above the same server without its heartbeat."""
    told = next(row for row in rows if row["mode"] == "machine")
    rows = [row for row in rows if row["mode"] == "peers"]
    ran = {(row["contestant"], row["connections"]): row for row in rows if "error" not in row}
    lines = [
        "|  | connections | each s | bytes | its own | CPU µs | its own | to `select!` | pings sent | busiest 10 ms | lost |",
        "| --- |" + " --: |" * 10,
    ]
    for row in rows:
        name, connections = row["contestant"], row["connections"]
        cells = [NAMES[name], number(connections), f"{row['interval_ms'] / 1000:g}"]
        if "error" in row:
            lines.append(f"| {' | '.join(cells)} | did not run: {row['error']} |" + "  |" * 7)
            continue

        def own(figure, contestant=name):
            measured = ran.get((contestant, connections))
            floor = measured and ran.get((measured["floor"], connections))
            return measured[figure] - floor[figure] if floor else None

        of_loop, cpu = own("cpu_us_per_cycle", "select"), own("cpu_us_per_cycle")
        share = row["pings"] / row["pings_due"] if row["floor"] else None
        cells += [
            number(row["rss_bytes"]),
            number(own("rss_bytes")),
            number(row["cpu_us_per_cycle"], 1),
            number(cpu, 1),
            number(cpu / of_loop if cpu is not None and of_loop else None, 2),
            "–" if share is None else number(100 * share) + (" % (!)" if share < 0.98 else " %"),
            number(row["busiest_10_ms"] if row["floor"] else None),
            number(row["lost"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", sentence(told)]
    return "\n".join(lines)


def sentence(told):
    busy = " **The machine was busy with other work.**" if told["load"] > 0.5 * told["cores"] else ""
    return (
        f"Measured at `{told['commit']}` on {told['cpu']}, {told['cores']} cores, Linux {told['kernel']}, "
        f"{told['rustc'] and told['rustc'].split(' (')[0]}, Node {told['node']}, Python {told['python']}; "
        f"{told['rounds']} round{'s' if told['rounds'] > 1 else ''}; load average {told['load']:.2f} at the start, "
        f"{told['load_at_the_end']:.2f} at the end, with the server and the client that are measured.{busy}"
    )
