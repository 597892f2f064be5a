// Do machines, encrypted payloads and what an owner asks work on a real server, which must never see the plain text?
import { aesGcmCodec, defineMachine, defineTask, gzipCodec, handle, handleMachine, isTaskFailed, LeaseholdError } from "@leasehold/client";
import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { rowsOf, sdkScene, until } from "../../support/sdk-scene.js";

const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;
const SECRET = "the eagle lands at midnight";

async function refused(call: Promise<unknown>): Promise<LeaseholdError> {
  return call.then(
    () => {
      throw new Error("the call succeeded");
    },
    (error: unknown) => LeaseholdError.from(error),
  );
}

describe("a machine", () => {
  const order = () =>
    defineMachine({
      name: sdk.name(),
      metadata: z.object({ id: z.string() }),
      states: { placed: z.object({}), waiting: z.object({ invoice: z.string() }), paid: z.object({ receipt: z.string() }) },
      errors: { refused: z.object({ by: z.string() }) },
      initial: { state: "placed", data: {} },
      result: z.object({ receipt: z.string() }),
    });

  it("parks, is proceeded into another state, and finishes; each state is there for everybody", async () => {
    const task = order();
    const states: string[] = [];
    await sdk.work([
      handleMachine(task, {
        placed: (_data, ctx) => ctx.goto("waiting", { invoice: `of ${ctx.metadata.id}` }),
        waiting: (data, ctx) => {
          states.push(`waiting ${ctx.resumed.by}`);
          return ctx.resumed.by === "new"
            ? ctx.park("waiting", data, { untilProceeded: true, timeout: "1h" })
            : ctx.goto("paid", { receipt: data.invoice });
        },
        paid: (data, ctx) => ctx.finish({ receipt: data.receipt }),
      }),
    ]);
    const job = await sdk.client.submit(task, { id: "7" });
    const parked = await until(job, ({ state }) => state === "suspended");
    expect(parked.checkpointCount).toBe(1n);
    expect((await job.snapshot()).executionMetadata).toEqual({ state: "waiting", data: { invoice: "of 7" } });
    await job.proceed({ update: (current) => ({ ...current, state: "waiting", data: { invoice: "paid by phone" } }) });
    expect(await job.result(PATIENCE)).toEqual({ receipt: "paid by phone" });
    expect(states).toEqual(["waiting new", "waiting proceeded"]);
    const types: string[] = [];
    for await (const { type } of job.events()) types.push(type);
    expect(types).toEqual(expect.arrayContaining(["submitted", "suspended", "proceeded", "finished"]));
  });

  it("that goes round in circles fails for good at its first attempt, and says on which path", async () => {
    const task = order();
    await sdk.work([
      handleMachine(task, {
        placed: (_data, ctx) => ctx.goto("paid", { receipt: "" }),
        waiting: (_data, ctx) => ctx.goto("placed", {}),
        paid: (_data, ctx) => ctx.goto("waiting", { invoice: "" }),
      }),
    ]);
    const outcome = await (await sdk.client.submit(task, { id: "7" })).outcome(PATIENCE);
    const message = expect.stringContaining("placed → paid → waiting → placed") as string;
    expect(outcome).toMatchObject({ state: "failed", finishReason: "not_retryable", error: { code: "MACHINE_CYCLE", message } });
  });
});

describe("encrypted payloads", () => {
  it("never reach Postgres in plain text, and come back to whoever has the keys", async () => {
    const codecs = [gzipCodec(), aesGcmCodec({ keys: { k: randomBytes(32) }, current: "k", fingerprintKey: randomBytes(32) })];
    const client = sdk.connect({ codecs });
    const secret = z.object({ secret: z.string() });
    const task = defineTask({
      name: sdk.name(),
      metadata: secret,
      executionMetadata: secret.partial(),
      result: secret,
      errors: { no: secret },
    });
    await sdk.work(
      [
        handle(task, async (ctx) => {
          await ctx.executionMetadata.checkpoint({ secret: SECRET });
          if (ctx.resumed.by === "new") return ctx.suspend({ untilProceeded: true });
          return ctx.key === "fails"
            ? ctx.fail("no", { secret: SECRET }, { retry: false })
            : { secret: `${SECRET} ${ctx.metadata.secret.length}` };
        }),
      ],
      { client },
    );
    const id = "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6f";
    const jobs = [
      await client.submit(task, { secret: SECRET }, { key: "k", id }),
      await client.submit(task, { secret: SECRET }, { key: "fails" }),
    ];
    expect((await client.submit(task, { secret: SECRET }, { key: "k", id })).created).toBe(false);
    expect((await client.submit(task, { secret: SECRET }, { key: "k" })).id).toBe(id);
    expect((await refused(client.submit(task, { secret: "other" }, { key: "k" }))).reason).toBe("KEY_METADATA_MISMATCH");
    expect((await refused(client.count(task, { metadata: { secret: SECRET } }))).violations).toMatchObject([{ path: "metadata" }]);
    for (const job of jobs) {
      await until(job, ({ state }) => state === "suspended");
      await job.proceed({ patch: { secret: `${SECRET} patched` } });
    }
    expect(await jobs[0]!.result(PATIENCE)).toEqual({ secret: `${SECRET} 27` });
    const error = await refused(jobs[1]!.result(PATIENCE));
    expect(isTaskFailed(error, task) && error.failure).toMatchObject({ code: "no", data: { secret: SECRET } });
    expect((await refused(sdk.client.handle(task, id).snapshot())).code).toBe("PAYLOAD_UNREADABLE");
    expect(await stored()).not.toContain("eagle");
  });

  /** Everything that Postgres has of tasks, as text. */
  async function stored(): Promise<string> {
    let text = "";
    for (const table of ["tasks", "finished_tasks", "execution_metadata", "task_events"]) {
      const rows = await rowsOf<Record<string, unknown>>(sdk.databaseUrl, `SELECT * FROM leasehold.${table}`);
      expect(rows.length, table).toBeGreaterThan(0);
      for (const value of rows.flatMap((row) => Object.values(row)))
        text += Buffer.isBuffer(value) ? value.toString("latin1") : JSON.stringify(value);
    }
    return text;
  }
});

describe("an owner", () => {
  it("asks why a task waits, moves it, counts it, and removes it when it is finished", async () => {
    const task = defineTask({ name: sdk.name() });
    const job = await sdk.client.submit(task, null, { scheduleTime: { in: "1h" }, queue: "slow", retry: { maxAttempts: 2 } });
    expect((await job.explain()).explanations.map(({ code }) => code)).toContain("not_due");
    expect(await sdk.client.count(task, { state: ["pending"] })).toEqual({ count: 1, more: false });
    expect(await job.update({ priority: 9, queue: "fast", scheduleTime: "now" })).toMatchObject({ priority: 9, queue: "fast" });
    expect((await job.explain()).explanations.map(({ code }) => code)).toContain("no_worker_for_name");
    expect((await refused(job.delete())).reason).toBe("TASK_NOT_FINISHED");
    await sdk.work([handle(task, () => undefined)]);
    await job.result(PATIENCE);
    await job.delete();
    expect((await refused(job.snapshot())).code).toBe("NOT_FOUND");
    const { retry, attempts } = await sdk.client.simulateRetry({ maxAttempts: 2, delays: ["1s"] }, [{ code: "x" }, { code: "x" }]);
    expect(retry.maxAttempts).toBe(2);
    expect(attempts).toMatchObject([
      { attempt: 2, earliestMs: 1_000, latestMs: 1_000, state: "pending" },
      { attempt: 0, state: "failed", finishReason: "max_attempts" },
    ]);
  });

  it("submits more tasks than one message takes from a generator, each with its own answer", async () => {
    const task = defineTask({ name: sdk.name(), metadata: z.object({ n: z.number() }) });
    function* items() {
      for (let n = 0; n < 1_500; n += 1) yield { metadata: { n }, ...(n === 5 ? { key: "\ud800" } : {}) };
    }
    const ids = new Set<string>();
    const errors: number[] = [];
    for await (const { index, task: stored, error } of sdk.client.submitStream(task, items())) {
      if (error === undefined) ids.add(stored.id);
      else errors.push(index);
    }
    expect([ids.size, errors]).toEqual([1_499, [5]]);
    expect(await sdk.client.count(task)).toEqual({ count: 1_499, more: false });
  });
});
