/**
 * How the reading commands reach a running server: find it, ask it, and turn its refusals into `CommandError`.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { CommandError, ExitCode } from "../control/exit-codes.ts";
import { readRunRecords } from "../control/token-file.ts";

export const DEFAULT_CONTROL_PORT = 4000;
const ANSWER_TIMEOUT_MS = 10_000;

export interface Control {
  readonly url: string;
  readonly token: string | undefined;
}

/** The server to talk to: the one asked for, else the one on the default port, else the only (or last) one running. */
export function findControl(asked: string | undefined): Control {
  const records = readRunRecords();
  const url = asked ?? `http://127.0.0.1:${DEFAULT_CONTROL_PORT}`;
  const port = new URL(url).port;
  const record = records.find((candidate) => new URL(candidate.url).port === port);
  if (record || asked !== undefined) return { url, token: record?.token };
  const other = records.at(-1);
  return other ? { url: other.url, token: other.token } : { url, token: undefined };
}

/** GET of a JSON answer. */
export async function getJson<T>(control: Control, path: string): Promise<T> {
  return JSON.parse(await readAll(await send(control, "GET", path))) as T;
}

/** PUT of a JSON object, with the run's token; resolves to the new state. */
export async function putJson<T>(control: Control, path: string, body: unknown): Promise<T> {
  return JSON.parse(await readAll(await send(control, "PUT", path, JSON.stringify(body)))) as T;
}

/** GET of an endless answer; the caller destroys it. */
export function openStream(control: Control, path: string): Promise<IncomingMessage> {
  return send(control, "GET", path);
}

/** The data of each server-sent event named `event`, until the server ends the stream. */
export async function* serverSentEvents(stream: IncomingMessage, event: string): AsyncGenerator<string> {
  let pending = "";
  stream.setEncoding("utf8");
  for await (const chunk of stream as AsyncIterable<string>) {
    const blocks = (pending + chunk).split("\n\n");
    pending = blocks.pop() as string;
    for (const block of blocks) {
      const lines = block.split("\n");
      if (lines.includes(`event: ${event}`))
        yield (lines.find((line) => line.startsWith("data: ")) ?? "data: ").slice(6);
    }
  }
}

async function send(control: Control, method: "GET" | "PUT", path: string, body?: string): Promise<IncomingMessage> {
  const headers = {
    ...(control.token === undefined ? {} : { Authorization: `Bearer ${control.token}` }),
    ...(body === undefined ? {} : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) }),
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const call: ClientRequest = httpRequest(new URL(path, control.url), { method, headers, agent: false }, (answer) => {
      call.setTimeout(0);
      resolve(answer);
    });
    call.setTimeout(ANSWER_TIMEOUT_MS, () =>
      call.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" })),
    );
    call.on("error", (error: NodeJS.ErrnoException) => reject(unreachable(control, error)));
    call.end(body);
  });
  if (response.statusCode === 200) return response;
  throw refused(control, response.statusCode ?? 0, await readAll(response));
}

function unreachable(control: Control, error: NodeJS.ErrnoException): CommandError {
  const why =
    error.code === "ECONNREFUSED" ? "nothing listens there: no server is running" : `${error.code ?? error.message}`;
  return new CommandError(
    ExitCode.failed,
    `no sojourn server at ${control.url}`,
    why,
    "start one with: sojourn serve (or name another with --control URL)",
  );
}

function refused(control: Control, status: number, text: string): CommandError {
  try {
    const body = JSON.parse(text) as { error: string; why: string; next: string };
    if (status === 401 && control.token === undefined) {
      return new CommandError(
        ExitCode.privilege,
        "no token for this server",
        "only the user who runs `sojourn serve` may change its state",
        "run this command as that user on the same machine",
      );
    }
    return new CommandError(ExitCode.failed, body.error, body.why, body.next);
  } catch {
    return new CommandError(
      ExitCode.failed,
      `${control.url} is not a sojourn control server`,
      `it answered with status ${status}`,
      "name the right one with --control URL",
    );
  }
}

async function readAll(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}
