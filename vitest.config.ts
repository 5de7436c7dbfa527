/**
 * Tests in three projects: `unit` beside the code, `sim` under virtual time, `system` with real clocks, ports and
 * clients. `system` runs last and one file at a time, so that nothing else disturbs what it measures.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "tools/**/*.test.ts", "apps/**/*.test.ts", "tests/tooling/**/*.test.ts"],
          testTimeout: 30_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: "sim",
          include: [
            "tests/sim/**/*.test.ts",
            "tests/faults/**/*.test.ts",
            "tests/fuzz/**/*.test.ts",
            "tests/floods/**/*.test.ts",
          ],
          testTimeout: 30_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "system",
          include: ["tests/**/*.test.ts"],
          exclude: ["tests/sim/**", "tests/faults/**", "tests/fuzz/**", "tests/floods/**", "tests/tooling/**"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
