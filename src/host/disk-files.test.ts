import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Errno } from "../base/errno.ts";
import { MemoryFiles } from "../sim/memory-files.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";
import type { FileSystem } from "../socket/file-system.ts";
import { defaultTopology, Topology } from "../topology.ts";
import { DiskFiles } from "./disk-files.ts";

const TEXT = new TextEncoder().encode("a file of ours");

/** The same story on memory and on disk: open(2), read(2) to the end, the errors of open(2), nothing left open. */
function story(files: FileSystem): void {
  const topology = new Topology(defaultTopology(), {
    seed: 1,
    clockOf: () => new VirtualClock(),
    filesOf: () => files,
  });
  const process = topology.host("server").processes.create("cat");
  const fd = process.open("/srv/page.html");
  expect(fd).toBe(3);
  const buffer = new Uint8Array(10);
  expect(process.read(fd, buffer, 0, 10)).toBe(10);
  expect(new TextDecoder().decode(buffer)).toBe("a file of ");
  expect(process.read(fd, buffer, 0, 10)).toBe(4);
  expect(process.read(fd, buffer, 0, 10)).toBe(0);
  expect(process.close(fd)).toBe(0);
  expect(process.open("/srv/none")).toBe(-Errno.ENOENT);
  expect(process.open("/srv")).toBe(-Errno.EISDIR);
  expect(process.open("/srv/page.html/x")).toBe(-Errno.ENOTDIR);
  process.exit();
  expect(topology.host("server").processes.counts.files).toBe(0);
}

it("memory files behave as open(2) and read(2) say", () => {
  const files = new MemoryFiles();
  files.set("/srv/page.html", TEXT);
  story(files);
});

it("disk files behave the same, and nothing outside their root is reached", () => {
  const root = mkdtempSync(join(tmpdir(), "sojourn-files-"));
  try {
    mkdirSync(join(root, "srv"));
    writeFileSync(join(root, "srv", "page.html"), TEXT);
    symlinkSync("/etc/hostname", join(root, "escape"));
    const files = new DiskFiles(root);
    story(files);
    expect(files.open("/escape", 0)).toBe(-Errno.EACCES);
    expect([-Errno.ENOENT, -Errno.EACCES]).toContain(files.open("/../../etc/hostname", 0));
  } finally {
    rmSync(root, { recursive: true });
  }
});
