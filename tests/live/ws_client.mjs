// A client of npm's ws. It asks the server's application for long work, and prints `survived` once that is done,
// with all else that was sent, on the one connection.
//
// node ws_client.mjs URL [--patience MS] [--bursts-for MS] [--then-work]
//
// With --patience it hangs up when no ping came for so long, as the manual of ws advises. With --bursts-for
// it also sends, for so long, bursts of messages over each of which the server takes its time. With --then-work
// it asks for more work than ends once it has survived, and is quiet otherwise.
import { parseArgs } from "node:util";
import WebSocket from "ws";

const WORK_MS = 10_000;
const ENDLESS_WORK_MS = 600_000;
const WORK_AFTER_BURSTS_MS = 5_000;
const BURST = 15;
const BETWEEN_BURSTS_MS = 3_000;
const PAUSE_MS = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { patience: { type: "string" }, "bursts-for": { type: "string" }, "then-work": { type: "boolean" } },
});
const patience = Number(values.patience ?? 0);
const burstsFor = Number(values["bursts-for"] ?? 0);

const socket = new WebSocket(positionals[0]);
let opened;
let sent = 0;
// The messages that the server sends back, in their order.
const asked = [];
let over = false;

let pings = 0;
let latest;
let longest = 0;
let timer;

const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`;

function end(line) {
  if (over) return;
  over = true;
  console.log(`${line} after ${seconds(performance.now() - opened)}`);
  process.exit(0);
}

function hangUpLater() {
  clearTimeout(timer);
  const seen = pings;
  timer = setTimeout(() => {
    // What the socket holds is read first: this process may have been late itself.
    setImmediate(() => {
      if (pings === seen) {
        socket.terminate();
        end("hung up: no ping");
      }
    });
  }, patience);
}

function send(task) {
  const message = `${task} ${sent++}`;
  socket.send(message);
  return message;
}

function ask(time) {
  asked.push(send(`work ${time}`));
}

function sendBursts() {
  if (performance.now() - opened < burstsFor) {
    for (let i = 0; i < BURST; i++) send(`pause ${PAUSE_MS}`);
    setTimeout(sendBursts, BETWEEN_BURSTS_MS);
  } else {
    // It comes back once all before it has been read.
    ask(0);
  }
}

function survived() {
  const done = sent;
  // Before the line: whoever reads it may stop this process at once.
  if (values["then-work"]) ask(ENDLESS_WORK_MS);
  console.log(
    `survived ${seconds(performance.now() - opened)}: ${done} messages done, ` +
      `${pings} pings, at most ${seconds(longest)} apart`,
  );
}

socket.on("open", () => {
  opened = latest = performance.now();
  if (patience) hangUpLater();
  if (burstsFor) {
    sendBursts();
    setTimeout(() => ask(WORK_MS), WORK_AFTER_BURSTS_MS);
  } else {
    ask(WORK_MS);
  }
});
socket.on("ping", () => {
  const now = performance.now();
  longest = Math.max(longest, now - latest);
  latest = now;
  pings++;
  if (patience) hangUpLater();
});
socket.on("message", (data) => {
  const expected = asked.shift();
  if (String(data) !== expected) {
    console.log(`failed: ${data} came back instead of ${expected}`);
    process.exit(1);
  }
  const isLast = !burstsFor || expected.startsWith("work 0 ");
  if (isLast) survived();
});
socket.on("error", (error) => {
  if (!over) console.log(`failed: ${error.message}`);
  process.exit(1);
});
socket.on("close", (code) => end(`lost: code ${code}`));
