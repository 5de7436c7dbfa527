/** `/details`: what the server knows of the request and its connection; text, or JSON on request. */
import type { Handler, Request } from "../../src/server/index.ts";

/** Fields whose values are nobody else's business, also not a screenshot's. */
const SECRET = new Set(["authorization", "cookie", "proxy-authorization"]);

export const details: Handler = (w, r) => {
  const known = collect(r);
  w.header().set("Vary", "Accept");
  if (prefersJson(r.header("accept"))) {
    w.header().set("Content-Type", "application/json");
    w.send(`${JSON.stringify(known, null, 2)}\n`);
    return;
  }
  w.header().set("Content-Type", "text/plain; charset=utf-8");
  w.send(asText(known));
};

function collect(r: Request) {
  const { connection } = r;
  return {
    request: {
      id: r.id,
      method: r.method,
      target: r.target,
      path: r.path,
      query: r.query,
      protocol: r.proto,
      host: r.host,
      headers: [...r.headers()].map(([name, value]) => [name, SECRET.has(name.toLowerCase()) ? "…" : value] as const),
    },
    connection: {
      id: connection.id,
      local: endpoint(connection.local),
      remote: endpoint(connection.remote),
      requestsSoFar: connection.requests,
    },
    timesNs: { ...connection.timing },
    stagesSoFar: r.serverTiming(),
  };
}

function endpoint({ address, port }: Request["remote"]): string {
  return address.isV4 ? `${address}:${port}` : `[${address}]:${port}`;
}

function asText(known: ReturnType<typeof collect>): string {
  const { request, connection } = known;
  const lines = [
    `${request.method} ${request.target} ${request.protocol}`,
    ...request.headers.map(([name, value]) => `${name}: ${value}`),
    "",
    `request     ${request.id}`,
    `connection  ${connection.id}, request ${connection.requestsSoFar} on it`,
    `from        ${connection.remote}`,
    `to          ${connection.local}`,
    ...Object.entries(known.timesNs).map(([name, ns]) => `${name.padEnd(14)}${ns} ns`),
    `stages      ${known.stagesSoFar}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** True if JSON is accepted and ranked before text (RFC 9110 §12.5.1). */
export function prefersJson(accept: string | undefined): boolean {
  let json = 0;
  let text = 0;
  for (const item of (accept ?? "").toLowerCase().split(",")) {
    const [type, ...parameters] = item.split(";").map((part) => part.trim());
    const weight = parameters.find((parameter) => parameter.startsWith("q="));
    const quality = weight === undefined ? 1 : Number(weight.slice(2)) || 0;
    if (type === "application/json" || type === "application/*") json = Math.max(json, quality);
    if (type === "text/plain" || type === "text/html" || type === "text/*") text = Math.max(text, quality);
  }
  return json > text;
}
