/** Inputs per target under CI: ten million and more in some ninety seconds of one core. The cheap targets take most. */
export const CI_INPUTS: Readonly<Record<string, number>> = {
  ethernet: 500_000,
  arp: 1_500_000,
  ipv4: 2_000_000,
  icmp: 1_000_000,
  udp: 1_500_000,
  tcp: 1_000_000,
  "tcp-options": 2_000_000,
  fragment: 150_000,
  reassembly: 100_000,
  receive: 30_000,
  "http-request": 120_000,
  "http-limits": 120_000,
  "http-headers": 100_000,
  "http-llhttp": 40_000,
  "serve-conn": 25_000,
  values: 150_000,
};

/** Elsewhere a run is so much shorter. */
const OUTSIDE_CI = 20;

/** Inputs for a target: `SOJOURN_FUZZ_INPUTS`, what CI does under CI, else a twentieth of it. */
export function inputsFor(target: string): number {
  const { SOJOURN_FUZZ_INPUTS, CI } = process.env;
  const asked = Number(SOJOURN_FUZZ_INPUTS);
  if (asked > 0) return Math.ceil(asked);
  const inputs = CI_INPUTS[target] ?? 0;
  return CI ? inputs : Math.ceil(inputs / OUTSIDE_CI);
}
