/** The walls hold: a tree with forbidden and allowed imports, and what dependency-cruiser says about it. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const tree = mkdtempSync(join(tmpdir(), "walls-"));

const ALLOWED: readonly (readonly [from: string, to: string])[] = [
  ["src/wire/a.ts", "src/base/x.ts"],
  ["src/netdev/a.ts", "src/bpf/x.ts"],
  ["src/socket/a.ts", "src/transport/x.ts"],
  ["src/server/a.ts", "src/proto/x.ts"],
  ["src/host/a.ts", "src/stack.ts"],
  ["src/node/a.ts", "src/host/x.ts"],
  ["src/sim/a.ts", "src/topology.ts"],
  ["src/topology.ts", "src/stack.ts"],
  ["src/stack.ts", "src/transport/x.ts"],
  ["src/base/a.test.ts", "src/sim/x.ts"],
  ["apps/cli/a.ts", "src/journey/x.ts"],
  ["apps/serve/a.ts", "apps/control/x.ts"],
  ["apps/cli/c.ts", "apps/serve/y.ts"],
];

/** One import that climbs, or crosses to a neighbour, per wall. */
const FORBIDDEN: readonly (readonly [from: string, to: string, rule: string])[] = [
  ["src/base/b.ts", "src/wire/x.ts", "floor-base"],
  ["src/wire/b.ts", "src/skb/x.ts", "floor-wire"],
  ["src/skb/b.ts", "src/device/x.ts", "floor-skb"],
  ["src/device/b.ts", "src/wire/x.ts", "floor-device"],
  ["src/bpf/b.ts", "src/skb/x.ts", "floor-bpf"],
  ["src/netdev/b.ts", "src/transport/x.ts", "floor-netdev"],
  ["src/network/b.ts", "src/device/x.ts", "floor-network"],
  ["src/transport/b.ts", "src/socket/x.ts", "floor-transport"],
  ["src/socket/b.ts", "src/skb/x.ts", "floor-socket"],
  ["src/runtime/b.ts", "src/transport/x.ts", "floor-runtime"],
  ["src/proto/b.ts", "src/runtime/x.ts", "floor-proto"],
  ["src/server/b.ts", "src/socket/x.ts", "floor-server"],
  ["src/journey/b.ts", "src/runtime/x.ts", "floor-journey"],
  ["src/base/c.ts", "src/stack.ts", "floor-base"],
  ["src/server/c.ts", "src/sim/x.ts", "floor-server"],
  ["src/host/b.ts", "src/sim/x.ts", "driver-host"],
  ["src/host/c.ts", "src/journey/x.ts", "driver-host"],
  ["src/node/b.ts", "src/sim/x.ts", "driver-node"],
  ["src/sim/b.ts", "src/host/x.ts", "driver-sim"],
  ["src/sim/c.ts", "apps/cli/x.ts", "driver-sim"],
  ["src/wiring.ts", "src/journey/x.ts", "wiring"],
  ["apps/control/b.ts", "apps/serve/x.ts", "roof-control"],
  ["apps/serve/b.ts", "apps/cli/x.ts", "roof-serve"],
];

beforeAll(() => {
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), text);
  };
  for (const [, to] of [...ALLOWED, ...FORBIDDEN]) write(to, "export type X = number;\n");
  for (const [from, to] of [...ALLOWED, ...FORBIDDEN]) {
    // A type-only import climbs a wall too.
    const path = posix.relative(posix.dirname(from), to);
    write(from, `import type { X } from "${path.startsWith(".") ? path : `./${path}`}";\nexport type { X };\n`);
  }
  for (const name of ["tsconfig.base.json", ".dependency-cruiser.mjs"]) cpSync(join(ROOT, name), join(tree, name));
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
});
afterAll(() => rmSync(tree, { recursive: true }));

it("lets imports go down and stops every one that climbs", { timeout: 60_000 }, () => {
  const bin = join(ROOT, "node_modules", "dependency-cruiser", "bin", "dependency-cruise.mjs");
  const { stdout } = spawnSync(
    process.execPath,
    [bin, "--config", ".dependency-cruiser.mjs", "--output-type", "json", "src", "apps"],
    {
      cwd: tree,
      encoding: "utf8",
      maxBuffer: 1 << 26,
    },
  );
  const { summary } = JSON.parse(stdout) as {
    summary: { violations: { from: string; to: string; rule: { name: string } }[] };
  };
  const found = summary.violations.map(({ from, to, rule }) => `${from} → ${to}: ${rule.name}`);
  const walls = FORBIDDEN.map(([from, to, rule]) => `${from} → ${to}: ${rule}`);
  expect(found).toEqual(expect.arrayContaining(walls));
  const isForbidden = (line: string) => FORBIDDEN.some(([from, to]) => line.startsWith(`${from} → ${to}:`));
  expect(found.filter((line) => !isForbidden(line))).toEqual([]);
});
