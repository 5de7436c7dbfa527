/**
 * Where the server host stands: behind a client and a router on simulated wires, or on a real link (a TAP, a stream
 * socket) with nobody, or our router, between.
 *
 *   simulated            client ── router ── server
 *   real                         outside ══ server
 *   real, with router   outside ══ router ── server      one network on both sides: the router answers ARP for both
 */
import { Address, parseAddress } from "../../src/base/address.ts";
import { DEFAULT_LINK_DELAY_NS, defaultTopology, type HostSpec, type TopologySpec } from "../../src/topology.ts";
import type { LinkSettings } from "../control/backend.ts";
import { UsageError } from "../control/exit-codes.ts";

/** The real link of `--tap` or `--stream`, as asked for. */
export interface Uplink {
  readonly device: { readonly kind: "tap"; readonly name: string } | { readonly kind: "stream"; readonly path: string };
  /** The server's address and prefix length. */
  readonly address: string;
  readonly prefix: number;
  /** Where the server, or with `router` the router, sends what is not on that network. */
  readonly gateway?: string;
  /** Our router stands between the link and the server, on `LINK_TO_SERVER`. */
  readonly router: boolean;
}

export interface Placement {
  readonly spec: TopologySpec;
  readonly serverAddress: Address;
  /** The host on which our own client process lives; absent where only the outside can be a client. */
  readonly clientHost?: string;
  /** Wire time between the client host and the server's card, in ns, that no observer at the card sees. */
  readonly blindPathNs: number;
  /** The NIC that `Uplink.device` becomes: its host and name; absent in a simulated placement. */
  readonly uplinkNic?: { readonly host: string; readonly name: string; readonly mac: Uint8Array };
  /** The address the outside needs on that link. */
  readonly outsideCidr?: string;
}

export const SERVER_HOST = "server";
/** The link between our router and the server, as `--link` and `sojourn link` name it. */
export const LINK_TO_SERVER = "router-server";

/** The default topology: documentation addresses, two wires. */
export function simulatedPlacement(link: LinkSettings): Placement {
  const spec = defaultTopology(link);
  return {
    spec,
    serverAddress: parseAddress("198.51.100.10") as Address,
    clientHost: "client",
    blindPathNs: 2 * (link.delayNs ?? DEFAULT_LINK_DELAY_NS),
  };
}

/** Throws `CommandError` when the network has no room for the addresses needed. */
export function uplinkPlacement(uplink: Uplink, link: LinkSettings): Placement {
  const { address, prefix } = uplink;
  checkUplink(uplink);
  const server = v4Of(address);
  const gateway = uplink.gateway === undefined ? 0 : v4Of(uplink.gateway);
  const outside = gateway !== 0 ? gateway : freeHost(uplink, [server], 1);
  const nicName = uplink.device.kind === "tap" ? uplink.device.name : "eth0";
  const route = uplink.gateway === undefined ? {} : { gateway: uplink.gateway };
  const spec = uplink.router
    ? routedSpec(uplink, nicName, freeHost(uplink, [server, outside], -1), link)
    : { hosts: [{ name: SERVER_HOST, nics: [{ name: nicName, cidr: `${address}/${prefix}` }], ...route }], links: [] };
  return {
    spec,
    serverAddress: Address.v4(server),
    blindPathNs: 0,
    uplinkNic: { host: uplink.router ? "router" : SERVER_HOST, name: nicName, mac: macOf(server) },
    outsideCidr: `${Address.v4(outside)}/${prefix}`,
  };
}

function routedSpec(uplink: Uplink, nicName: string, router: number, link: LinkSettings): TopologySpec {
  const { address, prefix, gateway } = uplink;
  const routerAddress = Address.v4(router).toString();
  const route = gateway === undefined ? {} : { gateway };
  const between: HostSpec = {
    name: "router",
    forward: true,
    sysctls: { "net.ipv4.conf.all.proxy_arp": "1" },
    nics: [
      { name: nicName, cidr: `${routerAddress}/${prefix}` },
      { name: "eth1", cidr: `${routerAddress}/32`, link: LINK_TO_SERVER },
    ],
    routes: [{ destination: `${address}/32`, dev: "eth1" }],
    ...route,
  };
  const server: HostSpec = {
    name: SERVER_HOST,
    nics: [{ name: "eth0", cidr: `${address}/${prefix}`, link: LINK_TO_SERVER }],
    ...route,
  };
  return { hosts: [between, server], links: [{ name: LINK_TO_SERVER, settings: link }] };
}

/** The first (`step` 1) or last (−1) host address of the network that is not `taken`. */
function freeHost({ address, prefix }: Uplink, taken: readonly number[], step: 1 | -1): number {
  const size = 2 ** (32 - prefix);
  const network = v4Of(address) - (v4Of(address) % size);
  const hosts = Array.from({ length: Math.min(size - 2, 8) }, (_, i) => network + (step === 1 ? 1 + i : size - 2 - i));
  const found = hosts.find((host) => !taken.includes(host));
  if (found !== undefined) return found;
  throw new UsageError(
    `--address ${address}/${prefix} leaves no address for the others on that link`,
    "the outside needs one too, and with --router the router",
    "use a shorter prefix, such as /24",
  );
}

/** Throws `UsageError` for a network in which no server can stand. */
function checkUplink({ address, prefix, gateway }: Uplink): void {
  const size = 2 ** (32 - prefix);
  const host = v4Of(address) % size;
  if (prefix < 8 || prefix > 30 || host === 0 || host === size - 1) {
    throw new UsageError(
      `--address ${address}/${prefix} is no host address`,
      "the server needs a host number in a network of /8 to /30",
      "write it like --address 198.18.0.2/24",
    );
  }
  if (gateway === undefined) return;
  if (gateway === address || !sameNetwork(v4Of(gateway), v4Of(address), prefix)) {
    throw new UsageError(
      `--gateway ${gateway} is not a neighbour of ${address}/${prefix}`,
      "a gateway is another host of the same network",
      "leave it out, or name the address the outside has on this link",
    );
  }
}

function sameNetwork(a: number, b: number, prefix: number): boolean {
  const size = 2 ** (32 - prefix);
  return a - (a % size) === b - (b % size);
}

/** Parsed by the caller: an address of four numbers. */
function v4Of(text: string): number {
  return (parseAddress(text) as Address).v4;
}

/** Locally administered and as unique on the link as the address: 02:00 and its four bytes. */
function macOf(v4: number): Uint8Array {
  return new Uint8Array([0x02, 0, v4 >>> 24, (v4 >>> 16) & 255, (v4 >>> 8) & 255, v4 & 255]);
}
