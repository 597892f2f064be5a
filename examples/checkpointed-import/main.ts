// What happens to an import whose worker is killed half way? This program does that, and looks.
import { createClient } from "@leasehold/client";
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { importFile } from "./import.js";

const startWorker = (): ChildProcess => fork(join(import.meta.dirname, "worker.ts"));

const folder = await mkdtemp(join(tmpdir(), "leasehold-import-"));
const [from, into] = [join(folder, "from.txt"), join(folder, "into.txt")];
await writeFile(from, Array.from({ length: 5_000 }, (_, index) => `line ${index + 1}\n`).join(""));

const client = createClient();
const job = await client.submit(importFile, { from, into });
let worker = startWorker();
let killed = false;
for await (const { state, checkpointCount } of job.watch({ timeout: "1m" })) {
  if (killed || checkpointCount < 10n) continue;
  killed = true;
  console.log(`killing the worker after ${checkpointCount} checkpoints; the task is ${state}`);
  worker.kill("SIGKILL");
  worker = startWorker();
}

const { lines } = await job.result({ timeout: "1m" });
const imported = (await readFile(into, "utf8")).trimEnd().split("\n");
console.log(`imported ${lines} lines, ${new Set(imported).size} different ones, ${imported.length - lines} of them twice`);
worker.kill("SIGTERM");
client.close();
await rm(folder, { recursive: true });
