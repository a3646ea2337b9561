// usage: node run.cjs DIRECTORY SERVER: two heartbeats side by side, one over a socket to the server, and one
// over a socket that never opens.
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const { createServer } = require("node:net");
const { createInterface } = require("node:readline");
const { beat, socket, unopened } = require(`${process.argv[2]}/beat.js`);

// Node 22 has a WebSocket, Node 20 has one behind a flag, and Debian's Node 18 comes with this package.
globalThis.WebSocket ??= require("undici").WebSocket;
// Node has it from version 23 on. A socket of gloo-net that is dropped dispatches one, by which it lets go of
// its listener; without the class the listener is called after the socket is gone, and panics.
globalThis.CloseEvent ??= class CloseEvent extends Event {
    constructor(type, { code = 0, reason = "", wasClean = false, ...init } = {}) {
        super(type, init);
        Object.assign(this, { code, reason, wasClean });
    }
};

// The server ends when its input does, so that none is left behind.
const server = spawn(process.argv[3], { stdio: ["pipe", "pipe", "inherit"] });

const silent = createServer().listen(0, "127.0.0.1");

(async () => {
    const [[port]] = await Promise.all([once(createInterface({ input: server.stdout }), "line"), once(silent, "listening")]);
    const told = await Promise.all([
        beat(),
        beat(),
        socket(`ws://127.0.0.1:${port}`),
        unopened(`ws://127.0.0.1:${silent.address().port}`),
    ]);
    for (const one of told) console.log(one);
    server.stdin.end();
    silent.close();
})();
