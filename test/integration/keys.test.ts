// Whose is a key? Every policy against every standing of the task that has it, over the wire, with one server and with two.
import pg from "pg";
import { FinishReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { CancelTaskRequest, KeyConflictPolicy, ListTasksRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, readStatus, refused, type Submission } from "../support/owner-calls.js";
import { runStatements } from "../support/postgres.js";
import { outcomes, runNext } from "../support/raw-run.js";
import { openRawWorker } from "../support/raw-worker.js";
import { jsonPayload } from "../support/task-client.js";

let server: InProcessServer;
let owner: OwnerCalls;
beforeAll(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
});
afterAll(async () => {
  // Whoever submits and whoever ends tasks lock in one order: nobody was ever made to wait for a second and try again.
  const observer = new pg.Client(server.databaseUrl);
  await observer.connect();
  const { rows } = await observer.query("SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()");
  await observer.end();
  expect(rows).toEqual([{ deadlocks: 0 }]);
  owner.close();
  await server[Symbol.asyncDispose]();
});

const { RETURN_EXISTING, REJECT, REPLACE_PENDING } = KeyConflictPolicy;
const HOUR = { seconds: 3600n, nanos: 0 };

let names = 0;
/** A task name that no other test uses, so that a worker of it gets nobody else's tasks. */
const freshName = (): string => `keys.${String(++names)}`;

async function countOf(name: string): Promise<number> {
  const request = ListTasksRequest.create({ filter: { names: [name] }, pageSize: 1000 });
  return (await owner.call(TaskServiceService.listTasks, request)).tasks.length;
}

describe("the task that has a key", () => {
  /** Brings the first task of a name to a standing. */
  const standings: Record<string, (name: string, id: string) => Promise<unknown>> = {
    "never leased": () => Promise.resolve(),
    running: async (name) => {
      const worker = openRawWorker(server.address, [name]);
      await worker.lease();
      worker.close();
    },
    "waiting for a retry": (name) => runNext(server.address, name, outcomes.failOnce),
    suspended: (name) => runNext(server.address, name, outcomes.suspend),
    "finished, key held": (name) => runNext(server.address, name, outcomes.complete),
    "finished, key free": (name) => runNext(server.address, name, outcomes.complete),
  };
  const cases: readonly [standing: string, policy: KeyConflictPolicy, same: string, other: string][] = [
    ["never leased", RETURN_EXISTING, "existing", "KEY_METADATA_MISMATCH"],
    ["running", RETURN_EXISTING, "existing", "KEY_METADATA_MISMATCH"],
    ["waiting for a retry", RETURN_EXISTING, "existing", "KEY_METADATA_MISMATCH"],
    ["suspended", RETURN_EXISTING, "existing", "KEY_METADATA_MISMATCH"],
    ["finished, key held", RETURN_EXISTING, "existing", "KEY_METADATA_MISMATCH"],
    ["finished, key free", RETURN_EXISTING, "new", "new"],
    ["never leased", REJECT, "KEY_EXISTS", "KEY_EXISTS"],
    ["running", REJECT, "KEY_EXISTS", "KEY_EXISTS"],
    ["suspended", REJECT, "KEY_EXISTS", "KEY_EXISTS"],
    ["finished, key held", REJECT, "KEY_EXISTS", "KEY_EXISTS"],
    ["finished, key free", REJECT, "new", "new"],
    ["never leased", REPLACE_PENDING, "replaced", "replaced"],
    ["running", REPLACE_PENDING, "KEY_TASK_STARTED", "KEY_TASK_STARTED"],
    ["waiting for a retry", REPLACE_PENDING, "KEY_TASK_STARTED", "KEY_TASK_STARTED"],
    ["suspended", REPLACE_PENDING, "KEY_TASK_STARTED", "KEY_TASK_STARTED"],
    ["finished, key held", REPLACE_PENDING, "KEY_HELD", "KEY_HELD"],
    ["finished, key free", REPLACE_PENDING, "new", "new"],
  ];

  it.each(cases)("that is %s meets policy %i: %s with the same metadata, %s with other", async (standing, policy, same, other) => {
    for (const [metadata, expected] of [
      [{ n: 1 }, same],
      [{ n: 2 }, other],
    ] as const) {
      const name = freshName();
      const keyHold = standing.endsWith("held") ? HOUR : undefined;
      const key = "k";
      const first = await owner.submit({ name, key, ...(keyHold && { keyHold }), metadata: jsonPayload({ n: 1 }) });
      await standings[standing]?.(name, first.task.taskId);
      const again = owner.submit({ name, key, keyConflictPolicy: policy, metadata: jsonPayload(metadata) });
      if (expected === "existing") {
        expect(await again).toMatchObject({ created: false, task: { taskId: first.task.taskId } });
      } else if (expected === "new" || expected === "replaced") {
        const second = await again;
        expect(second.created).toBe(true);
        expect(second.task.taskId).not.toBe(first.task.taskId);
        const before = await owner.get({ taskId: first.task.taskId });
        if (expected === "replaced")
          expect(before).toMatchObject({ state: TaskState.CANCELLED, finishReason: FinishReason.REPLACED, keyHoldUntilTime: undefined });
        expect((await owner.get({ name, key })).taskId).toBe(second.task.taskId);
      } else {
        const refusal = await refused(again);
        expect(refusal).toMatchObject({ reason: expected, resource: first.task.taskId, fields: ["task.key"] });
        expect(refusal.code).toBe(expected === "KEY_EXISTS" ? "ALREADY_EXISTS" : "FAILED_PRECONDITION");
      }
    }
  });

  it("is not in the way of the same key under another name", async () => {
    const [one, other] = [freshName(), freshName()];
    await owner.submit({ name: one, key: "k" });
    expect((await owner.submit({ name: other, key: "k", keyConflictPolicy: REJECT })).created).toBe(true);
  });

  it("holds it for as long as it said, and shows until when", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, key: "k", keyHold: HOUR });
    await runNext(server.address, name, outcomes.complete);
    const { finishTime, keyHoldUntilTime, deleteTime } = await owner.get({ taskId: task.taskId });
    expect(Number(keyHoldUntilTime!.seconds) - Number(finishTime!.seconds)).toBe(3600);
    expect(Number(deleteTime!.seconds) - Number(finishTime!.seconds)).toBe(7 * 86_400);
  });

  it("loses it when it is deleted", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, key: "k", keyHold: HOUR });
    await runNext(server.address, name, outcomes.complete);
    await owner.remove({ task: { name, key: "k" } });
    expect(await owner.submit({ name, key: "k", keyConflictPolicy: REJECT })).toMatchObject({ created: true });
    expect(await refused(owner.get({ taskId: task.taskId }))).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });
});

describe("metadata of two submissions of one key", () => {
  const pairs: readonly [string, Submission, Submission, boolean][] = [
    [
      "JSON that differs in spaces and order",
      { metadata: { data: Buffer.from('{"a":1,"b":[2]}') } },
      { metadata: { data: Buffer.from('{ "b":[ 2 ], "a":1 }'), contentType: "application/json" } },
      true,
    ],
    [
      "integers beyond 2^53 that differ in the last digit",
      { metadata: { data: Buffer.from("9007199254740993") } },
      { metadata: { data: Buffer.from("9007199254740992") } },
      false,
    ],
    ["nothing and the JSON null", {}, { metadata: { data: Buffer.from("null") } }, true],
    [
      "opaque bytes without fingerprints",
      { metadata: { data: Buffer.from([1]), contentType: "x/enc" } },
      { metadata: { data: Buffer.from([2]), contentType: "x/enc" } },
      true,
    ],
    [
      "opaque bytes of one fingerprint",
      { metadata: { data: Buffer.from([1]), contentType: "x/enc" }, metadataFingerprint: Buffer.from("f") },
      { metadata: { data: Buffer.from([2]), contentType: "x/enc" }, metadataFingerprint: Buffer.from("f") },
      true,
    ],
    [
      "opaque bytes of two fingerprints",
      { metadata: { data: Buffer.from([1]), contentType: "x/enc" }, metadataFingerprint: Buffer.from("f") },
      { metadata: { data: Buffer.from([1]), contentType: "x/enc" }, metadataFingerprint: Buffer.from("g") },
      false,
    ],
    [
      "JSON and opaque bytes",
      { metadata: { data: Buffer.from("1") } },
      { metadata: { data: Buffer.from("1"), contentType: "x/enc" } },
      false,
    ],
  ];

  it.each(pairs)("%s", async (_, one, other, same) => {
    const name = freshName();
    const first = await owner.submit({ name, key: "k", ...one });
    const again = owner.submit({ name, key: "k", ...other });
    if (same) expect(await again).toMatchObject({ created: false, task: { taskId: first.task.taskId } });
    else expect(await refused(again)).toMatchObject({ reason: "KEY_METADATA_MISMATCH" });
  });
});

describe("two tasks of one call with one key", () => {
  it.each([true, false])("are one task, atomic = %s", async (atomic) => {
    const name = freshName();
    const results = await owner.submitMany(
      [
        { name, key: "k" },
        { name, key: "k" },
        { name, key: "other" },
      ],
      atomic,
    );
    expect(results.map(({ created }) => created)).toEqual([true, false, true]);
    expect(results[1]?.task?.taskId).toBe(results[0]?.task?.taskId);
    expect(await countOf(name)).toBe(2);
  });

  it("are refused as a whole when they differ, and each by itself where that was asked for", async () => {
    const name = freshName();
    const both = [
      { name, key: "k" },
      { name, key: "k", metadata: jsonPayload(1) },
    ];
    const refusal = await refused(owner.submitMany(both));
    expect(refusal).toMatchObject({ reason: "KEY_METADATA_MISMATCH", fields: ["tasks[1].key"], resource: undefined });
    expect(refusal.message).toContain("tasks[0]");
    expect(await countOf(name)).toBe(0);
    const [first, second] = await owner.submitMany(both, false);
    expect(first?.created).toBe(true);
    expect(readStatus(second!.error!)).toMatchObject({
      reason: "KEY_METADATA_MISMATCH",
      resource: first?.task?.taskId,
      fields: ["tasks[1].key"],
    });
  });

  it("replace one another in their order, and the answer shows it", async () => {
    const name = freshName();
    const results = await owner.submitMany([
      { name, key: "k" },
      { name, key: "k", keyConflictPolicy: REPLACE_PENDING },
    ]);
    expect(results.map(({ created, task }) => [created, task?.state])).toEqual([
      [true, TaskState.CANCELLED],
      [true, TaskState.PENDING],
    ]);
    expect((await owner.get({ name, key: "k" })).taskId).toBe(results[1]?.task?.taskId);
  });

  it("store nothing when another task has one of the keys and the call is atomic", async () => {
    const name = freshName();
    const { task } = await owner.submit({ name, key: "taken" });
    const items = Array.from({ length: 1000 }, (_, index) => ({
      name,
      key: index === 700 ? "taken" : `k${index}`,
      keyConflictPolicy: REJECT,
    }));
    expect(await refused(owner.submitMany(items))).toMatchObject({
      reason: "KEY_EXISTS",
      fields: ["tasks[700].key"],
      resource: task.taskId,
    });
    expect(await countOf(name)).toBe(1);
    const results = await owner.submitMany(items, false);
    expect(results.filter(({ created }) => created)).toHaveLength(999);
    expect(readStatus(results[700]!.error!)).toMatchObject({ reason: "KEY_EXISTS", resource: task.taskId });
  });
});

describe("a finished task that is still kept", () => {
  it.each([
    ["complete", TaskState.COMPLETED],
    ["fail", TaskState.FAILED],
    ["cancel", TaskState.CANCELLED],
  ] as const)("is in nobody's way after %s, and its id is free again when retention removed it", async (how, state) => {
    await using apart = await startInProcess();
    const calls = ownerCalls(apart.address);
    const taskId = "0190b6f2-3c1e-7b7a-9d3e-00000000000a";
    const submission = { name: "a", key: "k", taskId, metadata: jsonPayload({ n: 1 }) };
    await calls.submit(submission);
    await runNext(apart.address, "a", outcomes[how]);
    const other = await calls.submit({ name: "a", key: "k", metadata: jsonPayload({ n: 2 }) });
    expect(other.created).toBe(true);
    expect(await calls.submit(submission)).toMatchObject({ created: false, task: { taskId, state } });
    const changed = { ...submission, metadata: jsonPayload({ n: 3 }) };
    expect(await refused(calls.submit(changed))).toMatchObject({ code: "ALREADY_EXISTS", reason: "TASK_ID_CONFLICT", resource: taskId });
    await runStatements(
      apart.databaseUrl,
      "CREATE OR REPLACE FUNCTION leasehold.leasehold_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() + interval '31 days' $$",
    );
    // A server looks for what is too old when it starts, then once a minute.
    await using second = await startInProcess({}, apart.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    await expect.poll(() => elsewhere.get({ taskId }).catch((error: unknown) => (error as { code: number }).code)).toBe(5);
    expect(await elsewhere.submit({ ...changed, key: "" })).toMatchObject({ created: true, task: { taskId } });
    expect(await calls.submit({ ...changed, key: "" })).toMatchObject({ created: false, task: { taskId } });
    elsewhere.close();
    calls.close();
  });
});

describe("one key at two servers at once", () => {
  it("is one task, in 20 rounds", async () => {
    await using second = await startInProcess({}, server.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    const name = freshName();
    for (let round = 0; round < 20; round++) {
      const key = `k${round}`;
      const answers = await Promise.all([owner, elsewhere, owner, elsewhere].map((calls) => calls.submit({ name, key })));
      expect(answers.filter(({ created }) => created)).toHaveLength(1);
      expect(new Set(answers.map(({ task }) => task.taskId)).size).toBe(1);
    }
    expect(await countOf(name)).toBe(20);
    elsewhere.close();
  });

  it("has one task in the end when both replace", async () => {
    await using second = await startInProcess({}, server.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    const name = freshName();
    for (let round = 0; round < 20; round++) {
      const key = `k${round}`;
      const replacing = { name, key, keyConflictPolicy: REPLACE_PENDING };
      await owner.submit(replacing);
      const answers = await Promise.all([owner, elsewhere, owner, elsewhere].map((calls) => calls.submit(replacing)));
      expect(answers.every(({ created }) => created)).toBe(true);
      const states = await Promise.all(answers.map(async ({ task }) => (await owner.get({ taskId: task.taskId })).state));
      expect(states.filter((state) => state === TaskState.PENDING)).toHaveLength(1);
    }
    elsewhere.close();
  });

  it("is replaced or free while its task is cancelled, never an error", async () => {
    await using second = await startInProcess({}, server.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    const name = freshName();
    for (let round = 0; round < 20; round++) {
      const { task } = await owner.submit({ name, key: "k", keyConflictPolicy: REPLACE_PENDING });
      const cancel = CancelTaskRequest.create({ task: { taskId: task.taskId } });
      const [cancelled, next] = await Promise.all([
        elsewhere.call(TaskServiceService.cancelTask, cancel),
        owner.submit({ name, key: "k", keyConflictPolicy: REPLACE_PENDING }),
      ]);
      expect(cancelled.state).toBe(TaskState.CANCELLED);
      expect(next.created).toBe(true);
      expect((await owner.get({ name, key: "k" })).taskId).toBe(next.task.taskId);
    }
    elsewhere.close();
  });

  it("is one of many that finish while many are submitted, in another order", async () => {
    await using second = await startInProcess({}, server.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    const name = freshName();
    const worker = openRawWorker(second.address, [name], { slots: 60 });
    const items = Array.from({ length: 60 }, (_, index) => ({ name, key: `k${String(index)}` }));
    for (let round = 0; round < 5; round++) {
      const stored = await owner.submitMany(items);
      const leases = await Promise.all(
        stored.map(({ task }) => worker.first(({ leases: all }) => all.find(({ taskId }) => taskId === task?.taskId), "lease")),
      );
      for (const lease of leases.toReversed()) worker.report(lease, 1, outcomes.complete);
      const [one, other] = await Promise.all([owner.submitMany(items.toReversed(), false), elsewhere.submitMany(items)]);
      expect([...one, ...other].every(({ error }) => error === undefined)).toBe(true);
      for (const lease of leases) await worker.verdict(lease, 1);
      const list = ListTasksRequest.create({ filter: { names: [name], states: [TaskState.PENDING, TaskState.RUNNING] }, pageSize: 1000 });
      for (const { taskId } of (await owner.call(TaskServiceService.listTasks, list)).tasks) {
        const lease = await worker.first(({ leases: all }) => all.find((next) => next.taskId === taskId), "lease of what is left");
        worker.report(lease, 1, outcomes.complete);
        await worker.verdict(lease, 1);
      }
    }
    worker.close();
    elsewhere.close();
  });

  it("is the old task or a new one while its task finishes, never an error and never two unfinished", async () => {
    await using second = await startInProcess({}, server.databaseUrl);
    const elsewhere = ownerCalls(second.address);
    const name = freshName();
    const worker = openRawWorker(server.address, [name]);
    for (let round = 0; round < 20; round++) {
      const first = await owner.submit({ name, key: "k" });
      const lease = await worker.first(
        ({ leases }) => leases.find(({ taskId }) => taskId === first.task.taskId),
        `lease of round ${String(round)}`,
      );
      worker.report(lease, 1, outcomes.complete);
      const answers = await Promise.all([elsewhere, owner, elsewhere].map((calls) => calls.submit({ name, key: "k" })));
      const ids = new Set(answers.map(({ task }) => task.taskId));
      ids.delete(first.task.taskId);
      expect(ids.size).toBeLessThanOrEqual(1);
      for (const taskId of ids) {
        const next = await worker.first(({ leases }) => leases.find((one) => one.taskId === taskId), "lease of the new task");
        worker.report(next, 1, outcomes.complete);
        await worker.verdict(next, 1);
      }
      await worker.verdict(lease, 1);
    }
    worker.close();
    elsewhere.close();
  });
});
