// Does the checker of runs with faults find what it is there to find? Histories made by hand: one in which all is well, and one for each way to
// break a promise.
import { describe, expect, it } from "vitest";
import { checkHistory } from "../fault/checker.js";
import type { Call, Entry, FinalEvent, FinalTask, History, Leased } from "../fault/history.js";
import { timelineOf } from "../fault/timeline.js";

const at = (seconds: number): number => seconds * 1e6;
const FIRST = '{"done":1,"sum":1}';
const TTL_MS = 3_000;

function call(operation: Call["operation"], beginS: number, more: Partial<Call> = {}): Call {
  const times = { atUs: at(beginS), endUs: at(beginS + 0.1) };
  return { what: "call", who: "owner", server: "server-0", task: "t", outcome: "ok", answered: "t", operation, ...times, ...more };
}

function leased(fencing: number, atS: number, more: Partial<Leased> = {}): Leased {
  const own = { who: `w${fencing}`, session: `s${fencing}`, token: `L${fencing}`, task: "t", name: "fault.steps" };
  return { what: "leased", atUs: at(atS), fencing, attempt: 1, version: 0, saved: "", reason: "NEW", ...own, ...more };
}

function reported(fencing: number, seq: number, kind: string, atS: number, more: { saved?: string; afterMs?: number } = {}): Entry {
  return { what: "reported", atUs: at(atS), who: `w${fencing}`, token: `L${fencing}`, seq, kind, saved: "", ...more };
}

function judged(fencing: number, seq: number, code: string, atS: number, more: { version?: number; state?: string } = {}): Entry {
  const own = { who: `w${fencing}`, token: `L${fencing}`, seq, code };
  return { what: "judged", atUs: at(atS), version: 1, state: "RUNNING", ...own, ...more };
}

function started(who: string, atS: number): Entry {
  return { what: "started", atUs: at(atS), who, note: "" };
}

function event(type: string, atS: number, more: Partial<FinalEvent> = {}): FinalEvent {
  return { atUs: at(atS), type, state: "", fencing: 0, attempt: 1, worker: "", message: "", dueUs: null, ...more };
}

function stored(more: Partial<FinalTask> = {}): FinalTask {
  return {
    ...{ id: "t", name: "fault.steps", key: "", state: "COMPLETED", finishReason: "UNSPECIFIED", attempt: 1, lostLeases: 0 },
    ...{ fencing: 2, version: 1, metadata: '{"kind":"steps","steps":1}', saved: FIRST, createUs: at(1), finishUs: at(7) },
    result: `{"n":1,"fencing":2,"saved":${FIRST}}`,
    events: [event("SUBMITTED", 1, { dueUs: at(1) }), event("LEASED", 6), event("FINISHED", 7)],
    ...more,
  };
}

/** A task whose first worker saved a checkpoint and was lost; its second one completed it. */
const WELL: readonly Entry[] = [
  ...[started("w1", 0), started("w2", 0)],
  call("submit", 1, { state: "PENDING", created: true }),
  { what: "greeted", atUs: at(1), who: "w1", session: "", connection: 1, held: [] },
  { what: "welcomed", atUs: at(1.2), who: "w1", session: "s1", ttlMs: TTL_MS, dropped: [] },
  { what: "beat", atUs: at(1.5), who: "w1", session: "s1", number: 1 },
  { what: "beat-stored", atUs: at(1.6), who: "w1", session: "s1", number: 1 },
  ...[leased(1, 2), reported(1, 1, "checkpoint", 2.1, { saved: FIRST }), judged(1, 1, "RECORDED", 2.2)],
  leased(2, 6, { version: 1, saved: FIRST, reason: "LEASE_LOST" }),
  reported(2, 1, "complete", 7),
  judged(2, 1, "RECORDED", 7.1, { state: "COMPLETED" }),
  call("get", 8, { state: "COMPLETED", fencing: 2, version: 1 }),
];

function history(entries: readonly Entry[], ...tasks: readonly FinalTask[]): History {
  const all = tasks.length === 0 ? [stored()] : tasks;
  const sorted = [...entries].sort((a, b) => a.atUs - b.atUs);
  return { entries: sorted, tasks: new Map(all.map((task) => [task.id, task])), findings: [], complaints: [] };
}

function found(of: History): string[] {
  return checkHistory(of).map(({ guarantee, finding }) => `${guarantee}: ${finding}`);
}

function without(what: Entry["what"], who: string): Entry[] {
  return WELL.filter((entry) => entry.what !== what || entry.who !== who);
}

const approval = (more: Partial<FinalTask> = {}): FinalTask => stored({ name: "fault.approval", result: "", ...more });
const proceed = (beginS: number, result = "APPLIED"): Call => call("proceed", beginS, { requestId: "r", member: "p0", result });

/** What is broken, the promise that it breaks, and the words that say so. */
const BROKEN: readonly (readonly [claim: string, guarantee: string, words: RegExp, history: History])[] = [
  ["an acknowledged submission that is not stored", "G1", /submit was acknowledged/, history(WELL, stored({ id: "other" }))],
  ["an acknowledged cancel without a sign of it", "G1", /cancel was acknowledged/, history([...WELL, call("cancel", 3)])],
  [
    "an acknowledged retry without a sign of it",
    "G1",
    /retry was acknowledged/,
    history([...WELL, call("retry", 3, { state: "PENDING" })]),
  ],
  ["two leases with one fencing token", "G2", /two leases/, history([...WELL, leased(2, 6.5, { token: "L2b", version: 1 })])],
  [
    "a report that was recorded although a newer lease was out",
    "G2",
    /recorded after w2 had got lease 2/,
    history([...WELL, reported(1, 2, "checkpoint", 6.5, { saved: FIRST }), judged(1, 2, "RECORDED", 6.6)]),
  ],
  [
    "two recorded outcomes of one lease",
    "G2",
    /two recorded outcomes/,
    history([...WELL, reported(2, 2, "release", 7.2), judged(2, 2, "RECORDED", 7.3, { state: "COMPLETED" })]),
  ],
  [
    "a fencing token that goes back",
    "G2",
    /got fencing token 1 after/,
    history([...without("started", "w1"), started("w1", 6.5), leased(1, 7)]),
  ],
  ["a result of a lease that was not the last", "G2", /its result is of lease 1/, history(WELL, stored({ result: '{"fencing":1}' }))],
  ["a lease after a completion", "G3", /leased again to w3/, history([...WELL, leased(3, 12, { version: 1, saved: FIRST })])],
  ["a completion that is not stored", "G3", /and it is FAILED/, history(WELL, stored({ state: "FAILED" }))],
  [
    "two ends in a timeline",
    "G3",
    /two ends/,
    history(WELL, stored({ events: [event("SUBMITTED", 1), event("FINISHED", 5), event("FINISHED", 7)] })),
  ],
  [
    "a lease that carries an older checkpoint than the acknowledged one",
    "G4",
    /carries version 0/,
    history([...WELL.filter((entry) => entry.what !== "leased" || entry.fencing !== 2), leased(2, 6)]),
  ],
  [
    "a lease that carries another checkpoint of the same version",
    "G4",
    /acknowledged was/,
    history([...WELL.filter((entry) => entry.what !== "leased" || entry.fencing !== 2), leased(2, 6, { version: 1, saved: "{}" })]),
  ],
  ["a mixed checkpoint", "G4", /mixed checkpoint/, history(WELL, stored({ saved: '{"done":3,"sum":4}' }))],
  ["an older checkpoint in the end", "G4", /version 0 is stored/, history(WELL, stored({ version: 0 }))],
  ["a count that left steps out", "G4", /after 3 steps/, history(WELL, stored({ metadata: '{"kind":"steps","steps":3}' }))],
  [
    "a lease given on before its time to live",
    "G5",
    /2500 ms before/,
    history([
      ...WELL,
      { what: "beat", atUs: at(5.5), who: "w1", session: "s1", number: 2 },
      { what: "beat-stored", atUs: at(5.6), who: "w1", session: "s1", number: 2 },
    ]),
  ],
  ["an attempt used by a fault", "G5", /used an attempt/, history(WELL, stored({ attempt: 2 }))],
  [
    "two submissions that both stored it",
    "G7",
    /2 submissions/,
    history([...WELL, call("submit", 1.05, { state: "PENDING", created: true })]),
  ],
  [
    "two unfinished tasks with one key",
    "G7",
    /got the same key/,
    history(WELL, stored({ key: "k" }), stored({ id: "u", key: "k", createUs: at(6), finishUs: at(9) })),
  ],
  ["poison that kills nobody", "G8", /POISONED/, history(WELL, stored({ state: "FAILED", finishReason: "POISONED" }))],
  ["poison that nobody stops", "G8", /kills its workers, and is COMPLETED/, history(WELL, stored({ name: "fault.poison" }))],
  ["a report recorded twice", "G11", /RECORDED twice/, history([...WELL, reported(1, 1, "checkpoint", 3), judged(1, 1, "RECORDED", 3.1)])],
  [
    "an outcome that is forgotten when it is sent again",
    "G11",
    /answered LEASE_LOST/,
    history([...WELL, reported(2, 1, "complete", 7.5), judged(2, 1, "LEASE_LOST", 7.6)]),
  ],
  ["an acknowledged proceed without effect", "G12", /was acknowledged as APPLIED/, history([...WELL, proceed(3)], approval())],
  [
    "a proceed that is answered in two ways",
    "G12",
    /answered APPLIED and then REMEMBERED/,
    history([...WELL, proceed(3), proceed(4, "REMEMBERED")], approval({ saved: '{"p0":true}' })),
  ],
  [
    "a proceed that was applied twice",
    "G12",
    /made 2 proceeds/,
    history(
      [...WELL, proceed(3)],
      approval({ saved: '{"p0":true}', events: [event("PROCEEDED", 3, { message: "p0" }), event("PROCEEDED", 4, { message: "p0" })] }),
    ),
  ],
  [
    "a lease before the task is due",
    "G14",
    /before it was due/,
    history(WELL, stored({ events: [event("SUBMITTED", 1, { dueUs: at(5) })] })),
  ],
  [
    "a lease before the end of a suspension",
    "G14",
    /2200 ms before its suspend allowed/,
    history([...WELL, reported(1, 2, "suspend", 3.2, { afterMs: 5_000 }), judged(1, 2, "RECORDED", 3.3, { state: "SUSPENDED" })]),
  ],
  [
    "a lease before the end of a backoff",
    "G14",
    /before its fail allowed/,
    history([...WELL, reported(1, 2, "fail", 5.8), judged(1, 2, "RECORDED", 5.9, { state: "PENDING" })]),
  ],
  ["an INTERNAL answer", "G17", /answered INTERNAL/, history([...WELL, call("get", 3, { outcome: "refused", code: "INTERNAL" })])],
  [
    "a stream that a bug of the server ended",
    "G17",
    /stream of w1 was ended/,
    history([...WELL, { what: "closed", atUs: at(3), who: "w1", why: "INTERNAL INTERNAL" }]),
  ],
  [
    "a refused submission that is stored",
    "G17",
    /every submission of it was refused/,
    history([call("submit", 1, { outcome: "refused", code: "RESOURCE_EXHAUSTED" })]),
  ],
  [
    "an acknowledged task that a read does not find",
    "G18",
    /not found/,
    history([...WELL, call("get", 3, { outcome: "refused", code: "NOT_FOUND" })]),
  ],
  [
    "a read that is older than a recorded report",
    "G18",
    /older than what a worker had recorded/,
    history([...WELL, call("get", 3, { state: "RUNNING", fencing: 1, version: 0 })]),
  ],
  [
    "a read that is older than the read before",
    "G18",
    /answered RUNNING after COMPLETED/,
    history([...WELL, call("get", 9, { state: "RUNNING", fencing: 2, version: 1 })]),
  ],
  ["a timeline out of order", "G18", /goes back in time/, history(WELL, stored({ events: [event("LEASED", 3), event("LEASED", 2)] }))],
  ["a task that never ends", "liveness", /still PENDING/, history(WELL, stored({ state: "PENDING", finishUs: null }))],
  ["a finding of the audit", "audit", /orphaned/, { ...history(WELL), findings: [{ finding: "orphaned", id: "t" }] }],
  ["a process that ended by itself", "alive", /ended by itself/, { ...history(WELL), complaints: ["server-0 ended by itself"] }],
];

describe("the checker of runs with faults", () => {
  it("finds nothing where all is well", () => {
    expect(found(history(WELL))).toEqual([]);
  });

  it.each(BROKEN)("finds %s", (_claim, guarantee, words, of) => {
    expect(found(of)).toContainEqual(expect.stringMatching(new RegExp(`^${guarantee}: .*${words.source}`)));
  });

  it("lets a lease go before its time to live where its worker gave it up itself", () => {
    const beats: Entry[] = [
      { what: "beat", atUs: at(5.5), who: "w1", session: "s1", number: 2 },
      { what: "beat-stored", atUs: at(5.6), who: "w1", session: "s1", number: 2 },
    ];
    const leftOut: Entry = { what: "greeted", atUs: at(5.8), who: "w1", session: "s1", connection: 2, held: [] };
    expect(found(history([...WELL, ...beats, reported(1, 2, "release", 5.7)]))).toEqual([]);
    expect(found(history([...WELL, ...beats, leftOut]))).toEqual([]);
  });

  it("takes an unanswered submission for what it is: stored or not", () => {
    const unknown = call("submit", 1, { task: "u", outcome: "unknown", code: "UNAVAILABLE" });
    expect(found(history([...WELL, unknown]))).toEqual([]);
    expect(found(history([...WELL, unknown], stored(), stored({ id: "u" })))).toEqual([]);
  });

  it("lets a key go on to a task whose insert waited for the end of the one that had it, and no sooner", () => {
    const story = (answeredS: number): History => {
      const submitted = call("submit", 6.5, { task: "u", answered: "u", state: "PENDING", created: true, endUs: at(answeredS) });
      const events = [event("SUBMITTED", 6.9, { dueUs: at(6.9) })];
      const waited = stored({ ...{ id: "u", key: "k", createUs: at(6.9), finishUs: null, state: "CANCELLED", events } });
      return history([...WELL, submitted], stored({ key: "k" }), waited);
    };
    const ofKey = (of: History): string[] => found(of).filter((line) => line.startsWith("G7"));
    expect(ofKey(story(7.05))).toEqual([]);
    expect(ofKey(story(6.95))).toEqual([expect.stringMatching(/got the same key/)]);
  });

  it("tells the story of a task in the order of time, with calls, reports and faults", () => {
    const fault: Entry = { what: "fault", atUs: at(3), who: "kill-workers", note: "w1" };
    const lines = timelineOf(history([...WELL, fault]), "t").split("\n");
    const order = [
      "submit through server-0",
      "leased lease=1",
      "reports 1 checkpoint",
      "FAULT w1",
      "leased lease=2",
      "verdict 1 RECORDED COMPLETED",
    ];
    const places = order.map((words) => lines.findIndex((line) => line.includes(words)));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
  });
});
