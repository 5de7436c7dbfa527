/**
 * What `ss -p`, /proc/PID/fd and `ps` show of one host: rows for the command line, the lab and the checkers.
 */
import type { SocketRow } from "../transport/port.ts";
import { EpollFile } from "./epoll.ts";
import { type File, type FileKind, Socket, SocketName } from "./file.ts";
import { InetDatagram } from "./inet-datagram.ts";
import { InetStream } from "./inet-stream.ts";
import type { Process } from "./process.ts";
import type { ProcessTable } from "./process-table.ts";

/** A process that has a descriptor for a socket (`users:(("server",pid=2,fd=3))`). */
export interface SocketOwner {
  readonly process: string;
  readonly pid: number;
  readonly fd: number;
}

/** One row of `ss -ap`. Without owners: an orphan, a half-open or queued connection, TIME_WAIT. */
export interface OwnedSocketRow extends SocketRow {
  readonly owners: readonly SocketOwner[];
}

/** One row of /proc/PID/fd with /proc/PID/fdinfo. */
export interface FdRow {
  readonly pid: number;
  readonly fd: number;
  readonly kind: FileKind;
  /** What the link points to: `socket:[12]`, `pipe:[3]`, `anon_inode:[eventpoll]`, a path. */
  readonly target: string;
  /** File status flags (O_*). */
  readonly flags: number;
  /** Readiness now, as EPOLL* bits. */
  readonly events: number;
  /** Sockets: `10.0.0.2:80 → 10.0.0.9:1234`; epoll: `2 files`. */
  readonly detail: string;
}

/** One row of `ps`. */
export interface ProcessRow {
  readonly pid: number;
  readonly name: string;
  /** Open descriptors, and RLIMIT_NOFILE. */
  readonly fds: number;
  readonly fdLimit: number;
  readonly sockets: number;
}

/** All sockets of the host with who owns them, in the transport's order. */
export function socketRows(table: ProcessTable): OwnedSocketRow[] {
  const owners = ownersByTuple(table);
  const { tcp, udp } = table.context;
  return [...tcp.rows(), ...(udp?.rows() ?? [])].map((row) => {
    const key = tupleOf(row.protocol, row.localAddress, row.localPort, row.remoteAddress, row.remotePort);
    // Several sockets of one tuple (SO_REUSEPORT listeners): each row takes the next file's owners.
    return { ...row, owners: owners.get(key)?.shift() ?? [] };
  });
}

/** The descriptor table of one process. */
export function fdRows(process: Process): FdRow[] {
  return process.fds.entries().map(({ fd, file }) => ({
    pid: process.pid,
    fd,
    kind: file.kind,
    target: file.describe(),
    flags: file.flags,
    events: file.poll(),
    detail: detailOf(file),
  }));
}

/** The living processes of the host. */
export function processRows(table: ProcessTable): ProcessRow[] {
  return table.list().map((process) => ({
    pid: process.pid,
    name: process.name,
    fds: process.fds.size,
    fdLimit: process.fds.softLimit,
    sockets: process.fds.entries().filter(({ file }) => file instanceof Socket).length,
  }));
}

/** Tuple → for each file with it, the descriptors that name it. */
function ownersByTuple(table: ProcessTable): Map<string, SocketOwner[][]> {
  const byFile = new Map<File, SocketOwner[]>();
  for (const process of table.list()) {
    for (const { fd, file } of process.fds.entries()) {
      if (!(file instanceof Socket)) continue;
      const owners = byFile.get(file);
      const owner = { process: process.name, pid: process.pid, fd };
      if (owners) owners.push(owner);
      else byFile.set(file, [owner]);
    }
  }
  const byTuple = new Map<string, SocketOwner[][]>();
  for (const [file, owners] of byFile) {
    const key = keyOf(file);
    if (key === "") continue;
    const files = byTuple.get(key);
    if (files) files.push(owners);
    else byTuple.set(key, [owners]);
  }
  return byTuple;
}

function keyOf(file: File): string {
  const end = file instanceof InetStream ? file.tcb : file instanceof InetDatagram ? file.endpoint : null;
  if (end === null) return "";
  const { localAddress, localPort, remoteAddress, remotePort } = end;
  return tupleOf(file.kind, localAddress.toString(), localPort, remoteAddress.toString(), remotePort);
}

function tupleOf(kind: string, local: string, localPort: number, remote: string, remotePort: number): string {
  return `${kind} ${local}:${localPort} ${remote}:${remotePort}`;
}

function detailOf(file: File): string {
  if (file instanceof EpollFile) return `${file.size} ${file.size === 1 ? "file" : "files"}`;
  if (!(file instanceof Socket)) return "";
  const local = new SocketName();
  const peer = new SocketName();
  file.localName(local);
  const here = `${local.address}:${local.port}`;
  return file.peerName(peer) === 0 ? `${here} → ${peer.address}:${peer.port}` : here;
}
