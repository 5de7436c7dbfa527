/**
 * Values as people type them: durations, sizes, ports, networks. Every parser throws `UsageError`
 * with what, why and next; `flag` names the option in the message.
 */
import { type Cidr, parseCidr, parseV4 } from "../../src/base/address.ts";
import { parseLinkSettings as readLinkSettings } from "../../src/device/link-settings.ts";
import type { LinkSettings } from "../control/backend.ts";
import { UsageError } from "../control/exit-codes.ts";

const DURATION_UNITS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9 };
const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
};

function scaled(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?)([a-zµ]*)$/.exec(text.toLowerCase());
  const unit = match ? units[match[2] as string] : undefined;
  return match && unit !== undefined ? Number(match[1]) * unit : undefined;
}

/** `10ms`, `1.5s`, `200us` → nanoseconds. A unit is required. */
export function parseDurationNs(flag: string, text: string): number {
  const ns = scaled(text, DURATION_UNITS);
  if (ns !== undefined && Number.isSafeInteger(Math.round(ns))) return Math.round(ns);
  throw new UsageError(
    `${flag}: "${text}" is not a duration`,
    "a duration is a number and one of ns us ms s m",
    `write it like ${flag} 10ms`,
  );
}

/** `64MiB`, `1024` → bytes. */
export function parseBytes(flag: string, text: string): number {
  const bytes = scaled(text, SIZE_UNITS);
  if (bytes !== undefined && Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError(
    `${flag}: "${text}" is not a size`,
    "a size is a whole number of bytes, or one with KiB, MiB or GiB",
    `write it like ${flag} 64MiB`,
  );
}

/** A whole number within [min,max]. */
export function parseInteger(flag: string, text: string, min: number, max: number): number {
  const value = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(
    `${flag}: "${text}" is not accepted`,
    `it must be a whole number from ${min} to ${max}`,
    `write it like ${flag} ${min}`,
  );
}

/** A TCP port; 0 lets the system choose. */
export function parsePort(flag: string, text: string): number {
  return parseInteger(flag, text, 0, 65535);
}

/** `10.0.0.2/24`. */
export function parseNetwork(flag: string, text: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr && cidr.prefix > 0 && !cidr.address.isWildcard) return cidr;
  throw new UsageError(
    `${flag}: "${text}" is not an address with prefix`,
    "it must be a.b.c.d/n with n from 1 to 32",
    `write it like ${flag} 10.9.0.2/24`,
  );
}

/** `10.0.0.1`. */
export function parseIpv4(flag: string, text: string): string {
  if (parseV4(text) >= 0) return text;
  throw new UsageError(
    `${flag}: "${text}" is not an IPv4 address`,
    "it must be four decimal octets",
    `write it like ${flag} 10.9.0.1`,
  );
}

/** `http://127.0.0.1:4000` → its origin. Only loopback: the token must not leave this machine. */
export function parseControlUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLoopback = url !== undefined && ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (url?.protocol === "http:" && isLoopback) return url.origin;
  throw new UsageError(
    `--control: "${text}" is not a control address`,
    "it must be http:// on 127.0.0.1, localhost or [::1]",
    "write it like --control http://127.0.0.1:4000",
  );
}

/** `key=value` pairs as `--link` and `PUT /api/links/NAME` take them, in tc's words. */
export function parseLinkSettings(flag: string, pairs: Iterable<readonly [string, string]>): LinkSettings {
  const read = readLinkSettings(Array.from(pairs, ([key, value]) => `${key}=${value}`).join(","));
  if ("settings" in read) return read.settings;
  throw new UsageError(`${flag}: ${read.error}`, read.why, read.next);
}

/** Splits `delay=10ms,loss=1%`. */
export function splitPairs(flag: string, text: string): [string, string][] {
  return text.split(",").map((pair) => {
    const equals = pair.indexOf("=");
    if (equals > 0) return [pair.slice(0, equals).trim(), pair.slice(equals + 1).trim()];
    throw new UsageError(
      `${flag}: "${pair}" is not key=value`,
      "settings are separated by commas",
      `write it like ${flag} delay=10ms,loss=1%`,
    );
  });
}
