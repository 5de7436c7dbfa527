/**
 * The one table of stages (law 8): where a request can be, on the wire, in the kernel, in the process.
 *
 * The recorder, the CLI, the lab, the exports, the documentation and the kernel tracer are typed by it. `group` is one
 * of the six words everyone in the field knows, or `respond`, or `network` outside the server.
 */

export type StageGroup = "network" | "accept" | "read" | "decrypt" | "parse" | "decode" | "process" | "respond";
export type StageKind = "wait" | "work";

export interface Stage {
  readonly id: number;
  readonly name: string;
  readonly floor: string;
  readonly group: StageGroup;
  readonly kind: StageKind;
  /** The Linux tracepoint or function that means the same, or "" where Linux has none. */
  readonly linux: string;
  readonly doc: string;
}

function stage(
  id: number,
  name: string,
  floor: string,
  group: StageGroup,
  kind: StageKind,
  linux: string,
  doc: string,
): Stage {
  return { id, name, floor, group, kind, linux, doc };
}

/** In the order a request meets them. `STAGES[i].id === i`. */
export const STAGES = [
  stage(
    0,
    "client",
    "outside",
    "network",
    "wait",
    "",
    "The client has not sent the byte the server needs next, or it is still on its way.",
  ),
  stage(
    1,
    "retransmission",
    "outside",
    "network",
    "wait",
    "tcp:tcp_retransmit_skb",
    "A byte was lost: later ones are here, or its acknowledgement never came.",
  ),
  stage(
    2,
    "rx-ring",
    "device",
    "read",
    "wait",
    "irq:irq_handler_entry",
    "The frame is in the NIC's RX ring and waits for the interrupt and NAPI.",
  ),
  stage(
    3,
    "softirq",
    "netdev",
    "read",
    "work",
    "net:netif_receive_skb",
    "NAPI took the frame; Ethernet, IP and TCP work on it.",
  ),
  stage(
    4,
    "syn-queue",
    "transport",
    "accept",
    "wait",
    "tcp_conn_request",
    "The handshake is unfinished: a request sock in the SYN queue.",
  ),
  stage(
    5,
    "accept-queue",
    "transport",
    "accept",
    "wait",
    "inet_csk_complete_hashdance",
    "Established, but no accept(2) has taken the connection.",
  ),
  stage(
    6,
    "accept",
    "socket",
    "accept",
    "work",
    "syscalls:sys_enter_accept4",
    "accept4(2) takes the connection and installs a file descriptor.",
  ),
  stage(
    7,
    "reassembly",
    "transport",
    "read",
    "wait",
    "tcp_data_queue_ofo",
    "Out of order: the byte waits for an earlier one.",
  ),
  stage(
    8,
    "receive-queue",
    "transport",
    "read",
    "wait",
    "sock:sk_data_ready",
    "In order in the receive queue; no read(2) has copied it yet.",
  ),
  stage(
    9,
    "copy",
    "socket",
    "read",
    "work",
    "syscalls:sys_enter_read",
    "read(2) copies bytes from kernel pages to the process.",
  ),
  stage(10, "decrypt", "proto", "decrypt", "work", "", "TLS records are opened."),
  stage(11, "parse", "proto", "parse", "work", "", "The HTTP machine reads the bytes."),
  stage(12, "decode", "proto", "decode", "work", "", "The body is decoded: inflate, JSON, form."),
  stage(13, "route", "server", "process", "work", "", "ServeMux finds the handler."),
  stage(14, "process", "server", "process", "work", "", "The handler is on the CPU."),
  stage(
    15,
    "handler",
    "server",
    "process",
    "wait",
    "",
    "The handler awaits something of its own: a timer, a disk, another service.",
  ),
  stage(
    16,
    "run-queue",
    "runtime",
    "process",
    "wait",
    "sched:sched_wakeup",
    "Runnable, but something else holds the process.",
  ),
  stage(17, "encode", "server", "respond", "work", "", "The response is serialised."),
  stage(18, "encrypt", "proto", "respond", "work", "", "TLS records are sealed."),
  stage(
    19,
    "write",
    "socket",
    "respond",
    "work",
    "syscalls:sys_enter_write",
    "write(2) copies the response into the send queue.",
  ),
  stage(
    20,
    "send-queue",
    "transport",
    "respond",
    "wait",
    "tcp_write_xmit",
    "In the send queue; a test of TCP output holds it (see reason).",
  ),
  stage(21, "output", "transport", "respond", "work", "__tcp_transmit_skb", "TCP cuts segments, IP routes them."),
  stage(22, "qdisc", "netdev", "respond", "wait", "qdisc:qdisc_dequeue", "In the queueing discipline of the device."),
  stage(
    23,
    "tx-ring",
    "device",
    "respond",
    "wait",
    "net:net_dev_start_xmit",
    "In the NIC's TX ring; the wire is busy.",
  ),
  stage(
    24,
    "ack-wait",
    "outside",
    "network",
    "wait",
    "tcp_ack",
    "On its way to the client; its acknowledgement has not come back.",
  ),
] as const satisfies readonly Stage[];

export type StageName = (typeof STAGES)[number]["name"];

/** Why a wait waits. Every `wait` segment carries one; `loop-busy` and `pipeline` also say who (`by`). */
export const WAIT_REASONS = {
  client: "the client has not sent it yet, or it is on the wire",
  retransmission: "a segment was lost and is being sent again",
  irq: "no interrupt or NAPI poll yet (coalescing, or a busy kernel)",
  handshake: "the client's ACK of the SYN-ACK has not arrived",
  "accept-queue-full": "the handshake's last ACK met a full accept queue and was dropped",
  "accept-paused": "accept() is paused by `sojourn accept pause`",
  "loop-busy": "another request or task held the process",
  "reader-not-woken": "the process was idle but not yet woken or scheduled",
  reassembly: "an earlier byte is missing",
  pipeline: "an earlier request of the same connection is unfinished",
  handler: "the handler awaits something of its own",
  sleep: "the handler sleeps",
  cwnd: "the congestion window is full",
  rwnd: "the client's receive window is full",
  nagle: "Nagle: a small segment is still unacknowledged",
  cork: "TCP_CORK or MSG_MORE holds a partial segment",
  pacing: "the pacing timer has not fired",
  "small-queue": "TCP small queues: enough bytes are in qdisc and ring already",
  "full-queue": "the send queue is full: the writer is parked",
  qdisc: "queued behind other frames in the qdisc",
  "tx-ring": "the TX ring waits for the wire",
  "ack-wait": "the client has not acknowledged it yet",
} as const;
export type WaitReason = keyof typeof WAIT_REASONS;
