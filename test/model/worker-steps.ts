// What may workers do in a history? Connect, claim, report in and out of order, late and again, through either server, fall silent, come back
// with all, some or none of their leases. Each step does the same to the model and to Postgres and compares the answers.
import fc from "fast-check";
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import type { ReportBody, Rejection } from "@leasehold/server/domain/event";
import { encodeLeaseToken } from "@leasehold/server/domain/lease-token";
import type { LiveTask, TaskState } from "@leasehold/server/domain/task";
import { closedLease, transition } from "@leasehold/server/domain/transition";
import type { GroupWithWork } from "@leasehold/server/storage/storage";
import { bodies, FAILURE, json } from "../support/domain.js";
import { helloOf, MAX_PAYLOAD_BYTES } from "../support/storage.js";
import { FENCING_BASE, type Model, type ModelLease, type ModelSession } from "./model.js";
import { anyMetadata, reach } from "./owner-steps.js";
import { on, pick, SECOND, type Step, step } from "./step.js";
import { expectSame, type System } from "./system.js";

const ttlUs = fc.constantFrom(5 * SECOND, 20 * SECOND, 20 * SECOND, 60 * SECOND, 3600 * SECOND);

/** Opens a session on the first server, for every history to begin with. */
export async function openSession(model: Model, { servers }: System, server: 0 | 1, ttl: number): Promise<void> {
  const { id, epoch } = await servers[server].storage.openSession(helloOf({ ttlUs: ttl }));
  model.sessions.push({ id, epoch, connection: 1, ttlUs: ttl, expiresAtUs: model.nowUs + ttl, endedUs: null });
}

const open = step("open a session", fc.record({ on, ttlUs }), (given, model, system) => openSession(model, system, given.on, given.ttlUs));

/** Sessions that can claim first, then all others. */
function pickSession(model: Model, at: number, living: boolean): ModelSession | undefined {
  const alive = model.sessions.filter((session) => isAlive(model, session));
  return pick(living && alive.length > 0 ? alive : model.sessions, at);
}

function isAlive({ nowUs }: Model, { endedUs, expiresAtUs }: ModelSession): boolean {
  return endedUs === null && expiresAtUs > nowUs;
}

const mostly = fc.constantFrom(true, true, true, true, false);

const lease = step(
  "lease",
  fc.record({
    on,
    session: fc.nat(3),
    also: fc.option(fc.nat(3), { nil: null, freq: 3 }),
    living: mostly,
    currentEpoch: mostly,
    slots: fc.integer({ min: 1, max: 3 }),
    free: fc.integer({ min: 1, max: 6 }),
    /** What a server claims for: others, or suspects where some are due. */
    suspectsToo: fc.boolean(),
  }),
  async (given, model, system) => {
    const { free } = given;
    const suspects = given.suspectsToo && model.pending(true).some(({ live }) => (live.runAtUs ?? 0) <= model.nowUs);
    const places = [given.session, ...(given.also === null ? [] : [given.also])];
    const sessions = [...new Set(places.map((at) => pickSession(model, at, given.living)).filter((one) => one !== undefined))];
    const { storage } = system.servers[given.on];
    const groups = (await storage.groupsWithWork("default", 100)).filter((group) => group.suspect === suspects);
    expectSame([...groups].sort(byGroup), groupsOf(model, suspects), "groups with work");
    const claiming = sessions.map(({ id, epoch }, at) => ({
      ...{ id, epoch: given.currentEpoch ? epoch : epoch - 1, workerName: `worker ${at}` },
      nonce: (model.leases.length * 4 + at + 1).toString(16).padStart(32, "0"),
    }));
    const slots = sessions.flatMap((_, at) => Array.from({ length: given.slots }, () => at));
    const claim = { namespace: "default", suspects, groups: groups.map((group) => ({ ...group, free })), sessions: claiming, slots };
    const { leased, outdated } = await storage.leaseTasks(claim);
    expectSame(outdated, [], "claimed for a session that had changed");
    const able = sessions.filter((session) => given.currentEpoch && isAlive(model, session));
    const expected = model.claimed(suspects, able.length * given.slots, free);
    expectSame(leased.map(({ live }) => live.identity.id).sort(), expected.sort(), "the claimed tasks");
    for (const { live, executionMetadata, metadata } of leased) {
      const task = model.tasks.get(live.identity.id);
      const holder = claiming.find(({ id }) => id === live.lease?.sessionId);
      if (task === undefined || holder === undefined) throw new Error("leased to nobody that claimed");
      const { nonce, id: sessionId, epoch, workerName } = holder;
      const event = { kind: "leased", lease: { nonce, sessionId, epoch }, workerName, fencingBase: FENCING_BASE } as const;
      expect(model.happen(task, event).kind).toBe("changed");
      expectSame(live, task.live, "the leased task");
      expectSame(
        { executionMetadata, metadata },
        { executionMetadata: task.executionMetadata, metadata: task.submission.metadata },
        "payloads",
      );
      model.leases.push({ taskId: live.identity.id, nonce, sessionId, copy: task.live });
    }
    for (const { id } of sessions)
      expect(leased.filter(({ live }) => live.lease?.sessionId === id).length).toBeLessThanOrEqual(given.slots);
    if (leased.length > 0) reach(system, suspects ? "leased suspect" : "leased");
  },
);

type Groups = Omit<GroupWithWork, "namespace">;

function byGroup(a: Groups, b: Groups): number {
  const key = ({ queue, name, priority }: Groups): string => `${queue} ${name} ${priority}`;
  return key(a) < key(b) ? -1 : 1;
}

function groupsOf(model: Model, suspect: boolean): GroupWithWork[] {
  const groups = new Map<string, GroupWithWork>();
  for (const { live } of model.pending(suspect)) {
    const { queue, priority } = live;
    const { name, namespace } = live.identity;
    const key = `${queue} ${name} ${priority}`;
    const earliestUs = Math.min(live.runAtUs ?? 0, groups.get(key)?.earliestUs ?? Number.POSITIVE_INFINITY);
    groups.set(key, { namespace, queue, name, priority, suspect, earliestUs });
  }
  return [...groups.values()].sort(byGroup);
}

// ---- reports

const anyBody = fc
  .record({
    kind: fc.constantFrom(
      ...(["checkpoint", "checkpoint", "complete", "fail", "fail", "failForGood", "failAfter", "suspend", "suspend"] as const),
      ...(["suspendUntil", "suspendFor", "release", "release", "cancel", "badCheckpoint", "badOutcome"] as const),
    ),
    executionMetadata: anyMetadata,
  })
  .map(({ kind, executionMetadata }): ReportBody => {
    switch (kind) {
      case "checkpoint":
        return { kind, executionMetadata: executionMetadata ?? json({ saved: true }) };
      case "badCheckpoint":
      case "badOutcome":
        return bodies[kind];
      case "failAfter":
        return { ...bodies.fail, executionMetadata, error: { ...FAILURE, code: "later", cause: FAILURE }, retryAfterUs: 7 * SECOND };
      case "suspendFor":
        return { ...bodies.suspend, executionMetadata, afterUs: 20 * SECOND };
      default:
        return { ...bodies[kind], executionMetadata };
    }
  });

const report = step(
  "report",
  fc.record({
    on,
    which: fc.nat(5),
    late: fc.constantFrom(false, false, false, true),
    ahead: fc.constantFrom(0, 0, 0, 0, 0, -1, -2, 1),
    body: anyBody,
    /** Through another server than that of the lease's stream, which has no copy of the task. */
    elsewhere: fc.constantFrom(false, false, true),
  }),
  async (given, model, system) => {
    const current = model.leases.filter(({ taskId, nonce }) => model.tasks.get(taskId)?.live.lease?.nonce === nonce);
    const named = pick(given.late || current.length === 0 ? model.leases : current, given.which);
    if (named === undefined) return;
    const task = model.tasks.get(named.taskId);
    const isCurrent = task?.live.lease?.nonce === named.nonce;
    const nextSeq = (isCurrent ? task.live.settledSeq : (task?.live.lastOutcome?.seq ?? 0)) + 1;
    const seq = Math.max(nextSeq + given.ahead, 1);
    const event = { kind: "reported", nonce: named.nonce, seq, body: given.body } as const;
    const expected = expectedVerdict(model, named, event, given.elsewhere ? null : named.copy);
    const leaseToken = encodeLeaseToken(named.taskId, named.nonce);
    const reported = await system.servers[given.on].reports.apply("default", given.elsewhere ? null : named.copy, {
      ...{ leaseToken, seq, body: given.body },
    });
    const { code, state } = reported.verdict;
    expectSame({ code, state }, { code: expected.code, state: expected.state }, "the verdict");
    expectSame(reported.task, expected.copy, "the copy of the task after the report");
    expect(reported.outdated).toBe(false);
    if (!given.elsewhere) named.copy = expected.copy;
    reach(system, `${given.body.kind} ${code}`);
  },
);

interface Expected {
  readonly code: string;
  readonly state: TaskState | null;
  readonly copy: LiveTask | null;
}

type Reported = Parameters<typeof closedLease>[1] & { readonly kind: "reported" };

// First on the copy of the server that has the stream; where that is outrun, or cannot know what came before, on what is stored.
function expectedVerdict(model: Model, { taskId }: ModelLease, event: Reported, copy: LiveTask | null): Expected {
  const task = model.tasks.get(taskId);
  if (copy !== null && (copy.proceeds?.remembered.length ?? 0) === 0) {
    if (task?.finish === null && task.live.revision === copy.revision) expectSame(copy, task.live, "a copy of the same revision");
    const context = { nowUs: model.nowUs, chance: 0, executionMetadata: null, maxPayloadBytes: MAX_PAYLOAD_BYTES };
    const answer = transition(copy, event, context);
    const unsure = answer.kind === "rejected" && (answer.rejection.reason === "LEASE_LOST" || answer.rejection.reason === "OUT_OF_ORDER");
    if (answer.kind === "rejected" && !unsure) return rejected(event, answer.rejection, copy);
  }
  if (task === undefined) return { code: "LEASE_LOST", state: null, copy: null };
  if (task.finish !== null) {
    const answer = closedLease(task.live.lastOutcome, event);
    return answer.kind === "rejected" ? rejected(event, answer.rejection, null, task.finish.state) : { code: "?", state: null, copy: null };
  }
  const before = task.live;
  const answer = model.happen(task, event);
  if (answer.kind === "rejected") return rejected(event, answer.rejection, before);
  if (answer.kind === "repeated") return { code: "?", state: null, copy: null };
  const state = answer.kind === "finished" ? answer.state : answer.task.state;
  const goesOn = answer.kind === "changed" && answer.task.lease !== null;
  return { code: event.body.kind === "invalid" ? "INVALID" : "RECORDED", state, copy: goesOn ? answer.task : null };
}

function rejected(
  { nonce }: Reported,
  { reason }: Rejection,
  copy: LiveTask | null,
  state: TaskState | null = copy?.state ?? null,
): Expected {
  // A report that is settled may come again long after its lease, which leaves its server nothing to hold.
  const held = copy?.lease?.nonce === nonce ? copy : null;
  if (reason === "ALREADY_RECORDED") return { code: reason, state, copy: held };
  if (reason === "INVALID_REPORT") return { code: "INVALID", state, copy: held };
  if (reason === "OUT_OF_ORDER") return { code: "RETRY_LATER", state: null, copy };
  return { code: "LEASE_LOST", state: null, copy: null };
}

const progress = step("progress", fc.record({ on, which: fc.nat() }), async (given, model, { servers }) => {
  const task = pick([...model.tasks.values()], given.which);
  if (task === undefined) return;
  const said = { done: 1, total: null, message: "", updateUs: model.nowUs };
  await servers[given.on].storage.storeProgress([{ taskId: task.submission.id, progress: said }]);
  if (task.finish === null && task.live.state === "RUNNING") task.progressUs = model.nowUs;
});

// ---- sessions

const beat = step("heartbeat", fc.record({ on, session: fc.nat(3), currentEpoch: mostly }), async (given, model, { servers }) => {
  const session = pick(model.sessions, given.session);
  if (session === undefined) return;
  const { id, epoch, endedUs } = session;
  const told = { sessionId: id, epoch: given.currentEpoch ? epoch : epoch - 1, number: model.nowUs };
  const stored = await servers[given.on].storage.storeBeats([told]);
  if (endedUs !== null || !given.currentEpoch) {
    expectSame(stored, [], "a heartbeat of a session that is over");
    return;
  }
  session.expiresAtUs = Math.max(session.expiresAtUs, model.nowUs + session.ttlUs);
  expectSame(stored, [{ sessionId: id, expiresInUs: session.expiresAtUs - model.nowUs }], "a heartbeat");
});

const takeOver = step(
  "take over",
  fc.record({
    on,
    session: fc.nat(3),
    raise: fc.constantFrom(1, 1, 1, 2, 0, -1),
    /** Which of its last leases the worker lists, old ones too. */
    lists: fc.constantFrom("all", "current", "none", "every other"),
    ttlUs,
  }),
  async (given, model, system) => {
    const session = pick(model.sessions, given.session);
    if (session === undefined) return;
    const own = model.leases.filter(({ sessionId }) => sessionId === session.id);
    const lists: Record<string, (one: ModelLease, at: number) => boolean> = {
      all: () => true,
      current: ({ copy }) => copy !== null,
      none: () => false,
      "every other": (_, at) => at % 2 === 0,
    };
    const held = own.filter(lists[given.lists] ?? (() => false)).reverse();
    const hello = helloOf({ ttlUs: given.ttlUs, connection: session.connection + given.raise });
    const taken = await system.servers[given.on].storage.takeOverSession(
      session.id,
      hello,
      held.map(({ taskId, nonce }) => ({ taskId, nonce })),
    );
    reach(system, `take over ${taken.kind}`);
    if (session.endedUs === null && given.raise <= 0) {
      expectSame(taken, { kind: "stale" }, "a late hello");
      return;
    }
    if (taken.kind === "stale") throw new Error("a hello was refused that came in time");
    const expected =
      session.endedUs === null ? takeLiving(model, session, held, given) : keepFromEnded(model, session, held, taken.session.id);
    model.sessions.push(...expected.opened.map((id) => ({ ...freshSession(model, id, given.ttlUs), connection: hello.connection })));
    const returned = taken.kind === "taken" ? taken.returned.map(({ answer }) => answer.task) : [];
    expectSame(byTask(taken.kept), byTask(expected.kept), "the kept leases");
    expectSame(byTask(returned), byTask(expected.returned), "the returned leases");
    expectSame(taken.session, { id: expected.opened[0] ?? session.id, epoch: expected.epoch, expiresInUs: given.ttlUs }, "the session");
    for (const one of own) {
      const kept = expected.kept.find(({ identity, lease: current }) => identity.id === one.taskId && current?.nonce === one.nonce);
      one.copy = kept ?? null;
      one.sessionId = kept?.lease?.sessionId ?? one.sessionId;
    }
  },
);

const byTask = (tasks: readonly LiveTask[]): LiveTask[] => [...tasks].sort((a, b) => (a.identity.id < b.identity.id ? -1 : 1));

function freshSession({ nowUs }: Model, id: string, ttl: number): ModelSession {
  return { id, connection: 1, epoch: 1, ttlUs: ttl, expiresAtUs: nowUs + ttl, endedUs: null };
}

interface Taken {
  readonly kept: LiveTask[];
  readonly returned: LiveTask[];
  readonly epoch: number;
  /** A session that was opened instead. */
  readonly opened: string[];
}

function takeLiving(
  model: Model,
  session: ModelSession,
  held: readonly ModelLease[],
  { raise, ttlUs: ttl }: { readonly raise: number; readonly ttlUs: number },
): Taken {
  session.connection += raise;
  session.epoch += 1;
  session.ttlUs = ttl;
  session.expiresAtUs = Math.max(session.expiresAtUs, model.nowUs + ttl);
  const taken: Taken = { kept: [], returned: [], epoch: session.epoch, opened: [] };
  for (const task of model.unfinished) {
    const { lease: current, state } = task.live;
    if (state !== "RUNNING" || current?.sessionId !== session.id) continue;
    const listed = held.some(({ nonce, taskId }) => taskId === task.submission.id && nonce === current.nonce);
    const answer = listed
      ? model.happen(task, { kind: "reattested", nonce: current.nonce, sessionId: session.id, epoch: session.epoch })
      : model.happen(task, { kind: "lease-returned" });
    if (answer.kind === "changed" || answer.kind === "finished") (listed ? taken.kept : taken.returned).push(answer.task);
  }
  return taken;
}

function keepFromEnded(model: Model, ended: ModelSession, held: readonly ModelLease[], id: string): Taken {
  const taken: Taken = { kept: [], returned: [], epoch: 1, opened: [id] };
  for (const task of model.unfinished) {
    const { lease: current } = task.live;
    if (current?.sessionId !== ended.id) continue;
    if (!held.some(({ nonce, taskId }) => taskId === task.submission.id && nonce === current.nonce)) continue;
    const answer = model.happen(task, { kind: "reattested", nonce: current.nonce, sessionId: id, epoch: 1 });
    if (answer.kind === "changed") taken.kept.push(answer.task);
  }
  return taken;
}

const end = step("end a session", fc.record({ on, session: fc.nat(3) }), async (given, model, { servers }) => {
  const session = pick(model.sessions, given.session);
  await servers[given.on].storage.endSession(session?.id ?? randomUUID());
  if (session !== undefined) session.endedUs ??= model.nowUs;
});

/** Everything that workers do, by weight. */
export const workerSteps: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Step> }[] = [
  { weight: 12, arbitrary: open },
  { weight: 18, arbitrary: lease },
  { weight: 26, arbitrary: report },
  { weight: 1, arbitrary: progress },
  { weight: 5, arbitrary: beat },
  { weight: 4, arbitrary: takeOver },
  { weight: 1, arbitrary: end },
];
