/**
 * The control server: node:http on loopback in front of a `Backend`. Routes are in `control-routes.ts`, who may use
 * them in `control-security.ts`. Bounded: connections, bodies, streams and what a slow reader may leave unread.
 */
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type Backend, type CaptureOf, Refusal } from "./backend.ts";
import { controlPage } from "./control-page.ts";
import { asRefusal, assertKnownParameters, type Call, captureOf, type Route, routesAt } from "./control-routes.ts";
import { assertAllowed } from "./control-security.ts";
import { CommandError, ExitCode } from "./exit-codes.ts";

const MAX_BODY_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 128;
/** Event streams and captures at one time, together. */
const MAX_STREAMS = 16;
/** What a slow reader may leave unread before journeys are skipped, or its capture ends. */
const MAX_UNREAD_EVENT_BYTES = 1 << 20;
const MAX_UNREAD_CAPTURE_BYTES = 32 << 20;
const HEARTBEAT_MS = 15_000;
/** How many ports after the default one are tried. */
const PORT_TRIES = 100;

export interface ControlServer {
  readonly port: number;
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  readonly token: string;
  close(): Promise<void>;
}

export interface ControlServerOptions {
  readonly port: number;
  /** True: a busy port is an error. False: the next free one is taken. */
  readonly portAsked: boolean;
  readonly backend: Backend;
}

/** Starts the control server on 127.0.0.1. Rejects with `CommandError` if an asked-for port is taken. */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const control = new Control(options.backend);
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 30_000 }, (request, response) => {
    void control.handle(request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  control.port = await listenOnLoopback(server, options.port, options.portAsked, "--control-port");
  return {
    port: control.port,
    url: `http://127.0.0.1:${control.port}`,
    token: control.token,
    async close() {
      for (const stop of [...control.streams]) stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Listens on 127.0.0.1:`port`, or on the next free port unless it was asked for. Resolves to the port. */
export async function listenOnLoopback(
  server: Server,
  port: number,
  portAsked: boolean,
  flag: string,
): Promise<number> {
  const last = portAsked || port === 0 ? port : Math.min(port + PORT_TRIES, 65535);
  for (let candidate = port; ; candidate++) {
    const code = await tryListen(server, candidate);
    if (code === undefined) {
      const address = server.address();
      return typeof address === "object" && address !== null ? address.port : candidate;
    }
    if (code === "EACCES") {
      throw new CommandError(
        ExitCode.privilege,
        `${flag}: may not listen on port ${candidate}`,
        "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE)",
        `choose ${flag} 8080, or run as root`,
      );
    }
    if (code !== "EADDRINUSE" || candidate >= last) {
      const why = code === "EADDRINUSE" ? "another program listens there" : `listen(2) said ${code}`;
      throw new CommandError(
        ExitCode.failed,
        `${flag}: port ${candidate} is taken`,
        why,
        `choose another, e.g. ${flag} ${(candidate % 65535) + 1}, or find it with: ss -ltnp`,
      );
    }
  }
}

function tryListen(server: Server, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const failed = (error: NodeJS.ErrnoException) => resolve(error.code ?? "EIO");
    server.once("error", failed);
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      server.removeListener("error", failed);
      resolve(undefined);
    });
  });
}

/** One control server's state and its answers. */
class Control {
  port = 0;
  readonly token = randomBytes(24).toString("base64url");
  /** How to end each open stream. */
  readonly streams = new Set<() => void>();
  private readonly backend: Backend;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.answer(request, response);
    } catch (error) {
      const refusal = asRefusal(error);
      if (response.headersSent) {
        response.destroy();
        return;
      }
      if (refusal.status === 401) response.setHeader("WWW-Authenticate", 'Bearer realm="sojourn"');
      // An unread body would be taken for the next request.
      if (!request.complete) response.setHeader("Connection", "close");
      sendJson(request, response, refusal.status, { error: refusal.message, why: refusal.why, next: refusal.next });
    }
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    setCommonHeaders(response);
    assertAllowed(request, this.port, this.token);
    const url = parseTarget(request.url ?? "");
    const { route, rest } = findRoute(request, response, url.pathname);
    assertKnownParameters(route, url.searchParams);
    if (route.path === "/") return this.sendPage(request, response);
    if (route.path === "/metrics")
      return sendText(request, response, "text/plain; version=0.0.4; charset=utf-8", await this.backend.metrics());
    if (route.path === "/api/journeys/stream") return this.streamJourneys(request, response);
    if (route.path === "/api/capture") {
      return this.streamCapture(request, response, await captureOf(this.backend, url.searchParams));
    }
    const body = route.method === "PUT" ? await readJson(request) : {};
    const call: Call = { backend: this.backend, query: url.searchParams, rest, body };
    sendJson(request, response, 200, await route.answer?.(call));
  }

  private sendPage(request: IncomingMessage, response: ServerResponse): void {
    const nonce = randomBytes(16).toString("base64");
    response.setHeader(
      "Content-Security-Policy",
      `default-src 'none'; connect-src 'self'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    );
    sendText(request, response, "text/html; charset=utf-8", controlPage(nonce));
  }

  /** Server-sent events: `event: journey`; a slow reader gets `event: skipped` with how many it missed. */
  private streamJourneys(request: IncomingMessage, response: ServerResponse): void {
    this.openStream(request, response, "text/event-stream; charset=utf-8", () => {
      let skipped = 0;
      response.write("retry: 2000\n\n");
      const unsubscribe = this.backend.subscribe((journey) => {
        if (response.writableLength > MAX_UNREAD_EVENT_BYTES) {
          skipped++;
          return;
        }
        if (skipped > 0) response.write(`event: skipped\ndata: {"count":${skipped}}\n\n`);
        skipped = 0;
        response.write(`id: ${journey.id}\nevent: journey\ndata: ${JSON.stringify(journey)}\n\n`);
      });
      const heartbeat = setInterval(() => response.write(": alive\n\n"), HEARTBEAT_MS);
      return () => {
        clearInterval(heartbeat);
        unsubscribe();
      };
    });
  }

  private streamCapture(request: IncomingMessage, response: ServerResponse, what: CaptureOf): void {
    response.setHeader("Content-Disposition", 'attachment; filename="sojourn.pcapng"');
    this.openStream(request, response, "application/x-pcapng", () =>
      this.backend.capture(what, (chunk) => {
        if (response.writableEnded) return;
        if (response.writableLength <= MAX_UNREAD_CAPTURE_BYTES) response.write(chunk);
        else response.destroy();
      }),
    );
  }

  /** Keeps `response` open until either side ends it; `start` returns how to stop the source. */
  private openStream(request: IncomingMessage, response: ServerResponse, type: string, start: () => () => void): void {
    if (this.streams.size >= MAX_STREAMS) {
      throw new Refusal(
        503,
        "too many streams",
        `at most ${MAX_STREAMS} event streams and captures are open at one time`,
        "close one and try again",
      );
    }
    response.writeHead(200, { "Content-Type": type });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    response.flushHeaders();
    const stopSource = start();
    const stop = () => {
      if (!this.streams.delete(stop)) return;
      stopSource();
      response.end();
    };
    this.streams.add(stop);
    response.once("close", stop);
    response.once("error", stop);
    if (response.closed) stop();
  }
}

function setCommonHeaders(response: ServerResponse): void {
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("X-Content-Type-Options", "nosniff");
  response.setHeader("Referrer-Policy", "no-referrer");
  response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
  response.setHeader("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
}

function parseTarget(target: string): URL {
  if (target.startsWith("/") && URL.canParse(target, "http://localhost")) return new URL(target, "http://localhost");
  throw new Refusal(400, "malformed target", "the request target must be a path", "GET / lists the API");
}

function findRoute(request: IncomingMessage, response: ServerResponse, path: string): { route: Route; rest: string } {
  const candidates = routesAt(path);
  if (candidates.length === 0)
    throw new Refusal(404, `no such call ${path}`, "the control API has no such path", "GET / lists the API");
  const method = request.method === "HEAD" ? "GET" : request.method;
  const found = candidates.find(({ route }) => route.method === method);
  if (found) return found;
  const allowed = [...new Set(candidates.map(({ route }) => route.method))].join(", ").replace("GET", "GET, HEAD");
  response.setHeader("Allow", allowed);
  throw new Refusal(405, `${request.method} is not allowed here`, `${path} takes ${allowed}`, "GET / lists the API");
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES)
      throw new Refusal(413, "body too large", `at most ${MAX_BODY_BYTES} bytes are read`, "send less");
    chunks.push(chunk);
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Answered below: what is not JSON and what is not an object get the same words.
  }
  throw new Refusal(
    400,
    "body is not a JSON object",
    "a PUT carries its settings as one JSON object",
    'send e.g. {"paused":true}',
  );
}

function sendText(request: IncomingMessage, response: ServerResponse, type: string, text: string, status = 200): void {
  const bytes = Buffer.from(text, "utf8");
  response.writeHead(status, { "Content-Type": type, "Content-Length": bytes.length });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

function sendJson(request: IncomingMessage, response: ServerResponse, status: number, value: unknown): void {
  sendText(request, response, "application/json; charset=utf-8", `${JSON.stringify(value)}\n`, status);
}
