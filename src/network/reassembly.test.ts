import { describe, expect, it } from "vitest";
import { DropReason } from "../base/drop-reasons.ts";
import type { SkBuff } from "../skb/skb.ts";
import { TestHost } from "../transport/tcp/tcp-testing.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { Reassembly } from "./reassembly.ts";

const HOST = 0x0a000001;

/** A fragment with `optionBytes` of NOPs behind the header. */
function fragment(host: TestHost, src: number, id: number, start: number, len: number, more: boolean, optionBytes = 0) {
  const headerLen = ipv4.HEADER_LEN + optionBytes;
  const skb = host.env.pool.alloc(headerLen + len, 0) as SkBuff;
  const net = skb.put(headerLen + len);
  skb.net = net;
  skb.bytes.fill(1, net, net + headerLen);
  const field = (more ? ipv4.FLAG_MF : 0) | (start / 8);
  ipv4.writeHeader(skb.bytes, skb.view, net, headerLen + len, id, field, 64, 17, src, HOST, 0);
  skb.view.setUint8(net, 0x40 | (headerLen / 4));
  return skb;
}

describe("reassembly", () => {
  it("drops a packet that only its first fragment's longer header makes too long", () => {
    const host = new TestHost();
    const reassembly = new Reassembly(host.env);
    // 65512 bytes of payload: 65532 behind a header of 20 bytes, 65536 behind one of 24.
    for (let start = 8192; start < 65_512; start += 8192) {
      const len = Math.min(8192, 65_512 - start);
      expect(reassembly.add(fragment(host, 1, 7, start, len, start + len < 65_512))).toBeNull();
    }
    expect(reassembly.add(fragment(host, 1, 7, 0, 8192, true, 4))).toBeNull();
    expect(host.env.drops.counts[DropReason.pktTooBig]).toBe(8);
    expect(host.counter("IpReasmFails")).toBe(1);
    expect(host.env.pool.outstanding).toBe(0);
  });

  it("spreads senders who choose their addresses and ids against the table", () => {
    const host = new TestHost();
    const reassembly = new Reassembly(host.env);
    const senders = 500;
    // The same source XOR id for all.
    for (let i = 0; i < senders; i++) reassembly.add(fragment(host, 0x0a010000 + i, 0x5555 ^ i, 8, 8, true));
    const chains = Reflect.get(reassembly, "queues") as Map<number, unknown>;
    expect(chains.size).toBeGreaterThan(senders - 5);
    reassembly.close();
    expect(host.env.pool.outstanding).toBe(0);
  });
});
