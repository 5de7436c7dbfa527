/**
 * A client and a server on one cable, for benches that need no router.
 */
import { type Address, parseAddress } from "../../src/base/address.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";
import type { Stack } from "../../src/stack.ts";
import type { TopologySpec } from "../../src/topology.ts";

/** Hosts `client` and `server`, the two ends of the link `wire`. */
export function directTopology(settings: Partial<LinkSettings> = {}): TopologySpec {
  return {
    hosts: [
      { name: "client", nics: [{ name: "eth0", cidr: "192.0.2.10/24", link: "wire" }] },
      { name: "server", nics: [{ name: "eth0", cidr: "192.0.2.20/24", link: "wire" }] },
    ],
    links: [{ name: "wire", settings }],
  };
}

/** The host's address on its first card. */
export function addressOf(host: Stack): Address {
  const row = host.net.ip.addressRows().find(({ address }) => !address.startsWith("127."));
  return parseAddress((row?.address ?? "").split("/")[0] as string) as Address;
}
