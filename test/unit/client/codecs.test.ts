// What do codecs do to what travels: packed, encrypted, marked, and read again by whoever has the key?
import { aesGcmCodec, type ClientOptions, defineTask, gzipCodec, handle, LeaseholdError, type PayloadCodec, type } from "@leasehold/client";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { NewTask, ProceedTaskRequest } from "@leasehold/proto/leasehold/v1/task_service";
import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { settle } from "./fake-clock.js";
import { fakeClient, failure, json, parsed, rejection, taskMessage } from "./fake-transport.js";
import { FakeWorkerServer, ms, stopWorkers } from "./fake-worker-server.js";

const task = defineTask({
  name: "t",
  metadata: z.object({ secret: z.string() }),
  executionMetadata: z.object({ step: z.number().default(0), note: z.string().optional() }),
  result: z.object({ secret: z.string() }),
  errors: { refused: z.object({ secret: z.string() }) },
});
const KEYS = { old: randomBytes(32), new: randomBytes(32).toString("base64") };
const fingerprintKey = randomBytes(32);
const aes = (current: keyof typeof KEYS = "new", keys: Partial<typeof KEYS> = KEYS): PayloadCodec =>
  aesGcmCodec({ keys, current, fingerprintKey });
const SECRET = "the eagle lands at midnight";
type Sent = { data: Buffer; contentType: string } | undefined;

afterEach(stopWorkers);

/** A client that stores everything, and what it was sent. */
function storing(options: ClientOptions): ReturnType<typeof fakeClient> & { stored: () => NewTask[] } {
  const all = fakeClient(options);
  all.transport.answer = (_method, request: { task: NewTask }) => ({ task: taskMessage({ taskId: request.task.taskId }), created: true });
  return { ...all, stored: () => all.transport.requests<{ task: NewTask }>("SubmitTask").map((request) => request.task) };
}

/** What a client reads of a payload, as the metadata of a task. */
async function readBy(options: ClientOptions, metadata: Sent): Promise<unknown> {
  const { client, transport } = fakeClient(options);
  transport.answer = () => taskMessage({ metadata });
  return (await client.handle(task, "a").snapshot()).metadata;
}

/** The payload of one submission. */
async function sent(options: ClientOptions, secret = SECRET): Promise<Sent> {
  const { client, stored } = storing(options);
  await client.submit(task, { secret });
  return stored()[0]?.metadata;
}

describe("encryption", () => {
  it("shows the server no plain text: not in metadata, checkpoints, results, error data or suspensions", async () => {
    const codecs = [gzipCodec({ fromBytes: 0 }), aes()];
    const { client, stored } = storing({ codecs });
    await client.submit(task, { secret: SECRET }, { executionMetadata: { step: 1, note: SECRET } });
    const metadata = stored()[0]?.metadata;
    const server = await FakeWorkerServer.start(
      [
        handle(task, async (ctx) => {
          expect(ctx.metadata).toEqual({ secret: SECRET });
          void ctx.executionMetadata.checkpoint({ step: 2, note: SECRET });
          if (ctx.id === "b") return ctx.fail("refused", { secret: SECRET });
          if (ctx.id === "c") return ctx.suspend({ untilProceeded: true, executionMetadata: { step: 3, note: SECRET } });
          return { secret: SECRET };
        }),
      ],
      {},
      { codecs },
    );
    for (const id of ["a", "b", "c"]) await server.lease(id, { metadata });
    const seen: Sent[] = [
      metadata,
      stored()[0]?.executionMetadata,
      ...server.reports.flatMap(({ checkpoint, complete, fail, suspend }) => [
        checkpoint?.executionMetadata,
        complete?.result,
        fail?.error?.details,
        suspend?.executionMetadata,
      ]),
    ].filter((payload) => payload !== undefined);
    expect(seen).toHaveLength(8);
    for (const payload of seen) {
      expect(payload?.contentType).toBe("application/vnd.leasehold.aes-256-gcm; key=new");
      expect(payload?.data.includes("eagle")).toBe(false);
      expect(payload?.data.includes("secret")).toBe(false);
    }
    expect(new Set(seen.map((payload) => payload?.data.toString("hex"))).size).toBe(8);
  });

  it("is read by whoever has the key, by its name, while a newer one encrypts", async () => {
    const payload = await sent({ codecs: [aes("old")] });
    expect(await readBy({ codecs: [aes("new")] }, payload)).toEqual({ secret: SECRET });
    const error = await rejection(readBy({ codecs: [aes("new", { new: KEYS.new })] }, payload));
    expect(error).toMatchObject({ code: "PAYLOAD_UNREADABLE", violations: [{ path: "metadata" }] });
    expect(error.message).toContain('key "old"');
  });

  it("leaves payloads from before it was switched on readable", async () => {
    expect(await readBy({ codecs: [gzipCodec(), aes()] }, json({ secret: "plain" }))).toEqual({ secret: "plain" });
  });

  it("finds out every changed byte, a changed key name and a payload that was cut", async () => {
    const { data, contentType } = (await sent({ codecs: [aes()] }))!;
    const changed = (at: number): Buffer => Buffer.from(data.map((byte, index) => (index === at ? byte ^ 1 : byte)));
    const twins = { codecs: [aes("new", { new: KEYS.new, old: KEYS.new as never })] };
    const broken: [ClientOptions, Sent][] = [
      ...Array.from({ length: data.length }, (_, at): [ClientOptions, Sent] => [{ codecs: [aes()] }, { data: changed(at), contentType }]),
      [{ codecs: [aes()] }, { data: data.subarray(0, 20), contentType }],
      [{ codecs: [aes()] }, { data: Buffer.alloc(0), contentType }],
      [twins, { data, contentType: contentType.replace("new", "old") }],
    ];
    for (const [options, payload] of broken) expect((await rejection(readBy(options, payload))).code).toBe("PAYLOAD_UNREADABLE");
  });

  it("leaves a task that this worker has no key for to a worker that has it", async () => {
    const metadata = await sent({ codecs: [aes("old")] });
    const server = await FakeWorkerServer.start([handle(task, () => ({ secret: "" }))], {}, { codecs: [aes("new", { new: KEYS.new })] });
    await server.lease("a", { metadata });
    expect(server.reports[0]?.fail).toMatchObject({ retryable: true, retryAfter: ms(15_000), error: { code: "METADATA_INVALID" } });
  });

  it("lets the server compare keyed metadata without telling what it is", async () => {
    const { client, stored } = storing({ codecs: [gzipCodec(), aes()] });
    const wide = defineTask({ name: "t", metadata: type<unknown>() });
    for (const metadata of [
      { a: 1, b: [{ c: 2, d: 3 }] },
      { b: [{ d: 3, c: 2 }], a: 1 },
      { a: 1, b: [] },
    ])
      await client.submit(wide, metadata, { key: "k" });
    await client.submit(wide, { a: 1 });
    const [one, same, other, keyless] = stored().map(({ metadataFingerprint }) => metadataFingerprint.toString("hex"));
    expect([one?.length, one === same, one === other, keyless]).toEqual([64, true, false, ""]);
    const rotated = storing({ codecs: [gzipCodec(), aes("old")] });
    await rotated.client.submit(wide, { a: 1, b: [{ c: 2, d: 3 }] }, { key: "k" });
    expect(rotated.stored()[0]?.metadataFingerprint.toString("hex")).toBe(one);
    const elsewhere = storing({ codecs: [gzipCodec(), aesGcmCodec({ keys: KEYS, current: "new", fingerprintKey: randomBytes(32) })] });
    await elsewhere.client.submit(wide, { a: 1, b: [{ c: 2, d: 3 }] }, { key: "k" });
    expect(elsewhere.stored()[0]?.metadataFingerprint.toString("hex")).not.toBe(one);
  });

  it("makes the same submission again the same, if the user chose its id", async () => {
    const { client, stored } = storing({ codecs: [gzipCodec(), aes()] });
    const id = "11111111-1111-7111-8111-111111111111";
    for (const secret of [SECRET, SECRET, `${SECRET}!`]) await client.submit(task, { secret }, { id });
    await client.submit(task, { secret: SECRET }, { id: id.replace("1", "2") });
    const [one, same, other, another] = stored().map(({ metadata }) => metadata?.data.toString("hex"));
    expect([one === same, one === other, one === another]).toEqual([true, false, false]);
  });

  it("refuses keys that are none, with their paths", () => {
    const wrong: [Parameters<typeof aesGcmCodec>[0], string][] = [
      [{ keys: { a: randomBytes(16) }, current: "a", fingerprintKey }, "keys.a"],
      [{ keys: { a: "c2hvcnQ=" }, current: "a", fingerprintKey }, "keys.a"],
      [{ keys: { "a b": randomBytes(32) }, current: "a b", fingerprintKey }, "keys.a b"],
      [{ keys: KEYS, current: "none", fingerprintKey }, "current"],
      [{ keys: KEYS, current: "new", fingerprintKey: "" }, "fingerprintKey"],
    ];
    for (const [options, path] of wrong) {
      let error: unknown;
      try {
        aesGcmCodec(options);
      } catch (thrown) {
        error = thrown;
      }
      expect(error, path).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path }] });
    }
  });
});

describe("compression", () => {
  it("packs what is large and gets smaller, and leaves the rest as it is", async () => {
    const codecs = [gzipCodec({ fromBytes: 100 })];
    expect(await sent({ codecs }, "short")).toEqual(json({ secret: "short" }));
    const packed = await sent({ codecs }, "long ".repeat(1_000));
    expect(packed?.contentType).toBe("application/vnd.leasehold.gzip; of=");
    expect(packed?.data.length).toBeLessThan(200);
    expect(await readBy({ codecs }, packed)).toEqual({ secret: "long ".repeat(1_000) });
    const noise = randomBytes(300).toString("latin1");
    expect(await readBy({ codecs }, await sent({ codecs }, noise))).toEqual({ secret: noise });
  });

  it("lets a value through that fits the server only packed, and refuses one that does not even so, with its path", async () => {
    const codecs = [gzipCodec()];
    expect((await sent({ codecs }, "x".repeat(3_000_000)))?.data.length).toBeLessThan(10_000);
    const error = await rejection(sent({ codecs }, randomBytes(1_500_000).toString("base64")));
    expect(error).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path: "metadata" }] });
  });

  it("stops unpacking at its limit: a bomb is one unreadable payload", async () => {
    const bomb = { data: gzipSync(Buffer.alloc(200_000_000)), contentType: "application/vnd.leasehold.gzip; of=" };
    const error = await rejection(readBy({ codecs: [gzipCodec()] }, bomb));
    expect(error).toMatchObject({ code: "PAYLOAD_UNREADABLE", violations: [{ path: "metadata" }] });
    expect(error.message).toContain("unpacks to more than 16777216 bytes");
    expect(
      (
        await rejection(
          readBy({ codecs: [gzipCodec({ mostUnpackedBytes: 10 })] }, await sent({ codecs: [gzipCodec({ fromBytes: 0 })] }, "y".repeat(99))),
        )
      ).code,
    ).toBe("PAYLOAD_UNREADABLE");
    const garbage = { data: Buffer.from("no gzip"), contentType: bomb.contentType };
    expect((await rejection(readBy({ codecs: [gzipCodec()] }, garbage))).code).toBe("PAYLOAD_UNREADABLE");
  });
});

describe("a client with codecs", () => {
  const codecs = [aes()];

  it("refuses to search what the server cannot read, and says what to do instead", async () => {
    const { client, transport } = fakeClient({ codecs });
    for (const path of ["metadata", "executionMetadata"] as const) {
      const error = await rejection(client.list(task, { [path]: {} }).page());
      expect(error).toMatchObject({ code: "INVALID_ARGUMENT", violations: [{ path }] });
      expect(error.message).toContain("labels");
    }
    expect((await rejection(client.proceed(task, { metadata: { secret: SECRET } }))).code).toBe("INVALID_ARGUMENT");
    expect(transport.calls).toEqual([]);
  });

  it("applies a merge patch itself: reads, changes, replaces under the etag, and starts over when it was overtaken", async () => {
    const { client, transport, clock } = fakeClient({ codecs });
    const saved = await sentExecutionMetadata({ step: 4, note: "old" });
    transport.answer = (method, _request, tries) => {
      if (method === "GetTask") return taskMessage({ state: TaskState.SUSPENDED, executionMetadata: saved, etag: `e${String(tries)}` });
      if (tries === 1) throw failure({ code: "ABORTED", reason: "ETAG_MISMATCH" });
      return { task: taskMessage(), result: 1 };
    };
    const done = client.handle(task, "11111111-1111-7111-8111-111111111111").proceed({ patch: { note: null, step: 5 } });
    await clock.advance(1_000);
    await done;
    const [, second] = transport.requests<ProceedTaskRequest>("ProceedTask");
    expect([second?.etag, second?.update?.mergePatch]).toEqual(["e2", undefined]);
    expect(second?.update?.replace?.contentType).toContain("aes-256-gcm");
    const reader = fakeClient({ codecs });
    reader.transport.answer = () => taskMessage({ metadata: second!.update!.replace! });
    const wide = defineTask({ name: "t", metadata: type<unknown>() });
    expect((await reader.client.handle(wide, "a").snapshot()).metadata).toEqual({ step: 5 });
  });

  it("with the caller's etag patches that revision or none", async () => {
    const { client, transport } = fakeClient({ codecs });
    transport.answer = () => taskMessage({ state: TaskState.SUSPENDED, etag: "newer" });
    const error = await rejection(client.handle(task, "a").proceed({ patch: { step: 5 }, etag: "older" }));
    expect(error).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    expect(transport.calls.map(({ method }) => method)).toEqual(["GetTask"]);
  });

  it("decodes the data of errors, of the previous attempt and of how it ended", async () => {
    const { client, transport } = fakeClient({ codecs });
    const details = await sent({ codecs });
    transport.answer = () =>
      taskMessage({ state: TaskState.FAILED, metadata: details!, error: { code: "refused", message: "m", details: details! } });
    const snapshot = await client.handle(task, "a").snapshot();
    expect(snapshot.error).toMatchObject({ code: "refused", data: { secret: SECRET } });
  });

  it("names the codec that failed: a submission is refused, a handler's outcome is tried again", async () => {
    const broken: PayloadCodec = { name: "vault", encode: () => Promise.reject(new Error("sealed")), decode: (payload) => payload };
    const error = await rejection(sent({ codecs: [broken] }));
    expect(error.message).toContain("codec vault could not encode: sealed");
    const server = await FakeWorkerServer.start([handle(task, () => ({ secret: "" }))], {}, { codecs: [broken] });
    await server.lease("a", { metadata: json({ secret: "s" }) });
    expect(server.reports[0]?.fail).toMatchObject({ retryable: true, error: { code: "HANDLER_ERROR" } });
    expect(LeaseholdError.is(error)).toBe(true);
  });

  it("gives no fingerprint where a codec of one's own has none", async () => {
    const own: PayloadCodec = {
      name: "rot",
      encode: ({ data }) => ({ data: data.map((byte) => byte ^ 7), contentType: "application/x-rot" }),
      decode: (payload) =>
        payload.contentType === "application/x-rot" ? { data: payload.data.map((byte) => byte ^ 7), contentType: "" } : payload,
    };
    const { client, stored } = storing({ codecs: [gzipCodec(), own] });
    await client.submit(task, { secret: SECRET }, { key: "k" });
    expect(stored()[0]?.metadataFingerprint).toHaveLength(0);
    expect(await readBy({ codecs: [gzipCodec(), own] }, stored()[0]?.metadata)).toEqual({ secret: SECRET });
  });
});

describe("the server's limits", () => {
  it("told in the welcome count for a worker's payloads and errors, instead of the defaults", async () => {
    const wide = defineTask({ name: "t", metadata: type<unknown>(), executionMetadata: type<unknown>(), result: type<unknown>() });
    const outcomes: unknown[] = [];
    const server = new FakeWorkerServer([
      handle(wide, async (ctx) => {
        const size = ctx.metadata as number;
        await ctx.executionMetadata.checkpoint("x".repeat(size)).catch((error: unknown) => outcomes.push(error));
        throw new Error("y".repeat(100_000));
      }),
    ]);
    server.welcome = { ...server.welcome, limits: { maxPayloadBytes: 2_000_000, maxErrorBytes: 8_192, maxMessageBytes: 4_194_304 } };
    await settle();
    await server.greet();
    await server.lease("a", { metadata: json(1_900_000) });
    await server.verdict("a", 1);
    await server.lease("b", { metadata: json(2_000_000) });
    expect(outcomes).toMatchObject([{ code: "INVALID_ARGUMENT", violations: [{ path: "executionMetadata" }] }]);
    const errors = server.reports.map(({ fail }) => fail?.error).filter((error) => error !== undefined);
    expect(errors).toHaveLength(2);
    for (const error of errors) expect(Buffer.byteLength(error.message + error.stack)).toBeLessThanOrEqual(2_048);
  });

  it("given to a client count for its submissions", async () => {
    const big = "x".repeat(1_500_000);
    expect((await rejection(sent({}, big))).violations).toMatchObject([{ path: "metadata" }]);
    expect(parsed(await sent({ limits: { payloadBytes: 2_000_000 } }, big))).toEqual({ secret: big });
  });
});

/** The payload of execution metadata, as a submission would send it. */
async function sentExecutionMetadata(executionMetadata: { step: number; note: string }): Promise<Sent> {
  const { client, stored } = storing({ codecs: [aes()] });
  await client.submit(task, { secret: SECRET }, { executionMetadata });
  return stored()[0]?.executionMetadata;
}
