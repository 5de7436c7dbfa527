/**
 * Requests and replies over a MessagePort: the main side of a worker's control channel.
 */
import type { MessagePort } from "node:worker_threads";
import { ControlError, type ControlFailure, isControlFailure } from "./kernel-machine.ts";

export interface Request {
  readonly id: number;
  readonly method: string;
  readonly params: unknown;
}

export interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly failure?: ControlFailure;
  /** A bug on the other side; arrives with its stack. */
  readonly error?: Error;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Asks, and hands replies to who asked. */
export class RequestPort {
  private readonly port: MessagePort;
  private readonly waiting = new Map<number, Waiting>();
  private readonly onPost: () => void;
  private ids = 0;
  private over: Error | null = null;

  /** `onPost` runs after each message (a doorbell for a worker that has no event loop). */
  constructor(port: MessagePort, onPost: () => void = () => {}) {
    this.port = port;
    this.onPost = onPost;
    port.on("message", (reply: Reply) => this.settle(reply));
    // The worker keeps the main loop alive, not its control channel.
    port.unref();
  }

  request(method: string, params?: unknown): Promise<unknown> {
    if (this.over) return Promise.reject(this.over);
    const id = ++this.ids;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.port.postMessage({ id, method, params } satisfies Request);
      this.onPost();
    });
  }

  /** Rejects what waits and what will be asked. */
  end(error: Error): void {
    if (this.over) return;
    this.over = error;
    this.port.close();
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  private settle(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    if (!waiting) return;
    this.waiting.delete(reply.id);
    if (reply.failure) waiting.reject(new ControlError(reply.failure));
    else if (reply.error) waiting.reject(reply.error);
    else waiting.resolve(reply.result);
  }
}

/** Turns what a handler threw into a reply. */
export function failureReply(id: number, thrown: unknown): Reply {
  if (isControlFailure(thrown)) {
    const { error, why, next, status } = thrown;
    return { id, failure: { error, why, next, ...(status === undefined ? {} : { status }) } };
  }
  return { id, error: thrown instanceof Error ? thrown : new Error(String(thrown)) };
}
