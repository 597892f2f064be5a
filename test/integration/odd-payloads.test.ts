// Does every payload come back as the bytes that it was, through every field that holds one, and does a bad one harm nobody beside it?
import { Readable } from "node:stream";
import { status } from "@grpc/grpc-js";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import {
  type Lease,
  LeaseTasksRequest,
  ReportTasksRequest,
  type Verdict,
  VerdictCode,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { isJson } from "@leasehold/server/domain/proceeds";
import { sameJson } from "@leasehold/server/domain/same-json";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createScreen } from "../../cli/src/output/screen.js";
import { runCommandLine } from "../../cli/src/program.js";
import { type KeptLog, keptLog } from "../support/api-fakes.js";
import { type InProcessServer, startInProcess } from "../support/in-process-server.js";
import { type OddPayload, REFUSED, TAKEN } from "../support/odd-json.js";
import { type OwnerCalls, ownerCalls, readRefusal, readStatus, refused, type Submission } from "../support/owner-calls.js";
import { walkServers } from "../support/reading.js";

let server: InProcessServer;
let owner: OwnerCalls;
let log: KeptLog;
beforeAll(async () => {
  log = keptLog();
  server = await startInProcess({}, undefined, log);
  owner = ownerCalls(server.address);
});
afterAll(async () => {
  expect(log.lines.filter(({ level }) => level === "error")).toEqual([]);
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  owner.close();
  await server[Symbol.asyncDispose]();
});

type Reports = NonNullable<NonNullable<Parameters<typeof ReportTasksRequest.create>[0]>["reports"]>;
interface Payload {
  readonly data: Buffer;
  readonly contentType: string;
}

const MESSAGE_BYTES = 3_900_000;
const same = (payload: Payload | undefined, odd: OddPayload): boolean => payload !== undefined && odd.data.equals(payload.data);

function payloadOf({ data, contentType = "" }: OddPayload): Payload {
  return { data, contentType };
}

/** In groups whose payloads fit one message. */
function* inMessages<T>(items: readonly T[], bytesOf: (item: T) => number): Generator<T[]> {
  let group: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = bytesOf(item) + 500;
    if (group.length === 100 || (group.length > 0 && bytes + size > MESSAGE_BYTES)) {
      yield group;
      [group, bytes] = [[], 0];
    }
    group.push(item);
    bytes += size;
  }
  if (group.length > 0) yield group;
}

/** Leases of tasks by id, until there are so many. */
async function leaseAll(taskName: string, count: number): Promise<Map<string, Lease>> {
  const leases = new Map<string, Lease>();
  const request = { workerName: "w", maxTasks: 100, handlers: [{ taskName }], wait: { seconds: 10n }, sessionTtl: { seconds: 600n } };
  while (leases.size < count) {
    const answer = await owner.call(WorkerServiceService.leaseTasks, LeaseTasksRequest.create(request));
    if (answer.leases.length === 0) throw new Error(`only ${leases.size} of ${count} were leased`);
    for (const lease of answer.leases) leases.set(lease.taskId, lease);
  }
  return leases;
}

/** A report of each with its payload, a hundred at most in a call; the verdicts in order. */
async function reportAll(
  items: readonly { lease: Lease; odd: OddPayload }[],
  seq: number,
  body: (odd: Payload) => Reports[number],
): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const group of inMessages(items, ({ odd }) => odd.data.length)) {
    const reports = group.map(({ lease: { leaseToken }, odd }) => ({ leaseToken, reportSeq: seq, ...body(payloadOf(odd)) }));
    verdicts.push(...(await owner.call(WorkerServiceService.reportTasks, ReportTasksRequest.create({ reports }))).verdicts);
  }
  return verdicts;
}

/** Stores a task with each payload; answers their ids in order. */
async function store(name: string, payloads: readonly OddPayload[], fields: (odd: Payload) => NonNullable<Submission>): Promise<string[]> {
  return Promise.all(payloads.map(async (odd) => (await owner.submit({ name, ...fields(payloadOf(odd)) })).task.taskId));
}

async function command(...args: string[]): Promise<string> {
  const parts: Buffer[] = [];
  const out = { write: (text: string | Uint8Array) => parts.push(Buffer.from(text)) };
  const exitCode = await runCommandLine(args, { screen: createScreen(out, out, {}), env: {}, stdin: Readable.from([]) });
  const said = Buffer.concat(parts).toString();
  if (exitCode !== 0) throw new Error(said.slice(0, 500));
  return said;
}

describe("a payload that is taken", () => {
  it("comes back as metadata and execution metadata, from reads, leases and the command line", async () => {
    const ids = await store("both", TAKEN, (odd) => ({ metadata: odd, executionMetadata: odd }));
    const leases = await leaseAll("both", ids.length);
    for (const [at, odd] of TAKEN.entries()) {
      const task = await owner.get({ taskId: ids[at]! });
      const lease = leases.get(ids[at]!);
      for (const payload of [task.metadata, task.executionMetadata, lease?.metadata, lease?.executionMetadata])
        expect([same(payload, odd), payload?.contentType], odd.name).toEqual([true, odd.contentType ?? ""]);
      const shown = await command("get", ids[at]!, "-o", "json", "--address", server.address);
      JSON.parse(shown);
      if (odd.contentType === undefined) expect(shown.includes(odd.data.toString()), odd.name).toBe(true);
    }
  });

  it("comes back as a checkpoint, a suspension, a proceed and a result", async () => {
    const ids = await store("steps", TAKEN, () => ({}));
    const first = await leaseAll("steps", ids.length);
    const items = TAKEN.map((odd, at) => ({ odd, lease: first.get(ids[at]!)! }));
    const recorded = (verdicts: readonly Verdict[]): void =>
      expect(verdicts.filter(({ code }) => code !== VerdictCode.RECORDED)).toEqual([]);
    recorded(await reportAll(items, 1, (executionMetadata) => ({ checkpoint: { executionMetadata } })));
    for (const [at, odd] of TAKEN.entries())
      expect(same((await owner.get({ taskId: ids[at]! })).executionMetadata, odd), odd.name).toBe(true);
    recorded(await reportAll(items, 2, (executionMetadata) => ({ suspend: { untilProceeded: true, executionMetadata } })));
    for (const [at, odd] of TAKEN.entries()) {
      expect(same((await owner.get({ taskId: ids[at]! })).executionMetadata, odd), odd.name).toBe(true);
      await owner.proceed({ task: { taskId: ids[at]! }, update: { replace: payloadOf(odd) } });
    }
    const second = await leaseAll("steps", ids.length);
    for (const [at, odd] of TAKEN.entries()) expect(same(second.get(ids[at]!)?.executionMetadata, odd), odd.name).toBe(true);
    const again = TAKEN.map((odd, at) => ({ odd, lease: second.get(ids[at]!)! }));
    recorded(await reportAll(again, 1, (result) => ({ complete: { result } })));
    for (const [at, odd] of TAKEN.entries()) {
      const task = await owner.get({ taskId: ids[at]! });
      expect([task.state, same(task.result, odd), same(task.executionMetadata, odd)], odd.name).toEqual([TaskState.COMPLETED, true, true]);
    }
  });

  it("keeps its digits and keys when it is patched, or is the patch", async () => {
    const json = TAKEN.filter((odd) => isJson(payloadOf(odd)) && odd.data.length < 900_000);
    const ids = await store("patched", json, () => ({}));
    const leases = await leaseAll("patched", ids.length);
    await reportAll(
      json.map((odd, at) => ({ odd, lease: leases.get(ids[at]!)! })),
      1,
      (executionMetadata) => ({ suspend: { untilProceeded: true, executionMetadata } }),
    );
    for (const [at, odd] of json.entries()) {
      const taskId = ids[at]!;
      const isObject = odd.data.toString().trimStart().startsWith("{");
      await owner.proceed({ task: { taskId }, update: { mergePatch: { data: Buffer.from('{"\u2603":1}') } } });
      const patched = (await owner.get({ taskId })).executionMetadata!.data.toString();
      expect(patched.endsWith('"\u2603":1}'), odd.name).toBe(true);
      const [number] = /(?<=^\{"n": )[^}]+/.exec(odd.data.toString()) ?? [];
      if (number !== undefined) expect(patched).toBe(`{"n":${number},"\u2603":1}`);
      await owner.proceed({ task: { taskId }, update: { mergePatch: payloadOf(odd) } });
      const { data } = (await owner.get({ taskId })).executionMetadata!;
      if (!isObject) expect(sameJson(data, odd.data), odd.name).toBe(true);
      JSON.parse(data.toString());
    }
  });

  it("comes back in the details of an error, where it fits", async () => {
    const small = TAKEN.filter(({ data }) => data.length < 50_000);
    const ids = await store("failed", small, () => ({ retryPolicy: { maxAttempts: 1 } }));
    const leases = await leaseAll("failed", ids.length);
    await reportAll(
      small.map((odd, at) => ({ odd, lease: leases.get(ids[at]!)! })),
      1,
      (details) => ({ fail: { error: { code: "e", details, cause: { details } } } }),
    );
    for (const [at, odd] of small.entries()) {
      const { error } = await owner.get({ taskId: ids[at]! });
      expect(same(error?.details, odd), odd.name).toBe(true);
      if (odd.data.length < 20_000) expect(same(error?.cause?.details, odd), odd.name).toBe(true);
    }
  });

  it("is found by what it contains, beside all those that cannot be searched", async () => {
    const ids = await store("searched", TAKEN, (odd) => ({ metadata: odd, executionMetadata: odd }));
    for (const [at, { name, foundBy }] of TAKEN.entries()) {
      if (foundBy === undefined) continue;
      const filter = at % 2 === 0 ? { metadataContains: foundBy } : { executionMetadataContains: foundBy };
      const found = await walkServers([owner], { filter: { names: ["searched"], ...filter }, pageSize: 100 });
      expect(found.includes(ids[at]!), `${name} by ${foundBy}`).toBe(true);
    }
    expect(await walkServers([owner], { filter: { names: ["searched"], metadataContains: '{"nobody":"has"}' } })).toEqual([]);
  });

  it("is the same submission when it is sent again, and no other", async () => {
    for (const [at, odd] of TAKEN.entries()) {
      const task = {
        name: "again",
        key: `k${at}`,
        metadata: payloadOf(odd),
        metadataFingerprint: Buffer.from(isJson(payloadOf(odd)) ? "" : "f"),
      };
      const { created, task: first } = await owner.submit(task);
      const second = await owner.submit(task);
      expect([created, second.created, second.task.taskId], odd.name).toEqual([true, false, first.taskId]);
    }
    const one = { name: "again", key: "digits", metadata: { data: Buffer.from('{"n":9007199254740993}') } };
    await owner.submit(one);
    const other = { ...one, metadata: { data: Buffer.from('{"n":9007199254740992}') } };
    expect(await refused(owner.submit(other))).toMatchObject({ reason: "KEY_METADATA_MISMATCH" });
  });
});

describe("a payload that is refused", () => {
  const mixed = [...TAKEN, ...REFUSED]
    .map((odd, at) => ({ odd, bad: at >= TAKEN.length, place: (at * 37) % 101 }))
    .sort((a, b) => a.place - b.place);

  it("fails alone among the tasks of one call and among calls of the same moment", async () => {
    for (const group of inMessages(mixed, ({ odd }) => odd.data.length)) {
      const results = await owner.submitMany(
        group.map(({ odd }) => ({ name: "mixed", metadata: payloadOf(odd) })),
        false,
      );
      for (const [at, { odd, bad }] of group.entries()) {
        const { created, error } = results[at]!;
        expect([created, error?.code], odd.name).toEqual(bad ? [false, status.INVALID_ARGUMENT] : [true, undefined]);
        if (bad) expect(readStatus(error!).fields).toEqual([`tasks[${at}].metadata.data`]);
      }
    }
    const calls = await Promise.allSettled(mixed.map(({ odd }) => owner.submit({ name: "mixed", executionMetadata: payloadOf(odd) })));
    for (const [at, call] of calls.entries()) {
      const { odd, bad } = mixed[at]!;
      expect(call.status, odd.name).toBe(bad ? "rejected" : "fulfilled");
      if (call.status === "rejected") expect(readRefusal(call.reason as never).fields).toEqual(["task.execution_metadata.data"]);
    }
  });

  it("is named by every proceed, which then changes nothing", async () => {
    const { task } = await owner.submit({ name: "proceeded", scheduleTime: { seconds: 4_000_000_000n } });
    for (const odd of REFUSED)
      for (const field of ["mergePatch", "replace"] as const) {
        const answer = await refused(owner.proceed({ task: { taskId: task.taskId }, update: { [field]: payloadOf(odd) } }));
        const path = field === "replace" ? "update.replace.data" : "update.merge_patch.data";
        expect([answer.code, answer.fields[0]], odd.name).toEqual(["INVALID_ARGUMENT", path]);
      }
    expect((await owner.get({ taskId: task.taskId })).etag).toBe(task.etag);
  });

  it("fails alone among the reports of one call", async () => {
    const ids = await store(
      "reports",
      mixed.map(({ odd }) => odd).map((odd) => ({ ...odd, data: Buffer.from("0") })),
      () => ({}),
    );
    const leases = await leaseAll("reports", ids.length);
    const items = mixed.map(({ odd, bad }, at) => ({ odd, bad, lease: leases.get(ids[at]!)! }));
    const kinds: readonly [string, number, (odd: Payload) => Reports[number]][] = [
      ["checkpoint.execution_metadata.data", 1, (executionMetadata) => ({ checkpoint: { executionMetadata } })],
      ["complete.result.data", 2, (result) => ({ complete: { result } })],
    ];
    for (const [path, seq, body] of kinds) {
      const verdicts = await reportAll(items, seq, body);
      for (const [at, { odd, bad }] of items.entries()) {
        const { code, status: why } = verdicts[at]!;
        expect([code, why && readStatus(why).fields[0]], odd.name).toEqual(
          bad ? [VerdictCode.INVALID, path] : [VerdictCode.RECORDED, undefined],
        );
      }
    }
    for (const [at, { bad, odd }] of items.entries())
      expect((await owner.get({ taskId: ids[at]! })).state, odd.name).toBe(bad ? TaskState.FAILED : TaskState.COMPLETED);
  });
});
