import type { ControlFailure } from "./kernel-machine.ts";

/** A link of the host cannot be had (TAP, stream socket): what happened, why, and what to do next. */
export class HostDeviceError extends Error implements ControlFailure {
  override readonly name = "HostDeviceError";
  /**
   * Name of the errno, as Node has it (EADDRINUSE, ENAMETOOLONG, …), or ENOSYS where the platform cannot do it. EPERM
   * and EACCES: a privilege is missing.
   */
  readonly code: string;
  readonly error: string;
  readonly why: string;
  readonly next: string;

  constructor(code: string, error: string, why: string, next: string) {
    super(`${error}: ${why}`);
    this.code = code;
    this.error = error;
    this.why = why;
    this.next = next;
  }
}
