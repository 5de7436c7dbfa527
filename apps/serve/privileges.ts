/**
 * Root only for as long as it takes to open a device (law 13): then this process becomes the user who called sudo, or
 * nobody, for good.
 */
import { CommandError, ExitCode } from "../control/exit-codes.ts";

/** uid and gid of `nobody` and `nogroup` on every Linux. */
const NOBODY = 65534;

/** Whom root becomes. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** For people. */
  readonly name: string;
  /** Root came by way of sudo, so that whoever types the next command needs it too. */
  readonly bySudo: boolean;
}

/** The user who called sudo; without one (or if it was root) nobody. */
export function unprivileged(env: NodeJS.ProcessEnv = process.env): Identity {
  const uid = Number(env["SUDO_UID"] ?? 0);
  const gid = Number(env["SUDO_GID"] ?? 0);
  if (Number.isInteger(uid) && uid > 0 && Number.isInteger(gid) && gid > 0) {
    return { uid, gid, name: env["SUDO_USER"] ?? `uid ${uid}`, bySudo: true };
  }
  return { uid: NOBODY, gid: NOBODY, name: "nobody", bySudo: false };
}

/**
 * Gives root up in every thread of the process; the identity it has now, or undefined if it was not root. Throws
 * `CommandError` (privilege) if the system refuses: to go on as root would be worse.
 */
export function dropPrivileges(identity: Identity = unprivileged()): Identity | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  const { uid, gid, name } = identity;
  try {
    // Groups first: without root nobody may change them. Each call reaches all threads (setxid of the C library).
    process.setgroups?.([gid]);
    process.setgid?.(gid);
    process.setuid?.(uid);
  } catch (error) {
    throw refused(name, (error as Error).message);
  }
  if (canBecomeRoot()) throw refused(name, "the process could become root again");
  // Root's own directories are closed to it from here on.
  delete process.env["XDG_RUNTIME_DIR"];
  return identity;
}

function canBecomeRoot(): boolean {
  try {
    process.setuid?.(0);
    return true;
  } catch {
    return false;
  }
}

function refused(name: string, why: string): CommandError {
  return new CommandError(
    ExitCode.privilege,
    `cannot become ${name}`,
    why,
    "make the device for your own user (sudo ip tuntap add dev tap0 mode tap user $USER) and run serve without root",
  );
}
