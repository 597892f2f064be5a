// Does the SDK submit to a real server as it says: bursts that travel together, each with its own answer, keys, labels, schedules, options?
import { defineTask, handle, LeaseholdError } from "@leasehold/client";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { sdkScene } from "../../support/sdk-scene.js";

const sdk = sdkScene();

const numbered = () => defineTask({ name: sdk.name(), metadata: z.object({ n: z.number().max(1_000) }), result: z.number() });

async function failure(call: Promise<unknown>): Promise<LeaseholdError> {
  const thrown: unknown = await call.then(
    () => new Error("the call succeeded"),
    (error: unknown) => error,
  );
  if (!LeaseholdError.is(thrown)) throw thrown;
  return thrown;
}

describe("submissions of one turn", () => {
  it("travel in few calls, and each gets the answer to its own task", async () => {
    const task = numbered();
    const jobs = await Promise.all(Array.from({ length: 64 }, (_, n) => sdk.client.submit(task, { n }, { labels: { n: String(n) } })));
    expect(sdk.calls.length).toBeLessThanOrEqual(4);
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(64);
    expect(jobs.every(({ created }) => created)).toBe(true);
    for (const [n, job] of jobs.entries()) {
      const { metadata, labels } = await job.snapshot();
      expect([metadata, labels]).toEqual([{ n }, { n: String(n) }]);
    }
  });

  it("do not fail together: what the SDK refuses, what the server refuses and what a key answers are theirs alone", async () => {
    const task = numbered();
    const taken = await sdk.client.submit(task, { n: 0 }, { key: "taken" });
    const other = await sdk.client.submit(task, { n: 0 }, { id: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e" });
    const [good, refusedHere, existing, mismatch, rejected, conflict, last] = await Promise.allSettled([
      sdk.client.submit(task, { n: 1 }),
      sdk.client.submit(task, { n: 1_001 }),
      sdk.client.submit(task, { n: 0 }, { key: "taken" }),
      sdk.client.submit(task, { n: 2 }, { key: "taken" }),
      sdk.client.submit(task, { n: 0 }, { key: "taken", onConflict: "reject" }),
      sdk.client.submit(task, { n: 5 }, { id: other.id }),
      sdk.client.submit(task, { n: 3 }, { labels: { a: "b" } }),
    ]);
    expect(good).toMatchObject({ status: "fulfilled", value: { created: true } });
    expect(refusedHere).toMatchObject({ reason: { code: "INVALID_ARGUMENT", violations: [{ path: "metadata.n" }] } });
    expect(existing).toMatchObject({ value: { created: false, id: taken.id } });
    expect(mismatch).toMatchObject({ reason: { code: "FAILED_PRECONDITION", reason: "KEY_METADATA_MISMATCH", taskId: taken.id } });
    expect(rejected).toMatchObject({ reason: { code: "ALREADY_EXISTS", reason: "KEY_EXISTS", taskId: taken.id } });
    expect(conflict).toMatchObject({ reason: { code: "ALREADY_EXISTS", reason: "TASK_ID_CONFLICT" } });
    expect(last).toMatchObject({ value: { created: true } });
    const stored = [];
    for await (const { id } of sdk.client.list(task)) stored.push(id);
    expect(stored).toHaveLength(4);
  });

  it("of one key at once, from two clients, are one task that one of them created", async () => {
    const task = numbered();
    const clients = [sdk.client, sdk.connect()];
    const jobs = await Promise.all(Array.from({ length: 30 }, (_, n) => clients[n % 2]!.submit(task, { n: 1 }, { key: "once" })));
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(1);
    expect(jobs.filter(({ created }) => created)).toHaveLength(1);
  });

  it("may be large ones, which are cut below the limit of a message", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.string() });
    const jobs = await Promise.all(Array.from({ length: 9 }, (_, n) => sdk.client.submit(task, String(n).repeat(900_000))));
    for (const [n, job] of jobs.entries()) expect((await job.snapshot()).metadata.startsWith(`${String(n)}${String(n)}`)).toBe(true);
    expect(sdk.calls.filter((method) => method.startsWith("Submit")).length).toBeLessThanOrEqual(9);
  });
});

describe("a submission", () => {
  it("that is refused here asks nothing of the server, and every path is named", async () => {
    const task = numbered();
    const error = await failure(
      sdk.client.submit(
        task,
        { n: Number.NaN },
        {
          priority: 10,
          scheduleTime: { in: -1 },
          retry: { backoff: { factor: Number.NaN } },
          labels: { a: undefined as unknown as string },
        },
      ),
    );
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.violations.map(({ path }) => path).toSorted()).toEqual([
      "labels.a",
      "metadata.n",
      "priority",
      "retry.backoff.factor",
      "scheduleTime.in",
    ]);
    expect(sdk.calls).toEqual([]);
  });

  it("with an id of one's own is the same task when it is sent again, and says so", async () => {
    const task = numbered();
    const id = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6f";
    const first = await sdk.client.submit(task, { n: 1 }, { id });
    const again = await sdk.client.submit(task, { n: 1 }, { id });
    expect([first.created, again.created, again.id]).toEqual([true, false, id]);
  });

  it("with replace_pending takes the place of the task that nobody ran yet", async () => {
    const task = numbered();
    const old = await sdk.client.submit(task, { n: 1 }, { key: "k" });
    const renewed = await sdk.client.submit(task, { n: 2 }, { key: "k", onConflict: "replace_pending" });
    expect(renewed).toMatchObject({ created: true });
    expect(await old.outcome({ timeout: "20s" })).toMatchObject({ state: "cancelled", finishReason: "replaced" });
    expect(await sdk.client.handle(task, { key: "k" }).findId()).toBe(renewed.id);
  });

  it("frees its key when its task is finished, and holds it on where that is asked for", async () => {
    const task = numbered();
    await sdk.work([handle(task, ({ metadata }) => metadata.n)]);
    const submit = (key: string, keyHold?: "1h") => sdk.client.submit(task, { n: 7 }, { key, ...(keyHold && { keyHold }) });
    const [free, held] = [await submit("free"), await submit("held", "1h")];
    expect([await free.result({ timeout: "20s" }), await held.result({ timeout: "20s" })]).toEqual([7, 7]);
    const [again, existing] = [await submit("free"), await submit("held", "1h")];
    expect([again.created, existing.created, existing.id]).toEqual([true, false, held.id]);
    expect(await existing.result({ timeout: "20s" })).toBe(7);
  });

  it("shows what was resolved: call over definition over server", async () => {
    const task = defineTask({
      name: sdk.name(),
      options: {
        queue: "sdk-imports",
        priority: 3,
        retry: { maxAttempts: 7, backoff: { initial: "2s", factor: 3, max: "1m" } },
        deadlines: { total: "7d", silence: "1m" },
      },
    });
    const at = new Date(Date.now() + 3_600_000);
    const job = await sdk.client.submit(task, null, {
      priority: 9,
      retry: { maxAttempts: 2 },
      deadlines: { total: "1h" },
      scheduleTime: at,
      labels: { tenant: "t1", region: "ä" },
      key: "shown",
    });
    expect(await job.snapshot()).toMatchObject({
      state: "pending",
      pendingReason: "scheduled",
      queue: "sdk-imports",
      priority: 9,
      key: "shown",
      labels: { tenant: "t1", region: "ä" },
      scheduleTime: at,
      runTime: at,
      maxAttempts: 2,
      maxLostLeases: 3,
      retryPolicy: { maxAttempts: 2, backoff: { initial: 2_000, factor: 3, max: 60_000 } },
      deadlines: { total: 3_600_000, silence: 60_000 },
    });
  });

  it("of many is all or nothing", async () => {
    const task = numbered();
    const error = await failure(sdk.client.submitMany(task, [{ metadata: { n: 1 } }, { metadata: { n: 2_000 }, priority: 99 }]));
    expect(error.violations.map(({ path }) => path).toSorted()).toEqual(["[1].metadata.n", "[1].priority"]);
    await sdk.client.submit(task, { n: 9 }, { key: "k" });
    const items = [{ metadata: { n: 1 } }, { metadata: { n: 2 }, key: "k", onConflict: "reject" as const }];
    expect(await failure(sdk.client.submitMany(task, items))).toMatchObject({ code: "ALREADY_EXISTS", reason: "KEY_EXISTS" });
    const jobs = await sdk.client.submitMany(task, [{ metadata: { n: 1 } }, { metadata: { n: 9 }, key: "k" }]);
    expect(jobs.map(({ created }) => created)).toEqual([true, false]);
    const page = await sdk.client.list(task).page();
    expect(page.tasks).toHaveLength(2);
  });

  it("whose words only a server can judge is refused with the paths that it names", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.string() });
    const { client } = await sdk.server({ LEASEHOLD_LIMIT_PAYLOAD_BYTES: "1KiB" });
    const error = await failure(client.submit(task, "x".repeat(2_000)));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", violations: [{ path: "task.metadata.data" }] });
    const [good, bad] = await Promise.allSettled([client.submit(task, "short"), client.submit(task, "x".repeat(2_000))]);
    expect(good).toMatchObject({ status: "fulfilled" });
    // In the same words as alone: which other calls it travelled with is nobody's business.
    expect(bad).toMatchObject({ reason: { code: "INVALID_ARGUMENT", violations: error.violations, message: error.message } });
    await expect(good.status === "fulfilled" && good.value.snapshot()).resolves.toMatchObject({ metadata: "short" });
  });
});
