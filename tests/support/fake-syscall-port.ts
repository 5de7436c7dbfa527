/**
 * A `SyscallPort` whose kernel is the test: it records what is submitted and completes what it is told to.
 */
import { Address } from "../../src/base/address.ts";
import { type Completion, CompletionFlag, type SyscallPort, SysOp } from "../../src/socket/syscall-port.ts";

export interface Submitted {
  readonly op: SysOp;
  readonly name: string;
  readonly fd: number;
  readonly token: number;
  readonly gid: number;
  readonly args: readonly [number, number, number, number];
  readonly address: string;
  readonly port: number;
}

export interface CompletionFields {
  result: number;
  flags?: number;
  fd?: number;
  data?: number;
  address?: number;
  offset?: number;
  arrivedNs?: number;
  queuedNs?: number;
  peer?: readonly [Address, number];
  local?: readonly [Address, number];
}

const OP_NAMES = new Map<number, string>(Object.entries(SysOp).map(([name, op]) => [op, name]));

export class FakeSyscallPort implements SyscallPort {
  readonly pid: number;
  readonly completion: Completion = {
    token: 0,
    result: 0,
    flags: 0,
    fd: 0,
    data: 0,
    address: 0,
    offset: 0,
    arrivedNs: 0,
    queuedNs: 0,
    peerWords: new Int32Array(4),
    peerPort: 0,
    localWords: new Int32Array(4),
    localPort: 0,
  };
  /** Everything submitted so far, oldest first. */
  readonly submitted: Submitted[] = [];
  /** What the process sent, by fd, as staged (whether or not the kernel took it). */
  readonly arena = new Uint8Array(1 << 20);
  readonly staging = new Uint8Array(1 << 20);
  flushes = 0;
  /** Submissions accepted before the ring is full. */
  ringRoom = Number.POSITIVE_INFINITY;
  /** Bytes of staging left. */
  stagingRoom = Number.POSITIVE_INFINITY;
  /** Runs at every submission, like an inline kernel. */
  onSubmit: (s: Submitted) => void = () => {};
  private stagedTo = 0;
  private readonly completions: (CompletionFields & { token: number })[] = [];

  constructor(pid = 7) {
    this.pid = pid;
  }

  submit(op: SysOp, fd: number, token: number, gid: number, a = 0, b = 0, c = 0, d = 0): boolean {
    return this.accept({
      op,
      name: OP_NAMES.get(op) ?? "?",
      fd,
      token,
      gid,
      args: [a, b, c, d],
      address: "",
      port: -1,
    });
  }

  submitWithAddress(
    op: SysOp,
    fd: number,
    token: number,
    gid: number,
    address: Address,
    port: number,
    a = 0,
    b = 0,
    c = 0,
  ): boolean {
    const name = OP_NAMES.get(op) ?? "?";
    return this.accept({ op, name, fd, token, gid, args: [a, b, c, 0], address: address.toString(), port });
  }

  private accept(s: Submitted): boolean {
    if (this.ringRoom <= 0) return false;
    this.ringRoom--;
    this.submitted.push(s);
    this.onSubmit(s);
    return true;
  }

  stage(bytes: Uint8Array, at: number, len: number): number {
    if (len > this.stagingRoom) return -1;
    this.stagingRoom -= len;
    if (this.stagedTo + len > this.staging.length) this.stagedTo = 0;
    const start = this.stagedTo;
    this.staging.set(bytes.subarray(at, at + len), start);
    this.stagedTo += len;
    return start;
  }

  copyOut(address: number, len: number, into: Uint8Array, at: number): void {
    into.set(this.arena.subarray(address, address + len), at);
  }

  flush(): void {
    this.flushes++;
  }

  reap(): boolean {
    const next = this.completions.shift();
    if (!next) return false;
    const c = this.completion;
    c.token = next.token;
    c.result = next.result;
    c.flags = next.flags ?? 0;
    c.fd = next.fd ?? -1;
    c.data = next.data ?? 0;
    c.address = next.address ?? 0;
    c.offset = next.offset ?? 0;
    c.arrivedNs = next.arrivedNs ?? 0;
    c.queuedNs = next.queuedNs ?? 0;
    [c.peerPort] = [fill(c.peerWords, next.peer)];
    [c.localPort] = [fill(c.localWords, next.local)];
    return true;
  }

  /** Posts a completion for a token. */
  complete(token: number, fields: CompletionFields): void {
    this.completions.push({ token, ...fields });
  }

  /** The submissions of one operation. */
  of(name: keyof typeof SysOp): Submitted[] {
    return this.submitted.filter((s) => s.name === name);
  }

  /** The newest submission of one operation. */
  last(name: keyof typeof SysOp): Submitted {
    const found = this.of(name).at(-1);
    if (!found) throw new Error(`no ${name} was submitted; there was ${this.submitted.map((s) => s.name).join(" ")}`);
    return found;
  }

  /** The bytes of a `send`. */
  bytesOf(send: Submitted): Uint8Array {
    return this.staging.slice(send.args[0], send.args[0] + send.args[1]);
  }

  /** Offers received bytes on an armed receive; returns the arena address they are at. */
  offer(receiveToken: number, bytes: Uint8Array, address: number, arrivedNs = 0, queuedNs = 0): void {
    this.arena.set(bytes, address);
    this.complete(receiveToken, { result: bytes.length, address, arrivedNs, queuedNs, flags: CompletionFlag.more });
  }
}

function fill(words: Int32Array, endpoint: readonly [Address, number] | undefined): number {
  const address = endpoint?.[0] ?? new Address(0, 0, 0, 0);
  words.set([address.w0, address.w1, address.w2, address.w3]);
  return endpoint?.[1] ?? 0;
}
