// The MQTT broker aedes over WebSockets of npm's ws, of ws with pongs that lack the payload of their ping, of ws
// without pongs, and of websocket-stream. Prints the address of each.
import { createServer } from "node:http";
import aedes from "aedes";
import { createWebSocketStream, WebSocketServer } from "ws";
import websocketStream from "websocket-stream";

const broker = aedes();
broker.on("clientError", (client, error) => console.log(`${client.id}: ${error.message}`));
broker.on("connectionError", (client, error) => console.log(`no client yet: ${error.message}`));

function listen(name, server) {
  server.listen(0, "127.0.0.1", () => console.log(`${name} on 127.0.0.1:${server.address().port}`));
}

function listenWithWs(name, autoPong, onPing) {
  const server = createServer();
  const sockets = new WebSocketServer({ server, autoPong });
  sockets.on("connection", (socket) => {
    socket.on("ping", () => onPing(socket));
    broker.handle(createWebSocketStream(socket));
  });
  listen(name, server);
}

listenWithWs("ws", true, () => {});
listenWithWs("empty-pongs", false, (socket) => socket.pong());
listenWithWs("no-pongs", false, () => {});

const server = createServer();
websocketStream.createServer({ server }, broker.handle);
listen("websocket-stream", server);
