/**
 * What all TCP endpoints of one host share: tables, pools, keys, counters. Handed to every verb as `tcp`.
 *
 * The verbs (`input`, `output`, `listener`, …) are functions over (tcp, tcb). Where a lower verb must reach a higher
 * one — a timer that fires, a connection that ends — it goes through `hooks`, which the façade wires (`tcp.ts`).
 */
import { type Address, ANY_V4 } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { MibId } from "../../base/mib.ts";
import { SipHash } from "../../base/siphash.ts";
import { MICROSECOND, MILLISECOND, NEVER, type Ns } from "../../base/time.ts";
import { Timer } from "../../base/timers.ts";
import { type Ending, Point } from "../../base/tracepoints.ts";
import type { IpLayer, OutputOptions } from "../../network/port.ts";
import type { HostEnv } from "../../skb/host-env.ts";
import type { SkBuff } from "../../skb/skb.ts";
import { TcpState } from "../port.ts";
import { AckOutcome } from "./ack-outcome.ts";
import { congestionControl } from "./congestion/choice.ts";
import { MAX_CONNECTIONS, MAX_IDLE_RECORDS } from "./constants.ts";
import { EndpointList } from "./endpoints.ts";
import { IsnGenerator } from "./isn.ts";
import { ConnectionTable, ListenerTable } from "./lookup.ts";
import { PortTable } from "./ports.ts";
import { type ReceiveQueue, ReceiveRecords } from "./receive-queue.ts";
import { NOTHING_IN_FLIGHT, SentSegmentPool } from "./retransmit-queue.ts";
import { Segment } from "./segment-info.ts";
import { SendPagePool, type SendQueue } from "./send-queue.ts";
import { type RequestSock, type Sock, Tcb } from "./tcb.ts";
import { TcbRows } from "./tcb-fields.ts";
import type { TimeWaitList } from "./time-wait.ts";

/** Calls that climb from a lower verb to a higher one. */
export interface TcpHooks {
  /** The retransmission or probe timer of `tcb` fired. */
  xmitTimeout(tcb: Tcb): void;
  delackTimeout(tcb: Tcb): void;
  keepaliveTimeout(tcb: Tcb): void;
  synAckTimeout(request: RequestSock): void;
  /** The segment that completed the handshake of `child` goes on as its first. *Takes* the skb. */
  childSegment(child: Tcb, skb: SkBuff, segment: Segment): void;
  startKeepalive(tcb: Tcb): void;
}

/** How segments leave unless a socket asks otherwise: path MTU discovery on. */
function defaultOutputOptions(ttl: number): OutputOptions {
  return { dontFragment: true, ttl, tos: 0 };
}

/** *Takes* an idle timer into `free`; what is too many is left to the collector. */
function putTimer(free: Timer[], timer: Timer): void {
  timer.owner = null;
  if (free.length < MAX_IDLE_RECORDS) free.push(timer);
}

export class TcpContext {
  readonly env: HostEnv;
  readonly ip: IpLayer;
  readonly connections: ConnectionTable<Sock>;
  readonly listeners = new ListenerTable<Tcb>();
  readonly ports: PortTable;
  readonly isn: IsnGenerator;
  readonly sentSegments = new SentSegmentPool();
  readonly sendPages: SendPagePool;
  readonly receiveRecords: ReceiveRecords;
  /** The segment being processed, and what its acknowledgement did. */
  readonly segment = new Segment();
  readonly ackOutcome = new AckOutcome();
  /** Input is at work. */
  receiving = false;
  /** Scratch for a SACK option that begins with a DSACK. */
  readonly sackBlocks = new Uint32Array(8);
  /** Scratch for `Label.tuple`. */
  readonly tupleBytes = new Uint8Array(44);
  readonly tupleView = new DataView(this.tupleBytes.buffer);
  readonly hooks: TcpHooks;
  /** Every Tcb, for `rows()`. */
  readonly endpoints = new EndpointList();
  timeWaits!: TimeWaitList;
  orphanCount = 0;
  private readonly rows = new TcbRows();
  private options4: OutputOptions;
  /** What the timers of all connections call, with theirs. */
  private readonly onXmit = (_nowNs: Ns, tcb: unknown): void => this.hooks.xmitTimeout(tcb as Tcb);
  private readonly onDelack = (_nowNs: Ns, tcb: unknown): void => this.hooks.delackTimeout(tcb as Tcb);
  private readonly onKeepalive = (_nowNs: Ns, tcb: unknown): void => this.hooks.keepaliveTimeout(tcb as Tcb);
  private readonly onSynAck = (_nowNs: Ns, request: unknown): void => this.hooks.synAckTimeout(request as RequestSock);
  /** Timers no connection needs now: one that waits has none. */
  private readonly xmitTimers: Timer[] = [];
  private readonly delackTimers: Timer[] = [];
  private readonly onXmitIdle = (timer: Timer): void => {
    (timer.owner as Tcb).xmitTimer = null;
    putTimer(this.xmitTimers, timer);
  };
  private readonly onDelackIdle = (timer: Timer): void => {
    (timer.owner as Tcb).delackTimer = null;
    putTimer(this.delackTimers, timer);
  };
  /** Global budget of challenge ACKs (RFC 5961 §10): when its second began, and what is left. */
  private challengeWindowNs: Ns = Number.NEGATIVE_INFINITY;
  private challengesLeft = 0;

  constructor(env: HostEnv, ip: IpLayer, hooks: TcpHooks) {
    this.env = env;
    this.ip = ip;
    this.hooks = hooks;
    this.sendPages = new SendPagePool(env.pool.arena);
    this.receiveRecords = new ReceiveRecords(env.pool);
    const sip = new SipHash(env.secret);
    this.isn = new IsnGenerator(sip);
    this.ports = new PortTable(env.prng.fork(), env.sysctl);
    this.connections = new ConnectionTable<Sock>(sip.words(new Int32Array([0]), 1), MAX_CONNECTIONS);
    this.options4 = defaultOutputOptions(env.sysctl.ipDefaultTtl);
  }

  get nowNs(): Ns {
    return this.env.clock.nowNs;
  }

  /** Shared by all connections without options of their own; follows the sysctl. */
  get outputOptions(): OutputOptions {
    const ttl = this.env.sysctl.ipDefaultTtl;
    if (this.options4.ttl !== ttl) this.options4 = defaultOutputOptions(ttl);
    return this.options4;
  }

  get rtoMinNs(): Ns {
    return this.env.sysctl.tcpRtoMinUs * MICROSECOND;
  }

  get rtoMaxNs(): Ns {
    return this.env.sysctl.tcpRtoMaxMs * MILLISECOND;
  }

  /** Adds one to a counter. */
  count(counter: number): void {
    this.env.mib.values[counter]++;
  }

  /** TSval of a connection now: its millisecond clock plus its offset (RFC 7323 §5.4). */
  timestamp(tsOffset: number): number {
    return (Math.floor(this.nowNs / MILLISECOND) + tsOffset) >>> 0;
  }

  /** A new endpoint in state CLOSE with its timers and its row. */
  createTcb(connId: number): Tcb {
    const { sysctl } = this.env;
    const congestion = congestionControl(sysctl.tcpCongestionControl);
    const tcb = new Tcb(connId, this, this.rows.take(), ANY_V4, congestion, this.outputOptions);
    tcb.rcvbufBytes = sysctl.tcpRmemDefault;
    tcb.sndbufBytes = sysctl.tcpWmemDefault;
    tcb.reorderingSegments = sysctl.tcpReordering;
    tcb.mdevNs = tcb.rtoNs;
    this.endpoints.add(tcb);
    return tcb;
  }

  /** Gives back what a dead endpoint still holds. Its numbers are soon another's; its facts stay readable. */
  releaseTcb(tcb: Tcb): void {
    assert(!tcb.released, "tcb released twice");
    tcb.released = true;
    this.endpoints.delete(tcb);
    this.forget(tcb.xmitTimer);
    this.forget(tcb.delackTimer);
    this.forget(tcb.keepaliveTimer);
    this.rows.give({ words: tcb.words, doubles: tcb.doubles, at: tcb.at });
  }

  /** The send queue of `tcb`, to append to. */
  ownSendQueue(tcb: Tcb): SendQueue {
    if (tcb.sendQueue === this.sendPages.empty) tcb.sendQueue = this.sendPages.takeQueue(tcb.writtenOffsetAtRest);
    return tcb.sendQueue;
  }

  /** Gives the send queue of `tcb` back if it is empty. */
  dropSendQueue(tcb: Tcb): void {
    const queue = tcb.sendQueue;
    if (queue.length > 0 || queue === this.sendPages.empty) return;
    tcb.writtenOffsetAtRest = queue.endOffset;
    tcb.sendQueue = this.sendPages.empty;
    this.sendPages.putQueue(queue);
  }

  /** The receive queue of `tcb`, to append to. */
  ownReceiveQueue(tcb: Tcb): ReceiveQueue {
    const { receiveRecords } = this;
    if (tcb.receiveQueue === receiveRecords.empty) tcb.receiveQueue = receiveRecords.takeQueue(tcb.bytesReceived);
    return tcb.receiveQueue;
  }

  /** Gives the receive queue of `tcb` back if it is empty. */
  dropReceiveQueue(tcb: Tcb): void {
    const queue = tcb.receiveQueue;
    if (queue.length > 0 || queue === this.receiveRecords.empty) return;
    tcb.receiveQueue = this.receiveRecords.empty;
    this.receiveRecords.putQueue(queue);
  }

  /** Gives the retransmission queue of `tcb` back if it is empty. Whoever holds it must look at it no more. */
  dropRetransmitQueue(tcb: Tcb): void {
    const queue = tcb.retransmitQueue;
    if (queue === NOTHING_IN_FLIGHT || !queue.isEmpty) return;
    tcb.retransmitQueue = NOTHING_IN_FLIGHT;
    this.sentSegments.putQueue(queue);
  }

  /** Arms the retransmission/probe timer. */
  armXmit(tcb: Tcb, atNs: Ns): void {
    if (tcb.xmitTimer === null) {
      tcb.xmitTimer = this.xmitTimers.pop() ?? new Timer(this.onXmit, tcb, this.onXmitIdle);
      tcb.xmitTimer.owner = tcb;
    }
    this.env.timers.arm(tcb.xmitTimer, Math.max(atNs, this.nowNs));
  }

  armDelack(tcb: Tcb, atNs: Ns): void {
    if (tcb.delackTimer === null) {
      tcb.delackTimer = this.delackTimers.pop() ?? new Timer(this.onDelack, tcb, this.onDelackIdle);
      tcb.delackTimer.owner = tcb;
    }
    this.env.timers.arm(tcb.delackTimer, atNs);
  }

  armKeepalive(tcb: Tcb, atNs: Ns): void {
    tcb.keepaliveTimer ??= new Timer(this.onKeepalive, tcb);
    this.env.timers.arm(tcb.keepaliveTimer, atNs);
  }

  armSynAck(request: RequestSock, atNs: Ns): void {
    request.timer ??= new Timer(this.onSynAck, request);
    this.env.timers.arm(request.timer, atNs);
  }

  cancel(timer: Timer | null): void {
    if (timer !== null && timer.deadlineNs !== NEVER) this.env.timers.cancel(timer);
  }

  /** Its owner is gone: the timer must not keep it in memory until the old deadline. */
  forget(timer: Timer | null): void {
    if (timer !== null) this.env.timers.forget(timer);
  }

  /** Changes state and keeps CurrEstab and EstabResets (Linux tcp_set_state). */
  setState(tcb: Tcb, state: TcpState): void {
    const old = tcb.state;
    const values = this.env.mib.values;
    // CLOSE_WAIT counts as established (RFC 4022 tcpCurrEstab).
    const wasOpen = old === TcpState.established || old === TcpState.closeWait;
    const isOpen = state === TcpState.established || state === TcpState.closeWait;
    if (isOpen !== wasOpen) values[MibId.TcpCurrEstab] += isOpen ? 1 : -1;
    if (state === TcpState.close && wasOpen) values[MibId.TcpEstabResets]++;
    tcb.state = state;
  }

  /** True while this connection is recorded (the guard of law 6). */
  traced(connId: number): boolean {
    return (connId & this.env.trace.mask) === 0;
  }

  /** Stamps the end of a connection, once. */
  stampClosed(tcb: Tcb, ending: Ending): void {
    // A listener, or a socket that never met a peer, is no connection.
    if (tcb.closedStamped || tcb.remotePort === 0) return;
    tcb.closedStamped = true;
    if (!this.traced(tcb.connId)) return;
    const acked = Math.min(Math.max(tcb.sndUnaOffset, 0), tcb.writtenOffset);
    this.env.trace.stamp(Point.closed, tcb.connId, ending, acked);
  }

  /** The host's budget of challenge ACKs: tcp_challenge_ack_limit per second. */
  takeChallenge(): boolean {
    const limit = this.env.sysctl.tcpChallengeAckLimit;
    if (limit === 0x7fffffff) return true;
    const now = this.nowNs;
    if (now - this.challengeWindowNs >= 1e9) {
      this.challengeWindowNs = now;
      this.challengesLeft = Math.ceil(limit / 2) + this.env.prng.below(Math.max(1, limit));
    }
    if (this.challengesLeft === 0) return false;
    this.challengesLeft--;
    return true;
  }

  /** Keyed hash of a connection's 4-tuple, for SO_REUSEPORT and ports. */
  tupleHash(local: Address, localPort: number, remote: Address, remotePort: number, purpose: number): number {
    return this.isn.tuple(local, localPort, remote, remotePort, purpose);
  }
}
