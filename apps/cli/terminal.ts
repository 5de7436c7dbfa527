/**
 * What commands print with: columns, times, colour, and an output that ends quietly when its reader goes away.
 */
import pc from "picocolors";

/** Where a command prints; tests give it strings to collect. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Columns of the terminal, or 100. */
  readonly width: number;
  readonly isInteractive: boolean;
  /** Colour on standard output. */
  readonly hasColour: boolean;
}

/** The process's own terminal. `| head` closes our output: that is an end, not an error. */
export function processTerminal(): Terminal {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    width: process.stdout.columns || 100,
    isInteractive: process.stderr.isTTY === true,
    hasColour: process.env["NO_COLOR"] ? false : process.env["FORCE_COLOR"] ? true : process.stdout.isTTY === true,
  };
}

/** Colours for this terminal; every function returns its text unchanged where there is no colour. */
export function coloursOf(terminal: Terminal): ReturnType<typeof pc.createColors> {
  return pc.createColors(terminal.hasColour);
}

/** Control characters in text from outside would drive the terminal: they are shown as \xNN. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding control characters is its purpose.
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

export type Align = "left" | "right";

/** Rows as columns two spaces apart, each as wide as its widest cell. The last left-aligned column is not padded. */
export function columns(rows: readonly (readonly string[])[], aligns: readonly Align[], gap = "  "): string {
  const widths = aligns.map((_, i) => Math.max(0, ...rows.map((row) => (row[i] ?? "").length)));
  const line = (row: readonly string[]) =>
    aligns.map((align, i) => {
      const cell = row[i] ?? "";
      return align === "right" ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number);
    });
  return rows.map((row) => `${line(row).join(gap).trimEnd()}\n`).join("");
}

/** One JSON value and a newline. */
export function json(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
