/**
 * The corpus: for each target a text file with one input per line, in hexadecimal, and behind `#` why it is kept. Every
 * input that ever found a bug is there, with the bug; so are inputs that reach what the seeds alone do not.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromHex, toHex } from "./input.ts";

const FOLDER = join(import.meta.dirname, "corpus");

export interface CorpusEntry {
  readonly bytes: Uint8Array;
  /** Why it is kept. */
  readonly why: string;
}

export interface Corpus {
  readonly entries: readonly CorpusEntry[];
}

/** The corpus of a target; empty if it has no file. Throws RangeError with file and line if one cannot be read. */
export function readCorpus(target: string): Corpus {
  const file = fileOf(target);
  if (!existsSync(file)) return { entries: [] };
  const entries: CorpusEntry[] = [];
  for (const [index, line] of readFileSync(file, "utf8").split("\n").entries()) {
    const [hex, why = ""] = line.split("#", 2).map((part) => part.trim());
    if (hex === "") continue;
    try {
      entries.push({ bytes: fromHex(hex), why });
    } catch (error) {
      throw new RangeError(`${file}:${index + 1}: ${(error as Error).message}`);
    }
  }
  return { entries };
}

/** Adds an input to the corpus of a target. */
export function keepInCorpus(target: string, bytes: Uint8Array, why: string): void {
  appendFileSync(fileOf(target), `${toHex(bytes)} # ${why}\n`);
}

function fileOf(target: string): string {
  return join(FOLDER, `${target}.txt`);
}
