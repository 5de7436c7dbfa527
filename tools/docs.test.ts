import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { stagesPage } from "./docs.ts";

it("docs/stages.md says what the tables say (npm run docs)", () => {
  expect(readFileSync(new URL("../docs/stages.md", import.meta.url), "utf8")).toBe(stagesPage());
});
