/**
 * A small random server: one process, some connections, requests with and without bodies, pipelining, loss, reordering,
 * pauses, resets. It writes records like the real floors and keeps the plain truth beside them for the oracle.
 * All times are even, so that an odd time lies strictly between two events.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { Prng } from "../../base/prng.ts";
import { NEVER, type Ns } from "../../base/time.ts";
import { Ending, Held, Parked } from "../../base/tracepoints.ts";
import { RecordScript } from "./record-script.ts";

export interface FrameTruth {
  lo: number;
  hi: number;
  arrNs: Ns;
  pollNs: Ns;
  procNs: Ns;
}
export interface CutTruth {
  lo: number;
  hi: number;
  cutNs: Ns;
  enqNs: Ns;
  leftNs: Ns;
  postNs: Ns;
  txNs: Ns;
  leftSeen: boolean;
  txSeen: boolean;
}
export interface RangeTruth {
  lo: number;
  hi: number;
  startNs: Ns;
  endNs: Ns;
}
export interface StateTruth {
  atNs: Ns;
  state: "run" | "body" | "write" | "own" | "sleep" | "ready" | "end";
}

export class RequestTruth {
  readonly id: number;
  readonly h0: number;
  readonly h1: number;
  readonly b1: number;
  readonly previous: RequestTruth | null;
  headParsedNs = NEVER;
  routedNs = NEVER;
  beganNs = NEVER;
  endNs = NEVER;
  states: StateTruth[] = [];
  p0 = NEVER;
  p1 = NEVER;
  doneNs = NEVER;
  /** Slices the handler still has to run. */
  slices: number;
  streams: boolean;

  constructor(id: number, h0: number, head: number, body: number, previous: RequestTruth | null, prng: Prng) {
    this.id = id;
    this.h0 = h0;
    this.h1 = h0 + head;
    this.b1 = this.h1 + body;
    this.previous = previous;
    this.slices = 1 + prng.below(3);
    this.streams = prng.chance(0.25);
  }
}

export class ConnectionTruth {
  readonly id: number;
  lostSynNs = NEVER;
  syn = { arrNs: NEVER, pollNs: NEVER, procNs: NEVER };
  establishedNs = NEVER;
  acceptedNs = NEVER;
  closedNs = NEVER;
  frames: FrameTruth[] = [];
  deliveries: { atNs: Ns; offset: number }[] = [];
  reads: RangeTruth[] = [];
  /** Parse calls: [lo,hi) was looked at. */
  parses: RangeTruth[] = [];
  frontier: { atNs: Ns; offset: number }[] = [];
  requests: RequestTruth[] = [];
  writes: RangeTruth[] = [];
  holds: { startNs: Ns; endNs: Ns; code: number }[] = [];
  cuts: CutTruth[] = [];
  acks: { atNs: Ns; offset: number }[] = [];
  lost: { atNs: Ns; lo: number; hi: number }[] = [];
  // working state
  delivered = 0;
  readHi = 0;
  parsedHi = 0;
  nextRequest = 0;
  written = 0;
  sent = 0;
  outputting = false;
  busy: RequestTruth | null = null;
  constructor(id: number) {
    this.id = id;
  }
}

export class RandomWorld {
  readonly script = new RecordScript();
  readonly connections: ConnectionTruth[] = [];
  readonly holds: { startNs: Ns; endNs: Ns; requestId: number }[] = [];
  readonly runs: { startNs: Ns; endNs: Ns }[] = [];
  readonly pauses: { startNs: Ns; endNs: Ns }[] = [];
  private readonly prng: Prng;
  private readonly queue: { atNs: Ns; order: number; act: () => void }[] = [];
  private orders = 0;
  private now = 0;
  private awake = false;
  private waking = false;
  private paused = false;
  private pollNs = 0;
  private procNs = 0;
  private txNs = { enq: 0, left: 0, post: 0, tx: 0 };
  private requestIds = 0;
  private readonly tasks: (() => void)[] = [];

  constructor(seed: number) {
    this.prng = new Prng(seed);
  }

  /** Runs the world to its end. */
  run(): void {
    const connections = 1 + this.prng.below(3);
    for (let i = 1; i <= connections; i++) this.startConnection(i);
    if (this.prng.chance(0.3)) this.after(this.d(300), () => this.pause());
    let steps = 0;
    for (;;) {
      this.queue.sort((a, b) => a.atNs - b.atNs || a.order - b.order);
      const event = this.queue.shift();
      if (event === undefined || steps++ > 5000) break;
      this.now = event.atNs;
      this.script.at(event.atNs);
      event.act();
    }
  }

  /** A random even duration up to `max`; often nothing at all. */
  private d(max: number): Ns {
    return this.prng.chance(0.2) ? 0 : 2 * (1 + this.prng.below(max));
  }

  private after(ns: Ns, act: () => void): void {
    this.queue.push({ atNs: this.now + ns, order: this.orders++, act });
  }

  private kernel(conn: ConnectionTruth, ns: Ns, act: () => void): void {
    this.after(ns, () => {
      if (conn.closedNs === NEVER) act();
    });
  }

  private pause(): void {
    const pause = { startNs: this.now, endNs: NEVER };
    this.pauses.push(pause);
    this.paused = true;
    this.script.pauseAccept(true);
    this.after(200 + this.d(200), () => {
      pause.endNs = this.now;
      this.paused = false;
      this.script.pauseAccept(false);
      this.wake();
    });
  }

  // ── client and kernel, receive ────────────────────────────────────────────────────────────────────────────────

  private startConnection(id: number): void {
    const conn = new ConnectionTruth(id);
    this.connections.push(conn);
    let previous: RequestTruth | null = null;
    let at = 0;
    for (let n = 1 + this.prng.below(4); n > 0; n--) {
      const body = this.prng.chance(0.3) ? 1 + this.prng.below(200) : 0;
      const request: RequestTruth = new RequestTruth(
        ++this.requestIds,
        at,
        2 + this.prng.below(60),
        body,
        previous,
        this.prng,
      );
      conn.requests.push(request);
      previous = request;
      at = request.b1;
    }
    const first = 2 + this.d(100);
    if (this.prng.chance(0.2)) {
      this.after(first, () => {
        conn.lostSynNs = this.now;
        this.script.droppedSyn(id, DropReason.tcpListenOverflow);
      });
    }
    this.after(first + 50 + this.d(100), () => this.syn(conn));
    if (this.prng.chance(0.15)) this.after(first + 300 + this.d(800), () => this.reset(conn));
  }

  private syn(conn: ConnectionTruth): void {
    const arrNs = this.now;
    this.pollNs = Math.max(this.pollNs, arrNs + this.d(10));
    this.procNs = Math.max(this.procNs, this.pollNs + this.d(5));
    const { pollNs, procNs } = this;
    this.after(procNs - this.now, () => {
      conn.syn = { arrNs, pollNs, procNs };
      this.script.syn(conn.id, arrNs, pollNs).synAck(conn.id);
      this.kernel(conn, this.d(80), () => {
        conn.establishedNs = this.now;
        this.script.established(conn.id);
        this.tasks.push(() => this.accept(conn));
        this.wake();
        this.sendRequest(conn, 0);
      });
    });
  }

  private reset(conn: ConnectionTruth): void {
    if (conn.closedNs !== NEVER || conn.syn.procNs > this.now) return;
    conn.closedNs = this.now;
    this.script.closed(conn.id, Ending.resetReceived);
  }

  /** The client sends request `i` in frames, some of which overtake each other. */
  private sendRequest(conn: ConnectionTruth, i: number): void {
    const request = conn.requests[i];
    if (request === undefined || this.requested.has(request.id)) return;
    let lo = request.h0;
    let delay = this.d(60);
    while (lo < request.b1) {
      const hi = Math.min(request.b1, lo + 1 + this.prng.below(80));
      const late = this.prng.chance(0.2) ? this.d(120) : 0;
      const frame = { lo, hi, arrNs: 0, pollNs: 0, procNs: 0 };
      this.kernel(conn, delay + late, () => this.arrive(conn, frame));
      delay += this.d(40);
      lo = hi;
    }
    this.requested.add(request.id);
    // pipelined, or else sent when the response has been acknowledged
    if (this.prng.chance(0.5)) this.kernel(conn, delay, () => this.sendRequest(conn, i + 1));
  }

  private readonly requested = new Set<number>();

  private arrive(conn: ConnectionTruth, frame: FrameTruth): void {
    frame.arrNs = this.now;
    this.pollNs = Math.max(this.pollNs, this.now + this.d(10));
    this.procNs = Math.max(this.procNs, this.pollNs + this.d(5));
    frame.pollNs = this.pollNs;
    frame.procNs = this.procNs;
    this.kernel(conn, this.procNs - this.now, () => {
      conn.frames.push(frame);
      let to = conn.delivered;
      for (let again = true; again; ) {
        again = false;
        for (const f of conn.frames) {
          if (f.lo > to || f.hi <= to) continue;
          to = f.hi;
          again = true;
        }
      }
      const moved = to > conn.delivered;
      conn.delivered = to;
      if (moved) conn.deliveries.push({ atNs: this.now, offset: to });
      this.script.segment(conn.id, frame.lo, frame.hi, frame.arrNs, frame.pollNs, moved ? to : -1);
      if (moved && conn.acceptedNs !== NEVER) this.wantRead(conn);
    });
  }

  // ── process ───────────────────────────────────────────────────────────────────────────────────────────────────

  private wake(): void {
    if (this.awake || this.waking) return;
    this.waking = true;
    this.after(this.d(30), () => {
      this.waking = false;
      this.awake = true;
      this.runs.push({ startNs: this.now, endNs: NEVER });
      this.script.enter();
      this.dispatch();
    });
  }

  private dispatch(): void {
    if (this.tasks.length === 0 || (this.paused && this.tasks.length === 1 && this.prng.chance(0.5))) {
      this.awake = false;
      (this.runs.at(-1) as { endNs: Ns }).endNs = this.now;
      this.script.leave();
      if (this.tasks.length > 0 && !this.paused) this.wake();
      else if (this.tasks.length > 0) this.after(50, () => this.wake());
      return;
    }
    const [task] = this.tasks.splice(this.prng.below(this.tasks.length), 1);
    (task as () => void)();
  }

  private next(ns: Ns): void {
    this.after(ns, () => this.dispatch());
  }

  private accept(conn: ConnectionTruth): void {
    if (conn.closedNs !== NEVER) {
      this.next(0);
      return;
    }
    if (this.paused) {
      this.tasks.push(() => this.accept(conn));
      this.next(2);
      return;
    }
    conn.acceptedNs = this.now;
    this.script.accepted(conn.id);
    if (conn.delivered > 0) this.wantRead(conn);
    this.next(this.d(10));
  }

  private readonly wanting = new Set<ConnectionTruth>();

  private wantRead(conn: ConnectionTruth): void {
    if (this.wanting.has(conn)) return;
    this.wanting.add(conn);
    this.tasks.push(() => this.read(conn));
    this.wake();
  }

  /** Reads what is there unless a request is being served that does not want a body; then parses. */
  private read(conn: ConnectionTruth): void {
    this.wanting.delete(conn);
    const serving = conn.busy;
    const wantsBody = serving !== null && conn.parsedHi < serving.b1;
    if (conn.closedNs !== NEVER || (serving !== null && !wantsBody)) {
      this.next(0);
      return;
    }
    if (conn.delivered === conn.readHi) {
      this.parse(conn);
      return;
    }
    const lo = conn.readHi;
    const hi = Math.min(conn.delivered, lo + 1 + this.prng.below(200));
    const read = { lo, hi, startNs: this.now, endNs: NEVER };
    conn.reads.push(read);
    conn.readHi = hi;
    this.script.read(conn.id, lo, hi);
    this.after(this.d(10), () => {
      read.endNs = this.now;
      this.script.readEnd(conn.id, hi);
      this.parse(conn);
    });
  }

  private parse(conn: ConnectionTruth): void {
    if (conn.parsedHi >= conn.readHi) {
      this.next(0);
      return;
    }
    const parse = { lo: conn.parsedHi, hi: conn.readHi, startNs: this.now, endNs: NEVER };
    conn.parses.push(parse);
    this.script.parseBegin(conn.id, conn.parsedHi);
    this.after(this.d(12), () => {
      parse.endNs = this.now;
      const before = conn.parsedHi;
      this.parsed(conn);
      if (conn.parsedHi > before) parse.hi = conn.parsedHi; // it looked no further
    });
  }

  private parsed(conn: ConnectionTruth): void {
    const serving = conn.busy;
    if (serving !== null) {
      this.bodyParsed(conn, serving);
      this.script.parsed(conn.id, conn.parsedHi);
      if (conn.delivered > conn.readHi && conn.parsedHi < serving.b1) this.wantRead(conn);
      this.next(0);
      return;
    }
    const request = conn.requests[conn.nextRequest];
    if (request === undefined || conn.readHi < request.h1) {
      // wants more: has looked at everything read
      conn.frontier.push({ atNs: this.now, offset: conn.readHi });
      this.script.parsed(conn.id, request?.h0 ?? conn.parsedHi);
      if (conn.delivered > conn.readHi) this.wantRead(conn);
      this.next(0);
      return;
    }
    conn.nextRequest++;
    conn.busy = request;
    request.headParsedNs = this.now;
    conn.parsedHi = request.h1;
    conn.frontier.push({ atNs: this.now, offset: request.h1 });
    this.script.request(conn.id, request.id, request.h0, request.h1);
    this.bodyParsed(conn, request);
    this.script.parsed(conn.id, conn.parsedHi);
    if (conn.parsedHi < request.b1 && conn.delivered > conn.readHi) this.wantRead(conn);
    this.after(this.d(8), () => {
      request.routedNs = this.now;
      this.script.routed(request.id);
      if (this.prng.chance(0.3)) {
        this.tasks.push(() => this.begin(conn, request));
        this.next(this.d(4));
      } else this.after(this.d(4), () => this.begin(conn, request));
    });
  }

  private bodyParsed(conn: ConnectionTruth, request: RequestTruth): void {
    const to = Math.min(conn.readHi, request.b1);
    if (to > conn.parsedHi) {
      conn.parsedHi = to;
      conn.frontier.push({ atNs: this.now, offset: to });
    }
    if (to === request.b1) {
      this.script.requestEnd(request.id, request.b1);
      if (request.states.at(-1)?.state === "body") this.makeReady(conn, request);
    }
  }

  // ── handler ───────────────────────────────────────────────────────────────────────────────────────────────────

  private state(request: RequestTruth, state: StateTruth["state"]): void {
    request.states.push({ atNs: this.now, state });
    const hold = this.holds.at(-1);
    if (state === "run") this.holds.push({ startNs: this.now, endNs: NEVER, requestId: request.id });
    else if (state !== "ready" && hold !== undefined && hold.endNs === NEVER) hold.endNs = this.now;
  }

  private makeReady(conn: ConnectionTruth, request: RequestTruth): void {
    this.state(request, "ready");
    this.script.ready(request.id);
    this.tasks.push(() => {
      this.state(request, "run");
      this.script.run(request.id);
      this.slice(conn, request);
    });
    this.wake();
  }

  private begin(conn: ConnectionTruth, request: RequestTruth): void {
    request.beganNs = this.now;
    this.state(request, "run");
    this.script.begin(request.id);
    this.slice(conn, request);
  }

  private slice(conn: ConnectionTruth, request: RequestTruth): void {
    this.after(this.d(60), () => {
      const dead = conn.closedNs !== NEVER;
      if (!dead && conn.parsedHi < request.b1) this.parkFor(request, "body", Parked.body);
      else if (!dead && request.streams && request.p0 === NEVER) this.stream(conn, request);
      else if (--request.slices > 0) {
        const sleep = this.prng.chance(0.5);
        this.parkFor(request, sleep ? "sleep" : "own", sleep ? Parked.sleep : Parked.own);
        this.after(this.d(80), () => this.makeReady(conn, request));
      } else {
        this.endHandler(conn, request);
        return;
      }
      this.next(this.d(4));
    });
  }

  private parkFor(request: RequestTruth, state: "body" | "own" | "sleep" | "write", code: Parked): void {
    this.state(request, state);
    this.script.park(request.id, code);
  }

  /** Writes half of the response inside the handler and parks until it is on the wire. */
  private stream(conn: ConnectionTruth, request: RequestTruth): void {
    request.p0 = conn.written;
    this.script.responseBegin(request.id, conn.written);
    const half = 1 + this.prng.below(150);
    this.writeNow(conn, half);
    this.parkFor(request, "write", Parked.write);
    this.writers.push({ conn, request, offset: conn.written });
  }

  private readonly writers: { conn: ConnectionTruth; request: RequestTruth; offset: number }[] = [];

  private writeNow(conn: ConnectionTruth, bytes: number): void {
    const write = { lo: conn.written, hi: conn.written + bytes, startNs: this.now, endNs: this.now };
    conn.writes.push(write);
    this.script.write(conn.id, write.lo, write.hi).writeEnd(conn.id, write.hi);
    conn.written = write.hi;
    this.output(conn);
  }

  private endHandler(conn: ConnectionTruth, request: RequestTruth): void {
    request.endNs = this.now;
    this.state(request, "end");
    this.script.end(request.id);
    if (conn.closedNs !== NEVER) {
      this.next(0);
      return;
    }
    if (request.p0 === NEVER) {
      request.p0 = conn.written;
      this.script.responseBegin(request.id, conn.written);
    }
    this.after(this.d(10), () => {
      const write = { lo: conn.written, hi: conn.written + 1 + this.prng.below(200), startNs: this.now, endNs: NEVER };
      request.p1 = write.hi;
      conn.writes.push(write);
      this.script.response(conn.id, request.id, request.p0, request.p1).write(conn.id, write.lo, write.hi);
      this.after(this.d(10), () => {
        write.endNs = this.now;
        conn.written = write.hi;
        request.doneNs = this.now;
        this.script.writeEnd(conn.id, write.hi);
        conn.busy = null;
        if (conn.closedNs === NEVER) this.output(conn);
        if (conn.closedNs === NEVER && conn.delivered > conn.parsedHi) this.wantRead(conn);
        this.next(this.d(6));
      });
    });
  }

  // ── kernel, respond ───────────────────────────────────────────────────────────────────────────────────────────

  private output(conn: ConnectionTruth): void {
    if (conn.outputting || conn.sent >= conn.written) return;
    conn.outputting = true;
    this.kernel(conn, this.d(6), () => {
      if (!this.prng.chance(0.4)) {
        this.cut(conn);
        return;
      }
      const code = 1 + this.prng.below(6);
      const hold = { startNs: this.now, endNs: NEVER, code };
      conn.holds.push(hold);
      this.script.held(conn.id, code as Held, conn.sent);
      this.kernel(conn, this.d(100), () => {
        hold.endNs = this.now;
        this.cut(conn);
        this.script.held(conn.id, Held.none, conn.sent);
      });
    });
  }

  private cut(conn: ConnectionTruth): void {
    const lo = conn.sent;
    const hi = Math.min(conn.written, lo + 1 + this.prng.below(120));
    conn.sent = hi;
    conn.outputting = false;
    const tx = this.txNs;
    tx.enq = Math.max(tx.enq, this.now + this.d(4));
    tx.left = Math.max(tx.left, tx.enq + this.d(30));
    tx.post = Math.max(tx.post, tx.left + this.d(4));
    tx.tx = Math.max(tx.tx, tx.post + this.d(30));
    const cut: CutTruth = {
      lo,
      hi,
      cutNs: this.now,
      enqNs: tx.enq,
      leftNs: tx.left,
      postNs: tx.post,
      txNs: tx.tx,
      leftSeen: false,
      txSeen: false,
    };
    conn.cuts.push(cut);
    const frame = this.script.cut(conn.id, lo, hi);
    this.kernel(conn, cut.leftNs - this.now, () => {
      cut.leftSeen = true;
      this.script.qdiscLeft(frame, cut.enqNs);
    });
    this.kernel(conn, cut.txNs - this.now, () => {
      cut.txSeen = true;
      this.script.transmitted(frame, cut.postNs);
      this.onWire(conn, cut);
    });
    this.output(conn);
  }

  private onWire(conn: ConnectionTruth, cut: CutTruth): void {
    for (let i = this.writers.length - 1; i >= 0; i--) {
      const writer = this.writers[i] as (typeof this.writers)[number];
      if (writer.conn !== conn || writer.offset > cut.hi) continue;
      this.writers.splice(i, 1);
      this.makeReady(conn, writer.request);
    }
    if (this.prng.chance(0.15)) {
      this.kernel(conn, this.d(60), () => {
        conn.lost.push({ atNs: this.now, lo: cut.lo, hi: cut.hi });
        this.script.lost(conn.id, cut.lo, cut.hi);
        this.script.cut(conn.id, cut.lo, cut.hi);
        this.kernel(conn, this.d(60), () => this.ack(conn, cut.hi));
      });
    } else this.kernel(conn, this.d(60), () => this.ack(conn, cut.hi));
  }

  /** The client acknowledges; when a response is complete it may send its next request. */
  private ack(conn: ConnectionTruth, offset: number): void {
    if (conn.lost.some((l) => l.lo < offset && l.hi > offset)) return;
    if (offset <= (conn.acks.at(-1)?.offset ?? 0)) return;
    conn.acks.push({ atNs: this.now, offset });
    this.script.acked(conn.id, offset);
    conn.requests.forEach((request, i) => {
      if (request.p1 <= offset && !this.followed.has(request.id)) {
        this.followed.add(request.id);
        this.sendRequest(conn, i + 1);
      }
    });
  }

  private readonly followed = new Set<number>();
}
