// A server of npm's ws with a heartbeat in text. It echoes what is no heartbeat, and prints its address and the end of
// each connection.
//
// node text_server.mjs json|phoenix [--pings MS] [--replay-after PONGS | --forge-after PONGS]
//
// With --pings it also pings by itself, each time with another value, and hangs up where the value has not come back
// when the next ping is due. After so many right pongs it sends the first of them again in place of every later one, or
// changes their ids, and says when that begins.
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { pings: { type: "string" }, "replay-after": { type: "string" }, "forge-after": { type: "string" } },
});
const betweenPings = Number(values.pings ?? 0);
const replayAfter = Number(values["replay-after"] ?? Infinity);
const forgeAfter = Number(values["forge-after"] ?? Infinity);

// The id of a ping, the text of a pong, and what is sent back to anything else.
const protocols = {
  json: {
    id: (said) => (said.type === "ping" ? said.id : undefined),
    pong: (id) => `${JSON.stringify({ at: Date.now(), id, type: "pong" }, null, 2)}\n`,
    echo: (said) => said,
  },
  phoenix: {
    id: ([, ref, topic, event]) => (topic === "phoenix" && event === "heartbeat" ? ref : undefined),
    pong: (ref) => JSON.stringify([null, ref, "phoenix", "phx_reply", { response: {}, status: "ok" }]),
    echo: ([join, ref, topic, , payload]) => [join, ref, topic, "phx_reply", { status: "ok", response: payload }],
  },
};
const { id, pong, echo } = protocols[positionals[0]];

const forge = (id) => id.slice(0, -1) + (id.endsWith("0") ? "1" : "0");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
server.on("connection", (socket) => {
  let pongs = 0;
  let first;
  let expected;

  function answer(id) {
    const text = pong(id);
    first ??= text;
    const honest = pongs++;
    if (honest === Math.min(replayAfter, forgeAfter)) console.log("lies from now on");
    if (honest >= replayAfter) socket.send(first);
    else if (honest >= forgeAfter) socket.send(pong(forge(id)));
    else socket.send(text);
  }

  function ping(number) {
    if (expected !== undefined) {
      console.log(`${expected} has not come back`);
      socket.terminate();
      return;
    }
    expected = { number, text: `ping "${number}"` };
    socket.send(JSON.stringify({ id: expected, type: "ping" }));
    setTimeout(ping, betweenPings, number + 1);
  }

  socket.on("message", (data) => {
    const said = JSON.parse(data);
    if (said.type === "pong") {
      if (JSON.stringify(said.id) === JSON.stringify(expected)) expected = undefined;
    } else if (id(said) !== undefined) {
      answer(id(said));
    } else {
      socket.send(JSON.stringify(echo(said)));
    }
  });
  socket.on("close", (code) => console.log(`lost: code ${code}`));
  if (betweenPings) ping(0);
});
server.on("listening", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
