/** The control plane's `Backend` over a running session. */
import { DROP_REASONS } from "../../src/base/drop-reasons.ts";
import { STAGES } from "../../src/base/stages.ts";
import { ControlError } from "../../src/host/kernel-machine.ts";
import { CaptureWriter } from "../../src/journey/exports/capture-writer.ts";
import { prometheusText } from "../../src/journey/exports/prometheus.ts";
import type { Journey, Outcome } from "../../src/journey/journey.ts";
import type { SocketRow } from "../../src/transport/port.ts";
import * as backend from "../control/backend.ts";
import { VERSION } from "../control/version.ts";
import type { CaptureStarted } from "./capture-table.ts";
import { type BatchedFrame, FrameFlag, forEachFrame } from "./frame-batch.ts";
import type { Session } from "./session.ts";

/** How often a capture is fetched from the kernel. */
const CAPTURE_INTERVAL_MS = 100;

export class SessionBackend implements backend.Backend {
  private readonly session: Session;

  constructor(session: Session) {
    this.session = session;
  }

  info(): backend.Info {
    const { session } = this;
    return {
      version: VERSION,
      originUnixNs: String(session.options.originUnixNs),
      node: process.version,
      mode: session.mode,
      truth: "user-space",
      site: session.siteUrl,
      hosts: session.hosts,
      acceptPaused: session.acceptPaused,
    };
  }

  journeys(query: backend.JourneyQuery): readonly Journey[] {
    this.session.drain();
    const { limit, outcome, slowerNs, stage } = query;
    return this.session.collector.list({
      limit,
      ...(outcome === undefined ? {} : { outcome: outcome as Outcome }),
      ...(slowerNs === undefined ? {} : { slowerNs }),
      ...(stage === undefined ? {} : { stage }),
    });
  }

  journey(id: number): Journey | null {
    this.session.drain();
    return this.session.collector.byId(id) ?? null;
  }

  subscribe(listener: (journey: Journey) => void): backend.Stop {
    return this.session.collector.subscribe(listener);
  }

  sockets(host: backend.HostName): Promise<readonly SocketRow[]> {
    return this.ask("sockets", { host });
  }

  counters(host: backend.HostName): Promise<Readonly<Record<string, number>>> {
    return this.ask("counters", { host });
  }

  links(host: backend.HostName): Promise<readonly backend.LinkRow[]> {
    return this.ask("links", { host });
  }

  processes(host: backend.HostName): Promise<readonly backend.ProcessRow[]> {
    return this.ask("processes", { host });
  }

  neighbours(host: backend.HostName): Promise<readonly backend.NeighbourRow[]> {
    return this.ask("neighbours", { host });
  }

  routes(host: backend.HostName): Promise<readonly backend.RouteRow[]> {
    return this.ask("routes", { host });
  }

  syscalls(host: backend.HostName, limit: number): Promise<readonly backend.SyscallRow[]> {
    return this.ask("syscalls", { host, limit });
  }

  goroutines(): Promise<readonly backend.GoroutineRow[]> {
    return this.session.goroutines();
  }

  sysctlList(host: backend.HostName): Promise<readonly backend.SysctlRow[]> {
    return this.ask("sysctls", { host });
  }

  sysctlSet(host: backend.HostName, name: string, value: string): Promise<string | null> {
    return this.ask("setSysctl", { host, name, value });
  }

  async setLink(name: string, settings: backend.LinkSettings): Promise<readonly backend.LinkRow[]> {
    const changed = await this.ask<string[]>("setLink", { name, settings });
    const rows = await Promise.all(this.session.hosts.map((host) => this.links(host)));
    return rows.flat().filter((row) => changed.includes(String(row.wire?.["name"])));
  }

  async setAccept(paused: boolean): Promise<{ readonly paused: boolean }> {
    await this.session.setAccept(paused);
    return { paused };
  }

  setReject(
    port: number,
    mode: backend.RejectMode,
  ): Promise<{ readonly port: number; readonly with: backend.RejectMode }> {
    return this.ask("setReject", { port, with: mode });
  }

  capture(what: backend.CaptureOf, onChunk: (chunk: Uint8Array) => void): backend.Stop {
    const { session } = this;
    const writer = new CaptureWriter({
      originUnixNs: session.options.originUnixNs,
      journeys: () => {
        session.drain();
        return session.collector.byConnection();
      },
    });
    const started = this.ask<CaptureStarted>("captureStart", { ...what }).then(({ id, interfaces }) => {
      for (const { name, description } of interfaces) writer.addInterface(name, description);
      return id;
    });
    const fetch = async (method: "captureTake" | "captureStop") => {
      forEachFrame(await this.ask<Uint8Array>(method, { id: await started }), (frame) => pushFrame(writer, frame));
      session.kernel.clock.tick();
      const chunk = method === "captureStop" ? writer.finish() : writer.flush(session.kernel.clock.nowNs);
      if (chunk.length > 0) onChunk(chunk);
    };
    const timer = setInterval(() => void fetch("captureTake").catch(() => clearInterval(timer)), CAPTURE_INTERVAL_MS);
    return () => {
      clearInterval(timer);
      void fetch("captureStop").catch(() => {});
    };
  }

  async metrics(): Promise<string> {
    this.session.drain();
    const { collector } = this.session;
    const mib = await this.ask<Float64Array>("mib", {});
    return prometheusText({ statistics: collector.statistics, counters: collector.counters(), mib });
  }

  stages(): readonly unknown[] {
    return STAGES;
  }

  dropReasons(): readonly unknown[] {
    return DROP_REASONS;
  }

  private async ask<T>(method: string, params: Record<string, unknown>): Promise<T> {
    try {
      return (await this.session.kernel.control(method, params)) as T;
    } catch (thrown) {
      if (!(thrown instanceof ControlError)) throw thrown;
      throw new backend.Refusal(thrown.status, thrown.error, thrown.why, thrown.next);
    }
  }
}

function pushFrame(writer: CaptureWriter, { flags, missed, ...frame }: BatchedFrame): void {
  const notes = [
    ...(flags & FrameFlag.lost ? ["lost by the wire"] : []),
    ...(missed > 0 ? [`${missed} frames before this one left out: not fetched in time`] : []),
  ];
  writer.push({
    ...frame,
    direction: flags & FrameFlag.outbound ? "outbound" : "inbound",
    partial: (flags & FrameFlag.partial) !== 0,
    ...(notes.length > 0 ? { note: notes.join("; ") } : {}),
  });
}
