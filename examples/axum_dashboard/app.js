"use strict";

const FREEZE = 5000;
const RETRY = [500, 1000, 2000, 4000];

const element = (id) => document.getElementById(id);
const main = document.querySelector("main");
const rows = element("connections").tBodies[0];
const log = element("log");

let hello = null; // What the server said first: who we are, and what it promises.
let mine = null; // This tab's connection as of the last snapshot.
let newest = 0; // The number of the newest entry in the log.
let retries = 0;
let socket = null;
let retry = null;

// --- the connection ---

function connect() {
  socket = new WebSocket(`ws${location.protocol.slice(4)}//${location.host}/ws`);
  hello = null;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (hello) return show(message);
    hello = message;
    retries = 0;
    greet();
  };
  // It comes after each error too.
  socket.onclose = ({ code, reason }) => {
    const delay = RETRY[Math.min(retries++, RETRY.length - 1)];
    const why = code === 1011 ? `Given up by the server (${reason})` : "No connection to the server";
    link("lost", `${why}, trying again`);
    main.classList.add("stale");
    retry = setTimeout(connect, delay);
  };
}

// A page that was left may be kept for the way back. Its browser would go on answering pings.
addEventListener("pagehide", () => {
  clearTimeout(retry);
  socket.onclose = null;
  socket.close();
});
addEventListener("pageshow", ({ persisted }) => persisted && connect());

function greet() {
  main.classList.remove("stale");
  link("alive", `Connected as #${hello.you}`);
  const bold = (ms) => Object.assign(document.createElement("strong"), { textContent: span(ms) });
  element("promise").replaceChildren(
    "Every tab that opens this page gets a ping each ", bold(hello.interval),
    ", and has ", bold(hello.timeout), " for the pong. A peer is found gone at the latest ",
    bold(hello.promised), " after its last proof of life.",
  );
  // A restarted server counts anew.
  log.firstElementChild.replaceChildren();
  newest = 0;
}

function link(state, text) {
  const pill = element("link");
  pill.dataset.state = state;
  if (pill.textContent !== text) pill.textContent = text;
}

// --- the snapshots ---

function show({ connections, log: entries }) {
  mine = connections.find(({ id }) => id === hello.you);
  const over = ({ state }) => state === "gone" || state === "left";
  // This tab, the others, and those that are gone, the latest first.
  connections.sort((a, b) =>
    over(a) - over(b) || (over(a) ? a.since - b.since : (b === mine) - (a === mine) || a.id - b.id));
  connections.forEach((connection, place) => {
    const row = rows.querySelector(`[data-id="${connection.id}"]`) ?? newRow(connection);
    if (rows.children[place] !== row) rows.insertBefore(row, rows.children[place] ?? null);
    fill(row, connection);
  });
  while (rows.children.length > connections.length) rows.lastElementChild.remove();

  const counts = ["alive", "suspect", "gone", "left"].map((state) => {
    const count = connections.filter((connection) => connection.state === state).length;
    return count && `${count} ${state}`;
  });
  text(element("counts"), counts.filter(Boolean).join(", "));
  tell(entries);
}

function newRow({ id, name }) {
  const row = document.createElement("tr");
  row.dataset.id = id;
  row.setAttribute("role", "row");
  row.innerHTML = `
    <th role="rowheader" scope="row"><span class="id"></span><span class="name"></span> <span class="you" hidden>this tab</span></th>
    <td role="cell"><span class="state"></span><span class="detail"></span></td>
    <td role="cell" class="number latest" data-label="Latest RTT"></td>
    <td role="cell" class="number smoothed" data-label="Smoothed"></td>
    <td role="cell" class="chart"><div class="plot">
      <svg role="img" viewBox="0 0 100 100" preserveAspectRatio="none">
        <path class="grid" d="M0 100H100"/><path class="area"/><path class="line"/><path class="flat"/><path class="end"/>
      </svg>
      <div class="scale" aria-hidden="true"><span></span><span></span></div>
    </div></td>`;
  row.querySelector(".id").textContent = `#${id}`;
  row.querySelector(".name").textContent = name;
  return row;
}

function fill(row, connection) {
  const { state, answered } = connection;
  const over = state === "gone" || state === "left";
  if (row.dataset.state !== state) {
    row.dataset.state = state;
    const since = `since ${clock(connection.since)}`;
    text(row.querySelector(".detail"), over ? `${connection.why}, ${since}` : since);
  }
  row.classList.toggle("over", over);
  row.querySelector(".you").hidden = connection.id !== hello.you;

  const badge = row.querySelector(".state");
  badge.dataset.state = state;
  text(badge, state[0].toUpperCase() + state.slice(1));
  if (row.dataset.answered !== String(answered)) {
    row.dataset.answered = answered;
    badge.classList.remove("beat");
    void badge.offsetWidth; // Starts the animation again.
    badge.classList.add("beat");
  }
  number(row.querySelector(".latest"), connection.latest);
  number(row.querySelector(".smoothed"), connection.smoothed);
  draw(row, connection);
}

function number(cell, ms) {
  const [value, unit] = rtt(ms);
  if (!cell.firstChild) cell.append("", document.createElement("small"));
  if (cell.firstChild.data !== value) cell.firstChild.data = value;
  text(cell.lastChild, unit && ` ${unit}`);
}

// The round-trip times over the last minute, on a logarithmic scale; from the last proof of life
// on, a flat line.
function draw(row, { state, beats, silence }) {
  const over = state === "gone" || state === "left";
  const values = beats.map(([, ms]) => ms);
  let low = Math.min(...values);
  let high = Math.max(...values);
  text(row.querySelector(".scale").firstElementChild, beats.length ? rtt(high).join(" ") : "");
  text(row.querySelector(".scale").lastElementChild, beats.length ? rtt(low).join(" ") : "");
  row.querySelector("svg").setAttribute("aria-label", beats.length
    ? `Round-trip times of ${rtt(low).join(" ")} to ${rtt(high).join(" ")}`
    : "No round-trip times yet");

  // Four octaves at the least, so that little changes look little.
  const middle = Math.sqrt(low * high);
  low = Math.min(low, middle / 4);
  high = Math.max(high, middle * 4);
  const x = (ago) => (100 - (100 * ago) / hello.window).toFixed(2);
  const y = (ms) => (94 - (88 * Math.log(ms / low)) / Math.log(high / low)).toFixed(2);
  const points = beats.map(([ago, ms]) => `${x(ago)} ${y(ms)}`);
  const path = (name, d) => row.querySelector(`.${name}`).setAttribute("d", d);
  const line = points.length ? `M${points.join("L")}` : "";
  path("line", line);
  path("area", points.length > 1 ? `${line}V100H${x(beats[0][0])}Z` : "");
  const flat = state === "suspect" || state === "gone";
  const from = Math.max(0, x(Math.min(silence, hello.window)));
  path("flat", flat ? `${points.length ? `M${points.at(-1)}L${from} 100` : `M${from} 100`}H100` : "");
  path("end", over ? "M100 100h0" : points.length ? `M${points.at(-1)}h0` : "");
}

// --- the log ---

function tell(entries) {
  const list = log.firstElementChild;
  // What was detected before this page came is no news.
  log.setAttribute("aria-busy", newest === 0);
  for (const { number, ago, id, kind, text: what } of entries) {
    if (number <= newest) continue;
    newest = number;
    const entry = document.createElement("li");
    entry.innerHTML = `<time></time><span class="state"></span><span class="text"><b></b> </span>`;
    entry.querySelector("time").textContent = clock(ago);
    const badge = entry.querySelector(".state");
    badge.textContent = kind;
    badge.dataset.state = kind === "joined" ? "left" : kind;
    entry.querySelector("b").textContent = id === hello.you ? `#${id}, this tab:` : `#${id}:`;
    entry.querySelector(".text").append(what);
    list.prepend(entry);
  }
  while (list.children.length > 60) list.lastElementChild.remove();
  log.setAttribute("aria-busy", false);
}

// --- the experiment ---

element("freeze").onclick = ({ currentTarget: button }) => {
  const status = element("thawed");
  const before = mine?.answered;
  const id = hello?.you;
  button.disabled = true;
  status.textContent = "Frozen …";
  // Two frames, so that this is painted first.
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const end = performance.now() + FREEZE;
    while (performance.now() < end);
    // The snapshots that came meanwhile are read first.
    setTimeout(() => {
      button.disabled = false;
      const answered = hello?.you === id && mine ? mine.answered - before : NaN;
      status.textContent = Number.isFinite(answered)
        ? `The script stood still for ${span(FREEZE)}; meanwhile ${answered} pings were answered.`
        : "The connection was lost meanwhile.";
    }, 600);
  }));
};

// --- words and numbers ---

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

const span = (ms) => `${+(ms / 1000).toFixed(1)} s`;
const clock = (ago) => new Date(Date.now() - ago).toLocaleTimeString("en-GB");

function rtt(ms) {
  if (ms === null) return ["–", ""];
  if (ms >= 1000) return [(ms / 1000).toFixed(2), "s"];
  return [ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0), "ms"];
}

link("connecting", "Connecting");
connect();
