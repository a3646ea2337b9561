"""A server of Python's websockets, with the heartbeat of the library.

websockets_server.py [INTERVAL_MS TIMEOUT_MS]

Without an interval it has no heartbeat.
"""

import asyncio
import sys

from websockets.asyncio.server import serve


async def read(connection):
    async for _ in connection:
        pass


async def main():
    interval, timeout = (int(given) / 1e3 for given in sys.argv[1:]) if len(sys.argv) > 1 else (None, None)
    server = await serve(read, "127.0.0.1", 0, ping_interval=interval, ping_timeout=timeout, compression=None,
                         backlog=1024)
    print("on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main())
