/**
 * `sojourn ss`: socket statistics in the shape of ss(8). For a listener Recv-Q is the accept queue and Send-Q the
 * backlog; for a connection both are bytes.
 */
import type { Command } from "commander";
import type { SocketRow } from "../../../src/transport/port.ts";
import { getJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, printable, type Terminal } from "../terminal.ts";

interface SsOptions extends ReadingOptions {
  readonly all?: boolean;
  readonly listening?: boolean;
  readonly tcp?: boolean;
  readonly udp?: boolean;
  readonly info?: boolean;
  readonly header: boolean;
}

export function ssCommand(terminal: Terminal): Command {
  return readingCommand("ss", "sockets, as ss(8) prints them")
    .option("-a, --all", "listening and connected")
    .option("-l, --listening", "listening only")
    .option("-t, --tcp", "TCP only")
    .option("-u, --udp", "UDP only")
    .option("-n, --numeric", "numbers instead of names (always so)")
    .option("-i, --info", "TCP details: rtt, rto, cwnd, retransmits")
    .option("-H, --no-header", "no header line")
    .action(async (options: SsOptions) => {
      const rows = await getJson<SocketRow[]>(controlOf(options), `/api/sockets?host=${options.host}`);
      const shown = rows.filter((row) => isShown(row, options));
      terminal.out(options.json ? json(shown) : formatSockets(shown, options));
      if (shown.length === 0 && rows.length > 0 && terminal.isInteractive)
        terminal.err("(no connected socket; -l shows listening ones, -a all)\n");
    });
}

function isListening(row: SocketRow): boolean {
  return row.state === "LISTEN" || (row.protocol === "udp" && row.state === "UNCONN");
}

function isShown(row: SocketRow, options: SsOptions): boolean {
  if ((options.tcp || options.udp) && !(row.protocol === "tcp" ? options.tcp : options.udp)) return false;
  if (options.all) return true;
  return options.listening ? isListening(row) : !isListening(row);
}

/** ss(8) aligns an address to the right of its column, up to the colon, and the port to the left of the next. */
function formatSockets(
  rows: readonly SocketRow[],
  options: { tcp?: boolean; udp?: boolean; info?: boolean; header: boolean },
): string {
  const withNetid = options.tcp === options.udp;
  const cells = rows.map((row) => [
    row.protocol,
    row.state,
    String(row.receiveQueue),
    String(row.sendQueue),
    row.localAddress,
    row.localPort === 0 ? "*" : String(row.localPort),
    row.remoteAddress,
    row.remotePort === 0 ? "*" : String(row.remotePort),
  ]);
  const titles = ["Netid", "State", "Recv-Q", "Send-Q", "Local Address", "Port", "Peer Address", "Port"];
  const width = (column: number) =>
    Math.max((titles[column] as string).length, ...cells.map((row) => (row[column] as string).length));
  const widths = titles.map((_, column) => width(column));
  const line = (row: readonly string[]) => {
    const cell = (column: number) => row[column] as string;
    const left = (column: number) => cell(column).padEnd(widths[column] as number);
    const right = (column: number) => cell(column).padStart(widths[column] as number);
    const netid = withNetid ? `${left(0)} ` : "";
    return `${netid}${left(1)} ${left(2)} ${left(3)} ${right(4)}:${left(5)} ${right(6)}:${left(7)}`.trimEnd();
  };
  const lines = options.header ? [line(titles)] : [];
  rows.forEach((row, i) => {
    lines.push(line(cells[i] as string[]));
    if (options.info && row.info) lines.push(`\t ${Object.entries(row.info).map(infoItem).join(" ")}`);
  });
  return lines.map((text) => `${text}\n`).join("");
}

/** `rtt:0.04/0.02`; a flag such as `sack` stands alone. */
function infoItem([name, value]: [string, string | number]): string {
  return value === "" ? printable(name) : `${printable(name)}:${printable(String(value))}`;
}
