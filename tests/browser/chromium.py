"""Chromium without a window, driven over a pair of pipes by the DevTools protocol."""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-breakpad",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
]


class Chromium:
    """A browser with a profile, a session and a process group of its own, and one page."""

    def __init__(self, url, *flags):
        self.profile = tempfile.mkdtemp(prefix="dashboard-")
        self.process = None
        self.calls = 0
        self.buffer = b""
        # The browser reads from its file 3 and writes to its file 4.
        there, self.into = os.pipe()
        self.out_of, back = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (there, back)]
        os.close(there)
        os.close(back)
        command = [
            "bash", "-c", f'exec chromium "$@" 3<&{ends[0]} 4>&{ends[1]}', "chromium",
            *FLAGS, *flags, f"--user-data-dir={self.profile}", "about:blank",
        ]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=ends,
                start_new_session=True,
            )
            for end in ends:
                os.close(end)
            self.session = None
            self.session = self.attach()
            self.call("Page.enable")
            self.call("Page.navigate", url=url)
        except BaseException:
            self.kill()
            raise

    def attach(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            targets = self.call("Target.getTargets", wait=20)["targetInfos"]
            for target in targets:
                if target["type"] == "page":
                    attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
                    return attached["sessionId"]
            time.sleep(0.1)
        raise TimeoutError("the browser opened no page")

    def call(self, method, wait=15, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + wait
        while True:
            answer = self.read(end - time.monotonic(), method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def read(self, wait, method):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.out_of], [], [], max(0, wait))
            if not ready:
                raise TimeoutError(f"no answer to {method}")
            data = os.read(self.out_of, 1 << 16)
            if not data:
                raise RuntimeError("the browser has ended")
            self.buffer += data
        answer, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(answer)

    def run(self, script):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def signal(self, number):
        """To all of its processes."""
        os.killpg(self.process.pid, number)

    def kill(self):
        if self.process:
            try:
                self.signal(signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None
            os.close(self.into)
            os.close(self.out_of)
        shutil.rmtree(self.profile, ignore_errors=True)
