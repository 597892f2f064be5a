// What does time do in a history? The database's clock moves, upkeep of either server ticks, right after an outage too, finished tasks are
// removed, and what a server decided a while ago is written late.
import fc from "fast-check";
import type { Event } from "@leasehold/server/domain/event";
import { wakeOverdue } from "@leasehold/server/upkeep/due-tasks";
import { expireLeases } from "@leasehold/server/upkeep/lease-expiry";
import { bodies } from "../support/domain.js";
import type { Model } from "./model.js";
import { reach } from "./owner-steps.js";
import { on, pick, SECOND, type Step, step } from "./step.js";
import { expectSame, type System } from "./system.js";

const OUTAGE_US = 3 * SECOND;
const LENIENT_US = 20 * SECOND;

const wait = step(
  "wait",
  fc
    .oneof(
      { weight: 8, arbitrary: fc.constantFrom(1000, SECOND, 2 * SECOND) },
      { weight: 8, arbitrary: fc.constantFrom(7 * SECOND, 10 * SECOND, 20 * SECOND) },
      { weight: 2, arbitrary: fc.constant(60 * SECOND) },
      { weight: 1, arbitrary: fc.constant(4000 * SECOND) },
    )
    .map((us) => ({ us })),
  async ({ us }, model, { test }) => {
    await test.advance(us);
    model.nowUs += us;
  },
);

const tick = step("tick", fc.record({ on }), async (given, model, system) => {
  await tickOf(given.on, model, system, false);
});

// Loss upon loss of one task would be rare by chance.
const silence = step("a worker is gone for good", fc.record({ on, which: fc.nat(1) }), async (given, model, system) => {
  const running = model.unfinished.filter(({ live }) => live.state === "RUNNING").sort((a, b) => a.live.lostLeases - b.live.lostLeases);
  const session = model.session(pick(running, given.which)?.live.lease?.sessionId ?? "");
  if (session === undefined) return;
  await system.servers[given.on].storage.endSession(session.id);
  session.endedUs ??= model.nowUs;
  await tickOf(given.on, model, system, false);
});

const tickThatJudges = step("tick that looks for an outage", fc.record({ on }), async (given, model, system) => {
  const { storage, upkeep } = system.servers[given.on];
  const { lenient } = await storage.tickUpkeep(upkeep.serverId);
  const living = model.sessions.filter(({ endedUs }) => endedUs === null);
  if (model.nowUs - model.lastTickUs > OUTAGE_US && living.length > 0) {
    model.lenientUntilUs = model.nowUs + LENIENT_US;
    for (const session of living) session.expiresAtUs = Math.max(session.expiresAtUs, model.nowUs + session.ttlUs);
  }
  model.lastTickUs = model.nowUs;
  expectSame(lenient, model.nowUs < model.lenientUntilUs, "whether upkeep is lenient");
  await tickOf(given.on, model, system, lenient);
});

async function tickOf(server: 0 | 1, model: Model, system: System, lenient: boolean): Promise<void> {
  const { upkeep } = system.servers[server];
  await expireLeases(upkeep);
  await wakeOverdue(upkeep, lenient);
  model.endSilentSessions();
  model.returnOrphans();
  model.letTimePass(lenient);
  for (const { finish } of model.tasks.values()) if (finish !== null) reach(system, `ended ${finish.reason ?? finish.state}`);
}

const retention = step(
  "retention",
  fc.record({ on, us: fc.constantFrom(10 * SECOND, 100 * SECOND) }),
  async (given, model, { servers }) => {
    const { on: server, us } = given;
    const removed = await servers[server].storage.removeExpiredTasks({ COMPLETED: us, FAILED: us, CANCELLED: us }, 100);
    const old = [...model.tasks].filter(([, { finish }]) => {
      if (finish === null || finish.finishTimeUs >= model.nowUs - us) return false;
      return finish.keyHoldUntilUs === null || finish.keyHoldUntilUs < model.nowUs;
    });
    expectSame(removed, old.length, "how many tasks retention removed");
    for (const [id] of old) model.remove(id);
  },
);

// A server reads, decides, and is slow to write: what became of the task meanwhile must win.
const decideNow = step(
  "decide and write later",
  fc.record({ which: fc.nat(), event: fc.constantFrom("lose", "return", "pass", "complete", "fail", "checkpoint") }),
  ({ which, event }, model) => {
    const running = model.unfinished.filter(({ live }) => live.lease !== null);
    const task = pick(running.length > 0 ? running : model.unfinished, which);
    if (task === undefined) return Promise.resolve();
    const { lease, settledSeq } = task.live;
    const reported = (body: (typeof bodies)["complete" | "fail" | "checkpoint"]): Event => ({
      ...{ kind: "reported", nonce: lease?.nonce ?? "", seq: settledSeq + 1, body },
    });
    const events: Record<string, Event> = {
      lose: { kind: "lease-lost" },
      return: { kind: "lease-returned" },
      pass: { kind: "time-passed", lenient: false },
    };
    const answer = model.answer(task, events[event] ?? reported(bodies[event as "complete" | "fail" | "checkpoint"]));
    if (answer.kind === "changed" || answer.kind === "finished") model.picked.push({ before: task.live, answer });
    return Promise.resolve();
  },
);

const writeNow = step("write what was decided", fc.record({ on }), async (given, model, system) => {
  const decisions = model.picked.map((decided) => ({ ...decided, notBeforeUs: null }));
  model.picked = [];
  if (decisions.length === 0) return;
  const written = await system.servers[given.on].storage.applyDecisions(decisions);
  // Two decisions about one task: the first is written, if any.
  const tried = new Set<string>();
  const expected = decisions.map(({ before, answer }) => {
    const { id } = before.identity;
    if (tried.has(id)) return false;
    tried.add(id);
    const task = model.tasks.get(id);
    if (task?.finish !== null || task.live.revision !== before.revision || task.live.lease?.nonce !== before.lease?.nonce) return false;
    model.apply(task, answer);
    return true;
  });
  expectSame(written, expected, "which late decisions were written");
  for (const one of expected) reach(system, one ? "late decision written" : "late decision refused");
});

/** Everything that happens by itself, by weight. */
export const timeSteps: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Step> }[] = [
  { weight: 8, arbitrary: wait },
  { weight: 5, arbitrary: tick },
  { weight: 10, arbitrary: silence },
  { weight: 2, arbitrary: tickThatJudges },
  { weight: 1, arbitrary: retention },
  { weight: 3, arbitrary: decideNow },
  { weight: 3, arbitrary: writeNow },
];
