// What is after a backup was restored? A database with running tasks is dumped and restored elsewhere by the steps of docs/operations.md, while its
// workers live on; what was acknowledged after the backup is forgotten, and nothing else.
import { afterEach, describe, expect, it, vi } from "vitest";
import { createClient } from "@leasehold/client";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { audit, type Finding } from "../support/audit.js";
import { environment, startProcess, typescriptArguments } from "../support/child-process.js";
import { startDebianPostgres } from "../support/debian-postgres.js";
import { runStatements, withDatabase } from "../support/postgres.js";
import { operationsBlock } from "../support/runbook.js";
import { eventually } from "../support/scene.js";
import { startServerProcess } from "../support/server-process.js";
import { count, mark, phases, quick } from "./programs/tasks.js";

vi.setConfig({ testTimeout: 150_000 });

const steps: (() => unknown)[] = [];
/** Something to undo at the end, last added first. */
const undo = (step: () => unknown): void => void steps.push(step);
afterEach(async () => {
  for (const step of steps.splice(0).reverse()) await step();
});

async function rowsOf<Row extends pg.QueryResultRow>(url: string, query: string): Promise<Row[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query("SET search_path TO leasehold");
    return (await client.query<Row>(query)).rows;
  } finally {
    await client.end();
  }
}

describe("a dump that was taken while tasks ran, restored into a new database", () => {
  it("goes on with the same worker from the checkpoints of then, runs again what ended since, and gives out no fencing token twice", async () => {
    const folder = await mkdtemp(join(tmpdir(), "leasehold-restore-"));
    undo(() => rm(folder, { recursive: true, force: true }));
    const postgres = await startDebianPostgres();
    undo(() => postgres.remove());
    const [live, restored] = [withDatabase(postgres.url, "live"), withDatabase(postgres.url, "restored")];
    await runStatements(postgres.url, "CREATE DATABASE live", "CREATE DATABASE restored");
    const first = await startServerProcess({ databaseUrl: live });
    undo(() => first.kill());
    const client = createClient({ addresses: [first.address] });
    undo(() => client.close());
    const program = JSON.stringify({ addresses: [first.address], name: "survivor", sessionTtl: "30s" });
    const worker = startProcess(process.execPath, typescriptArguments("../e2e/programs/worker.ts", program), { env: environment() });
    undo(async () => {
      worker.child.kill("SIGKILL");
      await worker.ended;
    });
    await worker.waitFor(/^ready$/m);

    const held = await client.submit(count, { to: 30, stepMs: 300 });
    const marked = await client.submit(mark, { folder, forMs: 2_000 });
    const waits = await client.submit(phases, { phaseMs: 10 });
    const done = await client.submit(quick, { n: 1 });
    await done.result();
    await worker.waitFor(new RegExp(`^checkpointed ${held.id} [1-9]`, "m"));
    await eventually(
      () => rowsOf(live, `SELECT 1 FROM live_tasks WHERE id = '${waits.id}' AND state = 2`),
      (rows) => rows.length === 1,
      "it is suspended",
    );
    await eventually(
      () => rowsOf(live, `SELECT 1 FROM live_tasks WHERE id = '${marked.id}' AND state = 1`),
      (rows) => rows.length === 1,
      "it runs",
    );
    const dump = join(folder, "leasehold.dump");
    await postgres.tool("pg_dump", "-Fc", `--file=${dump}`, `--dbname=${live}`);

    // What comes now is forgotten.
    const { fencingToken } = await marked.result();
    const forgotten = await client.submit(quick, { n: 2 });
    await forgotten.result();
    expect(await first.stop()).toBe(0);

    await postgres.tool("pg_restore", `--dbname=${restored}`, dump);
    await runStatements(
      restored,
      "SET search_path TO leasehold",
      ...operationsBlock("sql", "-- after pg_restore").trim().split(/;\n?/).filter(Boolean),
      "ANALYZE",
    );
    const second = await startServerProcess({ databaseUrl: restored, listen: first.address });
    undo(() => second.kill());

    expect(await held.result()).toMatchObject({ counted: 30, worker: "survivor" });
    // From what the dump had, by the same process, and not charged with anything.
    expect(worker.said()).toMatch(new RegExp(`^began ${held.id} by=released attempt=1 .* from=[1-9]`, "m"));
    const again = await eventually(
      () => marked.result().catch(() => null),
      (result) => result !== null,
      "what ended after the backup has ended again",
    );
    expect(BigInt(again!.fencingToken)).toBeGreaterThan(BigInt(fencingToken));
    expect(await rowsOf(restored, `SELECT 1 FROM tasks WHERE id = '${forgotten.id}'`)).toEqual([]);
    expect(await done.result()).toMatchObject({ n: 1 });
    await waits.proceed();
    expect(await audit((text) => rowsOf<Finding & pg.QueryResultRow>(restored, text))).toEqual([]);
    expect(second.log()).not.toMatch(/background work failed|failed unexpectedly/);
  });
});
