// What becomes of a cancelled task whose handler runs? Whatever the handler does then, it is no ordinary failure and there is no second lease.
import { defineTask, handle } from "@leasehold/client";
import { FinishReason, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { ListTaskEventsRequest, TaskEventType, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { Report } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { gate, sdkScene, until } from "../../support/sdk-scene.js";
import { outcomes } from "../../support/raw-run.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;

const endings = ["lets the abort through", "throws its own", "returns", "suspends", "fails for good", "fails for now", "cancels"] as const;

const stubborn = () =>
  defineTask({
    name: sdk.name(),
    metadata: z.enum(endings),
    result: z.object({ finished: z.boolean() }),
    errors: { given_up: z.object({ why: z.string() }) },
    options: { retry: { maxAttempts: 5, delays: [0] } },
  });

describe("a cancel of a task that runs", () => {
  it.each([
    [
      "lets the abort through",
      { state: "cancelled", finishReason: "cancel_requested", reason: "superseded", error: { originalCode: "CANCELLED" } },
    ],
    [
      "throws its own",
      { state: "cancelled", finishReason: "cancel_requested", reason: "superseded", error: { message: "in its own words" } },
    ],
    ["returns", { state: "completed", result: { finished: true } }],
    ["suspends", { state: "cancelled", finishReason: "cancel_requested", reason: "superseded" }],
    ["fails for good", { state: "failed", finishReason: "not_retryable", error: { code: "given_up", data: { why: "for good" } } }],
    ["fails for now", { state: "cancelled", finishReason: "cancel_requested", reason: "superseded", error: { code: "given_up" } }],
    ["cancels", { state: "cancelled", finishReason: "cancel_requested", reason: "superseded", error: { message: "by itself" } }],
  ] as const)("whose handler then %s", async (how, outcome) => {
    const task = stubborn();
    const running = gate();
    const stops: unknown[] = [];
    let leases = 0;
    await sdk.work([
      handle(task, async (ctx) => {
        leases += 1;
        const aborted = new Promise<never>((_resolve, reject) =>
          ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)),
        );
        running.open();
        if (ctx.metadata === "lets the abort through") await aborted;
        await aborted.catch(() => {});
        stops.push(...ctx.stops);
        switch (ctx.metadata) {
          case "lets the abort through":
          case "returns":
            return { finished: true };
          case "throws its own":
            throw new Error("in its own words");
          case "suspends":
            return ctx.suspend({ untilProceeded: true });
          case "fails for good":
            return ctx.fail("given_up", { why: "for good" }, { retry: false });
          case "fails for now":
            return ctx.fail("given_up", { why: "for now" });
          case "cancels":
            return ctx.cancel("by itself");
        }
      }),
    ]);
    const job = await sdk.client.submit(task, how);
    const states: string[] = [];
    const watched = (async () => {
      for await (const { state, pendingReason } of job.watch(PATIENCE)) states.push(pendingReason ?? state);
    })();
    await running.opened;
    const asked = await job.cancel({ reason: "superseded", grace: "10s" });
    expect(asked).toMatchObject({ state: "running", cancelRequest: { reason: "superseded" } });
    expect(await job.outcome(PATIENCE)).toMatchObject(outcome);
    await watched;
    expect([leases, states.includes("retry"), states.includes("released")]).toEqual([1, false, false]);
    if (how !== "lets the abort through") expect(stops).toMatchObject([{ kind: "cancelled", reason: "superseded" }]);
  });

  it.each([
    ["fails", outcomes.failOnce],
    ["releases", { release: { retryAfter: undefined, executionMetadata: undefined } }],
    ["dies", undefined],
  ] as const)("whose worker, which is not ours, %s", async (_, report: Partial<Report> | undefined) => {
    const task = stubborn();
    const worker = sdk.raw(sdk.address, [task.name], { sessionTtl: { seconds: 2n, nanos: 0 } });
    const job = await sdk.client.submit(task, "returns");
    const lease = await worker.lease();
    await job.cancel({ reason: "superseded", grace: "10s" });
    expect(await worker.first(({ cancels }) => cancels[0], "cancel")).toMatchObject({ leaseToken: lease.leaseToken, reason: "superseded" });
    if (report === undefined) worker.close();
    else worker.report(lease, 1, report);
    expect(await job.outcome(PATIENCE)).toMatchObject({ state: "cancelled", finishReason: "cancel_requested", reason: "superseded" });
    expect(await sdk.owner.get({ taskId: job.id })).toMatchObject({
      state: TaskState.CANCELLED,
      finishReason: FinishReason.CANCEL_REQUESTED,
      fencingToken: lease.fencingToken,
    });
    const { events } = await sdk.owner.call(TaskServiceService.listTaskEvents, ListTaskEventsRequest.create({ task: { taskId: job.id } }));
    const types = events.map(({ type }) => type);
    for (const type of [TaskEventType.ATTEMPT_FAILED, TaskEventType.RELEASED, TaskEventType.LEASE_LOST]) expect(types).not.toContain(type);
  });

  it("whose handler does not heed it ends with the grace, and what it does later counts no more", async () => {
    const task = stubborn();
    const running = gate();
    const go = gate();
    const ended = gate<string[]>();
    await sdk.work([
      handle(task, async (ctx) => {
        running.open();
        await go.opened;
        ended.open(ctx.stops.map(({ kind }) => kind));
        return { finished: true };
      }),
    ]);
    const job = await sdk.client.submit(task, "returns");
    await running.opened;
    await job.cancel({ reason: "now", grace: "200ms" });
    expect(await job.outcome(PATIENCE)).toMatchObject({ state: "cancelled", reason: "now" });
    go.open();
    expect(await ended.opened).toEqual(["cancelled", "cancel_grace_ended"]);
    expect(await until(job, ({ state }) => state === "cancelled")).toMatchObject({ finishReason: "cancel_requested" });
  });
});
