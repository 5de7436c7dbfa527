/**
 * Who held which process when (law 7: a wait says who caused it).
 *
 * `handlerBegin`/`handlerRun` … `handlerPark`/`handlerEnd` give the request on the CPU; `processEnter`/`processLeave`
 * tell a busy process (a task that is no recorded request) from a sleeping one.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import type { Blame } from "../journey.ts";
import { Fifo } from "./fifo.ts";
import { Limits } from "./limits.ts";

export interface Stretch {
  startNs: Ns;
  endNs: Ns;
  requestId: number;
}

/** Part of a wait: until `endNs` the process was held by `by`, or by nobody (null). */
export interface Holder {
  endNs: Ns;
  by: Blame | null;
}

class ProcessTimeline {
  /** Requests on the CPU, in order, not overlapping. */
  readonly requests = new Fifo<Stretch>();
  /** The process awake, in order. */
  readonly runs = new Fifo<Stretch>();
  /** accept() paused and resumed. */
  readonly pauses = new Fifo<{ atNs: Ns; paused: boolean }>();

  begin(list: Fifo<Stretch>, requestId: number, atNs: Ns): void {
    this.end(list, atNs);
    list.push({ startNs: atNs, endNs: NEVER, requestId });
    if (list.length > Limits.occupancy) list.shift();
  }

  end(list: Fifo<Stretch>, atNs: Ns): void {
    const last = list.last;
    if (last !== undefined && last.endNs === NEVER) last.endNs = atNs;
  }
}

export class Occupancy {
  private readonly processes = new Map<number, ProcessTimeline>();
  /** A wait had more holders than `Limits.holders`. */
  coarse = false;

  enter(pid: number, atNs: Ns): void {
    const process = this.process(pid);
    process.begin(process.runs, 0, atNs);
  }

  /** The process sleeps. A handler that did not park goes on holding it: in virtual time it burns the CPU that way. */
  leave(pid: number, atNs: Ns): void {
    const process = this.process(pid);
    process.end(process.runs, atNs);
  }

  /** Request `requestId` has the CPU of process `pid`. */
  hold(pid: number, requestId: number, atNs: Ns): void {
    const process = this.process(pid);
    process.begin(process.requests, requestId, atNs);
  }

  /** Request `requestId` left the CPU of whatever process it was on. */
  release(requestId: number, atNs: Ns): void {
    for (const process of this.processes.values()) {
      if (process.requests.last?.requestId === requestId) process.end(process.requests, atNs);
    }
  }

  /** The process that ran `requestId` last, or 0. */
  pidOf(requestId: number): number {
    for (const [pid, process] of this.processes) if (process.requests.last?.requestId === requestId) return pid;
    return 0;
  }

  pause(pid: number, paused: boolean, atNs: Ns): void {
    const pauses = this.process(pid).pauses;
    if ((pauses.last?.paused ?? false) === paused) return;
    pauses.push({ atNs, paused });
    if (pauses.length > Limits.occupancy) pauses.shift();
  }

  /** Records were lost: who holds a process now is unknown. */
  forgetHolders(atNs: Ns): void {
    for (const process of this.processes.values()) process.end(process.requests, atNs);
  }

  /** The process to ask about a connection nobody has accepted: the only one, or 0. */
  onlyPid(): number {
    return this.processes.size === 1 ? (this.processes.keys().next().value as number) : 0;
  }

  /** [fromNs,toNs) cut where accept() was paused or resumed. */
  pausedParts(pid: number, fromNs: Ns, toNs: Ns): { endNs: Ns; paused: boolean }[] {
    const pauses = this.processes.get(pid)?.pauses;
    const parts: { endNs: Ns; paused: boolean }[] = [];
    let paused = false;
    for (const change of pauses ?? []) {
      if (change.atNs >= toNs) break;
      if (change.atNs > fromNs) parts.push({ endNs: change.atNs, paused });
      paused = change.paused;
    }
    parts.push({ endNs: toNs, paused });
    return parts;
  }

  /**
   * Who held process `pid` in [fromNs,toNs) while something waited that was ready at `readyNs`; `selfId` is never
   * blamed. A process that woke up after `readyNs` and runs no other request is on its way to what waits: nobody.
   */
  holders(pid: number, fromNs: Ns, toNs: Ns, readyNs: Ns, selfId: number): Holder[] {
    const process = this.processes.get(pid);
    const holders: Holder[] = [];
    if (process === undefined) {
      holders.push({ endNs: toNs, by: null });
      return holders;
    }
    let at = fromNs;
    const requests = process.requests;
    for (let i = requests.search((s) => s.endNs > fromNs); i < requests.length; i++) {
      const stretch = requests.at(i) as Stretch;
      if (stretch.startNs >= toNs) break;
      if (stretch.requestId === selfId) continue;
      if (stretch.startNs > at) this.taskHolders(process, pid, at, stretch.startNs, readyNs, holders);
      at = Math.min(stretch.endNs, toNs);
      addHolder(holders, at, stretch.requestId);
    }
    if (at < toNs || holders.length === 0) this.taskHolders(process, pid, at, toNs, readyNs, holders);
    return holders.length > Limits.holders ? this.longestHolder(holders, fromNs) : holders;
  }

  /** The last stretch of a request on any process that ended at or before `atNs`. */
  lastBefore(atNs: Ns): Stretch | undefined {
    let best: Stretch | undefined;
    for (const process of this.processes.values()) {
      const stretch = process.requests.at(process.requests.search((s) => s.endNs > atNs) - 1);
      if (stretch !== undefined && (best === undefined || stretch.endNs > best.endNs)) best = stretch;
    }
    return best;
  }

  /** Stretches where no recorded request ran: a task of a process already awake at `readyNs`, else nobody. */
  private taskHolders(process: ProcessTimeline, pid: number, fromNs: Ns, toNs: Ns, readyNs: Ns, into: Holder[]): void {
    let at = fromNs;
    for (let i = process.runs.search((s) => s.endNs > fromNs); i < process.runs.length; i++) {
      const run = process.runs.at(i) as Stretch;
      if (run.startNs >= toNs) break;
      if (run.startNs >= readyNs) continue;
      if (run.startNs > at) addHolder(into, run.startNs, null);
      at = Math.min(run.endNs, toNs);
      addHolder(into, at, `process ${pid}`);
    }
    if (at < toNs || into.length === 0) addHolder(into, toNs, null);
  }

  private longestHolder(holders: Holder[], fromNs: Ns): Holder[] {
    const held = new Map<Blame, Ns>();
    let at = fromNs;
    for (const { endNs, by } of holders) {
      if (by !== null) held.set(by, (held.get(by) ?? 0) + endNs - at);
      at = endNs;
    }
    let best: Blame | null = null;
    for (const [by, ns] of held) if (best === null || ns > (held.get(best) as Ns)) best = by;
    this.coarse = true;
    return [{ endNs: at, by: best }];
  }

  private process(pid: number): ProcessTimeline {
    let process = this.processes.get(pid);
    if (process === undefined) {
      process = new ProcessTimeline();
      this.processes.set(pid, process);
    }
    return process;
  }
}

function addHolder(holders: Holder[], endNs: Ns, by: Blame | null): void {
  const last = holders[holders.length - 1];
  if (last !== undefined && last.by === by) last.endNs = endNs;
  else holders.push({ endNs, by });
}
