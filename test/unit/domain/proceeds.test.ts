// What becomes of proceeds: remembered in order, consumed in order, answered once for each request id, and never without limit?
import { describe, expect, it } from "vitest";
import type { Answer, Event } from "@leasehold/server/domain/event";
import {
  answered,
  consume,
  isJson,
  MAX_REMEMBERED,
  MAX_REMEMBERED_BYTES,
  MAX_REQUESTS,
  MAX_TOLD,
  patchPayload,
  remember,
  told,
} from "@leasehold/server/domain/proceeds";
import type { LiveTask, Payload } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import {
  aProceed,
  bodies,
  decisionContext,
  json,
  NOW,
  proceedEvent,
  proceedRecord,
  reportOf,
  runningTask,
  seasonedTask,
  SECOND,
  textOf,
} from "../../support/domain.js";

const image: Payload = { data: new Uint8Array([255, 0]), contentType: "image/png" };
const sized = (bytes: number): Payload => ({ data: new Uint8Array(bytes).fill(0x20), contentType: "" });
const suspended = seasonedTask({ state: "SUSPENDED", runAtUs: null, suspendTimeUs: NOW });

function happens(task: LiveTask, event: Event): LiveTask {
  const answer = transition(task, event, decisionContext());
  if (answer.kind !== "changed") throw new Error(`it was ${answer.kind}`);
  return answer.task;
}

describe("remembered proceeds", () => {
  it("are kept in the order in which they came", () => {
    const notes = ["a", "b", "c"];
    const record = notes.reduce((kept, note) => remember(kept, aProceed({ note }))!, proceedRecord());
    expect(record.remembered.map(({ note }) => note)).toEqual(notes);
  });

  it("are at most so many", () => {
    const full = proceedRecord({ remembered: Array.from({ length: MAX_REMEMBERED - 1 }, () => aProceed()) });
    expect(remember(full, aProceed())?.remembered).toHaveLength(MAX_REMEMBERED);
    expect(remember(remember(full, aProceed())!, aProceed())).toBeNull();
  });

  it("are at most so large together", () => {
    const half = aProceed({ patch: sized(MAX_REMEMBERED_BYTES / 2) });
    const one = remember(proceedRecord(), half)!;
    expect(remember(one, half)).not.toBeNull();
    expect(remember(one, aProceed({ patch: sized(MAX_REMEMBERED_BYTES / 2 + 1) }))).toBeNull();
    expect(remember(remember(one, half)!, aProceed())).not.toBeNull();
  });

  it("refuse one more with a reason, and the task keeps what it had", () => {
    const full = runningTask({ proceeds: proceedRecord({ remembered: Array.from({ length: MAX_REMEMBERED }, () => aProceed()) }) });
    expect(transition(full, proceedEvent(), decisionContext())).toEqual({ kind: "rejected", rejection: { reason: "TOO_MANY_PROCEEDS" } });
  });
});

describe("the consumption of proceeds", () => {
  it("applies patches in order", () => {
    const proceeds = [{ b: 1 }, { b: null, c: 2 }, { c: 3 }].map((patch) => aProceed({ patch: json(patch) }));
    expect(textOf(consume(proceedRecord(), proceeds, json({ a: 0 }), 1000).executionMetadata)).toBe('{"a":0,"c":3}');
  });

  it("leaves execution metadata alone where nothing is patched", () => {
    expect(consume(proceedRecord(), [aProceed()], json(1), 1000)).not.toHaveProperty("executionMetadata");
    expect(consume(proceedRecord(), [], json(1), 1000)).toMatchObject({ runAtUs: null, unapplied: 0 });
  });

  it("makes execution metadata where there is none", () => {
    expect(textOf(consume(proceedRecord(), [aProceed({ patch: json({ a: 1 }) })], null, 1000).executionMetadata)).toBe('{"a":1}');
  });

  it("waits for the latest of the schedule times", () => {
    const proceeds = [5, null, 9, 7].map((seconds) => aProceed({ runAtUs: seconds === null ? null : NOW + seconds * SECOND }));
    expect(consume(proceedRecord(), proceeds, null, 1000).runAtUs).toBe(NOW + 9 * SECOND);
  });

  it("tells every proceed to the handler, behind those that it was not told of yet", () => {
    const before = proceedRecord({ consumed: [{ note: "before", proceedUs: 1 }], unapplied: [json(0)] });
    const { record } = consume(before, [aProceed({ note: "now", patch: image })], json({}), 1000);
    expect(record).toMatchObject({ remembered: [], consumed: [{ note: "before" }, { note: "now" }], unapplied: [json(0), image] });
  });

  it("goes on behind a patch that cannot be applied", () => {
    const patches = [json({ a: 1 }), image, json({ c: "x".repeat(50) }), json({ b: 2 })];
    const consumed = consume(
      proceedRecord(),
      patches.map((patch) => aProceed({ patch })),
      null,
      50,
    );
    expect(textOf(consumed.executionMetadata)).toBe('{"a":1,"b":2}');
    expect(consumed.record.unapplied).toEqual([image, patches[2]]);
  });

  it("leaves a patch aside that would make the execution metadata too large", () => {
    const patch = json({ long: "x".repeat(100) });
    const consumed = consume(proceedRecord(), [aProceed({ patch })], json({ a: 1 }), 50);
    expect(consumed).toMatchObject({ unapplied: 1, record: { unapplied: [patch] } });
    expect(consumed).not.toHaveProperty("executionMetadata");
  });
});

describe("a patch", () => {
  it.each([
    ["", true],
    ["application/json", true],
    ["Application/JSON; charset=utf-8", true],
    ["application/vnd.x+json", true],
    ["text/plain", false],
    ["application/octet-stream", false],
  ])("of content type %j applies: %s", (contentType, applies) => {
    expect(isJson({ data: new Uint8Array(), contentType })).toBe(applies);
  });

  it("applies neither to nor from what is not JSON", () => {
    expect(patchPayload(image, json({}))).toBeNull();
    expect(patchPayload(json({}), image)).toBeNull();
  });

  it("keeps the content type of the document", () => {
    const target = { ...json({ a: 1 }), contentType: "application/vnd.x+json" };
    expect(patchPayload(target, json({ b: 2 }))?.contentType).toBe("application/vnd.x+json");
    expect(patchPayload(null, { ...json({ b: 2 }), contentType: "application/json" })?.contentType).toBe("application/json");
  });
});

describe("proceeds of a task that waits for its worker", () => {
  it("are told to it as the last of them, so that its lease fits a message", () => {
    let task: LiveTask = suspended;
    for (let n = 0; n < MAX_TOLD + 5; n++) task = happens(task, proceedEvent({ note: `${n}` }));
    expect(task.proceeds?.consumed.map(({ note }) => note)).toEqual(Array.from({ length: MAX_TOLD }, (_, n) => `${n + 5}`));
  });

  it("count among those that were remembered", () => {
    const told = Array.from({ length: MAX_TOLD }, () => ({ note: "told", proceedUs: NOW }));
    const { record } = consume(proceedRecord({ consumed: told }), [aProceed({ note: "remembered" })], null, 1000);
    expect(record.consumed).toHaveLength(MAX_TOLD);
    expect(record.consumed.at(-1)?.note).toBe("remembered");
  });
});

describe("a request id", () => {
  const request = { requestId: "r-1", bodyHash: "f00d" };
  const proceed = proceedEvent({ note: "once" }, { request });

  it("gets its first answer again, also after the task ran and suspended again", () => {
    const again = (task: LiveTask): Answer => transition(task, proceed, decisionContext());
    const woken = happens(suspended, proceed);
    expect(again(woken)).toEqual({ kind: "repeated", result: "APPLIED" });
    const lease = { nonce: "11".repeat(16), sessionId: "s", epoch: 1 };
    const running = happens(woken, { kind: "leased", lease, workerName: "w", fencingBase: 0 });
    expect(again(running)).toEqual({ kind: "repeated", result: "APPLIED" });
    const checkpointed = happens(running, reportOf(bodies.checkpoint, { seq: 1 }));
    const asleep = happens(checkpointed, reportOf(bodies.suspend, { seq: 2 }));
    expect(asleep.state).toBe("SUSPENDED");
    expect(again(asleep)).toEqual({ kind: "repeated", result: "APPLIED" });
  });

  it("gets its first answer again while it is remembered and after it was consumed", () => {
    const remembering = happens(runningTask(), proceed);
    expect(transition(remembering, proceed, decisionContext())).toEqual({ kind: "repeated", result: "REMEMBERED" });
    const resumed = happens(remembering, reportOf(bodies.suspend));
    expect(resumed.proceeds?.consumed).toHaveLength(1);
    expect(transition(resumed, proceed, decisionContext())).toEqual({ kind: "repeated", result: "REMEMBERED" });
  });

  it("gets its first answer again also after a cancel was requested", () => {
    const remembering = happens(runningTask(), proceed);
    const cancelling = happens(remembering, { kind: "cancel-requested", reason: "", graceUs: SECOND });
    expect(transition(cancelling, proceed, decisionContext())).toEqual({ kind: "repeated", result: "REMEMBERED" });
  });

  it("is refused with another body", () => {
    const other = proceedEvent({}, { request: { ...request, bodyHash: "beef" } });
    expect(transition(happens(suspended, proceed), other, decisionContext())).toEqual({
      kind: "rejected",
      rejection: { reason: "REQUEST_ID_REUSED" },
    });
  });

  it("is kept among the last so many", () => {
    const ids = Array.from({ length: MAX_REQUESTS + 3 }, (_, at) => ({ requestId: String(at), bodyHash: "", result: "APPLIED" as const }));
    const record = ids.reduce(answered, proceedRecord());
    expect(record.requests.map(({ requestId }) => requestId)).toEqual(ids.slice(3).map(({ requestId }) => requestId));
    expect(answered(record, null)).toBe(record);
  });
});

describe("what the handler was told", () => {
  it("is forgotten, but not what waits or was answered", () => {
    const request = { requestId: "r", bodyHash: "", result: "APPLIED" as const };
    const full = proceedRecord({
      consumed: [{ note: "", proceedUs: 1 }],
      unapplied: [image],
      remembered: [aProceed()],
      requests: [request],
    });
    expect(told(full)).toEqual(proceedRecord({ remembered: [aProceed()], requests: [request] }));
    expect(told(proceedRecord({ consumed: [{ note: "", proceedUs: 1 }] }))).toBeNull();
    expect(told(null)).toBeNull();
  });

  it("of two proceeds of a suspended task is both, in order, with one wake-up at the later of their times", () => {
    const first = transition(suspended, proceedEvent({ note: "one", patch: json({ b: 1 }), runAtUs: NOW + 9 * SECOND }), decisionContext());
    if (first.kind !== "changed") throw new Error(`it was ${first.kind}`);
    const stored = decisionContext({ executionMetadata: first.executionMetadata ?? null });
    const second = transition(first.task, proceedEvent({ note: "two", patch: json({ c: 2 }), runAtUs: NOW + 4 * SECOND }), stored);
    expect(second).toMatchObject({
      kind: "changed",
      proceedResult: "APPLIED",
      task: {
        state: "PENDING",
        pendingReason: "PROCEEDED",
        runAtUs: NOW + 9 * SECOND,
        proceeds: { consumed: [{ note: "one" }, { note: "two" }] },
      },
    });
    expect(second.kind === "changed" && textOf(second.executionMetadata)).toBe('{"a":1,"b":1,"c":2}');
  });

  it("is applied also where the task woke by itself a moment before", () => {
    const woken = happens({ ...suspended, runAtUs: NOW }, { kind: "time-passed", lenient: false });
    expect(transition(woken, proceedEvent({ patch: json({ b: 1 }) }), decisionContext())).toMatchObject({
      proceedResult: "APPLIED",
      task: { state: "PENDING", pendingReason: "PROCEEDED" },
    });
  });
});
