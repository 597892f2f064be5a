// What may owners do in a history? Submit, with and without keys, again and changed; cancel, proceed, update, retry, delete. Each step does the
// same to the model and to Postgres and compares the answers.
import fc from "fast-check";
import type { Event } from "@leasehold/server/domain/event";
import type { Submission } from "@leasehold/server/domain/new-task";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";
import { newTask } from "@leasehold/server/domain/new-task";
import type { LiveTask } from "@leasehold/server/domain/task";
import type { ClaimingSession, Inserted } from "@leasehold/server/storage/storage";
import { json } from "../support/domain.js";
import { submissionOf } from "../support/storage.js";
import { FENCING_BASE, keyPlace, type Model, type ModelSession, type ModelTask } from "./model.js";
import { on, pick, SECOND, type Step, step } from "./step.js";
import { expectSame, type System } from "./system.js";

const OPAQUE = { data: Buffer.from([255, 0, 1]), contentType: "image/png" };

/** Execution metadata that is none, JSON of some kind, or opaque. */
export const anyMetadata = fc.constantFrom(null, json({ a: 1 }), json({ b: { c: [1, 2] }, n: 12345678901 }), OPAQUE);

const anySubmission = fc.record({
  name: fc.constantFrom("a", "b"),
  queue: fc.constantFrom("q0", "q1"),
  priority: fc.nat(2),
  inUs: fc.constantFrom(null, null, null, null, 0, 10 * SECOND),
  deadlines: fc.record({
    queueUs: fc.constantFrom(null, 10 * SECOND, 60 * SECOND),
    attemptUs: fc.constantFrom(null, null, 30 * SECOND),
    silenceUs: fc.constantFrom(null, null, 15 * SECOND),
    totalUs: fc.constantFrom(null, null, null, null, 150 * SECOND),
  }),
  policy: fc.record({
    maxAttempts: fc.integer({ min: 1, max: 3 }),
    maxLostLeases: fc.constantFrom(0, 3, 3, 3),
    lostLeaseDelaysUs: fc.constantFrom([0], [0, 10 * SECOND]),
  }),
  key: fc.constantFrom(null, null, "k0", "k1"),
  keyConflictPolicy: fc.constantFrom("RETURN_EXISTING" as const, "REJECT" as const, "REPLACE_PENDING" as const, "REPLACE_PENDING" as const),
  keyHoldUs: fc.constantFrom(0, 30 * SECOND, 200 * SECOND),
  metadata: fc.nat(1),
  executionMetadata: anyMetadata,
  label: fc.boolean(),
  hashed: fc.constantFrom(true, true, true, false),
});

/** A session whose free slot waits for the task while it is stored, right or of an older epoch; mostly none. */
const anySlot = fc.option(fc.record({ session: fc.nat(3), currentEpoch: fc.constantFrom(true, true, true, false) }), { freq: 2 });

const submit = step("submit", fc.record({ on, atomic: fc.boolean(), task: anySubmission, slot: anySlot }), async (given, model, system) => {
  const { inUs, policy, metadata, label, hashed, ...fields } = given.task;
  const id = `00000000-0000-7000-8000-${(model.submissions.length + 1).toString(16).padStart(12, "0")}`;
  const submission = submissionOf({
    ...fields,
    id,
    scheduleUs: inUs === null ? null : model.nowUs + inUs,
    retryPolicy: { ...DEFAULT_RETRY_POLICY, ...policy },
    metadata: json({ m: metadata }),
    labels: new Map(label ? [["colour", "red"]] : []),
    contentHash: hashed ? Buffer.from(`hash of ${id}`) : null,
  });
  model.submissions.push(submission);
  const session = given.slot === null ? undefined : pick(model.sessions, given.slot.session);
  if (given.slot === null || session === undefined) {
    await submitTo(system, given.on, given.atomic, model, submission);
    return;
  }
  const epoch = given.slot.currentEpoch ? session.epoch : session.epoch - 1;
  const nonce = (model.leases.length * 4 + 3).toString(16).padStart(32, "0");
  const claiming = { id: session.id, epoch, nonce, workerName: "worker of a slot" };
  const answers = await system.servers[given.on].storage.insertTasks([newTask(submission, model.nowUs)], given.atomic, undefined, {
    sessions: [claiming],
    sessionOf: new Map([[id, 0]]),
  });
  const answer = submitToModel(model, submission);
  const leased = answer.kind === "created" && session.epoch === epoch ? leaseInModel(model, session, id, claiming) : undefined;
  if (leased !== undefined) reach(system, "leased while stored");
  expectSame(
    answers,
    [leased === undefined ? answer : { ...answer, leased: { task: leased, isCurrent: true } }],
    "the answer to a submission with a slot",
  );
});

function leaseInModel(model: Model, session: ModelSession, id: string, { nonce, workerName }: ClaimingSession): LiveTask | undefined {
  const task = model.tasks.get(id);
  if (task === undefined || session.endedUs !== null || session.expiresAtUs <= model.nowUs) return undefined;
  const lease = { nonce, sessionId: session.id, epoch: session.epoch };
  if (model.happen(task, { kind: "leased", lease, workerName, fencingBase: FENCING_BASE }).kind !== "changed") return undefined;
  model.leases.push({ taskId: id, nonce, sessionId: session.id, copy: task.live });
  return task.live;
}

const submitAgain = step(
  "submit again",
  fc.record({
    on,
    atomic: fc.boolean(),
    which: fc.nat(),
    changed: fc.constantFrom("nothing" as const, "nothing" as const, "content" as const, "id" as const),
  }),
  async (given, model, system) => {
    const earlier = pick(model.submissions, given.which);
    if (earlier === undefined) return;
    const id = `00000000-0000-7000-8001-${(model.submissions.length + 1).toString(16).padStart(12, "0")}`;
    const changes = { nothing: {}, content: { contentHash: Buffer.from("other") }, id: { id, contentHash: Buffer.from(id) } };
    const submission = { ...earlier, ...changes[given.changed] };
    model.submissions.push(submission);
    await submitTo(system, given.on, given.atomic, model, submission);
  },
);

async function submitTo({ servers }: System, server: 0 | 1, atomic: boolean, model: Model, submission: Submission): Promise<void> {
  const answers = await servers[server].storage.insertTasks([newTask(submission, model.nowUs)], atomic);
  expectSame(answers, [submitToModel(model, submission)], "the answer to a submission");
}

function submitToModel(model: Model, submission: Submission): Inserted {
  const { id, name, key, contentHash, metadata } = submission;
  const known = model.tasks.get(id);
  if (known !== undefined) {
    const hash = known.submission.contentHash;
    const sameContent = hash !== null && contentHash !== null && Buffer.compare(hash, contentHash) === 0;
    return { kind: "id-exists", sameContent, exists: true };
  }
  const place = key === null ? null : keyPlace(name, key);
  const holder = place !== null && model.isTaken(place) ? model.tasks.get(model.keys.get(place)?.id ?? "") : undefined;
  const created: Inserted = { kind: "created", createTimeUs: model.nowUs };
  if (place === null || holder === undefined) {
    model.store(submission);
    return created;
  }
  const sameMetadata = Buffer.compare(holder.submission.metadata.data, metadata.data) === 0;
  const finished = holder.finish !== null;
  const taken: Inserted = { kind: "key-taken", id: holder.submission.id, sameMetadata, finished, started: finished };
  if (submission.keyConflictPolicy !== "REPLACE_PENDING" || finished) return taken;
  const before = holder.live;
  model.keys.delete(place);
  const answer = model.happen(holder, { kind: "replaced" });
  if (answer.kind !== "finished") {
    model.keys.set(place, { id: holder.submission.id, heldUntilUs: null });
    return { ...taken, started: true };
  }
  model.store(submission);
  return { ...created, replaced: { before, answer } };
}

const etag = fc.constantFrom("none", "none", "right", "wrong");
// Mostly the newest: several things are to happen to one task.
const anyTask = { on, task: fc.oneof({ weight: 5, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.nat() }), etag };

function etagOf(task: ModelTask, given: { readonly etag: string }): number | undefined {
  return { none: undefined, right: task.live.revision, wrong: task.live.revision - 1 }[given.etag];
}

/** An event that an owner asks for: locked, decided, written by one of the servers. */
async function decide(
  given: { readonly on: 0 | 1; readonly task: number; readonly etag: string },
  event: Event,
  model: Model,
  system: System,
): Promise<void> {
  const task = pick([...model.tasks.values()], given.task);
  if (task === undefined) return;
  const { id } = task.submission;
  const before = task.live;
  const etagRevision = etagOf(task, given);
  const result = await system.servers[given.on].storage.decide({ namespace: "default", id }, event, etagRevision);
  if (task.finish !== null) {
    const outcome = { state: task.finish.state, lastOutcome: before.lastOutcome };
    expectSame(result, { kind: "finished", outcome, id }, "the answer about a finished task");
    return;
  }
  const answer = model.answer(task, event);
  if (answer.kind !== "repeated" && given.etag === "wrong") {
    expectSame(result, { kind: "etag-mismatch" }, "the answer to another etag");
    return;
  }
  expectSame(result, { kind: "decided", decided: { before, answer } }, `the answer to ${event.kind}`);
  if (answer.kind === "changed" || answer.kind === "finished") model.apply(task, answer);
  if (answer.kind === "rejected") reach(system, `rejected ${answer.rejection.reason}`);
  if (answer.kind === "repeated" || answer.kind === "changed") reach(system, `${event.kind} ${answer.kind}`);
}

const cancel = step(
  "cancel",
  fc.record({ ...anyTask, graceUs: fc.constantFrom(0, 30 * SECOND, 60 * SECOND) }),
  ({ graceUs, ...given }, model, system) => decide(given, { kind: "cancel-requested", reason: "stop", graceUs }, model, system),
);

const proceed = step(
  "proceed",
  fc.record({
    ...anyTask,
    how: fc.constantFrom("keep", "patch", "patch", "bad patch", "bad patch", "replace"),
    inUs: fc.constantFrom(null, null, 0, 10 * SECOND),
    needsSuspended: fc.constantFrom(false, false, false, true),
    request: fc.constantFrom(null, null, "r0", "r1"),
    body: fc.constantFrom("", "", "", "other"),
  }),
  ({ how, inUs, needsSuspended, request, body, ...given }, model, system) => {
    const patches: Record<string, typeof OPAQUE | ReturnType<typeof json>> = {
      patch: json({ p: model.nowUs, a: null }),
      "bad patch": OPAQUE,
    };
    const runAtUs = inUs === null ? null : model.nowUs + inUs;
    return decide(
      given,
      {
        kind: "proceeded",
        proceed: { note: how, proceedUs: model.nowUs, patch: patches[how] ?? null, runAtUs },
        replace: how === "replace" ? json({ new: 1 }) : null,
        needsSuspended,
        request: request === null ? null : { requestId: request, bodyHash: body },
      },
      model,
      system,
    );
  },
);

const update = step(
  "update",
  fc.record({
    ...anyTask,
    priority: fc.constantFrom(null, 0, 9),
    queue: fc.constantFrom(null, "q0", "q1"),
    inUs: fc.constantFrom(null, -SECOND, 20 * SECOND),
  }),
  ({ priority, queue, inUs, ...given }, model, system) =>
    decide(given, { kind: "updated", priority, queue, runAtUs: inUs === null ? null : model.nowUs + inUs }, model, system),
);

const retry = step(
  "retry",
  fc.record({ ...anyTask, resetAttempts: fc.boolean(), keepExecutionMetadata: fc.boolean(), inUs: fc.constantFrom(null, 10 * SECOND) }),
  async ({ resetAttempts, keepExecutionMetadata, inUs, ...given }, model, system) => {
    const task = pick(finishedFirst(model), given.task);
    if (task === undefined) return;
    const how = { resetAttempts, keepExecutionMetadata, runAtUs: inUs === null ? null : model.nowUs + inUs };
    const reference = { namespace: "default", id: task.submission.id };
    const result = await system.servers[given.on].storage.retryTask(reference, how, etagOf(task, given));
    const mismatch = given.etag === "wrong" && task.finish !== null;
    const kind = mismatch ? "etag-mismatch" : model.retry(task, how);
    expectSame(result.kind, kind, "the answer to a retry");
    if (result.kind === "retried") expectSame(result.task, task.live, "the retried task");
    reach(system, `retry ${kind}`);
  },
);

const remove = step("delete", fc.record(anyTask), async (given, model, system) => {
  const task = pick(finishedFirst(model), given.task);
  if (task === undefined) return;
  const { id } = task.submission;
  const result = await system.servers[given.on].storage.deleteTask({ namespace: "default", id }, etagOf(task, given));
  if (task.finish === null) expectSame(result, { kind: "not-finished" }, "the answer to a removal");
  else if (given.etag === "wrong") expectSame(result, { kind: "etag-mismatch" }, "the answer to a removal");
  else {
    expectSame(result, { kind: "deleted", id }, "the answer to a removal");
    model.remove(id);
  }
});

function finishedFirst(model: Model): ModelTask[] {
  const finished = [...model.tasks.values()].filter(({ finish }) => finish !== null);
  return finished.length > 0 ? finished : [...model.tasks.values()];
}

/** Counts that a history came here. */
export function reach(system: System, what: string): void {
  system.reached.set(what, (system.reached.get(what) ?? 0) + 1);
}

/** Everything that owners do, by weight. */
export const ownerSteps: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Step> }[] = [
  { weight: 8, arbitrary: submit },
  { weight: 2, arbitrary: submitAgain },
  { weight: 4, arbitrary: cancel },
  { weight: 9, arbitrary: proceed },
  { weight: 1, arbitrary: update },
  { weight: 2, arbitrary: retry },
  { weight: 1, arbitrary: remove },
];
