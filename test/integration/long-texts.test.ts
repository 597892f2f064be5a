// Is text for people ever a reason to refuse something? Ten megabytes of it, or of what Postgres cannot hold, in every field that takes free text.
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  CancelTaskRequest,
  ListTaskEventsRequest,
  ProceedTaskRequest,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { type Lease, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type KeptLog, keptLog } from "../support/api-fakes.js";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OwnerCalls, ownerCalls } from "../support/owner-calls.js";
import { keepAlive, openRawWorker, type RawWorker } from "../support/raw-worker.js";
import { eventually } from "../support/scene.js";

const LONG = 10_000_000;
const TEXTS: readonly [name: string, text: string][] = [
  ["ASCII", "x".repeat(LONG)],
  ["two bytes a character", "é".repeat(LONG / 2)],
  ["pairs, out of step with every limit", `x${"\u{1f600}".repeat(LONG / 4)}`],
  ["U+0000", "\0".repeat(LONG)],
  ["U+FFFD", "\uFFFD".repeat(LONG / 3)],
  ["line separators and controls", "\u2028\u0085\u007f\n".repeat(LONG / 8)],
];
// What is cut ends in a mark, at a whole character; nothing is left that Postgres or a decoder stumbles over.
const CUT = /^[^\0]*…$/u;

let server: InProcessServer;
let owner: OwnerCalls;
let log: KeptLog;
let worker: RawWorker;
beforeAll(async () => {
  log = keptLog();
  server = await startInProcess({ LEASEHOLD_LIMIT_MESSAGE_BYTES: "48MiB" }, undefined, log);
  owner = ownerCalls(server.address);
  worker = openRawWorker(server.address, ["texts"], { slots: 100, sessionTtl: { seconds: 60n, nanos: 0 } });
  await worker.welcome();
  keepAlive(worker, 2_000);
});
afterAll(async () => {
  expect(log.lines.filter(({ level }) => level === "error")).toEqual([]);
  worker.close();
  owner.close();
  await server[Symbol.asyncDispose]();
});

async function leased(): Promise<{ task: Task; lease: Lease }> {
  const { task } = await owner.submit({ name: "texts" });
  const lease = await worker.first(({ leases }) => leases.find(({ taskId }) => taskId === task.taskId), "the lease");
  return { task, lease };
}

function expectCut(text: string | undefined, original: string): void {
  expect(CUT.test(text ?? "")).toBe(true);
  expect(Buffer.byteLength(text ?? "")).toBeLessThanOrEqual(16 * 1024);
  expect(Buffer.byteLength(text ?? "")).toBeGreaterThan(120);
  const kept = (text ?? "").slice(0, -1);
  expect(original.slice(0, kept.length).replaceAll("\0", "\uFFFD")).toBe(kept);
}

describe.each(TEXTS)("ten megabytes of %s", (_, text) => {
  it.each(["fail", "cancel"] as const)("are cut in the error of a %s report", async (kind) => {
    const { task, lease } = await leased();
    const error = { code: text, message: text, stack: text, details: undefined, cause: undefined };
    const body =
      kind === "fail"
        ? { error, retryable: false, retryAfter: undefined, executionMetadata: undefined }
        : { error, executionMetadata: undefined };
    worker.report(lease, 1, { [kind]: body });
    expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.RECORDED);
    const found = await owner.get({ taskId: task.taskId });
    expect(found.state).toBe(kind === "fail" ? TaskState.FAILED : TaskState.CANCELLED);
    for (const shown of [found.error?.message, found.error?.stack]) expectCut(shown, text);
    expect(CUT.test(found.error?.code ?? "")).toBe(true);
    expect(Buffer.byteLength(found.error?.code ?? "")).toBeLessThanOrEqual(128);
  });

  it("are cut in a cancel's reason, a proceed's note and the message of a progress", async () => {
    const { task, lease } = await leased();
    const reference = { taskId: task.taskId };
    worker.send({
      progress: [{ leaseToken: lease.leaseToken, progress: { done: 1, total: undefined, message: text, updateTime: undefined } }],
    });
    const shown = await eventually(
      async () => (await owner.get(reference)).progress?.message,
      (message) => message !== undefined,
      "the progress is shown",
    );
    expectCut(shown, text);
    await owner.call(TaskServiceService.proceedTask, ProceedTaskRequest.create({ task: reference, note: text }));
    const cancel = CancelTaskRequest.create({ task: reference, reason: text, grace: { seconds: 60n } });
    expectCut((await owner.call(TaskServiceService.cancelTask, cancel)).cancelRequest?.reason, text);
    const told = await worker.first(({ cancels }) => cancels.find(({ leaseToken }) => leaseToken === lease.leaseToken), "the cancel");
    expectCut(told.reason, text);
    const { events } = await owner.call(TaskServiceService.listTaskEvents, ListTaskEventsRequest.create({ task: reference }));
    const messages = events.map(({ message }) => message).filter((message) => message !== "");
    expect(messages).toHaveLength(2);
    for (const message of messages) expectCut(message, text);
    worker.report(lease, 1, { complete: { result: undefined, executionMetadata: undefined } });
    expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.RECORDED);
  });
});
