// The client that comes with Phoenix. It pushes a heartbeat each second, and hangs up if the next is due and there was
// no reply. It joins a channel, pushes numbers, and prints `survived` once SECONDS have passed; it fails with the end of
// the connection, and with a number that does not come back.
//
// node phoenix_client.mjs URL SECONDS
import { Socket } from "phoenix";
import WebSocket from "ws";

const HEARTBEAT_MS = 1000;
const BETWEEN_NUMBERS_MS = 500;

const [url, seconds] = process.argv.slice(2);
let heartbeats = 0;
let sent = 0;
let returned = 0;

function fail(reason) {
  console.log(`failed: ${reason}`);
  process.exit(1);
}

function push() {
  const number = sent++;
  channel
    .push("echo", { number })
    .receive("ok", (response) => {
      if (response.number !== number) fail(`${JSON.stringify(response)} came back instead of ${number}`);
      returned++;
    })
    .receive("timeout", () => fail(`${number} has not come back`));
}

function survived() {
  console.log(`survived ${seconds} s: ${heartbeats} heartbeats replied to, ${returned} numbers returned`);
}

const socket = new Socket(url, { transport: WebSocket, heartbeatIntervalMs: HEARTBEAT_MS });
socket.onMessage((message) => {
  if (message.topic === "phoenix" && message.event === "phx_reply") heartbeats++;
});
socket.onClose((event) => fail(`closed with code ${event.code}`));
socket.connect();
const channel = socket.channel("room:live", {});
channel
  .join()
  .receive("ok", () => {
    setInterval(push, BETWEEN_NUMBERS_MS);
    setTimeout(survived, seconds * 1000);
  })
  .receive("error", () => fail("not joined"));
