// A server of graphql-ws that echoes numbers. It prints its address, and the end of each connection.
//
// node graphql_server.mjs [--replay-after PONGS]
//
// With --replay-after it sends the first of its pongs again in place of every later one, and says when that begins.
// It pings the WebSocket each second, as the library does by itself.
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { buildSchema } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";

const KEEP_ALIVE_MS = 1000;

const { values } = parseArgs({ options: { "replay-after": { type: "string" } } });
const replayAfter = Number(values["replay-after"] ?? Infinity);

const schema = buildSchema("type Query { echo(number: Int!): Int! }");
const server = createServer();
const sockets = new WebSocketServer({ server });

// Before the library comes to the socket.
sockets.on("connection", (socket) => {
  const send = socket.send.bind(socket);
  let pongs = 0;
  let first;
  socket.send = (data, done) => {
    if (JSON.parse(data).type === "pong") {
      first ??= data;
      if (pongs++ === replayAfter) console.log("lies from now on");
      if (pongs > replayAfter) data = first;
    }
    send(data, done);
  };
  socket.on("close", (code) => console.log(`lost: code ${code}`));
});
useServer({ schema, roots: { query: { echo: ({ number }) => number } } }, sockets, KEEP_ALIVE_MS);
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
