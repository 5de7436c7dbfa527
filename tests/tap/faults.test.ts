import { describe } from "vitest";
import { playChecklist } from "../support/fault-checklist.ts";
import { requires } from "../support/requires.ts";
import { tapBench } from "../support/tap-fault-bench.ts";

describe.skipIf(requires("tap", "netns", "python3"))("fault checklist over a TAP", () => {
  describe("Linux as client", () => playChecklist(tapBench("client")));
  describe("Linux as server", () => playChecklist(tapBench("server")));
});
