/**
 * What the runtime offers servers and clients: goroutines, connections, listeners, and the two ports a network is
 * chosen by (`Network`) or a connection is wrapped by (`Wrap`, e.g. TLS). Frozen in docs/adr/0005.
 *
 * A goroutine is a pooled record with a `step` that runs until it would block, in place of a stack that is switched
 * (law 3): no promise per request unless a handler is async. Every blocking method comes twice: `tryX(g, …)` for steps,
 * which parks `g` and returns `PARKED`, and `x(…)` for async functions, which returns a promise.
 */
import type { Address } from "../base/address.ts";
import type { Clock, Ns } from "../base/time.ts";
import type { Tracepoints } from "../base/tracepoints.ts";

/** The call would block: the goroutine is parked and its step will run again. Not an errno. */
export const PARKED = -0x7fffffff;

export type GoroutineState = "runnable" | "running" | "parked" | "dead";

export interface Goroutine {
  readonly id: number;
  readonly name: string;
  state: GoroutineState;
  /** What it waits for, for people: "accept fd 3", "read fd 5", "sleep". "" unless parked. */
  parkedOn: string;
  /** Since when it is in this state. */
  sinceNs: Ns;
  /** The request it works for, or 0: who held the process (law 7). */
  requestId: number;
}

/**
 * What a goroutine does each time it gets the CPU, until it would block: a function, or the `run` of an object that has
 * one (which costs no closure).
 */
export type Step = ((g: Goroutine) => void) | { run(g: Goroutine): void };

export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

/** When what happened to a connection and to the bytes last read from it; ns, 0 = unknown. For `Server-Timing`. */
export interface ConnTiming {
  /** First SYN arrived; handshake done and queued for accept; accept4 took it. */
  synNs: Ns;
  establishedNs: Ns;
  acceptedNs: Ns;
  /** Of the bytes the last read returned: arrived from the wire, in order in the receive queue, copied to us. */
  arrivedNs: Ns;
  queuedNs: Ns;
  readNs: Ns;
}

/** One stream connection. */
export interface Conn {
  readonly timing: Readonly<ConnTiming>;
  /** Connection id for tracepoints, shared with the kernel; 0 on networks that have none. */
  readonly connId: number;
  readonly fd: number;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** Stream offset of the next byte `read` returns: bytes read so far. */
  readonly receivedBytes: number;
  /** Stream offset of the next byte `write` takes: bytes written so far. */
  readonly sentBytes: number;
  /** Bytes written and not yet taken by the kernel. */
  readonly pendingBytes: number;

  /**
   * Copies at most `len` bytes to `into[at…]`: > 0 bytes; 0 end of stream; -errno (a passed deadline is -ETIMEDOUT);
   * PARKED.
   */
  tryRead(g: Goroutine, into: Uint8Array, at: number, len: number): number;
  /**
   * Appends to the connection's write buffer, copying (the caller's bytes are *borrowed*). Never parks and never fails:
   * an error shows at the next `tryFlush` or read. Sent at the end of the goroutine's step or by `flush`.
   */
  write(bytes: Uint8Array, at: number, len: number): void;
  /** Appends latin-1 text (one byte per character). */
  writeLatin1(text: string): void;
  /** Hands buffered bytes to the kernel without waiting. */
  flush(): void;
  /** 0 once at most `lowWaterBytes` are pending; PARKED; or -errno. Back-pressure for writers. */
  tryDrain(g: Goroutine, lowWaterBytes: number): number;
  /** Sends FIN after what was written (shutdown SHUT_WR). */
  closeWrite(): void;
  /** Sends what was written, then closes. Idempotent. */
  close(): void;
  /** Resets the connection (SO_LINGER 0): pending bytes are lost. */
  abort(): void;
  /** Reads that wait past this moment fail with -ETIMEDOUT; NEVER turns it off. */
  setReadDeadline(atNs: Ns): void;
  /** The same for drains. */
  setWriteDeadline(atNs: Ns): void;
  setNoDelay(on: boolean): void;

  /** Promise twins. `read` resolves to bytes read, 0 at the end; rejects with SyscallError. */
  read(into: Uint8Array, at?: number, len?: number): Promise<number>;
  /** Writes and resolves when at most 64 KB are pending. */
  writeAll(bytes: Uint8Array): Promise<void>;
}

export interface Listener {
  readonly fd: number;
  readonly local: Endpoint;
  /** A connection, null when parked, or -errno. */
  tryAccept(g: Goroutine): Conn | null | number;
  accept(): Promise<Conn>;
  /** `sojourn accept pause`: paused, accept sleeps whatever waits in the queue. */
  setPaused(paused: boolean): void;
  readonly paused: boolean;
  close(): void;
}

export interface ListenOptions {
  /** listen(2) backlog; default 4096 = somaxconn, as Go. */
  readonly backlog?: number;
  readonly reusePort?: boolean;
}

/** Where listeners and connections come from: our stack, the host kernel's sockets, a unix domain. */
export interface Network {
  listen(address: Address, port: number, options?: ListenOptions): Promise<Listener>;
  dial(address: Address, port: number): Promise<Conn>;
}

/** Puts a layer around a connection (TLS). */
export type Wrap = (conn: Conn) => Conn;

/** One process's scheduler. */
export interface Runtime {
  readonly pid: number;
  readonly clock: Clock;
  readonly trace: Tracepoints;
  readonly network: Network;
  /** Starts a goroutine whose `step` runs whenever it is runnable, until it calls `exit`. */
  spawn(name: string, step: Step): Goroutine;
  /** Ends a goroutine; its record goes back to the pool. */
  exit(g: Goroutine): void;
  /** Makes a parked goroutine runnable. */
  ready(g: Goroutine): void;
  /** Parks the running goroutine until `ready`. */
  park(g: Goroutine, on: string): void;
  /** Runs an async function as a goroutine. */
  go(name: string, main: () => Promise<void>): void;
  /** Waits without the CPU. */
  sleep(durationNs: Ns): Promise<void>;
  /** Holds the CPU: spins in real time, occupies the process in virtual time. */
  burn(durationNs: Ns): Promise<void>;
  /** Calls back once at `atNs` (for deadlines); returns a handle for `cancel`. */
  after(atNs: Ns, fire: () => void): { cancel(): void };
  /** Next request id (> 0), unique in the whole server. */
  nextRequestId(): number;
  /** Foreign async code was resumed (a promise it awaits was settled): virtual time stands still until it has run. */
  resumed?(): void;
  /** All living goroutines. */
  goroutines(): readonly Goroutine[];
}
