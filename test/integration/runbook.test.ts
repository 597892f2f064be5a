// Can be typed what the runbook says? Every statement of docs/operations.md is run on a database with tasks in it.
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { createClient, createWorker, defineTask, handle, type } from "@leasehold/client";
import pg from "pg";
import { startInProcess } from "../support/in-process-server.js";
import { runStatements } from "../support/postgres.js";
import { startOwnPostgres } from "../support/own-postgres.js";
import { hotStatements, operationsBlock, operationsBlocks } from "../support/runbook.js";
import { openTestStorage } from "../support/storage.js";
import { eventually } from "../support/scene.js";

/** Blocks that begin so need what a test's database has not: an extension, or a role of that name. Another test runs the second. */
const NOT_HERE = ["-- needs CREATE EXTENSION pg_stat_statements", "-- once, by an administrator"];

it("every statement of the runbook runs, and leaves the tasks as they are unless it says so", async () => {
  await using test = await openTestStorage();
  const session = await test.session();
  await test.running(session);
  await test.store({ name: `waits.${randomUUID()}` });
  const client = await test.connection();
  const before = await test.rows("SELECT * FROM live_tasks ORDER BY id");
  const blocks = operationsBlocks("sql").filter((block) => !NOT_HERE.some((begin) => block.startsWith(begin)));
  expect(blocks.length).toBeGreaterThan(15);
  for (const block of blocks) {
    await client.query("BEGIN");
    await client.query(block).catch((error: unknown) => {
      throw new Error(`${String(error)} in\n${block}`);
    });
    await client.query(block.startsWith("-- after pg_restore") ? "ROLLBACK" : "COMMIT");
  }
  expect(await test.rows("SELECT * FROM live_tasks ORDER BY id")).toEqual(before);
});

it("the statements of the hot path are found in pg_stat_statements by what the runbook knows them by", async () => {
  const postgres = await startOwnPostgres({ settings: { shared_preload_libraries: "pg_stat_statements" } });
  try {
    await runStatements(postgres.url, "CREATE EXTENSION pg_stat_statements");
    await using server = await startInProcess({}, postgres.url);
    const client = createClient({ addresses: [server.address] });
    const task = defineTask({ name: "hot", metadata: type<null>(), result: type<null>() });
    const worker = createWorker({ client, handlers: [handle(task, () => null)], sessionTtl: "2s", grace: 0 });
    // Stored before there is a worker, so that it is claimed.
    const waiting = await client.submit(task, null);
    const run = worker.run();
    await waiting.result();
    const known = hotStatements();
    expect(known.length).toBeGreaterThan(5);
    const block = operationsBlock("sql", "FROM pg_stat_statements");
    const seen = new pg.Client(postgres.url);
    await seen.connect();
    const unseen = async (): Promise<string[][]> => {
      await seen.query(block);
      const { rows } = await seen.query<{ query: string }>(
        block.replace(/^SELECT[\s\S]*FROM pg/m, "SELECT query FROM pg").replace("LIMIT 15", ""),
      );
      const texts = rows.map(({ query }) => query.replace(/\s+/g, " "));
      return known.filter((pieces) => !texts.some((text) => pieces.every((piece) => text.includes(piece))));
    };
    await eventually(unseen, (rest) => rest.length === 0, "every row of the table has its statement");
    await seen.end();
    await worker.drain();
    await run;
    client.close();
  } finally {
    await postgres.remove();
  }
});
