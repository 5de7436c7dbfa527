/**
 * Where a framed stream socket stands: the path of a unix socket, or HOST:PORT on loopback.
 *
 * Frames travel in the clear and whoever connects is on the wire: a unix socket is its owner's alone (mode 0600), a TCP
 * port stays on this machine.
 */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, createServer, isIPv4, type Server, type Socket } from "node:net";
import { HostDeviceError } from "./host-device-error.ts";

export type StreamAddress =
  | { readonly path: string }
  /** Port 0: any that is free (to listen only). */
  | { readonly host: string; readonly port: number };

/** Bytes of `sockaddr_un.sun_path` without the final NUL: 108 on Linux, 104 on the BSDs and macOS. */
const MAX_PATH_BYTES = process.platform === "linux" ? 107 : 103;
/** All rights of group and others are masked: the socket file is created with mode 0600. */
const OWNER_ONLY = 0o177;
/** On Windows a path is the name of a pipe, and there is no file to look after. */
const hasSocketFiles = process.platform !== "win32";

/** Reads "PATH" or "HOST:PORT" (a path with a colon is written with a slash: ./a:1). Throws `HostDeviceError`. */
export function parseStreamAddress(text: string): StreamAddress {
  const match = /^(?:\[([^\]]*)\]|([^/\\:]*)):(\d+)$/.exec(text);
  if (!match) return checkPath(text);
  const host = (match[1] ?? match[2]) as string;
  const port = Number(match[3]);
  if (!isLoopback(host)) {
    throw new HostDeviceError(
      "EINVAL",
      `stream address "${text}" is not on loopback`,
      "frames travel in the clear and whoever connects is on the wire",
      "use 127.0.0.1:PORT, [::1]:PORT or the path of a unix socket (./NAME if it has a colon)",
    );
  }
  if (port > 65535) {
    throw new HostDeviceError("EINVAL", `port ${port} does not exist`, "ports end at 65535", "choose a smaller one");
  }
  return { host, port };
}

function checkPath(path: string): StreamAddress {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || path.includes("\0")) {
    const next = "write a path such as /tmp/sojourn.sock, or 127.0.0.1:PORT";
    throw new HostDeviceError("EINVAL", "the stream address is no path", "it is empty or contains a NUL", next);
  }
  if (hasSocketFiles && bytes > MAX_PATH_BYTES) {
    throw new HostDeviceError(
      "ENAMETOOLONG",
      `the path of the unix socket has ${bytes} bytes`,
      `the operating system takes ${MAX_PATH_BYTES} (sun_path)`,
      "choose a shorter path, for example under /tmp, or a relative one",
    );
  }
  return { path };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}

/** As `parseStreamAddress` reads it. */
export function formatStreamAddress(address: StreamAddress): string {
  if ("path" in address) return address.path;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Connects. Rejects with `HostDeviceError`. */
export function dialStream(address: StreamAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...address });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      const what = `no connection to ${formatStreamAddress(address)}`;
      const next = "start the other side first (QEMU: -netdev stream,server=on,…), or look at the address";
      reject(new HostDeviceError(error.code ?? "EIO", what, error.message, next));
    });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
  });
}

/**
 * Listens; returns the server and the address it got. A socket file that nobody listens on any more is replaced.
 * Rejects with `HostDeviceError` (EADDRINUSE if somebody does).
 */
export async function listenForStream(
  address: StreamAddress,
  onPeer: (socket: Socket) => void,
): Promise<{ server: Server; address: StreamAddress }> {
  const server = createServer({ pauseOnConnect: true, noDelay: true }, onPeer);
  try {
    await listenOn(server, address);
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    if (!("path" in address) || failure.code !== "EADDRINUSE") throw cannotListen(address, failure);
    await removeStale(address.path);
    await listenOn(server, address).catch((again) => Promise.reject(cannotListen(address, again)));
  }
  const bound = server.address();
  const port = bound !== null && typeof bound === "object" ? bound.port : 0;
  return { server, address: "path" in address ? address : { host: address.host, port } };
}

function listenOn(server: Server, address: StreamAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(error);
    server.once("error", failed);
    // bind(2) happens within listen(); it creates the file, and nobody may connect before a chmod.
    const before = "path" in address && hasSocketFiles ? process.umask(OWNER_ONLY) : null;
    try {
      server.listen({ ...address }, () => {
        server.off("error", failed);
        resolve();
      });
    } finally {
      if (before !== null) process.umask(before);
    }
  });
}

/** Removes the socket file of a listener that is gone. Rejects if one is there, or if it is no socket. */
async function removeStale(path: string): Promise<void> {
  if (hasSocketFiles && existsSync(path) && !lstatSync(path).isSocket()) {
    const next = "choose another path, or remove the file yourself";
    throw new HostDeviceError("EEXIST", `${path} exists`, "it is no socket, so it is not ours to replace", next);
  }
  const peer = await dialStream({ path }).catch((error: HostDeviceError) => error);
  if (!(peer instanceof HostDeviceError)) {
    peer.destroy();
    throw new HostDeviceError(
      "EADDRINUSE",
      `${path} is in use`,
      "another process listens on this unix socket",
      "stop it (ss -xlp shows who it is), or choose another path",
    );
  }
  if (peer.code !== "ECONNREFUSED" && peer.code !== "ENOENT") throw cannotListen({ path }, peer);
  if (existsSync(path)) unlinkSync(path);
}

function cannotListen(address: StreamAddress, error: NodeJS.ErrnoException): HostDeviceError {
  const code = error.code ?? "EIO";
  const next = NEXT_STEPS[code] ?? "choose another address";
  return new HostDeviceError(code, `cannot listen on ${formatStreamAddress(address)}`, error.message, next);
}

const NEXT_STEPS: Readonly<Record<string, string>> = {
  EADDRINUSE: "stop who listens there (ss -tlnp shows it), or choose another port",
  EACCES: "choose a directory you may write to, or a port above 1023",
  ENOENT: "create the directory first",
};
