/**
 * The walls of the house (docs: ARCHITECTURE.md): who may import whom under src/. `npm run walls` checks them.
 * Tests stand on the roof: they may import anything.
 */

/** Floor → the floors it may import besides itself. A type-only import climbs a wall too. */
const FLOORS = {
  base: [],
  wire: ["base"],
  skb: ["base", "wire"],
  device: ["base", "skb"],
  bpf: ["base"],
  netdev: ["base", "wire", "skb", "device", "bpf"],
  network: ["base", "wire", "skb", "netdev"],
  transport: ["base", "wire", "skb", "network"],
  socket: ["base", "transport"],
  runtime: ["base", "socket"],
  proto: ["base"],
  server: ["base", "runtime", "proto"],
  journey: ["base"],
};

/** Everything a driver may import: every floor, and the files directly under src/ that wire them. */
const CORE = "base|wire|skb|device|bpf|netdev|network|transport|socket|runtime|proto|server";
const NOT_TESTS = "\\.test\\.ts$";

const floorRules = Object.entries(FLOORS).map(([floor, below]) => ({
  name: `floor-${floor}`,
  comment: `${floor} may import ${below.length > 0 ? below.join(", ") : "nothing"}; a call climbs through an interface declared below and wired in stack.ts`,
  severity: "error",
  from: { path: `^src/${floor}/`, pathNot: NOT_TESTS },
  to: { path: "^(src|apps|tools|tests|bench|examples)/", pathNot: `^src/(${[floor, ...below].join("|")})/` },
}));

const driverRules = [
  { name: "host", may: `^src/((${CORE}|host)/|[^/]+\\.ts$)` },
  { name: "node", may: `^src/((${CORE}|host|node)/|[^/]+\\.ts$)` },
  { name: "sim", may: `^src/((${CORE}|sim)/|[^/]+\\.ts$)` },
].map(({ name, may }) => ({
  name: `driver-${name}`,
  comment: `${name} may import every floor, stack.ts and topology.ts${name === "node" ? ", and host" : ""}; journey is for the roof`,
  severity: "error",
  from: { path: `^src/${name}/`, pathNot: NOT_TESTS },
  to: { path: "^(src|apps|tools|tests|bench|examples)/", pathNot: may },
}));

export default {
  forbidden: [
    ...floorRules,
    ...driverRules,
    {
      name: "wiring",
      comment: "stack.ts, topology.ts and what they are cut into are pure: they import the floors and each other",
      severity: "error",
      from: { path: "^src/[^/]+\\.ts$", pathNot: "^src/index\\.ts$|\\.test\\.ts$" },
      to: { path: "^(src|apps|tools|tests|bench|examples)/", pathNot: `^src/((${CORE})/|[^/]+\\.ts$)` },
    },
    {
      name: "src-never-imports-the-roof",
      comment: "apps, tools, tests, bench and examples stand on src, not under it",
      severity: "error",
      from: { path: "^src/", pathNot: NOT_TESTS },
      to: { path: "^(apps|tools|tests|bench|examples)/" },
    },
    {
      name: "roof-control",
      comment: "the control API knows a running session only as its Backend",
      severity: "error",
      from: { path: "^apps/control/", pathNot: NOT_TESTS },
      to: { path: "^apps/(?!control/)" },
    },
    {
      name: "roof-serve",
      comment: "a running session knows the site and the Backend it implements, not the command line",
      severity: "error",
      from: { path: "^apps/serve/", pathNot: NOT_TESTS },
      to: { path: "^apps/(?!serve/|control/|site/)" },
    },
    {
      name: "core-is-pure",
      comment: "Node and npm packages stay in host, node and the roof",
      severity: "error",
      from: { path: "^src/", pathNot: [NOT_TESTS, "^src/(host|node)/"] },
      to: { dependencyTypes: ["core", "npm", "npm-dev", "npm-optional", "npm-peer", "npm-no-pkg", "npm-unknown"] },
    },
    {
      name: "no-packages-below-the-cli",
      comment: "commander and picocolors are the CLI's; koffi is optional and imported by one file of host",
      severity: "error",
      from: { path: "^src/(host|node)/", pathNot: [NOT_TESTS, "^src/host/libc\\.ts$"] },
      to: { dependencyTypes: ["npm", "npm-dev", "npm-optional", "npm-peer", "npm-no-pkg", "npm-unknown"] },
    },
    {
      name: "no-cycles",
      comment: "two files that need each other at run time are one file, or a third is missing",
      severity: "error",
      from: { pathNot: NOT_TESTS },
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "resolvable",
      comment: "an import that leads nowhere",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^(dist|node_modules|coverage)/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.base.json" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types", "node", "default"] },
  },
};
