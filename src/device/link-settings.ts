/**
 * What one direction of a simulated cable does to frames, and the `tc`-like text it is set by.
 *
 * `parseLinkSettings("delay=2.5ms,rate=10mbit,loss=1%")`; words and units are those of `tc qdisc … netem`.
 */
import type { Ns } from "../base/time.ts";

export interface LinkSettings {
  /** Propagation time. */
  readonly delayNs: Ns;
  /** Each frame's delay is uniform in delay ± jitter; it reorders, as netem's does. */
  readonly jitterNs: Ns;
  /** Bits per second of whole frames (Ethernet header included, preamble not: netem's rate); 0 = infinitely fast. */
  readonly rateBitsPerSecond: number;
  /** Probabilities per frame, 0 to 1. */
  readonly loss: number;
  readonly duplicate: number;
  readonly corrupt: number;
  /** Probability that a frame skips the delay and so overtakes others. */
  readonly reorder: number;
  /** Largest IP packet in bytes that passes; larger ones vanish (a path-MTU black hole). 0 = any. */
  readonly mtu: number;
  /** Nothing arrives. */
  readonly down: boolean;
  /** Frames in flight at most; more are lost. netem's default of 1,000 makes silent loss, so ours is larger. */
  readonly limit: number;
}

export const DEFAULT_LINK_SETTINGS: LinkSettings = {
  delayNs: 0,
  jitterNs: 0,
  rateBitsPerSecond: 0,
  loss: 0,
  duplicate: 0,
  corrupt: 0,
  reorder: 0,
  mtu: 0,
  down: false,
  limit: 10000,
};

/** Largest `limit`: what bounds the queue's memory. */
export const MAX_LINK_LIMIT = 1 << 16;

/** What was wrong, why, and what to do next. */
export interface SettingsError {
  readonly error: string;
  readonly why: string;
  readonly next: string;
}

const TIME_UNITS: Record<string, number> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9 };
const RATE_UNITS: Record<string, number> = {
  bit: 1,
  kbit: 1e3,
  mbit: 1e6,
  gbit: 1e9,
  tbit: 1e12,
  bps: 8,
  kbps: 8e3,
  mbps: 8e6,
  gbps: 8e9,
};
const HELP =
  "write for example delay=2.5ms,jitter=100us,rate=10mbit,loss=1%,reorder=0.1%,duplicate=1%,corrupt=1%,mtu=1400,limit=1000,down=off";

type Parsed = number | boolean | string;
type Change = { -readonly [K in keyof LinkSettings]?: LinkSettings[K] };

/** key → field and reader of the value; a string is the reason it cannot be read. */
const KEYS: Record<string, { readonly field: keyof LinkSettings; readonly read: (text: string) => Parsed }> = {
  delay: { field: "delayNs", read: readTime },
  jitter: { field: "jitterNs", read: readTime },
  rate: { field: "rateBitsPerSecond", read: readRate },
  loss: { field: "loss", read: readChance },
  duplicate: { field: "duplicate", read: readChance },
  corrupt: { field: "corrupt", read: readChance },
  reorder: { field: "reorder", read: readChance },
  mtu: { field: "mtu", read: readMtu },
  limit: { field: "limit", read: readLimit },
  down: { field: "down", read: readSwitch },
};

/**
 * Reads `key=value,…`; the settings it names, or an error. An empty text names none. A number without a unit is in ms
 * (times) or bits per second (rate); probabilities are percentages ("1%") or fractions ("0.01").
 */
export function parseLinkSettings(text: string): { readonly settings: Partial<LinkSettings> } | SettingsError {
  const settings: Change = {};
  for (const part of text.split(",").map((p) => p.trim())) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals).trim();
    const known = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
    if (known === undefined) return wrong(part, `"${key}" is not a link setting`);
    if (equals < 0) return wrong(part, `${key} has no value`);
    const value = known.read(part.slice(equals + 1).trim());
    if (typeof value === "string") return wrong(part, value);
    Object.assign(settings, { [known.field]: value });
  }
  return { settings };
}

function wrong(part: string, why: string): SettingsError {
  return { error: `bad link setting "${part}"`, why, next: HELP };
}

/** Why settings that are each valid make no sense together; null if they do. As tc: reordering needs some delay. */
export function checkLinkSettings(settings: LinkSettings): SettingsError | null {
  if (settings.reorder > 0 && settings.delayNs === 0) {
    return {
      error: "reorder without delay",
      why: "a frame overtakes others by skipping their delay, and the delay is 0",
      next: "add delay=…, for example delay=10ms,reorder=1%",
    };
  }
  return null;
}

/** The settings that differ from an ideal link, as `parseLinkSettings` reads them; "" for an ideal link. */
export function formatLinkSettings(settings: LinkSettings): string {
  const parts: string[] = [];
  const percent = (p: number) => `${Number((p * 100).toPrecision(6))}%`;
  if (settings.delayNs > 0) parts.push(`delay=${formatTime(settings.delayNs)}`);
  if (settings.jitterNs > 0) parts.push(`jitter=${formatTime(settings.jitterNs)}`);
  if (settings.rateBitsPerSecond > 0) parts.push(`rate=${formatRate(settings.rateBitsPerSecond)}`);
  for (const key of ["loss", "duplicate", "corrupt", "reorder"] as const) {
    if (settings[key] > 0) parts.push(`${key}=${percent(settings[key])}`);
  }
  if (settings.mtu > 0) parts.push(`mtu=${settings.mtu}`);
  if (settings.limit !== DEFAULT_LINK_SETTINGS.limit) parts.push(`limit=${settings.limit}`);
  if (settings.down) parts.push("down=on");
  return parts.join(",");
}

function formatTime(ns: Ns): string {
  if (ns >= 1e9) return `${ns / 1e9}s`;
  if (ns >= 1e6) return `${ns / 1e6}ms`;
  return ns >= 1e3 ? `${ns / 1e3}us` : `${ns}ns`;
}

function formatRate(bits: number): string {
  if (bits >= 1e9) return `${bits / 1e9}gbit`;
  if (bits >= 1e6) return `${bits / 1e6}mbit`;
  return bits >= 1e3 ? `${bits / 1e3}kbit` : `${bits}bit`;
}

const NUMBER_AND_UNIT = /^(\d+(?:\.\d+)?|\.\d+)([a-zA-Z%]*)$/;

function readTime(text: string): Parsed {
  const match = NUMBER_AND_UNIT.exec(text);
  const unit = match === null ? undefined : TIME_UNITS[match[2] === "" ? "ms" : match[2].toLowerCase()];
  if (match === null || unit === undefined) return `"${text}" is not a time (units: ns, us, ms, s)`;
  const ns = Math.round(Number(match[1]) * unit);
  return ns <= 3.6e12 ? ns : `"${text}" is more than an hour`;
}

function readRate(text: string): Parsed {
  const match = NUMBER_AND_UNIT.exec(text);
  const unit = match === null ? undefined : RATE_UNITS[match[2] === "" ? "bit" : match[2].toLowerCase()];
  if (match === null || unit === undefined) {
    return `"${text}" is not a rate (units: bit, kbit, mbit, gbit; kbps and the like are bytes, as in tc)`;
  }
  const bits = Number(match[1]) * unit;
  return bits === 0 || bits >= 1 ? bits : `"${text}" is less than one bit per second`;
}

function readChance(text: string): Parsed {
  const match = NUMBER_AND_UNIT.exec(text);
  if (match === null || (match[2] !== "" && match[2] !== "%")) return `"${text}" is not a probability (1% or 0.01)`;
  const chance = match[2] === "%" ? Number(match[1]) / 100 : Number(match[1]);
  return chance <= 1 ? chance : `"${text}" is more than 1 (for a percentage write ${match[1]}%)`;
}

function readMtu(text: string): Parsed {
  if (!/^\d{1,5}$/.test(text)) return `"${text}" is not a number of bytes`;
  const mtu = Number(text);
  return mtu === 0 || (mtu >= 68 && mtu <= 65535) ? mtu : `${mtu} is not between 68 and 65535 (RFC 791's smallest)`;
}

function readLimit(text: string): Parsed {
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  return limit >= 1 && limit <= MAX_LINK_LIMIT
    ? limit
    : `"${text}" is not a number of frames from 1 to ${MAX_LINK_LIMIT}`;
}

function readSwitch(text: string): Parsed {
  if (text === "on" || text === "1" || text === "true") return true;
  if (text === "off" || text === "0" || text === "false") return false;
  return `"${text}" is neither on nor off`;
}
