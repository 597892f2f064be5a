// Can be typed what the runbook says? Every statement of docs/operations.md is run on a database with tasks in it.
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import { operationsBlocks } from "../support/runbook.js";
import { openTestStorage } from "../support/storage.js";

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
