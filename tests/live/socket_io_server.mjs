// A server of socket.io that sends each message back. It prints its address, and the end of each connection.
//
// node socket_io_server.mjs PING_INTERVAL_MS PING_TIMEOUT_MS
import { createServer } from "node:http";
import { Server } from "socket.io";

const [pingInterval, pingTimeout] = process.argv.slice(2).map(Number);

const server = createServer();
const sockets = new Server(server, { transports: ["websocket"], pingInterval, pingTimeout });
sockets.on("connection", (socket) => {
  socket.on("echo", (number) => socket.emit("echo", number));
  socket.on("disconnect", (reason) => console.log(`lost: ${reason}`));
});
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
