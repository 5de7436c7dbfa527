/**
 * The page at `/` of the control port, until the lab stands there: what the API offers, and the latest journeys live.
 *
 * One self-contained document: no external asset, styles and script allowed by a nonce, data only through
 * `textContent`, so that a hostile request target stays text.
 */
import { STAGES } from "../../src/base/stages.ts";
import { ROUTES } from "./control-routes.ts";

/** Okabe-Ito colours per group; waits are hatched, so that colour is never the only sign. */
const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #ececec); --paper: light-dark(#fff, #16181b);
  --soft: light-dark(#595959, #a9b0b8); --line: light-dark(#d0d0d0, #3a3f45); }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .3rem 0 } .soft { color: var(--soft) }
code, td, .bar { font-family: ui-monospace, monospace; font-size: .85rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere }
li table { width: auto; min-width: 60% } li .time { text-align: right; padding-right: 2rem; white-space: nowrap;
  font-variant-numeric: tabular-nums }
button { font: inherit; padding: .25rem .8rem } :focus-visible { outline: 3px solid #0072b2; outline-offset: 2px }
ol { list-style: none; margin: 0; padding: 0 } li { border-bottom: 1px solid var(--line); padding: .5rem 0 }
.bar { display: flex; height: 1.1rem; margin: .3rem 0; background: var(--line); overflow: hidden }
.bar span { min-width: 1px }
.wait { background-image: repeating-linear-gradient(45deg, transparent 0 4px, #0006 4px 6px) }
.network { background-color: #999 } .accept { background-color: #e69f00 } .read { background-color: #56b4e9 }
.decrypt { background-color: #cc79a7 }
.parse { background-color: #009e73 }
.decode { background-color: #f0e442 } .process { background-color: #d55e00 } .respond { background-color: #0072b2 }
.key span { white-space: nowrap; margin-left: .9rem }
.key i { display: inline-block; width: .9rem; height: .9rem; margin-right: .3rem; vertical-align: -.1rem }
details summary { cursor: pointer }
`;

const SCRIPT = `

const GROUPS = new Map(JSON.parse(document.getElementById("stages").textContent));
const KEEP = 20;
const list = document.getElementById("journeys");
const state = document.getElementById("state");
const toggle = document.getElementById("accept");
let token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) { sessionStorage.setItem("token", token); history.replaceState(null, "", "/"); }
else token = sessionStorage.getItem("token");
let held = false, paused = false;

function time(ns) {
  if (ns < 1e3) return ns + " ns";
  if (ns < 1e6) return (ns / 1e3).toFixed(1) + " \\u00b5s";
  if (ns < 1e9) return (ns / 1e6).toFixed(2) + " ms";
  return (ns / 1e9).toFixed(2) + " s";
}
function make(tag, text, name) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
}
function row(segment) {
  const tr = make("tr");
  const by = typeof segment.by === "number" ? "#" + segment.by : segment.by;
  const why = (segment.reason || "") + (by ? " by " + by : "");
  const texts = [segment.stage, segment.kind, time(segment.endNs - segment.startNs), why];
  texts.forEach((text, column) => tr.append(make("td", text, column === 2 ? "time" : "")));
  return tr;
}
function show(journey) {
  const item = make("li"), bar = make("div", undefined, "bar");
  const details = make("details"), table = make("table"), head = make("tr");
  const request = journey.request;
  const what = request ? request.method + " " + request.target : "connection " + journey.connection.remote;
  const status = journey.response ? String(journey.response.status) : journey.outcome;
  item.append(make("strong", "#" + journey.id + " " + what + " \\u2192 " + status + " in " + time(journey.totalNs)));
  bar.setAttribute("aria-hidden", "true");
  for (const segment of journey.segments) {
    const part = make("span", undefined, (GROUPS.get(segment.stage) || segment.group) + " " + segment.kind);
    part.style.flexGrow = String(segment.endNs - segment.startNs);
    part.title = segment.stage + " " + time(segment.endNs - segment.startNs);
    if (segment.endNs > segment.startNs) bar.append(part);
  }
  for (const title of ["stage", "kind", "time", "reason"]) {
    const th = make("th", title, title === "time" ? "time" : "");
    th.scope = "col";
    head.append(th);
  }
  table.append(head, ...journey.segments.map(row));
  details.append(make("summary", journey.segments.length + " segments, summing to " + time(journey.totalNs)), table);
  item.append(bar, details);
  list.prepend(item);
  while (list.children.length > KEEP) list.lastElementChild.remove();
}
async function start() {
  const info = await (await fetch("/api/info")).json();
  paused = info.acceptPaused;
  const parts = ["sojourn " + info.version, "kernel " + info.mode, info.truth, "site " + info.site];
  document.getElementById("info").textContent = parts.join(" \\u00b7 ");
  for (const journey of (await (await fetch("/api/journeys?limit=" + KEEP)).json()).reverse()) show(journey);
  const events = new EventSource("/api/journeys/stream");
  events.addEventListener("journey", (event) => { if (!held) show(JSON.parse(event.data)); });
  events.onopen = () => { state.textContent = "live"; };
  events.onerror = () => { state.textContent = "the server does not answer; trying again"; };
  showToggle();
}
function showToggle() {
  toggle.disabled = !token;
  toggle.textContent = paused ? "Resume accept()" : "Pause accept()";
  if (!token) toggle.title = "needs the token: open the address that serve printed";
}
toggle.onclick = async () => {
  const headers = { Authorization: "Bearer " + token, "Content-Type": "application/json" };
  const answer = await fetch("/api/accept", { method: "PUT", headers, body: JSON.stringify({ paused: !paused }) });
  const body = await answer.json();
  if (answer.ok) paused = body.paused; else state.textContent = body.error + ": " + body.why;
  showToggle();
};
const hold = document.getElementById("hold");
hold.onclick = () => { held = !held; hold.textContent = held ? "Go on" : "Hold the list"; };
start().catch((error) => { state.textContent = String(error); });
`;

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[char] as string);
}

/** The document; `nonce` is the one of its Content-Security-Policy. */
export function controlPage(nonce: string): string {
  const calls = ROUTES.map((route) => {
    const query = route.parameters.length > 0 ? `?${route.parameters.join("&")}` : "";
    const cells = [route.method, route.path + query, route.doc].map((text) => `<td>${escapeHtml(text)}</td>`);
    return `<tr>${cells.join("")}</tr>`;
  });
  const groups = [...new Set(STAGES.map((stage) => stage.group))];
  const key = groups.map((group) => `<span><i class="${group}"></i>${group}</span>`);
  const stages = JSON.stringify(STAGES.map((stage) => [stage.name, stage.group]));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>sojourn: control</title><style nonce="${nonce}">${STYLE}</style></head>
<body><main>
<h1>sojourn</h1>
<p id="info" class="soft">…</p>
<p>Every request carries its own itinerary. Send one to the site and it appears below.</p>
<h2>Latest journeys</h2>
<p><button id="hold" type="button">Hold the list</button>
<button id="accept" type="button" disabled>Pause accept()</button>
<span id="state" role="status" class="soft">connecting</span></p>
<p class="key soft">Hatched is waiting, plain is working. ${key.join(" ")}</p>
<ol id="journeys"></ol>
<h2>Control API</h2>
<p class="soft">GET needs nothing but this machine; PUT needs <code>Authorization: Bearer TOKEN</code>.</p>
<table><thead><tr><th scope="col">method</th><th scope="col">path</th><th scope="col">answer</th></tr></thead>
<tbody>${calls.join("")}</tbody></table>
</main>
<script type="application/json" id="stages" nonce="${nonce}">${stages}</script>
<script type="module" nonce="${nonce}">${SCRIPT}</script>
</body></html>
`;
}
