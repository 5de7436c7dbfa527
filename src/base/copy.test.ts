import { describe, it } from "vitest";
import { copyBytes } from "./copy.ts";
import { copies } from "./copy-testing.ts";

describe("copyBytes", () => {
  it("copies within an array and between two, any length at any place", () => {
    copies(copyBytes, (bytes) => new Uint8Array(bytes));
  });
});
