/**
 * The fault checklist (reference: performance.md §9) on two stacks of ours, in memory and virtual time, with the books
 * of every host balanced after every step.
 */
import { describe } from "vitest";
import { playChecklist } from "../support/fault-checklist.ts";
import { MEMORY_BENCH } from "../support/memory-fault-bench.ts";

describe("fault checklist on a memory link", () => playChecklist(MEMORY_BENCH));
