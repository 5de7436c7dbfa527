/**
 * ProcessTable: the processes of one host and what they share (log, counts, the transport below).
 */
import type { SocketContext, SocketParts } from "./context.ts";
import { SocketCounts } from "./counts.ts";
import { Process } from "./process.ts";
import { SyscallLog } from "./strace.ts";

export interface ProcessTableOptions {
  /** First pid; default 1. Processes of one host count up from it. */
  readonly firstPid?: number;
  /** Calls the system-call log keeps; default 4096. */
  readonly logRecords?: number;
}

export class ProcessTable {
  readonly context: SocketContext;
  private readonly processes = new Map<number, Process>();
  private nextPid: number;

  constructor(parts: SocketParts, options: ProcessTableOptions = {}) {
    let inodes = 0;
    this.nextPid = options.firstPid ?? 1;
    this.context = {
      ...parts,
      counts: new SocketCounts(),
      log: new SyscallLog(options.logRecords),
      nextInode: () => ++inodes,
    };
  }

  get counts(): SocketCounts {
    return this.context.counts;
  }

  get log(): SyscallLog {
    return this.context.log;
  }

  /** Starts a process: descriptors 0 to 2 are taken. */
  create(name: string): Process {
    const process = new Process(this.context, this.nextPid++, name, (gone) => this.processes.delete(gone.pid));
    this.processes.set(process.pid, process);
    return process;
  }

  get(pid: number): Process | undefined {
    return this.processes.get(pid);
  }

  /** Living processes by pid. */
  list(): Process[] {
    return [...this.processes.values()];
  }
}
