/**
 * Values as people and the control API type them: every parser gives a value in range, which reads back as itself, or a
 * `UsageError` that says what, why and next. Nothing else is thrown.
 */
import { UsageError } from "../../../apps/control/exit-codes.ts";
import * as values from "../../../apps/control/values.ts";
import { formatV4, parseV4 } from "../../../src/base/address.ts";
import {
  checkLinkSettings,
  DEFAULT_LINK_SETTINGS,
  formatLinkSettings,
  parseLinkSettings,
} from "../../../src/device/link-settings.ts";
import type { FuzzTarget } from "../engine.ts";

const FLAG = "--flag";

function expectWhole(value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < min || value > max) throw new Error(`${value} is out of range`);
}

/** Each reads the text; throws `UsageError`, or anything else if an oracle is broken. */
const PARSERS: readonly ((text: string) => void)[] = [
  (text) => expectWhole(values.parseDurationNs(FLAG, text), 0, Number.MAX_SAFE_INTEGER),
  (text) => expectWhole(values.parseBytes(FLAG, text), 0, Number.MAX_SAFE_INTEGER),
  (text) => expectWhole(values.parseInteger(FLAG, text, 3, 99), 3, 99),
  (text) => expectWhole(values.parsePort(FLAG, text), 0, 65_535),
  (text) => {
    const { address, prefix } = values.parseNetwork(FLAG, text);
    expectWhole(prefix, 1, 32);
    if (!address.isV4) throw new Error(`${address} is no IPv4 network`);
  },
  (text) => {
    if (formatV4(parseV4(values.parseIpv4(FLAG, text))) !== text) throw new Error("reads as another address");
  },
  (text) => {
    const { hostname, protocol } = new URL(values.parseControlUrl(text));
    if (protocol !== "http:" || !["127.0.0.1", "localhost", "[::1]"].includes(hostname))
      throw new Error("left the machine");
  },
  linkSettings,
];

function linkSettings(text: string): void {
  const read = parseLinkSettings(text);
  const settings = values.parseLinkSettings(FLAG, values.splitPairs(FLAG, text));
  if ("error" in read) throw new Error(`${read.error} to one, fine to the other`);
  const whole = { ...DEFAULT_LINK_SETTINGS, ...settings };
  for (const value of Object.values(settings)) {
    if (typeof value === "number" && !(value >= 0 && value < Number.POSITIVE_INFINITY)) throw new Error(`${value}`);
  }
  checkLinkSettings(whole);
  const again = parseLinkSettings(formatLinkSettings(whole));
  if ("error" in again) throw new Error(`what it prints is no setting: ${again.error}`);
}

/** The first byte says which parser; the rest is the text. */
export const VALUES: FuzzTarget = {
  name: "values",
  maxBytes: 48,
  seeds: () =>
    ["10ms", "64MiB", "7", "8080", "10.9.0.2/24", "10.9.0.1", "http://127.0.0.1:4000", "delay=10ms,loss=1%,rate=10mbit"]
      .concat([
        "1.5µs",
        "0x10",
        "constructor",
        "65536",
        "1e3",
        "010.1.1.1",
        "HTTP://[::1]:1/x?y",
        "mtu=68,limit=1,down=on",
      ])
      .map((text, i) => Buffer.from(String.fromCharCode(i % PARSERS.length) + text, "latin1")),
  run({ bytes, at, end }) {
    if (at === end) return 0;
    const which = bytes[at] % PARSERS.length;
    const text = Buffer.from(bytes.subarray(at + 1, end)).toString("latin1");
    try {
      PARSERS[which](text);
      return which * 64 + 1 + Math.min(30, text.length);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      if (error.message === "") throw new Error("a usage error that says nothing");
      return which * 64;
    }
  },
};
