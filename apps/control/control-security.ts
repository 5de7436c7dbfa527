/**
 * Who may ask the control server what (law 13). Loopback is not enough: a web page the user visits can send requests to
 * 127.0.0.1 too, and a DNS name an attacker owns can point there.
 *
 *  - `Host` must be one of our own names: stops DNS rebinding.
 *  - `Origin`, if sent, must be ours, and a browser that says the request came from another site is refused.
 *  - Everything that is not GET or HEAD needs the run's token.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Refusal } from "./backend.ts";

const LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"];

/** True for methods that change nothing. */
export function isSafeMethod(method: string | undefined): boolean {
  return method === "GET" || method === "HEAD";
}

/** Throws `Refusal` unless the request may be answered. */
export function assertAllowed(request: IncomingMessage, port: number, token: string): void {
  const names = LOOPBACK_NAMES.map((name) => `${name}:${port}`);
  if (!names.includes((request.headers.host ?? "").toLowerCase())) {
    throw new Refusal(
      403,
      "foreign Host",
      `this server answers only to ${names.join(", ")}`,
      `ask http://127.0.0.1:${port}`,
    );
  }
  const origin = request.headers.origin;
  if (origin !== undefined && !names.some((name) => origin === `http://${name}`)) {
    throw new Refusal(
      403,
      "foreign Origin",
      "pages of other sites may not use the control API",
      `open http://127.0.0.1:${port}/`,
    );
  }
  const site = request.headers["sec-fetch-site"];
  const isPageVisit = request.url === "/" && request.headers["sec-fetch-mode"] === "navigate";
  if ((site === "cross-site" || site === "same-site") && !isPageVisit) {
    throw new Refusal(
      403,
      "request from another site",
      `the browser says Sec-Fetch-Site: ${site}`,
      `open http://127.0.0.1:${port}/`,
    );
  }
  if (!isSafeMethod(request.method) && !hasToken(request, token)) {
    throw new Refusal(
      401,
      "token missing or wrong",
      "this call changes state and needs the token of this run",
      "send Authorization: Bearer TOKEN; it is in the fragment of the address `serve` printed",
    );
  }
}

function hasToken(request: IncomingMessage, token: string): boolean {
  const match = /^Bearer ([A-Za-z0-9_-]{1,200})$/i.exec(request.headers.authorization ?? "");
  return match !== null && timingSafeEqual(digest(match[1] as string), digest(token));
}

/** Equal lengths, so that comparing takes the same time whatever was sent. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
