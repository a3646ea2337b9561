// A server of npm's ws, with the heartbeat that its manual advises: one timer for all connections, a ping to each,
// and an end to those who have not answered since the last.
//
// node ws_server.mjs [INTERVAL_MS]
//
// Without an interval it has no heartbeat.
import { WebSocketServer } from "ws";

const interval = Number(process.argv[2] ?? 0);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 1024 });
const answered = Symbol("answered");

function noteAnswer() {
  this[answered] = true;
}

server.on("listening", () => console.log(`on 127.0.0.1:${server.address().port}`));
server.on("connection", (socket) => {
  socket.on("error", () => {});
  if (!interval) return;
  socket[answered] = true;
  socket.on("pong", noteAnswer);
});

if (interval) {
  setInterval(() => {
    for (const socket of server.clients) {
      if (socket[answered]) {
        socket[answered] = false;
        socket.ping();
      } else {
        socket.terminate();
      }
    }
  }, interval);
}
