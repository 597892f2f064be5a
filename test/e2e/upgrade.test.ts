// What happens when a release is replaced by the next? Both run side by side on the newer schema, workers of either serve, and nobody notices.
import { setTimeout as pause } from "node:timers/promises";
import type { Client } from "@leasehold/client";
import { describe, expect } from "vitest";
import { type Field, type Fields, messagesOf, openForeignWorker, textOf } from "../support/foreign-worker.js";
import { makeRelease } from "../support/next-release.js";
import { createTaskClient, jsonOf, jsonPayload } from "../support/task-client.js";
import { eventually, type Scene, test } from "../support/scene.js";
import { count, quick } from "./programs/tasks.js";

const NEXT = "0.2.0";
// Every table that is written all the time gets a column, as whoever selects all columns or has cached a plan would notice.
const COLUMNS = `-- What the next release adds, and this one need not know.
-- compatible-with: 1
${["tasks", "live_tasks", "finished_tasks", "sessions", "execution_metadata", "task_events"]
  .map((table) => `ALTER TABLE ${table} ADD COLUMN added text;`)
  .join("\n")}
CREATE TABLE additions (shard smallint NOT NULL, id uuid NOT NULL, PRIMARY KEY (shard, id));
`;
const INDEX = `-- leasehold: outside a transaction
-- An index that the next release reads from.
-- compatible-with: 1
CREATE INDEX CONCURRENTLY live_tasks_added ON live_tasks (shard, added, id);
`;
const ADDITIONS = { "9001-columns.sql": COLUMNS, "9002-index.sql": INDEX };
// Generous: the machine may be busy. A lock that is waited for takes half a second at a time.
const LATEST_P99_MS = 3_000;

interface Load {
  readonly ids: string[];
  readonly latenciesMs: number[];
  readonly failures: unknown[];
  stop(): Promise<void>;
}

/** Submits without a pause between one and the next, from several clients, until stopped. */
function submitAll(clients: readonly Client[]): Load {
  let over = false;
  const load: Load = { ids: [], latenciesMs: [], failures: [], stop: () => Promise.resolve() };
  const submitters = clients.map(async (client) => {
    while (!over) {
      const beganMs = performance.now();
      try {
        load.ids.push((await client.submit(quick, { n: load.ids.length })).id);
        load.latenciesMs.push(performance.now() - beganMs);
      } catch (error) {
        load.failures.push(error);
      }
      await pause(10);
    }
  });
  return {
    ...load,
    stop: async () => {
      over = true;
      await Promise.all(submitters);
    },
  };
}

async function untilMore(load: Load, more = 100): Promise<void> {
  const { length } = load.ids;
  await eventually(
    () => load.ids.length,
    (now) => now >= length + more,
    "submissions go on",
  );
}

async function finished(scene: Scene): Promise<number> {
  const [row] = await scene.rows("SELECT count(*)::int AS count FROM leasehold.finished_tasks WHERE state = 3");
  return Number(row?.["count"]);
}

describe.concurrent("a server", () => {
  test("beside the next release, on its schema, loses nothing and holds nobody up", { timeout: 180_000 }, async ({ scene }) => {
    const release = await makeRelease(NEXT, ADDITIONS);
    scene.undo(() => release.remove());
    let [first, second] = [await scene.server(), await scene.server()];
    const addresses = [first.address, second.address];
    const tasks = [quick.name, count.name];
    await scene.worker({ addresses, name: "old", sessionTtl: "10s", tasks });
    const client = scene.client(...addresses);
    const counting = await client.submit(count, { to: 150, stepMs: 50 });
    const load = submitAll([client, scene.client(second.address, first.address), scene.client(...addresses)]);
    scene.undo(() => load.stop());
    await untilMore(load);

    // It migrates while they serve.
    const next = await scene.server({ command: release.command });
    const greeting = await scene.raw(next.address, ["nothing"]).welcome();
    expect(greeting.serverVersion).toBe(NEXT);
    const added = "SELECT name FROM leasehold.schema_migrations WHERE version > 9000 ORDER BY version";
    expect((await scene.rows(added)).map(({ name }) => name)).toEqual(Object.keys(ADDITIONS));
    await untilMore(load);

    // One of this release starts on the newer schema, and leaves it as it is.
    await first.stop();
    first = await scene.server({ listen: first.address });
    await untilMore(load);
    await scene.worker({ addresses: [next.address], name: "new", sessionTtl: "10s", tasks });
    const through = scene.client(next.address);
    const results = await Promise.all([1, 2, 3, 4, 5, 6].map(async (n) => (await through.submit(quick, { n })).result({ timeout: "60s" })));
    expect(results.map(({ n }) => n)).toEqual([1, 2, 3, 4, 5, 6]);
    await second.stop();
    second = await scene.server({ listen: second.address });
    await untilMore(load);
    await load.stop();

    expect(await counting.result({ timeout: "60s" })).toMatchObject({ counted: 150 });
    await eventually(
      () => finished(scene),
      (done) => done === load.ids.length + results.length + 1,
      "every task is completed",
    );
    expect(load.failures).toEqual([]);
    const sorted = load.latenciesMs.toSorted((a, b) => a - b);
    expect(sorted[Math.floor(sorted.length * 0.99)]).toBeLessThan(LATEST_P99_MS);
    const unwanted = "SELECT DISTINCT type FROM leasehold.task_events WHERE type IN ('ATTEMPT_FAILED', 'LEASE_LOST', 'ATTEMPT_DEADLINE')";
    expect(await scene.rows(unwanted)).toEqual([]);
    for (const server of [first, second, next]) expect(server.log()).not.toMatch(/cached plan|does not answer|must not be used/);
  });
});

const PAYLOAD_DATA = 1;
const payload = (value: unknown): Field[] => [[PAYLOAD_DATA, JSON.stringify(value)]];
const WELCOME = 1;
const LEASES = 2;
const VERDICTS = 3;
const RECORDED = 1n;

/** What no version has so far, in every form on the wire; harmless to whoever passes over what it does not know. */
const FUTURE: Field[] = [
  [1_000, "later"],
  [1_001, 7],
  [1_002, [[1, "nested"]]],
  [536_870_911, Buffer.alloc(300, 1)],
];

interface Contract {
  /** Fields that it writes beside those that it must. */
  readonly extra: readonly Field[];
  /** Fields of a lease and of a verdict that it reads. */
  readonly lease: readonly number[];
  readonly verdict: readonly number[];
}

const CONTRACTS: readonly [string, Contract][] = [
  ["of the release before this one", { extra: [], lease: [1, 2, 3, 5], verdict: [1, 2, 3] }],
  ["of a later one", { extra: FUTURE, lease: [1, 2, 3, 5, 6, 900], verdict: [1, 2, 3, 900] }],
];

describe.concurrent("a worker", () => {
  test("of the release before this one, and one of a later one, are served like any other", { timeout: 120_000 }, async ({ scene }) => {
    const { address } = await scene.server();
    for (const [title, { extra, lease: leaseFields, verdict: verdictFields }] of CONTRACTS) {
      const worker = openForeignWorker(address, [WELCOME, LEASES, VERDICTS, 900]);
      scene.undo(async () => worker.close());
      const handler: Field = [6, [[1, "foreign"], ...extra]];
      worker.send([[1, [[1, title], [5, 1], handler, [10, 1], ...extra]], ...extra]);
      const session = await worker.first((message) => messagesOf(message, WELCOME, [1])[0]);
      expect(textOf(session, 1)).not.toBe("");

      const client = createTaskClient(address);
      scene.undo(async () => client.close());
      const { taskId } = await client.submit({ name: "foreign", metadata: jsonPayload({ a: 1 }), labels: { l: "x" }, key: title });
      const lease = await worker.first((message) => messagesOf(message, LEASES, leaseFields)[0]);
      expect([textOf(lease, 2), textOf(lease, 3)]).toEqual([taskId, "foreign"]);
      const token = textOf(lease, 1);
      const report = (seq: number, ...body: Field[]): Field => [4, [[1, token], [2, seq], ...body, ...extra]];
      const recorded = (seq: bigint): Promise<Fields> =>
        worker.first((message) => messagesOf(message, VERDICTS, verdictFields).find((verdict) => verdict.get(2)?.[0] === seq));

      worker.send([[2, [[1, 1], [2, 1], ...extra]], ...extra]);
      worker.send([report(1, [3, [[1, [...payload({ at: 1 }), ...extra]], ...extra]])]);
      expect((await recorded(1n)).get(3)).toEqual([RECORDED]);
      worker.send([report(2, [4, [[1, [...payload({ done: title }), ...extra]], ...extra]])]);
      expect((await recorded(2n)).get(3)).toEqual([RECORDED]);
      const task = await client.wait(taskId);
      expect([jsonOf(task.result), jsonOf(task.executionMetadata)]).toEqual([{ done: title }, { at: 1 }]);
      worker.close();
    }
  });
});
