// Which names are taken, and are two that are nearly the same ever mixed up? In submissions, in hellos, by workers that wait.
import { ListTasksRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls, readStatus, refused } from "../support/owner-calls.js";
import { outcomes } from "../support/raw-run.js";
import { openRawWorker } from "../support/raw-worker.js";

let server: InProcessServer;
let owner: OwnerCalls;
beforeAll(async () => {
  server = await startInProcess();
  owner = ownerCalls(server.address);
});
afterAll(async () => {
  owner.close();
  await server[Symbol.asyncDispose]();
});

const stem = "n".repeat(63);
const [ONE, OTHER] = [stem + "a".repeat(65), stem + "b".repeat(65)];

it.each(["webapp/user.created", "SendEmail", "a", "0", "a:b-c_d.e/f", ONE])("%s names tasks and handlers", async (name) => {
  const { task } = await owner.submit({ name, queue: name });
  expect(task).toMatchObject({ name, queue: name });
  const worker = openRawWorker(server.address, [name], { queues: [name] });
  expect(await worker.lease()).toMatchObject({ name, queue: name });
  worker.close();
});

it.each(["envoyé", "a b", "", "x".repeat(129), "a\n", ".a", "\u0430"])("%j names none, and is told the rule", async (name) => {
  const submitted = await refused(owner.submit({ name }));
  expect(submitted).toMatchObject({ code: "INVALID_ARGUMENT", fields: ["task.name"] });
  const worker = openRawWorker(server.address, [name]);
  const ended = await worker.ended;
  expect(ended.reason).toBe("INVALID_FIELD");
  for (const message of [submitted.message, ended.message]) expect(message).toContain("1 to 128 of the characters A-Z a-z 0-9 . _ - : /");
});

it("is as it was sent: upper and lower case are two names", async () => {
  await owner.submit({ name: "Case" });
  const { tasks } = await owner.call(TaskServiceService.listTasks, ListTasksRequest.create({ filter: { names: ["case"] } }));
  expect(tasks).toEqual([]);
});

it.each([
  ["names", { name: ONE, queue: "default" }, { name: OTHER, queue: "default" }],
  ["queues", { name: "q", queue: ONE }, { name: "q", queue: OTHER }],
])("two %s that begin alike have their own 100 tasks each, and wake their own worker", async (_, one, other) => {
  const workers = [one, other].map((task) => {
    const worker = openRawWorker(server.address, [task.name], { slots: 200, queues: [task.queue] });
    return { worker, task };
  });
  for (const { worker } of workers) await worker.welcome();
  const submitted = await Promise.all(
    workers.map(async ({ task }) => (await owner.submitMany(Array.from({ length: 100 }, () => task))).map((result) => result.task?.taskId)),
  );
  for (const [index, { worker }] of workers.entries()) {
    const last = await worker.lease(99);
    expect(last.name).toBe(workers[index]?.task.name);
    const leases = worker.received.flatMap((message) => message.leases);
    expect(leases.map(({ taskId }) => taskId).sort()).toEqual(submitted[index]?.sort());
    for (const lease of leases) worker.report(lease, 1, outcomes.complete);
    for (const lease of leases) await worker.verdict(lease, 1);
    worker.close();
  }
});

it("numbers and times that are none are refused alone and among others, whose neighbours are stored", async () => {
  const bad: readonly [object, string][] = [
    [{ retryPolicy: { backoff: { factor: NaN } } }, "retry_policy.backoff.factor"],
    [{ retryPolicy: { backoff: { jitter: Infinity } } }, "retry_policy.backoff.jitter"],
    [{ scheduleTime: { seconds: 0n, nanos: -1 } }, "schedule_time.nanos"],
    [{ scheduleTime: { seconds: 253_402_300_800n, nanos: 0 } }, "schedule_time.seconds"],
    [{ keyHold: { seconds: 1n, nanos: -1 }, key: "k" }, "key_hold.nanos"],
    [{ deadlines: { total: { seconds: 315_576_000_001n, nanos: 0 } } }, "deadlines.total.seconds"],
  ];
  for (const [fields, path] of bad) {
    expect(await refused(owner.submit({ name: "odd", ...fields }))).toMatchObject({ code: "INVALID_ARGUMENT", fields: [`task.${path}`] });
    const items = Array.from({ length: 20 }, (_, index) => ({ name: "odd", ...(index === 7 ? fields : {}) }));
    const results = await owner.submitMany(items, false);
    expect(results.map(({ created }) => created)).toEqual(items.map((_, index) => index !== 7));
    expect(readStatus(results[7]!.error!)).toMatchObject({ code: "INVALID_ARGUMENT", fields: [`tasks[7].${path}`] });
  }
});
