/**
 * `sojourn link`: interfaces in the shape of `ip -s link`, and the wires behind them. `link set` turns a wire's knobs.
 */
import { Command } from "commander";
import { formatLinkSettings, type LinkSettings } from "../../../src/device/link-settings.ts";
import type { LinkRow } from "../../control/backend.ts";
import { UsageError } from "../../control/exit-codes.ts";
import { parseControlUrl, parseLinkSettings, splitPairs } from "../../control/values.ts";
import { getJson, putJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

export function linkCommand(terminal: Terminal): Command {
  return readingCommand("link", "interfaces and wires, as `ip -s link` prints them")
    .argument("[name]", "only this interface")
    .action(async (name: string | undefined, options: ReadingOptions) => {
      const links = await getJson<LinkRow[]>(controlOf(options), `/api/links?host=${options.host}`);
      const shown = links.filter((link) => name === undefined || link.name === name);
      if (name !== undefined && shown.length === 0) {
        throw new UsageError(
          `Device "${name}" does not exist.`,
          `${options.host} has ${links.map((link) => link.name).join(", ")}`,
          "list them with: sojourn link",
        );
      }
      terminal.out(options.json ? json(shown) : shown.map(formatLink).join(""));
    })
    .enablePositionalOptions()
    .addCommand(linkSetCommand(terminal));
}

function linkSetCommand(terminal: Terminal): Command {
  return new Command("set")
    .description("change a wire, e.g. sojourn link set client-router delay=10ms loss=1%")
    .argument("<name>", "the wire: client-router, router-server, or all")
    .argument("<settings...>", "delay jitter rate loss duplicate reorder corrupt mtu limit, as key=value")
    .option("--json", "print JSON")
    .option("--control <url>", "control address of the server (default: the one that runs)", parseControlUrl)
    .action(async (name: string, settings: string[], options: ReadingOptions) => {
      const pairs = settings.flatMap((text) => splitPairs("link set", text));
      parseLinkSettings("link set", pairs);
      const body = Object.fromEntries(pairs);
      const links = await putJson<LinkRow[]>(controlOf(options), `/api/links/${encodeURIComponent(name)}`, body);
      terminal.out(options.json ? json(links) : links.map(formatLink).join(""));
    });
}

/** The layout of iproute2's ipaddress.c, byte for byte; the wire's line follows where there is a wire. */
function formatLink(link: LinkRow): string {
  const lines = [
    `${link.ifindex}: ${link.name}: <${link.flags.join(",")}> mtu ${link.mtu} qdisc ${link.qdisc} state ${link.state} mode DEFAULT group default qlen ${link.qlen}`,
    `    link/${link.kind} ${link.address} brd ${link.broadcast}`,
    ...statistics("RX", ["bytes", "packets", "errors", "dropped", "missed", "mcast"], link.rx),
    ...statistics("TX", ["bytes", "packets", "errors", "dropped", "carrier", "collsns"], link.tx),
  ];
  if (link.wire) {
    const { name, ...settings } = link.wire;
    lines.push(`    wire: ${name} ${formatLinkSettings(settings as unknown as LinkSettings) || "ideal"}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** Two lines as iproute2 prints them: columns of at least 10, 7, 6, 7, 7 and 7, and its trailing blanks. */
function statistics(
  title: string,
  names: readonly string[],
  values: Readonly<Record<string, number>>,
): [string, string] {
  const texts = names.map((name) => String(values[name] ?? 0));
  const widths = [10, 7, 6, 7, 7, 7].map((width, i) => Math.max(width, (texts[i] as string).length));
  const pad = (text: string, i: number) => text.padStart(widths[i] as number);
  const [first = "", ...others] = names;
  const firstHead = `${title}:${first.padStart((widths[0] as number) - title.length - 1)}`;
  const heads = [firstHead, ...others.map((name, i) => pad(name, i + 1))];
  return [`    ${heads.join(" ")}${" ".repeat(11)}`, `    ${texts.map(pad).join(" ")} `];
}
