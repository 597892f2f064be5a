// Was everything kept that owners were promised? The checks of calls and of what is stored at the end.
import type { Call, FinalTask, Violation } from "./history.js";
import { kindOf } from "./kinds.js";
import type { Ledger } from "./ledger.js";

const FINISHED = new Set(["COMPLETED", "FAILED", "CANCELLED"]);
/** What the wall clocks of this process and of the database may be apart by, read one after the other. */
const CLOCK_ERROR_US = 20_000;

/** Calls of one operation that were acknowledged. */
function acknowledged(calls: readonly Call[], operation: Call["operation"]): Call[] {
  return calls.filter((call) => call.operation === operation && call.outcome === "ok");
}

function has(task: FinalTask, ...types: readonly string[]): boolean {
  return task.events.some(({ type }) => types.includes(type));
}

/** G1: what was acknowledged is there. */
export function durability({ calls, tasks }: Ledger): Violation[] {
  const found: Violation[] = [];
  for (const [id, own] of calls) {
    const say = (finding: string): void => void found.push({ guarantee: "G1", finding, task: id });
    for (const { answered, operation } of own.filter(({ outcome }) => outcome === "ok"))
      if (answered !== undefined && !tasks.has(answered)) say(`${operation} was acknowledged for ${answered}, which is not stored`);
    const task = tasks.get(id);
    if (task === undefined) continue;
    const retried = acknowledged(own, "retry").filter(({ state }) => state !== undefined);
    if (retried.length > 0 && !has(task, "RETRIED")) say("its retry was acknowledged, and its timeline knows of none");
    const cancelled = acknowledged(own, "cancel");
    if (cancelled.length > 0 && !has(task, "CANCEL_REQUESTED") && !/CANCEL/.test(task.finishReason))
      say(`its cancel was acknowledged, and it is ${task.state} without a sign of it`);
    if (cancelled.length > 0 && !FINISHED.has(task.state)) say(`its cancel was acknowledged, and it is still ${task.state}`);
  }
  return found;
}

/** G12: an acknowledged proceed has changed the execution metadata, once, or its timeline says that it was dropped. */
export function proceeds({ calls, tasks }: Ledger): Violation[] {
  return [...calls].flatMap(([id, own]) => {
    const task = tasks.get(id);
    const asked = own.filter(({ operation }) => operation === "proceed");
    if (task === undefined || asked.length === 0) return [];
    const found: Violation[] = [];
    const say = (finding: string): void => void found.push({ guarantee: "G12", finding, task: id });
    const saved = task.saved === "" ? {} : (JSON.parse(task.saved) as Record<string, unknown>);
    const results = new Map<string, string>();
    for (const { member = "", requestId = "", result = "" } of acknowledged(own, "proceed")) {
      if (saved[member] !== true && !has(task, "PROCEED_DROPPED", "PATCH_UNAPPLIED"))
        say(`the proceed that sets ${member} was acknowledged as ${result}, and ${task.saved} is stored`);
      const before = results.get(requestId);
      if (before !== undefined && before !== result) say(`request ${requestId} was answered ${before} and then ${result}`);
      results.set(requestId, result);
    }
    const made = task.events.filter(({ type }) => type === "PROCEEDED" || type === "PROCEED_REMEMBERED").map(({ message }) => message);
    for (const member of new Set(asked.map(({ member = "" }) => member))) {
      const times = (type: string): number => task.events.filter((event) => event.type === type && event.message === member).length;
      if (times("PROCEED_REMEMBERED") > 1 || times("PROCEEDED") > 1)
        say(`one request made ${times("PROCEEDED")} proceeds and ${times("PROCEED_REMEMBERED")} remembered ones: ${made.join(", ")}`);
    }
    return found;
  });
}

/** G7: one id and one key, one task. */
export function identity({ calls, tasks }: Ledger): Violation[] {
  const found: Violation[] = [];
  for (const [id, own] of calls) {
    const made = acknowledged(own, "submit").filter(({ created }) => created === true);
    if (made.length > 1) found.push({ guarantee: "G7", finding: `${made.length} submissions say that they stored it`, task: id });
  }
  const holders = new Map<string, FinalTask[]>();
  for (const task of tasks.values())
    if (task.key !== "" && !has(task, "RETRIED")) {
      const place = `${task.name} ${task.key}`;
      holders.set(place, [...(holders.get(place) ?? []), task]);
    }
  for (const [place, list] of holders) {
    const ordered = list.sort((a, b) => a.createUs - b.createUs);
    ordered.forEach((task, index) => {
      const next = ordered[index + 1];
      if (next !== undefined && (task.finishUs === null || task.finishUs > storedByUs(next, calls)))
        found.push({ guarantee: "G7", finding: `${place} was unfinished when ${next.id} got the same key`, task: task.id });
    });
  }
  return found;
}

/**
 * When a task was stored at the latest: when it was answered or something happened to it. An insert that waits for whoever holds its key has read
 * its time of creation before, so that time alone says nothing of the order; it stands in where nothing else is known.
 */
function storedByUs({ id, createUs, events }: FinalTask, calls: Ledger["calls"]): number {
  const answers = [...calls.values()].flat().filter(({ outcome, answered }) => outcome === "ok" && answered === id);
  const signs = [...answers.map(({ endUs }) => endUs ?? Infinity), ...events.slice(1).map(({ atUs }) => atUs)];
  return signs.length === 0 ? createUs : Math.min(...signs);
}

/** G17: a refusal refuses, and nobody is answered that the server has a bug. */
export function answers({ calls, tasks, entries }: Ledger): Violation[] {
  const ended = entries.flatMap((entry) =>
    entry.what === "closed" && /\bINTERNAL$/.test(entry.why)
      ? [{ guarantee: "G17", finding: `the stream of ${entry.who} was ended with ${entry.why}` }]
      : [],
  );
  const called = [...calls].flatMap(([id, own]) => {
    const found: Violation[] = [];
    const say = (finding: string): void => void found.push({ guarantee: "G17", finding, task: id });
    for (const { operation, code, message = "", reason = "" } of own)
      if (code === "INTERNAL" || code === "UNKNOWN" || code === "DATA_LOSS" || code === "UNIMPLEMENTED")
        say(`${operation} was answered ${code} ${reason}: ${message}`);
    const submissions = own.filter(({ operation }) => operation === "submit");
    if (submissions.length > 0 && submissions.every(({ outcome }) => outcome === "refused") && tasks.has(id))
      say("every submission of it was refused, and it is stored");
    return found;
  });
  return [...ended, ...called];
}

/** G18: whoever reads after an acknowledgement sees what it acknowledged, and never anything older than what was read before. */
export function reads({ calls, byTask }: Ledger): Violation[] {
  return [...calls].flatMap(([id, own]) => {
    const found: Violation[] = [];
    const say = (finding: string): void => void found.push({ guarantee: "G18", finding, task: id });
    const judged = (byTask.get(id) ?? []).flatMap(({ lease, verdicts }) =>
      verdicts.map((verdict) => ({ ...verdict, fencing: lease.fencing })),
    );
    for (const read of own.filter(({ operation }) => operation === "get")) {
      if (read.outcome === "open") continue;
      const seen = own.filter(({ outcome, endUs, answered }) => outcome === "ok" && answered === id && endUs !== null && endUs < read.atUs);
      if (read.code === "NOT_FOUND" && seen.length > 0) say(`it was not found through ${read.server} after it was acknowledged`);
      if (read.outcome !== "ok") continue;
      const { version = 0, fencing = 0, state = "" } = read;
      for (const before of seen) {
        if ((before.version ?? 0) > version)
          say(`${read.server} answered version ${version} after version ${before.version ?? 0} had been answered`);
        if ((before.fencing ?? 0) > fencing)
          say(`${read.server} answered lease ${fencing} after lease ${before.fencing ?? 0} had been answered`);
        if (before.state === "COMPLETED" && state !== before.state) say(`${read.server} answered ${state} after COMPLETED`);
      }
      const last = judged.filter(({ atUs, code }) => atUs < read.atUs && code === "RECORDED");
      if (last.some((verdict) => verdict.version > version || verdict.fencing > fencing))
        say(`${read.server} answered version ${version} of lease ${fencing}, older than what a worker had recorded`);
    }
    return found;
  });
}

/** G14: nobody gets a task before it is due. */
export function dueTimes({ tasks, byTask }: Ledger): Violation[] {
  return [...byTask].flatMap(([id, stories]) => {
    const submitted = tasks.get(id)?.events.find(({ type }) => type === "SUBMITTED");
    const first = stories[0]?.lease;
    if (submitted === undefined || first === undefined || submitted.dueUs === null) return [];
    const earlyUs = submitted.dueUs - first.atUs - CLOCK_ERROR_US;
    return earlyUs <= 0
      ? []
      : [{ guarantee: "G14", finding: `it was leased ${(earlyUs / 1000).toFixed(0)} ms before it was due`, task: id }];
  });
}

/** G1 and G3 as the server tells them: its timeline is in order, and nothing happens after an end but a retry. */
export function timelines({ tasks }: Ledger): Violation[] {
  return [...tasks.values()].flatMap(({ id, events }) => {
    const found: Violation[] = [];
    let ended = false;
    events.forEach((event, index) => {
      const before = events[index - 1];
      const say = (guarantee: string, finding: string): void => void found.push({ guarantee, finding, task: id });
      if (before !== undefined && before.atUs > event.atUs) say("G18", `its timeline goes back in time at ${event.type}`);
      if (event.type === "FINISHED") {
        if (ended) say("G3", "its timeline has two ends without a retry between them");
        ended = true;
      } else if (event.type === "RETRIED") ended = false;
      else if (ended && !["LATE_REPORT_REFUSED", "PROCEED_DROPPED", "CHECKPOINTED"].includes(event.type))
        say("G3", `its timeline goes on with ${event.type} after its end`);
    });
    return found;
  });
}

/** Kinds of work that never fail by themselves: an attempt that they used was taken by a fault. */
const NEVER_FAILING = new Set(["plain", "steps", "approval", "timer", "patient"]);

/** G5 and G8: faults use no attempt, only poison is called poisoned, and everything ends as its kind should. */
export function endings({ tasks, byTask, calls }: Ledger): Violation[] {
  return [...tasks.values()].flatMap((task) => {
    const { id, name, state, finishReason, result, attempt } = task;
    const kind = kindOf(name);
    const found: Violation[] = [];
    const say = (guarantee: string, finding: string): void => void found.push({ guarantee, finding, task: id });
    if (finishReason === "POISONED" && kind !== "poison") say("G8", "it ended as POISONED and kills nobody");
    if (kind === "poison" && FINISHED.has(state) && finishReason !== "POISONED")
      say("G8", `it kills its workers, and is ${state} ${finishReason}`);
    const attempts = [attempt, ...(byTask.get(id) ?? []).map(({ lease }) => lease.attempt)];
    if (kind !== undefined && NEVER_FAILING.has(kind) && attempts.some((one) => one > 1))
      say("G5", `a fault used an attempt of it: ${attempts.join(", ")}`);
    const cancelled = (calls.get(id) ?? []).some(({ operation }) => operation === "cancel");
    if (kind !== undefined && kind !== "poison" && kind !== "hopeless" && FINISHED.has(state) && state !== "COMPLETED" && !cancelled)
      say("G3", `it should be COMPLETED, and is ${state} ${finishReason}`);
    if (state !== "COMPLETED" || result === "") return found;
    const { fencing, saved } = JSON.parse(result) as { fencing?: number; saved?: { done?: number } };
    if (fencing !== undefined && fencing !== task.fencing)
      say("G2", `its result is of lease ${fencing}, and its last lease was ${task.fencing}`);
    const wanted = kind === "steps" ? (JSON.parse(task.metadata) as { steps: number }).steps : undefined;
    if (wanted !== undefined && saved?.done !== wanted) say("G4", `it completed with ${result} after ${wanted} steps`);
    const python = name === "py.count" ? (JSON.parse(task.metadata) as { to: number }).to : undefined;
    if (python !== undefined && (JSON.parse(result) as { counted?: number }).counted !== python)
      say("G4", `it counted to ${result} instead of ${python}`);
    return found;
  });
}

/** Every task has ended when all faults are over. */
export function liveness({ tasks }: Ledger): Violation[] {
  return [...tasks.values()].flatMap(({ id, name, state, events }) =>
    FINISHED.has(state)
      ? []
      : [{ guarantee: "liveness", finding: `${name} is still ${state}; last ${events.at(-1)?.type ?? "nothing"}`, task: id }],
  );
}
