// What if the disk is full? The data of Postgres on a small file system of its own, where this machine lets one be mounted, and a file that fills it.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Nemesis } from "./nemesis.js";

/** A mounted file system. */
export interface SmallDisk {
  readonly dataDir: string;
  /** Settings with which Postgres fits on it. */
  readonly settings: Readonly<Record<string, string>>;
  readonly nemesis: Nemesis;
  remove(): void;
}

const SIZE = "600m";
const CHUNK_BYTES = 1024 * 1024;

/** Mounts one; or says why that is not possible here. */
export function mountSmallDisk(): SmallDisk | string {
  const folder = mkdtempSync(join(tmpdir(), "leasehold-disk-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${SIZE}`, "tmpfs", folder], { encoding: "utf8" });
  if (mounted.status !== 0) {
    rmSync(folder, { recursive: true });
    return mounted.error === undefined ? mounted.stderr.trim() : String(mounted.error);
  }
  const filler = join(folder, "filler");
  return {
    dataDir: join(folder, "postgres"),
    settings: { max_wal_size: "96MB", min_wal_size: "32MB" },
    nemesis: {
      name: "disk-full",
      touches: ["postgres"],
      run: async ({ arena, chance, pause }, note) => {
        note(`${fill(filler)} MiB`);
        try {
          await pause(2_000 + chance.below(4_000));
        } finally {
          rmSync(filler, { force: true });
        }
        // What Postgres makes of a full disk is its own affair: it may give up, and its supervisor starts it again.
        await pause(1_000);
        await arena.postgres.start();
      },
    },
    remove: () => {
      spawnSync("umount", ["-l", folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function fill(path: string): number {
  const file = openSync(path, "w");
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let written = 0;
  try {
    for (;;) written += writeSync(file, chunk);
  } catch {
    return Math.round(written / CHUNK_BYTES);
  } finally {
    closeSync(file);
  }
}
