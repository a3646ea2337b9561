// A client of stompjs, which hangs up when it hears nothing for twice the time that was agreed on. It sends numbers, so
// few that the beats are needed, and prints `survived` once SECONDS have passed; it fails with the end of the
// connection, and with a number that does not come back in its turn.
//
// node stomp_client.mjs URL OUTGOING_MS INCOMING_MS SECONDS
import { Client } from "@stomp/stompjs";
import WebSocket from "ws";

const BETWEEN_NUMBERS_MS = 5000;

const [url, outgoing, incoming, seconds] = process.argv.slice(2);
let sent = 0;
let returned = 0;
let beats = 0;

function fail(reason) {
  console.log(`failed: ${reason}`);
  process.exit(1);
}

function survived() {
  console.log(`survived ${seconds} s: ${beats} beats, ${returned} numbers returned`);
}

const client = new Client({
  webSocketFactory: () => {
    const socket = new WebSocket(url, ["v12.stomp"]);
    socket.on("message", (data) => {
      if (String(data) === "\n") beats++;
    });
    return socket;
  },
  heartbeatOutgoing: Number(outgoing),
  heartbeatIncoming: Number(incoming),
  reconnectDelay: 0,
  onConnect: () => {
    client.subscribe("/echo", (message) => {
      if (message.body !== String(returned)) fail(`${message.body} came back instead of ${returned}`);
      returned++;
    });
    const send = () => client.publish({ destination: "/echo", body: String(sent++) });
    send();
    setInterval(send, BETWEEN_NUMBERS_MS);
    setTimeout(survived, seconds * 1000);
  },
  onStompError: (frame) => fail(frame.headers.message),
  onHeartbeatLost: () => fail("no heartbeat"),
  onWebSocketClose: (event) => fail(`closed with code ${event.code}`),
});
client.activate();
