/** Sockets of the real kernel in a network namespace, driven one call at a time (`linux_sockets.py`). */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { FaultConn, FaultHost, FaultListener } from "./fault-bench.ts";
import type { Netns } from "./netns.ts";

const SCRIPT = join(import.meta.dirname, "linux_sockets.py");
const NEWLINE = 10;

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly errno?: string;
  readonly bytes: number;
}

interface Waiting {
  readonly call: string;
  resolve(answer: { readonly value: unknown; readonly data: Uint8Array }): void;
  reject(error: Error): void;
}

export class LinuxSockets {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, Waiting>();
  private readonly ended: Promise<void>;
  private rest: Buffer = Buffer.alloc(0);
  private calls = 0;

  constructor(netns: Netns) {
    const stdio = ["pipe", "pipe", "inherit"] as const;
    this.child = spawn("ip", ["netns", "exec", netns.name, "python3", "-B", SCRIPT], { stdio: [...stdio] });
    this.child.stdout?.on("data", (chunk: Buffer) => this.take(chunk));
    this.ended = new Promise((resolve) => this.child.once("close", () => resolve()));
    void this.ended.then(() => {
      for (const { call, reject } of this.waiting.values()) reject(new Error(`linux_sockets.py ended during ${call}`));
    });
  }

  /** Calls that have not been answered: a promise that never settled. */
  get unanswered(): string[] {
    return [...this.waiting.values()].map(({ call }) => call);
  }

  /** A host that dials `peer`; `isn`: the sequence number its SYNs have. */
  host(peer: string, isn: number | null): FaultHost {
    return {
      listen: async (port) => new LinuxListener(this, (await this.call("listen", [port])).value as number),
      dial: async (port) => new LinuxConn(this, (await this.call("connect", [peer, port, isn])).value as number),
    };
  }

  /** Every counter of /proc/net/snmp and /proc/net/netstat under nstat's name. */
  async counters(): Promise<Record<string, number>> {
    return (await this.call("counters", [])).value as Record<string, number>;
  }

  /** *Borrows* `data` until it resolves. Rejects with an error whose `code` is errno's name. */
  call(call: string, args: readonly unknown[], data?: Uint8Array): ReturnType<typeof this.send> {
    return this.send(call, args, data ?? new Uint8Array(0));
  }

  private send(
    call: string,
    args: readonly unknown[],
    data: Uint8Array,
  ): Promise<{ readonly value: unknown; readonly data: Uint8Array }> {
    const id = ++this.calls;
    this.child.stdin?.write(`${JSON.stringify({ id, call, args, bytes: data.length })}\n`);
    if (data.length > 0) this.child.stdin?.write(data);
    return new Promise((resolve, reject) => this.waiting.set(id, { call, resolve, reject }));
  }

  /** Whatever is still open is closed by the kernel. */
  async close(): Promise<void> {
    this.child.stdin?.end();
    await this.ended;
  }

  private take(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    for (;;) {
      const end = this.rest.indexOf(NEWLINE);
      if (end < 0) return;
      const answer = JSON.parse(this.rest.toString("utf8", 0, end)) as Answer;
      const after = end + 1 + answer.bytes;
      if (this.rest.length < after) return;
      this.settle(answer, this.rest.subarray(end + 1, after));
      this.rest = this.rest.subarray(after);
    }
  }

  private settle({ id, value, errno }: Answer, data: Uint8Array): void {
    const waiting = this.waiting.get(id) as Waiting;
    this.waiting.delete(id);
    if (errno === undefined) waiting.resolve({ value, data });
    else waiting.reject(Object.assign(new Error(`${waiting.call}: ${errno}`), { code: errno }));
  }
}

class LinuxListener implements FaultListener {
  private readonly sockets: LinuxSockets;
  private readonly file: number;

  constructor(sockets: LinuxSockets, file: number) {
    this.sockets = sockets;
    this.file = file;
  }

  async accept(): Promise<FaultConn> {
    return new LinuxConn(this.sockets, (await this.sockets.call("accept", [this.file])).value as number);
  }

  close(): void {
    this.sockets.call("close", [this.file]).catch(() => {});
  }
}

class LinuxConn implements FaultConn {
  private readonly sockets: LinuxSockets;
  private readonly file: number;

  constructor(sockets: LinuxSockets, file: number) {
    this.sockets = sockets;
    this.file = file;
  }

  async read(maxBytes: number): Promise<Uint8Array> {
    return (await this.sockets.call("read", [this.file, maxBytes])).data;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.sockets.call("write", [this.file], bytes);
  }

  end(): void {
    this.tell("shutdown");
  }

  close(): void {
    this.tell("close");
  }

  abort(): void {
    this.tell("abort");
  }

  /** A call nobody waits for: on a connection that is reset or closed it may fail. */
  private tell(call: string): void {
    this.sockets.call(call, [this.file]).catch(() => {});
  }
}
