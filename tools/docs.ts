/**
 * Writes docs/stages.md from the tables in `src/base` (law 8): `npm run docs`. A test fails when the page is stale.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DROP_REASONS } from "../src/base/drop-reasons.ts";
import { STAGES, WAIT_REASONS } from "../src/base/stages.ts";

const PATH = new URL("../../docs/stages.md", import.meta.url);

/** The page, as it should be. */
export function stagesPage(): string {
  const rows = (cells: readonly (readonly string[])[]) => cells.map((row) => `| ${row.join(" | ")} |`).join("\n");
  return `# Stages, reasons, drops

Generated from the tables in \`src/base\` by \`npm run docs\`; a test fails when this page is stale.

## Stages

In the order a request meets them. A journey's \`segments\` name one of these at every instant.

| stage | floor | group | kind | Linux | meaning |
|---|---|---|---|---|---|
${rows(STAGES.map((s) => [`\`${s.name}\``, s.floor, s.group, s.kind, s.linux === "" ? "" : `\`${s.linux}\``, s.doc]))}

## Why a wait waits

Every \`wait\` segment carries one of these as \`reason\`; where somebody caused it, \`by\` is the id of that request.

| reason | meaning |
|---|---|
${rows(Object.entries(WAIT_REASONS).map(([reason, doc]) => [`\`${reason}\``, doc]))}

## Why a frame is dropped

Names of Linux \`enum skb_drop_reason\`.

| reason | meaning |
|---|---|
${rows(DROP_REASONS.filter((r) => r.name !== "" && r.name !== "CONSUMED").map((r) => [`\`${r.name}\``, r.doc]))}
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(PATH, stagesPage());
