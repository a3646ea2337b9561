"""What real browsers show of real browsers: the dashboard example, and what happens to its tabs.

Takes the path of the built example; `.ci/browser` builds it and comes here.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback

from chromium import Chromium

# Snapshots come twice a second; the rest is for a machine that has other things to do.
SHOWN_WITHIN = 1.5
FREEZE = 5.0


class Server:
    def __init__(self, example, port=0):
        self.process = subprocess.Popen(
            [example, str(port)], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:(\d+))\n", line)
        if not found:
            self.kill()
            raise RuntimeError(f"the server said {line!r}")
        self.url, self.port = found[1], int(found[2])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def open(self, headers=()):
        """A WebSocket of no browser: the handshake, and a bare connection after it."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        lines = [
            "GET /ws HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", "",
        ]
        connection.sendall("\r\n".join(lines).encode())
        return connection, connection.recv(4096).decode("latin-1").splitlines()[0]


class Page(Chromium):
    def rows(self):
        """The table as a person sees it, by number."""
        rows = self.run("""
            [...document.querySelectorAll("#connections tbody tr")].map((row) => ({
                id: Number(row.dataset.id),
                answered: Number(row.dataset.answered),
                state: row.querySelector(".state").textContent,
                detail: row.querySelector(".detail").textContent,
                latest: row.querySelector(".latest").textContent,
                smoothed: row.querySelector(".smoothed").textContent,
                chart: row.querySelector(".line").getAttribute("d"),
                mine: !row.querySelector(".you").hidden,
            }))
        """)
        return {row["id"]: row for row in rows}

    def own(self):
        return next((row["id"] for row in self.rows().values() if row["mine"]), None)

    def log(self, number):
        """What was detected about one connection, the latest first."""
        entries = self.run("""
            [...document.querySelectorAll("#log li")].map((entry) => ({
                kind: entry.querySelector(".state").textContent,
                who: entry.querySelector("b").textContent,
                text: entry.querySelector(".text").textContent,
            }))
        """)
        return [(e["kind"], e["text"]) for e in entries if re.match(rf"#{number}\b", e["who"])]

    def link(self):
        return self.run("document.getElementById('link').textContent")


def until(within, what, condition):
    """Waits for a condition; its value, and how long that took."""
    start = time.monotonic()
    while True:
        value = condition()
        took = time.monotonic() - start
        if value:
            return value, took
        assert took < within, f"not within {within:.1f} s: {what}"
        time.sleep(0.1)


def state(page, number):
    return page.rows().get(number, {}).get("state")


class Story:
    """One test after the other: each goes on from where the last one left."""

    def __init__(self, example):
        self.example = example
        self.server = Server(example)
        self.pages = []

    def page(self):
        page = Page(self.server.url)
        self.pages.append(page)
        until(10, "its own row", page.own)
        return page

    def close(self):
        for page in self.pages:
            page.kill()
        self.server.kill()

    def test_both_are_listed_and_their_round_trips_are_measured(self):
        self.one, self.other = self.page(), self.page()
        self.one_number, self.other_number = self.one.own(), self.other.own()
        assert self.one_number != self.other_number
        hello = self.one.run("({...hello})")
        self.promised, self.timeout = hello["promised"] / 1e3, hello["timeout"] / 1e3
        for page in self.one, self.other:
            for number in self.one_number, self.other_number:
                seen = lambda: page.rows().get(number, {"answered": 0})
                until(5, "an answer", lambda: seen()["answered"] >= 1)
                before = seen()
                assert before["state"] == "Alive", before
                assert re.fullmatch(r"[\d.]+ m?s", before["latest"]), before
                assert re.fullmatch(r"[\d.]+ m?s", before["smoothed"]), before
                until(6, "another round-trip time", lambda: (
                    seen()["latest"] != before["latest"]
                    and seen()["smoothed"] != before["smoothed"]
                    and seen()["chart"] != before["chart"]
                ))

    def test_a_busy_page_is_not_declared_dead(self):
        assert FREEZE > self.timeout
        before = self.other.rows()[self.one_number]
        self.one.run("document.getElementById('freeze').click()")
        end = time.monotonic() + FREEZE + 1
        while time.monotonic() < end:
            row = self.other.rows()[self.one_number]
            assert row["state"] in ("Alive", "Suspect"), row
            time.sleep(0.25)
        after = self.other.rows()[self.one_number]
        assert after["answered"] >= before["answered"] + 4, (before, after)
        said, _ = until(5, "what the page says of it", lambda: self.one.run(
            "document.getElementById('thawed').textContent.match(/stood still .* (\\d+) pings/)?.[0]"
        ))
        kinds = [kind for kind, _ in self.other.log(self.one_number)]
        assert "gone" not in kinds and "left" not in kinds, kinds
        assert self.one.own() == self.one_number, "it had to connect again"
        return f"the page: {said}"

    def test_a_stopped_browser_is_suspect_then_gone_in_time(self):
        # A peer of our own that keeps its connection open and reads nothing, beside it.
        silent, status = self.server.open()
        assert " 101 " in status, status
        self.other.signal(signal.SIGSTOP)
        seen = lambda: state(self.one, self.other_number)
        _, suspect = until(3, "suspect", lambda: seen() == "Suspect")
        _, gone = until(self.promised + SHOWN_WITHIN, "gone", lambda: seen() == "Gone")
        gone += suspect
        assert gone <= self.promised + SHOWN_WITHIN, gone
        kinds = [kind for kind, _ in self.one.log(self.other_number)]
        assert kinds[:2] == ["gone", "suspect"], kinds
        detected = self.verdict(self.other_number)
        mute = max(self.one.rows())
        until(self.promised + SHOWN_WITHIN, "the mute peer", lambda: state(self.one, mute) == "Gone")
        self.verdict(mute)
        silent.close()
        return (f"shown as suspect after {suspect:.1f} s, as gone after {gone:.1f} s; detected "
                f"{detected} s after the last proof of life, promised {self.promised:.1f} s")

    def verdict(self, number):
        """How long after its last proof of life it was found gone, as the log has it."""
        kind, text = self.one.log(number)[0]
        assert kind == "gone", kind
        found = re.search(r"no pong for .*; detected ([\d.]+) s after .*, promised [\d.]+ s", text)
        assert found, text
        assert self.timeout - 0.1 <= float(found[1]) <= self.promised, text
        return found[1]

    def test_once_it_goes_on_it_is_told_and_comes_back(self):
        self.other.signal(signal.SIGCONT)
        number, _ = until(10, "a new connection", lambda: (
            self.other.own() not in (None, self.other_number) and self.other.own()
        ))
        until(SHOWN_WITHIN, "alive", lambda: state(self.one, number) == "Alive")
        self.other_number = number

    def test_a_killed_browser_is_gone_at_once(self):
        self.other.signal(signal.SIGKILL)
        _, took = until(SHOWN_WITHIN + 1, "gone", lambda: state(self.one, self.other_number) == "Gone")
        kind, text = self.one.log(self.other_number)[0]
        assert kind == "gone" and "no pong" not in text, text
        assert "connection" in self.one.rows()[self.other_number]["detail"]
        return f"shown after {took:.1f} s: {text}"

    def test_a_page_that_goes_elsewhere_has_left_and_may_come_back(self):
        self.other.kill()
        self.pages.remove(self.other)
        self.other = self.page()
        number = self.other.own()
        self.other.call("Page.navigate", url="about:blank")
        until(SHOWN_WITHIN + 1, "left", lambda: state(self.one, number) == "Left")
        self.other.run("history.back()")
        until(5, "its return", lambda: self.other.own() not in (None, number))

    def test_garbage_and_strangers_harm_nobody(self):
        before = self.one.rows()[self.one_number]["answered"]
        garbage, status = self.server.open()
        assert " 101 " in status, status
        number, _ = until(3, "its row", lambda: max(set(self.one.rows()) - {self.one_number}))
        garbage.sendall(bytes(range(256)) * 64)
        until(3, "gone", lambda: state(self.one, max(self.one.rows())) == "Gone")
        garbage.close()
        stranger, status = self.server.open(["Origin: http://elsewhere.example"])
        stranger.close()
        assert " 403 " in status, status
        until(5, "pings as before", lambda: self.one.rows()[self.one_number]["answered"] > before + 1)
        assert state(self.one, self.one_number) == "Alive"

    def test_a_lost_server_is_noticed_and_found_again(self):
        self.server.kill()
        until(3, "the loss", lambda: self.one.link().startswith("No connection"))
        self.server = Server(self.example, self.server.port)
        until(8, "the connection", lambda: self.one.link().startswith("Connected"))
        until(3, "its row", self.one.own)


def main():
    # So that what was started is ended in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    story = Story(sys.argv[1])
    passed = failed = 0
    try:
        for name in [name for name in vars(Story) if name.startswith("test_")]:
            start = time.monotonic()
            try:
                note = getattr(story, name)()
            except Exception:
                failed += 1
                print(f"FAILED {name}", traceback.format_exc(), sep="\n", flush=True)
                break  # The rest of the story hangs on it.
            passed += 1
            print(f"ok     {name[5:].replace('_', ' ')} ({time.monotonic() - start:.1f} s)", flush=True)
            if note:
                print(f"       {note}", flush=True)
    finally:
        story.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
