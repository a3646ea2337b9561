// A client of socket.io, which hangs up when no ping came for the time that the server has announced. It sends
// messages, and prints `survived` once SECONDS have passed; it fails with the end of the connection, and with a
// message that does not come back in its turn.
//
// node socket_io_client.mjs URL SECONDS
import { io } from "socket.io-client";

const BETWEEN_MESSAGES_MS = 500;

const [url, seconds] = process.argv.slice(2);

const socket = io(url, { transports: ["websocket"], reconnection: false });
let sent = 0;
let returned = 0;
let pings = 0;

function fail(reason) {
  console.log(`failed: ${reason}`);
  process.exit(1);
}

function survived() {
  console.log(`survived ${seconds} s: ${pings} pings, ${returned} messages returned`);
}

socket.on("connect", () => {
  setInterval(() => socket.emit("echo", sent++), BETWEEN_MESSAGES_MS);
  setTimeout(survived, seconds * 1000);
});
socket.on("echo", (number) => {
  if (number !== returned) fail(`${number} came back instead of ${returned}`);
  returned++;
});
socket.io.on("ping", () => pings++);
socket.on("connect_error", (error) => fail(error.message));
socket.on("disconnect", fail);
