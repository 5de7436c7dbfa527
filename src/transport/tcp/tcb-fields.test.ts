/** The rows behind a Tcb's numbers: every name has a place of its own, and what is shared is never written. */
import { describe, expect, test } from "vitest";
import { SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { SocketOption, TcpOption } from "./options.ts";
import { NOTHING_IN_FLIGHT } from "./retransmit-queue.ts";
import type { Tcb } from "./tcb.ts";
import { RowWord, TcbFields, TcbRows } from "./tcb-fields.ts";
import { TestHost, TestPeer } from "./tcp-testing.ts";

const SOL_SOCKET = 1;
const SOL_TCP = 6;

type Fields = InstanceType<typeof TcbFields>;
type Values = Record<string, number | boolean>;

/** Every name of the tables; they are accessors of the prototype. */
const NAMES = Object.entries(Object.getOwnPropertyDescriptors(TcbFields.prototype))
  .filter(([, property]) => property.set !== undefined)
  .map(([name]) => name);

function read(fields: Fields): Values {
  const values = fields as unknown as Values;
  return Object.fromEntries(NAMES.map((name) => [name, values[name] as number | boolean]));
}

describe("the fields of a Tcb", () => {
  test("a value written under one name changes no other, in no other row", () => {
    const rows = new TcbRows();
    const [one, before, after] = [rows.take(), rows.take(), rows.take()].map((place) => new TcbFields(place));
    const [mine, others] = [one as Fields, [before as Fields, after as Fields]];
    expect(NAMES.length).toBeGreaterThan(100);
    const fresh = read(mine);
    const expected = { ...fresh };
    for (const [i, name] of NAMES.entries()) {
      const value = typeof fresh[name] === "boolean" ? !fresh[name] : 1000 + i;
      (mine as unknown as Values)[name] = value;
      expected[name] = value;
      expect(read(mine), name).toEqual(expected);
    }
    for (const other of others) expect(read(other)).toEqual(fresh);
  });

  test("a row that is used again begins anew", () => {
    const rows = new TcbRows();
    const place = rows.take();
    const first = new TcbFields(place);
    first.rtoNs = 7;
    first.rcvNxt = 8;
    rows.give(place);
    const second = new TcbFields(rows.take());
    expect(second.at).toBe(place.at);
    expect(second.rtoNs).toBe(1e9);
    expect(second.rcvNxt).toBe(0);
  });

  test("header prediction finds its words where RowWord says", () => {
    const fields = new TcbFields(new TcbRows().take()) as Fields & Record<keyof typeof RowWord, number>;
    for (const [name, word] of Object.entries(RowWord)) {
      fields.words[fields.at + word] = 77 + word;
      expect(fields[name as keyof typeof RowWord], name).toBe(77 + word);
    }
  });

  test("an accepted connection shares its listener's options until one of them changes", () => {
    const host = new TestHost();
    const listener = host.listen(80);
    host.tcp.setOption(listener, SOL_TCP, TcpOption.keepIdle, 10);
    host.tcp.setOption(listener, SOL_SOCKET, SocketOption.keepAlive, 1);
    const child: Tcb = new TestPeer(host).open(listener).tcb;
    expect(child.state).toBe(TcpState.established);
    expect(child.options).toBe(listener.options);
    expect([child.keepalive, child.keepaliveTimeNs]).toEqual([true, 10e9]);
    host.tcp.setOption(child, SOL_TCP, TcpOption.keepIdle, 20);
    expect([child.keepaliveTimeNs, listener.keepaliveTimeNs]).toEqual([20e9, 10e9]);
  });

  test("a connection that waits has no queue and no timer of its own; its offsets go on where they were", () => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    const { tcb, iss } = peer.open(host.listen(80), {}, 1000);
    const { sendPages, receiveRecords } = host.tcp.context;
    const queues = () => [tcb.sendQueue, tcb.receiveQueue, tcb.retransmitQueue];
    const shared = [sendPages.empty, receiveRecords.empty, NOTHING_IN_FLIGHT];
    const isShared = () => queues().map((queue, i) => queue === shared[i]);
    expect(isShared()).toEqual([true, true, true]);
    for (const round of [1, 2]) {
      const [seq, ack] = [1001 + 8 * (round - 1), iss + 1 + 6 * (round - 1)];
      peer.send({ flags: "P.", seq, ack, data: "question" });
      host.write(tcb, "answer");
      expect(isShared()).toEqual([false, false, false]);
      expect(host.readText(tcb)).toBe("question");
      peer.send({ flags: ".", seq: seq + 8, ack: ack + 6 });
      expect(isShared()).toEqual([true, true, true]);
      host.advance(2 * SECOND);
      expect([tcb.xmitTimer, tcb.delackTimer]).toEqual([null, null]);
      expect([tcb.readOffset, tcb.writtenOffset]).toEqual([8 * round, 6 * round]);
    }
  });

  test("a connection without trouble has no memory for it", () => {
    const rows = new TcbRows();
    const [calm, lossy] = [new TcbFields(rows.take()), new TcbFields(rows.take())];
    lossy.undoOffset = -1;
    expect(lossy.trouble).toBe(calm.trouble);
    lossy.undoOffset = 5;
    expect(lossy.trouble).not.toBe(calm.trouble);
    expect([lossy.undoOffset, calm.undoOffset]).toEqual([5, -1]);
  });
});
