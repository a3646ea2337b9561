"""The crate against foreign peers, all scenarios at once, each with one line of outcome.

Takes the path of the built example `live`, the folder with the peers' scripts and packages, and the names of
scenarios (none: all). `.ci/live` builds, installs and comes here.

A scenario is an async function under `@scenario`. It starts its processes by `stage.start`, waits for what
they print, and returns what is worth telling. Its processes are killed when it ends, however it ends.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import time

# What a loaded machine may add to a bound: the time from a stop to its effect, and from a verdict to its line.
ALLOWANCE = 1.0
# For a process to start, and for what has no bound of its own. A wait that ends well never takes so long.
PATIENCE = 20.0
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


class Failure(Exception):
    pass


class Process:
    """A program, and the lines that it printed with the time of each."""

    def __init__(self, stage, name, process):
        self.stage, self.name, self.process = stage, name, process
        self.lines = []
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        async for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))
            self.stage.news.set()
        await self.process.wait()
        self.stage.news.set()

    async def says(self, pattern, within=PATIENCE):
        """Waits for a line with `pattern`; the match, and when the line came."""
        deadline = time.monotonic() + within
        while True:
            self.stage.news.clear()
            for at, line in self.lines:
                if found := re.search(pattern, line):
                    return found, at
            for process in self.stage.processes:
                failed = process.process.returncode not in (None, 0)
                if failed or process is self and self.reading.done():
                    raise Failure(f"{process.name} has ended, and {self.name} has not said '{pattern}'")
            try:
                await asyncio.wait_for(self.stage.news.wait(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise Failure(f"{self.name} has not said '{pattern}' within {within:.1f} s") from None

    async def address(self, pattern=r"on"):
        return (await self.says(pattern + r" (127\.0\.0\.1:\d+)"))[0][1]

    async def promised(self):
        """The bound of one of ours in seconds, and when it was told."""
        promised, at = await self.says(r"^promised: (\d+) ms")
        return int(promised[1]) / 1e3, at

    def signal(self, number):
        # asyncio's own way would wait for the process here, and take its exit status from `read`.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class Stage:
    """The processes of one scenario."""

    def __init__(self, example, peers):
        self.example, self.peers = example, peers
        self.processes = []
        self.news = asyncio.Event()

    async def start(self, name, *command):
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self.processes.append(Process(self, name, process))
        return self.processes[-1]

    async def ours(self, *arguments):
        return await self.start(f"our {arguments[0]}", self.example, *arguments)

    async def node(self, script, *arguments):
        return await self.start(script, "node", os.path.join(self.peers, script), *arguments)

    async def nginx(self, upstream, read_timeout):
        """An nginx before `upstream`, and its address."""
        folder = tempfile.mkdtemp(dir=self.peers)
        # The port stays bound until nginx has it, too: nobody else can take it in between.
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("127.0.0.1", 0))
            address = "{}:{}".format(*holder.getsockname())
            with open(os.path.join(folder, "nginx.conf"), "w") as config:
                config.write(NGINX.format(listen=address, upstream=upstream, read_timeout=read_timeout))
            nginx = await self.start("nginx", "nginx", "-p", folder, "-e", "stderr", "-c", "nginx.conf")
            # It tells its version once it listens.
            await nginx.says("nginx/")
        return nginx, address

    async def found(self, stopped, *ours):
        """Stops a peer, and tells when each of ours has found it gone, as promised."""
        bounds = [(await process.promised())[0] for process in ours]
        start = time.monotonic()
        stopped.signal(signal.SIGSTOP)
        slowest = 0
        for process, bound in zip(ours, bounds):
            _, at = await process.says(r"^gone: ", start + bound + ALLOWANCE - time.monotonic())
            if at < start:
                raise Failure(f"{process.name} found a live peer gone")
            slowest = max(slowest, at - start)
        return f"{stopped.name} stopped, found after {slowest:.1f} s of {max(bounds):.1f} s"

    async def end(self):
        # One may be stopped: nothing but a kill ends such a process.
        for process in self.processes:
            process.signal(signal.SIGKILL)
        await asyncio.gather(*(process.reading for process in self.processes))

    def print_logs(self):
        for process in self.processes:
            for _, line in process.lines[-5:]:
                print(f"       {process.name}: {line}", flush=True)


# Without a master there is one process to stop and to kill.
NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {listen} reuseport;
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout {read_timeout};
        }}
    }}
}}
"""


# Its own pings must be answered in the messages of NATS.
NATS = """
listen: "127.0.0.1:-1"
ping_interval: "2s"
websocket { listen: "127.0.0.1:-1", no_tls: true }
"""


async def demanding(stage, care):
    """A client that hangs up when no ping came for 1.4 intervals. The server's reader takes its time over each
    message, and one handler works for 10 s."""
    server = await stage.ours("handler", care, 2000, 3000)
    url = f"ws://{await server.address()}"
    return server, await stage.node("ws_client.mjs", url, "--patience", 2800, "--bursts-for", 30_000)


# contract: O90 O91 O94
@scenario
async def ws_client_that_wants_pings(stage):
    server, client = await demanding(stage, "run-while")
    survived, _ = await client.says("^survived (.*)", 30 + PATIENCE)
    return survived[1], await stage.found(client, server)


@scenario
async def ws_client_that_wants_pings_leaves_a_bare_handler(stage):
    _, client = await demanding(stage, "bare")
    return ((await client.says("^hung up: .*"))[0][0],)


async def behind_nginx(stage, care, *options):
    """A client behind an nginx that cuts what is silent for 3 s, while a handler works for 10 s."""
    server = await stage.ours("handler", care, 1000, 2000)
    nginx, address = await stage.nginx(await server.address(), "3s")
    return server, nginx, await stage.node("ws_client.mjs", f"ws://{address}", *options)


# contract: O91
@scenario
async def nginx_in_between(stage):
    # The client is stopped while the next handler works, without an end of its own.
    server, _, client = await behind_nginx(stage, "run-while", "--then-work")
    survived, _ = await client.says("^survived (.*)", 10 + PATIENCE)
    return survived[1], await stage.found(client, server)


@scenario
async def nginx_in_between_is_stopped(stage):
    server, nginx, client = await behind_nginx(stage, "run-while")
    survived, _ = await client.says("^survived (.*)", 10 + PATIENCE)
    return survived[1], await stage.found(nginx, server)


@scenario
async def nginx_in_between_cuts_a_bare_handler(stage):
    _, _, client = await behind_nginx(stage, "bare")
    return ((await client.says("^lost: .*"))[0][0],)


async def answering(process, least, seconds, pings="pings answered"):
    """What one of ours says of its first seconds, in which so many pings must have been answered at least."""
    alive, _ = await process.says(rf"^alive: (.*?(\d+) {pings}.*)", seconds + PATIENCE)
    if int(alive[2]) < least:
        raise Failure(f"{process.name}: {alive[1]}")
    return alive[1]


# contract: O96
@scenario
async def mqtt_broker_under_bursts(stage):
    broker = await stage.node("mqtt_broker.mjs")
    # A burst is larger than the buffers on its way, so that it blocks the writer.
    clients = [
        await stage.ours("mqtt", await broker.address(f"^{transport} on"), transport, "any-pong", 400, 30)
        for transport in ("ws", "empty-pongs", "websocket-stream")
    ]
    # One is due each second, and a pong may wait behind most of a burst: some must get through.
    alive = await asyncio.gather(*(answering(client, 5, 30) for client in clients))
    return alive[0], await stage.found(broker, *clients)


# contract: P99
@scenario
async def mqtt_broker_whose_traffic_answers(stage):
    """Without pongs the messages of the broker keep a client alive, for as long as they are trusted."""
    broker = await stage.node("mqtt_broker.mjs")

    async def client(name, transport, max_unproven):
        address = await broker.address(f"^{transport} on")
        return await stage.ours("mqtt", address, name, max_unproven, 40, 25)

    proven = await client("proven", "ws", 8000)
    trusted = await client("trusted", "no-pongs", 60_000)
    unproven = await client("unproven", "no-pongs", 8000)
    bound, start = await unproven.promised()
    _, end = await unproven.says("^gone: ", 8 + bound + ALLOWANCE)
    if end < start + 8:
        raise Failure(f"messages were trusted for {end - start:.1f} s")
    alive = await asyncio.gather(*(answering(each, 20, 25) for each in (proven, trusted)))
    found = await stage.found(broker, proven, trusted)
    return alive[1], f"trusted for 8 s, a broker without pongs is found after {end - start:.1f} s", found


# contract: P100
@scenario
async def socket_io_server_that_pings(stage):
    server = await stage.node("socket_io_server.mjs", 2000, 1500)
    client = await stage.ours("socket-io-client", await server.address(), 25)
    return await answering(client, 10, 25, "of the peer's"), await stage.found(server, client)


# contract: P102
@scenario
async def socket_io_client_that_wants_pings(stage):
    server = await stage.ours("socket-io-server", 2000, 1500, 25)
    client = await stage.node("socket_io_client.mjs", f"http://{await server.address()}", 25)
    survived, _ = await client.says("^survived (.*)", 25 + PATIENCE)
    return survived[1], await answering(server, 10, 25), await stage.found(client, server)


INTERVAL, TIMEOUT, SECONDS = 1000, 1500, 30


async def lied_to(liar, ours):
    """When one of ours has found a peer that lives on and sends pongs that prove nothing, as promised."""
    bound, _ = await ours.promised()
    _, start = await liar.says("^lies from now on", 10 + PATIENCE)
    await ours.says("^refused: ", bound)
    _, at = await ours.says("^gone: ", start + bound + ALLOWANCE - time.monotonic())
    if at < start:
        raise Failure(f"{ours.name} found an honest peer gone")
    return f"{ours.name} was lied to, found after {at - start:.1f} s of {bound:.1f} s"


# contract: P103
@scenario
async def graphql_ws_server(stage):
    server = await stage.node("graphql_server.mjs")
    client = await stage.ours("graphql-client", await server.address(), INTERVAL, TIMEOUT, SECONDS)
    return await answering(client, 20, SECONDS), await stage.found(server, client)


# contract: P103
@scenario
async def graphql_ws_client(stage):
    server = await stage.ours("graphql-server", INTERVAL, TIMEOUT, SECONDS)
    client = await stage.node("graphql_client.mjs", f"ws://{await server.address()}", SECONDS)
    survived, _ = await client.says("^survived (.*)", SECONDS + PATIENCE)
    return survived[1], await answering(server, 20, SECONDS), await stage.found(client, server)


# contract: P103
@scenario
async def liars_in_text(stage):
    """Each lives on and answers each ping, the one with an old pong, the other with an id that is nobody's."""
    async def lied(server, client):
        ours = await stage.ours(client, await server.address(), INTERVAL, TIMEOUT, SECONDS)
        return await lied_to(server, ours)

    return await asyncio.gather(
        lied(await stage.node("graphql_server.mjs", "--replay-after", 5), "graphql-client"),
        lied(await stage.node("text_server.mjs", "phoenix", "--replay-after", 5), "phoenix-client"),
        lied(await stage.node("text_server.mjs", "json", "--replay-after", 5), "json-ping"),
        lied(await stage.node("text_server.mjs", "json", "--forge-after", 5), "json-ping"),
    )


# contract: P100
@scenario
async def phoenix_client(stage):
    server = await stage.ours("phoenix-server", 2500, SECONDS)
    client = await stage.node("phoenix_client.mjs", f"ws://{await server.address()}/socket", SECONDS)
    survived, _ = await client.says("^survived (.*)", SECONDS + PATIENCE)
    alive = await answering(server, 20, SECONDS, "of the peer's")
    return survived[1], alive, await stage.found(client, server)


# contract: P103
@scenario
async def phoenix_server(stage):
    server = await stage.node("text_server.mjs", "phoenix")
    client = await stage.ours("phoenix-client", await server.address(), INTERVAL, TIMEOUT, SECONDS)
    return await answering(client, 20, SECONDS), await stage.found(server, client)


# contract: P99 P100
@scenario
async def stomp_clients(stage):
    """Both ends beat, or the client alone, at which the server only looks."""
    async def pair(heart_beat, outgoing, incoming):
        server = await stage.ours("stomp-server", heart_beat, SECONDS)
        url = f"ws://{await server.address()}"
        client = await stage.node("stomp_client.mjs", url, outgoing, incoming, SECONDS)
        survived, _ = await client.says("^survived (.*)", SECONDS + PATIENCE)
        return survived[1], await stage.found(client, server)

    both, beats = await asyncio.gather(pair("1000,2000", 500, 500), pair("0,1500", 1000, 1000))
    return *both, *beats


@scenario
async def nats_server(stage):
    with open(os.path.join(stage.peers, "nats.conf"), "w") as config:
        config.write(NATS)
    server = await stage.start("nats-server", "nats-server", "-c", config.name)
    address = (await server.says(r"websocket clients on ws://(127\.0\.0\.1:\d+)"))[0][1]
    client = await stage.ours("nats", address, INTERVAL, TIMEOUT, SECONDS)
    return await answering(client, 20, SECONDS), await stage.found(server, client)


# contract: P100 P103
@scenario
async def ws_server_that_pings_in_json(stage):
    server = await stage.node("text_server.mjs", "json", "--pings", 1000)
    address = await server.address()
    pinging = await stage.ours("json-ping", address, INTERVAL, TIMEOUT, SECONDS)
    watching = await stage.ours("json-watch", address, 2500, SECONDS)
    alive = await answering(pinging, 20, SECONDS), await answering(watching, 20, SECONDS, "of the peer's")
    return *alive, await stage.found(server, pinging, watching)


async def perform(name, example, peers):
    """Runs a scenario and prints its line; whether it passed."""
    stage, start = Stage(example, peers), time.monotonic()
    try:
        notes = await SCENARIOS[name](stage)
        outcome, passed = f"ok     {name}", True
    except Failure as failure:
        notes, outcome, passed = [str(failure)], f"FAILED {name}", False
    finally:
        await stage.end()
    print(f"{outcome} ({time.monotonic() - start:.1f} s): {'; '.join(notes)}", flush=True)
    if not passed:
        stage.print_logs()
    return passed


async def main(example, peers, names):
    task = asyncio.current_task()
    # So that what was started is ended in any case.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for name in names:
        if name not in SCENARIOS:
            sys.exit(f"no scenario {name}: there are {', '.join(SCENARIOS)}")
    try:
        passed = await asyncio.gather(*(perform(name, example, peers) for name in names or SCENARIOS))
    except asyncio.CancelledError:
        return 143
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
