/**
 * `/`: a page that says what this is, links every handler, and shows its own journey: what was known when it was
 * rendered, completed in the browser from the `Server-Timing` the browser received. No external assets.
 */
import { escapeHtml, type Handler } from "../../src/server/index.ts";

interface Link {
  readonly href: string;
  readonly does: string;
}

const LINKS: readonly Link[] = [
  { href: "/hello", does: "the shortest answer there is" },
  { href: "/about", does: "what sojourn is, as text" },
  { href: "/details", does: "your request and its connection, as text; as JSON with Accept: application/json" },
  { href: "/echo", does: "any method; the body comes back while it arrives" },
  { href: "/slow?ms=1000", does: "sleeps: a wait that holds nobody up" },
  { href: "/cpu?ms=500", does: "holds the process: everybody behind it waits, and their journeys say who it was" },
  { href: "/bytes/1000000", does: "that many bytes, as fast as you take them" },
  { href: "/nowhere", does: "404 page not found" },
];

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e7e9ec); --soft: light-dark(#5a6472, #a3adba);
  --line: light-dark(#d8dee6, #333b45); --bar: light-dark(#2f6fde, #6ea3ff); --page: light-dark(#fcfcfa, #14171b); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 2rem 1.25rem 3rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; }
.soft { color: var(--soft); }
a { color: var(--bar); }
code, dt { font-family: ui-monospace, monospace; font-size: .92em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.25rem; margin: 0; }
dd { margin: 0; color: var(--soft); }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; font-family: ui-monospace, monospace; font-size: .92em; width: 9rem; }
td { padding: .12rem 0; }
td.ms { text-align: right; width: 7rem; white-space: nowrap; }
td.bar { padding-left: .9rem; }
td.bar i { display: block; height: .6rem; min-width: 2px; border-radius: 2px; background: var(--bar); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
`;

/** Draws the table again from what the browser was told, and adds what only the browser knows. */
const SCRIPT = `
const entry = performance.getEntriesByType("navigation")[0];
if (entry && entry.serverTiming && entry.serverTiming.length > 0) {
  const rows = entry.serverTiming.map((t) => [t.name, t.duration]);
  const longest = Math.max(...rows.map((r) => r[1]), 1e-6);
  const body = document.querySelector("#journey tbody");
  body.replaceChildren(...rows.map(([name, ms]) => {
    const row = document.createElement("tr");
    const th = document.createElement("th"), td = document.createElement("td"), bar = document.createElement("td");
    th.scope = "row"; th.textContent = name;
    td.className = "ms"; td.textContent = ms.toFixed(3) + " ms";
    bar.className = "bar"; bar.append(document.createElement("i"));
    bar.firstChild.style.width = (100 * ms / longest) + "%";
    row.append(th, td, bar);
    return row;
  }));
  document.querySelector("#known").textContent =
    "As the head of this answer told your browser. Seen from there, the first byte came " +
    (entry.responseStart - entry.requestStart).toFixed(1) + " ms after the request left.";
}
`;

export const home: Handler = (w, r) => {
  w.header().set("Content-Type", "text/html; charset=utf-8");
  w.header().set("Cache-Control", "no-store");
  w.send(page(r.id, r.serverTiming()));
};

function page(requestId: number, serverTiming: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sojourn</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>sojourn</h1>
<p>A complete network server stack in TypeScript, in which every request carries its own itinerary.</p>
<p class="soft">This page reached you through its own NIC rings, IP, TCP, sockets, goroutines and HTTP.
<code>sojourn journeys</code> in a terminal shows where the time went.</p>
<h2>Try</h2>
<dl>
${LINKS.map(linkItem).join("\n")}
</dl>
</main>
<footer>
<h2>The journey of this page, request ${requestId}</h2>
<p class="soft" id="known">What was known when it was rendered.</p>
<table id="journey"><tbody>
${stageRows(serverTiming)}
</tbody></table>
</footer>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function linkItem({ href, does }: Link): string {
  return `<dt><a href="${escapeHtml(href)}">${escapeHtml(href)}</a></dt><dd>${escapeHtml(does)}</dd>`;
}

function stageRows(serverTiming: string): string {
  const rows = serverTiming
    .split(", ")
    .map((item) => item.split(";dur="))
    .filter((parts): parts is [string, string] => parts.length === 2);
  const longest = Math.max(...rows.map(([, ms]) => Number(ms)), 1e-6);
  const row = ([name, ms]: [string, string]) => {
    const width = Math.round((100 * Number(ms)) / longest);
    return `<tr><th scope="row">${escapeHtml(name)}</th><td class="ms">${ms} ms</td><td class="bar"><i style="width:${width}%"></i></td></tr>`;
  };
  return rows.map(row).join("\n");
}
