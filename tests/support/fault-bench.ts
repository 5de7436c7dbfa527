/**
 * The bench on which the fault checklist is played: a client, a server, and a wire that can be told what to do wrong.
 *
 *   client ──── wire (lose, swap, duplicate, pad, inject, …) ──── server
 *
 * One bench has two stacks of ours on a memory link in virtual time; another may have the real kernel as one of the
 * hosts behind a TAP in real time. A bench *declares* what it cannot do (`FaultBenchKind.cannot`), and rows that need
 * it are skipped with that reason.
 */
import type { Ns } from "../../src/base/time.ts";
import type { SegmentView } from "./segment-view.ts";

/** Direction of a frame. */
export type Way = "to-server" | "to-client";

/** What a row may need beyond connections, sleeping and losing frames. */
export const VERBS = [
  "swap",
  "duplicate",
  "pad",
  "inject",
  "impair",
  "path-mtu",
  "initial-sequence",
  "small-buffers",
  "minutes",
  "memory",
  "bulk",
  "thousands",
] as const;
export type Verb = (typeof VERBS)[number];

/** A TCP segment as the wire saw it depart. */
export interface SeenSegment extends SegmentView {
  readonly atNs: Ns;
  readonly way: Way;
  /** The wire was told to lose it. */
  readonly lost: boolean;
}

export type SegmentTest = (segment: SegmentView) => boolean;

/** One end of a stream connection. Failures are errors with a `code` ("ECONNRESET"). */
export interface FaultConn {
  /** The next bytes, at most `maxBytes`, *borrowed* until the next read; empty at the end of the stream. */
  read(maxBytes: number): Promise<Uint8Array>;
  /** *Borrows* `bytes` until it resolves: when they are buffered, which back-pressure delays. */
  write(bytes: Uint8Array): Promise<void>;
  /** FIN after what was written (shutdown SHUT_WR). */
  end(): void;
  close(): void;
  /** RST (SO_LINGER 0). */
  abort(): void;
}

export interface FaultListener {
  accept(): Promise<FaultConn>;
  close(): void;
}

export interface FaultHost {
  listen(port: number): Promise<FaultListener>;
  /** Connects to `port` of the other host. */
  dial(port: number): Promise<FaultConn>;
}

/** Random faults, as probabilities and times per frame: the words of netem. */
export interface Impairment {
  readonly loss?: number;
  readonly duplicate?: number;
  readonly reorder?: number;
  readonly corrupt?: number;
  readonly jitterNs?: Ns;
}

export interface FaultWire {
  /** Every TCP segment that departed, in order, unless the bench was opened with `isUnseen`. */
  readonly seen: readonly SeenSegment[];
  /** Loses the next `count` segments for which `test` holds (default one). */
  lose(way: Way, test: SegmentTest, count?: number): void;
  /** `swap`: the next segment for which `test` holds arrives right after the one behind it. */
  swap(way: Way, test: SegmentTest): void;
  /** `duplicate`: it arrives twice. */
  duplicate(way: Way, test: SegmentTest): void;
  /** `pad`: from now on short frames arrive padded to 60 bytes with garbage. */
  pad(): void;
  /** `inject`: a segment of the newest connection that nobody sent: as its last one in that way, but for `change`. */
  inject(way: Way, change: { readonly seq: number; readonly flags: number; readonly payload: Uint8Array }): void;
  /** `impair`: random faults in both ways from now on. */
  impair(impairment: Impairment): void;
  /** `path-mtu`: a router on the way passes only packets up to `bytes`; it says so by ICMP, or is a black hole. */
  setPathMtu(bytes: number, tells: boolean): void;
}

export interface FaultBenchOptions {
  readonly seed?: number;
  /** `initial-sequence`: both hosts start every stream with it. */
  readonly initialSequence?: number;
  /** `path-mtu`: a router stands between the hosts. */
  readonly hasRouter?: boolean;
  /** `small-buffers`: receive buffers of so many bytes that do not grow. */
  readonly receiveBufferBytes?: number;
  /** The wire keeps no list of what it saw: for long runs. */
  readonly isUnseen?: boolean;
}

export interface FaultBench {
  readonly client: FaultHost;
  readonly server: FaultHost;
  readonly wire: FaultWire;
  readonly rttNs: Ns;
  /** How much later than its time anything may happen here: processing, timer ticks, a loaded machine. */
  readonly slackNs: Ns;
  readonly nowNs: Ns;
  /** Why a failure would prove nothing, if so: this machine stood still. */
  readonly excuse?: string | undefined;
  sleep(durationNs: Ns): Promise<void>;
  /** Runs `main` to its end; every bench has its own way of letting time pass. */
  run<T>(main: Promise<T>): Promise<T>;
  /** `memory`: packet memory and JavaScript heap in use now, in bytes, after a collection. */
  memory(): { readonly packetBytes: number; readonly heapBytes: number };
  /**
   * The end of a row, after its `run`. Throws if a promise the bench handed out never settled or if anything was not
   * given back. Frees everything in any case.
   */
  close(): Promise<void>;
}

/** A kind of bench. */
export interface FaultBenchKind {
  readonly name: string;
  /** Verb → why this kind cannot do it. */
  readonly cannot: Readonly<Partial<Record<Verb, string>>>;
  open(options: FaultBenchOptions): Promise<FaultBench>;
}
