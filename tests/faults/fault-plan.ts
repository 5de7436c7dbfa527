/**
 * What goes wrong in the run of a seed, and what is said meanwhile: everything is drawn here, before it begins.
 *
 * The same seed is the same plan for ever; the plan and the seed are all a run depends on (law 9).
 */
import { Prng } from "../../src/base/prng.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";

/** How the bytes of one connection depend on each other. */
export type TalkKind =
  /** Both ends send at will, and FIN when they have sent all. */
  | "free"
  /** The server sends back what it reads, as it comes. */
  | "echo"
  /** The server answers each request; the client sends `depth` of them ahead. */
  | "pipelined"
  /** The server says nothing before it has read the client's FIN. */
  | "after-fin"
  /** Nobody listens on the port. */
  | "refused";

/** How one end reads: so many bytes at a time, then a pause. */
export interface Thirst {
  readonly sipBytes: number;
  readonly pauseUs: number;
}

export interface TalkPlan {
  readonly kind: TalkKind;
  readonly startMs: number;
  readonly upBytes: number;
  readonly downBytes: number;
  /** Bytes per write, and the pause after each. */
  readonly pieceBytes: number;
  readonly gapUs: number;
  readonly client: Thirst;
  readonly server: Thirst;
  /** Pipelined: size of a request, and how many are sent ahead. */
  readonly requestBytes: number;
  readonly depth: number;
}

/** Something that happens to a cable. */
export interface CableEvent {
  readonly atMs: number;
  readonly link: number;
  /** Both directions if absent. */
  readonly direction?: 0 | 1;
  readonly change: Partial<LinkSettings>;
  /** So long after it, the settings that were changed are as before; 0 = never. */
  readonly lastsMs: number;
}

/** A router on the way takes only smaller packets, and says so. */
export interface MtuEvent {
  readonly atMs: number;
  readonly bytes: number;
}

export interface FaultPlan {
  readonly seed: number;
  readonly hasRouter: boolean;
  /** Neighbours must be asked for by ARP, over the same bad cables. */
  readonly asksArp: boolean;
  readonly sysctls: Readonly<Record<string, string>>;
  /** Per link and direction. */
  readonly cables: readonly (readonly [Partial<LinkSettings>, Partial<LinkSettings>])[];
  readonly events: readonly CableEvent[];
  readonly mtus: readonly MtuEvent[];
  readonly talks: readonly TalkPlan[];
  /** Datagrams each host sends. */
  readonly datagrams: number;
  /** A cable is dead for so long that TCP must give up: then, and only then, connections may time out. */
  readonly isHopeless: boolean;
}

/** Small streams are more frequent than large ones; the mean is a twelfth. */
const LARGEST_STREAM_BYTES = 200_000;
const PLAIN = 0.35;
const ROUTER = 0.4;
const ARP = 0.15;
/** A tenth of the runs: enough time-outs to judge, and they are run twice. */
const HOPELESS = 0.1;

/** The plan of a seed. */
export function planOf(seed: number): FaultPlan {
  const prng = new Prng(seed);
  const hasRouter = prng.chance(ROUTER);
  const asksArp = prng.chance(ARP);
  const links = hasRouter ? 2 : 1;
  const isHopeless = prng.chance(HOPELESS);
  const cableDraws = prng.fork();
  const cables = Array.from({ length: links }, () => drawCable(cableDraws));
  const talkDraws = prng.fork();
  const talks = Array.from({ length: 1 + talkDraws.below(8) }, () => drawTalk(talkDraws));
  const events = drawEvents(prng.fork(), links);
  if (isHopeless) events.push(drawDeath(prng.fork(), links));
  return {
    seed,
    hasRouter,
    asksArp,
    isHopeless,
    sysctls: drawSysctls(prng.fork()),
    cables,
    events,
    mtus: drawMtus(prng.fork(), hasRouter),
    talks,
    datagrams: prng.chance(0.5) ? prng.below(30) : 0,
  };
}

/** 0 with probability 1 − `often`, else up to `most`, small ones more often. */
function drawChance(prng: Prng, often: number, most: number): number {
  const draw = prng.float();
  return prng.chance(often) ? most * draw * draw : 0;
}

/** Evenly on a logarithmic scale, whole. */
function drawLog(prng: Prng, least: number, most: number): number {
  return Math.round(least * (most / least) ** prng.float());
}

function drawCable(prng: Prng): [Partial<LinkSettings>, Partial<LinkSettings>] {
  const delayNs = drawLog(prng, 10_000, 100e6);
  const rateBitsPerSecond = prng.chance(0.3) ? drawLog(prng, 1e6, 1e9) : 0;
  const way = (): Partial<LinkSettings> => {
    const isPlain = prng.chance(PLAIN);
    const drawn = {
      delayNs,
      rateBitsPerSecond,
      loss: drawChance(prng, 0.7, 0.2),
      reorder: drawChance(prng, 0.3, 0.2),
      duplicate: drawChance(prng, 0.3, 0.2),
      corrupt: drawChance(prng, 0.3, 0.05),
      jitterNs: prng.chance(0.3) ? Math.floor(delayNs * prng.float()) : 0,
    };
    return isPlain ? { delayNs, rateBitsPerSecond } : drawn;
  };
  return [way(), way()];
}

function drawThirst(prng: Prng): Thirst {
  const isSlow = prng.chance(0.25);
  const slow = { sipBytes: drawLog(prng, 300, 20_000), pauseUs: drawLog(prng, 100, 50_000) };
  return isSlow ? slow : { sipBytes: 65_536, pauseUs: 0 };
}

const KINDS: readonly TalkKind[] = ["free", "free", "free", "echo", "pipelined", "pipelined", "after-fin", "refused"];

function drawTalk(prng: Prng): TalkPlan {
  const kind = KINDS[prng.below(KINDS.length)] as TalkKind;
  const size = (): number => (prng.chance(0.15) ? 0 : drawLog(prng, 1, LARGEST_STREAM_BYTES));
  return {
    kind,
    startMs: prng.below(200),
    upBytes: size(),
    downBytes: size(),
    pieceBytes: drawLog(prng, 500, 60_000),
    gapUs: prng.chance(0.3) ? drawLog(prng, 10, 30_000) : 0,
    client: drawThirst(prng),
    server: drawThirst(prng),
    requestBytes: drawLog(prng, 20, 5000),
    depth: 1 + prng.below(4),
  };
}

function drawEvents(prng: Prng, links: number): CableEvent[] {
  const count = prng.chance(0.5) ? prng.below(4) : 0;
  return Array.from({ length: count }, () => {
    const changes: readonly Partial<LinkSettings>[] = [
      { down: true },
      { delayNs: drawLog(prng, 10_000, 200e6) },
      { rateBitsPerSecond: drawLog(prng, 1e6, 1e9) },
      { loss: 0.2 * prng.float() },
      // A black hole for a while: nobody is told that larger packets vanish.
      { mtu: 600 + prng.below(900) },
    ];
    const change = changes[prng.below(changes.length)] as Partial<LinkSettings>;
    const way = prng.below(3);
    const where = { link: prng.below(links), ...(way < 2 ? { direction: way as 0 | 1 } : {}) };
    return { ...where, atMs: prng.below(1500), change, lastsMs: drawLog(prng, 10, 8000) };
  });
}

/** One cable, one way or both, dies for longer than tcp_retries2 lasts. */
function drawDeath(prng: Prng, links: number): CableEvent {
  const way = prng.below(3);
  const change = prng.chance(0.25) ? { mtu: 600 + prng.below(600) } : { down: true };
  return {
    link: prng.below(links),
    ...(way < 2 ? { direction: way as 0 | 1 } : {}),
    atMs: prng.chance(0.3) ? 0 : prng.below(600),
    change,
    lastsMs: 3_600_000,
  };
}

function drawMtus(prng: Prng, hasRouter: boolean): MtuEvent[] {
  const count = prng.chance(0.4) ? 1 + prng.below(2) : 0;
  const drawn = Array.from({ length: count }, () => ({ atMs: prng.below(600), bytes: 600 + prng.below(900) }));
  return hasRouter ? drawn : [];
}

function drawSysctls(prng: Prng): Record<string, string> {
  const sysctls: Record<string, string> = {};
  const off = (name: string, often: number): void => {
    if (prng.chance(often)) sysctls[name] = "0";
  };
  off("net.ipv4.tcp_timestamps", 0.2);
  off("net.ipv4.tcp_sack", 0.2);
  off("net.ipv4.tcp_window_scaling", 0.1);
  const [rmem, wmem] = [drawLog(prng, 4096, 65_536), drawLog(prng, 4608, 65_536)];
  if (prng.chance(0.15)) sysctls["net.ipv4.tcp_rmem"] = `4096 ${rmem} ${rmem}`;
  if (prng.chance(0.15)) sysctls["net.ipv4.tcp_wmem"] = `4096 ${wmem} ${wmem}`;
  if (prng.chance(0.3)) sysctls["net.ipv4.tcp_congestion_control"] = "reno";
  return sysctls;
}
