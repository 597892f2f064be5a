// Did any two workers ever have a say in the same task, and did whoever followed begin where the one before had been? The checks of leases,
// reports and checkpoints, from what went over the workers' streams.
import type { Greeted, Judged, Leased, Reported, Violation } from "./history.js";
import { RETRY_DELAY_MS } from "./kinds.js";
import type { Ledger, LeaseStory } from "./ledger.js";

const STORED = new Set(["RECORDED", "ALREADY_RECORDED"]);
const RECORDED = "RECORDED";
const LATER = "RETRY_LATER";

/** G2: one lease, one fencing token; only the newest lease changes anything, and ends once. */
export function authority(ledger: Ledger): Violation[] {
  const found: Violation[] = [];
  for (const [task, stories] of ledger.byTask) {
    const say = (finding: string): void => void found.push({ guarantee: "G2", finding, task });
    const tokens = new Map<number, string>();
    for (const { lease } of stories) {
      const other = tokens.get(lease.fencing);
      if (other !== undefined && other !== lease.token) say(`two leases have fencing token ${lease.fencing}`);
      tokens.set(lease.fencing, lease.token);
    }
    for (const story of stories) {
      const ends = outcomesOf(story).filter(({ seq }) => verdictsOn(story, seq).some(({ code }) => code === RECORDED));
      if (new Set(ends.map(({ seq }) => seq)).size > 1) say(`lease ${story.lease.fencing} has two recorded outcomes`);
      for (const verdict of story.verdicts.filter(({ code }) => code === RECORDED)) {
        // Sent when somebody else had a newer lease already.
        const sentUs = Math.min(...story.reports.filter(({ seq }) => seq === verdict.seq).map(({ atUs }) => atUs));
        const newer = stories.find(({ lease }) => lease.fencing > story.lease.fencing && lease.atUs < sentUs);
        if (newer !== undefined)
          say(
            `report ${verdict.seq} of lease ${story.lease.fencing} was recorded after ${newer.lease.who} had got lease ${newer.lease.fencing}`,
          );
      }
    }
    found.push(...inOrder(task, stories, ledger));
  }
  return found;
}

/** A worker that began after a later lease was given never gets an earlier one. */
function inOrder(task: string, stories: readonly LeaseStory[], { startedUs }: Ledger): Violation[] {
  return stories.flatMap(({ lease }) => {
    const later = stories.find((other) => other.lease.fencing > lease.fencing && other.lease.atUs < (startedUs.get(lease.who) ?? 0));
    if (later === undefined) return [];
    const finding = `${lease.who} got fencing token ${lease.fencing} after ${later.lease.who} had got ${later.lease.fencing}`;
    return [{ guarantee: "G2", finding, task }];
  });
}

function outcomesOf({ reports }: LeaseStory): Reported[] {
  return reports.filter(({ kind }) => kind !== "checkpoint");
}

function verdictsOn({ verdicts }: LeaseStory, seq: number): Judged[] {
  return verdicts.filter((verdict) => verdict.seq === seq);
}

/** G3: after a recorded completion nobody gets the task again. */
export function finality({ byTask, tasks }: Ledger): Violation[] {
  return [...byTask].flatMap(([task, stories]) => {
    const completed = stories.find(({ verdicts }) => verdicts.some(({ code, state }) => STORED.has(code) && state === "COMPLETED"));
    if (completed === undefined) return [];
    const { fencing } = completed.lease;
    const found: Violation[] = [];
    const say = (finding: string): void => void found.push({ guarantee: "G3", finding, task });
    const later = stories.find(({ lease }) => lease.fencing > fencing);
    if (later !== undefined) say(`it was COMPLETED by lease ${fencing} and leased again to ${later.lease.who} as ${later.lease.fencing}`);
    const stored = tasks.get(task);
    if (stored !== undefined && stored.state !== "COMPLETED") say(`its completion was recorded, and it is ${stored.state}`);
    if (stored !== undefined && stored.fencing !== fencing)
      say(`its completion was recorded by lease ${fencing}, and it is of lease ${stored.fencing}`);
    return found;
  });
}

/** G4: the next lease carries the last acknowledged checkpoint, or a later one, whole. */
export function checkpoints({ byTask, tasks }: Ledger): Violation[] {
  return [...byTask].flatMap(([task, stories]) => {
    const found: Violation[] = [];
    const say = (finding: string): void => void found.push({ guarantee: "G4", finding, task });
    let most: { version: number; fencing: number } = { version: 0, fencing: 0 };
    const contents = new Map<number, string>();
    for (const { lease, reports, verdicts } of stories) {
      if (lease.version < most.version)
        say(
          `lease ${lease.fencing} carries version ${lease.version} although lease ${most.fencing} had version ${most.version} acknowledged`,
        );
      const known = contents.get(lease.version);
      if (known !== undefined && lease.saved !== "" && !sameJson(known, lease.saved))
        say(`lease ${lease.fencing} carries version ${lease.version} as ${lease.saved}, acknowledged was ${known}`);
      if (!isWhole(lease.saved)) say(`lease ${lease.fencing} carries a mixed checkpoint: ${lease.saved}`);
      for (const { code, version, seq } of verdicts) {
        if (!STORED.has(code)) continue;
        const report = reports.find((one) => one.seq === seq);
        if (report?.kind !== "checkpoint") continue;
        if (code === RECORDED) contents.set(version, report.saved);
        if (version > most.version && code === RECORDED) most = { version, fencing: lease.fencing };
      }
    }
    const stored = tasks.get(task);
    if (stored !== undefined && stored.version < most.version)
      say(`version ${most.version} was acknowledged to lease ${most.fencing}, and version ${stored.version} is stored`);
    if (stored !== undefined && !isWhole(stored.saved)) say(`a mixed checkpoint is stored: ${stored.saved}`);
    return found;
  });
}

function sameJson(a: string, b: string): boolean {
  const ordered = (text: string): string =>
    JSON.stringify(Object.entries(JSON.parse(text) as Record<string, unknown>).sort(([one], [other]) => (one < other ? -1 : 1)));
  return a === b || ordered(a) === ordered(b);
}

function isWhole(saved: string): boolean {
  if (saved === "") return true;
  const { done, sum } = JSON.parse(saved) as { done?: number; sum?: number };
  return done === undefined || sum === undefined || sum === (done * (done + 1)) / 2;
}

/** G5: nobody gets a task before its worker was silent for the session's time to live. */
export function expiry(ledger: Ledger): Violation[] {
  return [...ledger.byTask].flatMap(([task, stories]) =>
    stories.flatMap((story, index) => {
      const next = stories[index + 1];
      if (next === undefined || next.lease.fencing !== story.lease.fencing + 1 || mayHaveEnded(story, next.lease, ledger)) return [];
      const { lease } = story;
      const beatUs = ledger.lastBeatUs(lease.session, next.lease.atUs);
      const ttlUs = (ledger.ttlMs.get(lease.session) ?? 0) * 1000;
      const earlyUs = beatUs + ttlUs - next.lease.atUs;
      if (earlyUs <= 0) return [];
      const finding = `lease ${lease.fencing} of ${lease.who} was given on to ${next.lease.who} ${(earlyUs / 1000).toFixed(0)} ms before its time to live had passed`;
      return [{ guarantee: "G5", finding, task }];
    }),
  );
}

/** Whether anything but silence may have ended a lease. */
function mayHaveEnded({ lease, reports, told }: LeaseStory, next: Leased, { greetings }: Ledger): boolean {
  if (reports.some(({ kind }) => kind !== "checkpoint") || told.length > 0) return true;
  const leftOut = (hello: Greeted): boolean => hello.atUs > lease.atUs && hello.atUs < next.atUs && !hello.held.includes(lease.token);
  return (greetings.get(lease.who) ?? []).some(leftOut);
}

/** G11: a report is recorded once, and whoever sends it again is told so. */
export function repetitions({ byTask, tasks }: Ledger): Violation[] {
  return [...byTask].flatMap(([task, stories]) =>
    stories.flatMap((story) => {
      const { lease, reports } = story;
      const found: Violation[] = [];
      const say = (finding: string): void => void found.push({ guarantee: "G11", finding, task });
      for (const seq of new Set(reports.map((one) => one.seq))) {
        const codes = verdictsOn(story, seq)
          .map(({ code }) => code)
          .filter((code) => code !== LATER);
        if (codes.filter((code) => code === RECORDED).length > 1) say(`report ${seq} of lease ${lease.fencing} was RECORDED twice`);
        const isOutcome = reports.find((one) => one.seq === seq)?.kind !== "checkpoint";
        const after = codes.slice(codes.findIndex((code) => STORED.has(code)) + 1);
        const isLast = (tasks.get(task)?.fencing ?? 0) === lease.fencing;
        if (isOutcome && isLast && codes.some((code) => STORED.has(code)) && after.some((code) => code !== "ALREADY_RECORDED"))
          say(`outcome ${seq} of lease ${lease.fencing} was recorded, and then answered ${after.join(", ")}`);
      }
      return found;
    }),
  );
}

/** G14: nobody gets a task before its suspension or backoff has passed. */
export function waits({ byTask, calls }: Ledger): Violation[] {
  return [...byTask].flatMap(([task, stories]) => {
    const own = calls.get(task) ?? [];
    return stories.flatMap((story, index) => {
      const next = stories[index + 1];
      const end = story.reports.find(
        ({ kind, seq }) => kind !== "checkpoint" && verdictsOn(story, seq).some(({ code }) => STORED.has(code)),
      );
      if (next === undefined || end === undefined || next.lease.fencing !== story.lease.fencing + 1) return [];
      if (own.some(({ operation }) => operation === "proceed" || operation === "retry" || operation === "cancel")) return [];
      const leastMs = end.kind === "suspend" ? (end.afterMs ?? 0) : end.kind === "fail" ? RETRY_DELAY_MS : 0;
      // The first time it was sent is the earliest at which it can have been stored.
      const sentUs = Math.min(...story.reports.filter(({ seq }) => seq === end.seq).map(({ atUs }) => atUs));
      const earlyMs = sentUs / 1000 + leastMs - next.lease.atUs / 1000;
      if (earlyMs <= 0) return [];
      return [
        { guarantee: "G14", finding: `lease ${next.lease.fencing} came ${earlyMs.toFixed(0)} ms before its ${end.kind} allowed`, task },
      ];
    });
  });
}
