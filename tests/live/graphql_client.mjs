// A client of graphql-ws, which pings each second in messages and hangs up when no pong came within another, as the
// manual of the library advises. It asks for numbers, and prints `survived` once SECONDS have passed; it fails with
// the end of the connection, and with a number that does not come back.
//
// node graphql_client.mjs URL SECONDS
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const BETWEEN_PINGS_MS = 1000;
const PATIENCE_MS = 1000;
const BETWEEN_NUMBERS_MS = 500;

const [url, seconds] = process.argv.slice(2);
let socket;
let patience;
let pings = 0;
let pongs = 0;
let returned = 0;

function fail(reason) {
  console.log(`failed: ${reason}`);
  process.exit(1);
}

async function ask(number) {
  const query = "query ($number: Int!) { echo(number: $number) }";
  for await (const result of client.iterate({ query, variables: { number } })) {
    if (result.data?.echo !== number) fail(`${JSON.stringify(result)} came back instead of ${number}`);
    returned++;
  }
}

const client = createClient({
  url,
  webSocketImpl: WebSocket,
  lazy: false,
  retryAttempts: 0,
  keepAlive: BETWEEN_PINGS_MS,
  onNonLazyError: fail,
  on: {
    opened: (opened) => (socket = opened),
    connected: () => {
      let number = 0;
      setInterval(() => ask(number++).catch(fail), BETWEEN_NUMBERS_MS);
      setTimeout(survived, seconds * 1000);
    },
    ping: (received) => {
      if (received) return pings++;
      patience = setTimeout(() => {
        socket.terminate();
        fail("no pong");
      }, PATIENCE_MS);
    },
    pong: (received) => {
      if (!received) return;
      pongs++;
      clearTimeout(patience);
    },
    closed: (event) => fail(`closed with code ${event.code}`),
  },
});

function survived() {
  console.log(`survived ${seconds} s: ${pings} pings, ${pongs} pongs, ${returned} numbers returned`);
}
