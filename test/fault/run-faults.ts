// How does a run with faults go? An arena, owners and workers at work, faults by chance of the seed, then none of them until everything is done; at the
// end the history is checked.
import { setTimeout as sleep } from "node:timers/promises";
import { audit, type Finding } from "../support/audit.js";
import { type Arena, type ArenaOptions, openArena } from "./arena.js";
import { type Chance, chanceFrom } from "./chance.js";
import { checkHistory } from "./checker.js";
import { collectTasks } from "./collect.js";
import { type FinalTask, type History, nowUs, type Violation } from "./history.js";
import { NETWORK_NEMESES } from "./nemeses-of-network.js";
import { POSTGRES_NEMESES } from "./nemeses-of-postgres.js";
import { PROCESS_NEMESES } from "./nemeses-of-processes.js";
import type { Nemesis, Part, Stage } from "./nemesis.js";
import { type Owners, startOwners } from "./owners.js";
import { mountSmallDisk } from "./small-disk.js";
import { timelineOf } from "./timeline.js";

/** What to run. */
export interface FaultRun {
  readonly seed: number;
  /** How long faults come. */
  readonly minutes: number;
  /** Names of the faults; default all that are permitted here. */
  readonly nemeses?: readonly string[];
  /** New tasks a second. */
  readonly perSecond: number;
  /** Makes the run lose what was acknowledged, to see that it is found. */
  readonly saboteur?: Saboteur;
  /** Hears what goes on, a line at a time. */
  readonly say?: (line: string) => void;
}

/** What may be sabotaged. */
export type Saboteur = "synchronous-commit-off";

/** What came of it. */
export interface FaultResult {
  /** One line of figures. */
  readonly summary: string;
  readonly violations: readonly Violation[];
  /** Everything that whoever looks for the cause wants to read; empty if there is no violation. */
  readonly report: string;
  /** How often each fault was done. */
  readonly done: ReadonlyMap<string, number>;
  /** Where journals and logs are; removed if there is no violation. */
  readonly folder: string;
}

const SERVERS = 2;
const SDK_WORKERS = 3;
const TTL_MS = 3_000;
/** All that may finish has finished after this long without faults. */
const LIVENESS_MS = 60_000;
/** What was forgotten never ends. */
const SABOTAGED_MS = 3_000;
const WARM_UP_MS = 1_500;
const LANES = 2;
const LONG_RUN_MINUTES = 5;
const LONG_OUTAGE_MS = 180_000;
const SHORT_OUTAGE_MS = 15_000;
const DISK_FULL = "disk-full";
const MOST_SHOWN = 12;

/** What the saboteur changes. Without the check of its settings the server would not notice. */
const SABOTAGE: Readonly<Record<Saboteur, Pick<ArenaOptions, "postgresSettings" | "serverSettings">>> = {
  "synchronous-commit-off": {
    postgresSettings: { synchronous_commit: "off", wal_writer_delay: "10s" },
    serverSettings: { LEASEHOLD_DURABILITY: "unsafe" },
  },
};

/** Names of all faults. */
export const NEMESES: readonly string[] = [...PROCESS_NEMESES, ...POSTGRES_NEMESES, ...NETWORK_NEMESES]
  .map(({ name }) => name)
  .concat(DISK_FULL);

/** Runs, and checks. Rejects when the arena cannot be set up, or for a fault that nobody knows. */
export async function runFaults(run: FaultRun): Promise<FaultResult> {
  const { seed, minutes, perSecond, say = () => undefined } = run;
  const wanted = run.nemeses ?? NEMESES;
  const strange = wanted.filter((name) => !NEMESES.includes(name));
  if (strange.length > 0) throw new Error(`there is no fault ${strange.join(", ")}; there are ${NEMESES.join(", ")}`);
  const chance = chanceFrom(seed);
  const disk = wanted.includes(DISK_FULL) ? mountSmallDisk() : undefined;
  if (typeof disk === "string") say(`*** LEFT OUT: ${DISK_FULL}, because no file system can be mounted here: ${disk} ***`);
  const small = typeof disk === "object" ? disk : undefined;
  const nemeses = [...PROCESS_NEMESES, ...POSTGRES_NEMESES, ...NETWORK_NEMESES, ...(small === undefined ? [] : [small.nemesis])].filter(
    ({ name }) => wanted.includes(name),
  );
  const sabotage = run.saboteur === undefined ? {} : SABOTAGE[run.saboteur];
  try {
    const arena = await openArena({
      ...{ servers: SERVERS, sdkWorkers: SDK_WORKERS, ttlMs: TTL_MS },
      ...{ ...sabotage, postgresSettings: { ...small?.settings, ...sabotage.postgresSettings } },
      ...(small === undefined ? {} : { dataDir: small.dataDir }),
    });
    if (run.saboteur !== undefined) await arena.postgres.rows("CHECKPOINT");
    let keep = true;
    try {
      say(`journals and logs are in ${arena.folder}`);
      const owners = startOwners(arena.servers, arena.journal, chance.fork(), { perSecond, python: hasPython(arena) });
      const outageMs = minutes >= LONG_RUN_MINUTES ? LONG_OUTAGE_MS : SHORT_OUTAGE_MS;
      const done = await strike(arena, owners, nemeses, {
        chance: chance.fork(),
        endMs: performance.now() + minutes * 60_000,
        outageMs,
        say,
      });
      say("all faults are over");
      const patienceMs = run.saboteur === undefined ? LIVENESS_MS : SABOTAGED_MS;
      const unfinished = await untilDone(arena, owners, patienceMs);
      if (unfinished > 0) say(`${unfinished} tasks are unfinished after ${patienceMs / 1000} s without faults`);
      const tasks = await collectAnywhere(arena);
      const findings = await audit((text) => arena.postgres.rows<Finding>(text));
      owners.close();
      await arena.close(true);
      const history: History = { entries: arena.entries(), tasks, findings, complaints: arena.complaints };
      const violations = checkHistory(history);
      keep = violations.length > 0;
      if (!keep) await arena.close(false);
      return {
        summary: summaryOf(history, done, violations, seed),
        violations,
        report: reportOf(history, violations),
        done,
        folder: arena.folder,
      };
    } finally {
      await arena.close(keep);
    }
  } finally {
    small?.remove();
  }
}

function hasPython({ workers }: Arena): boolean {
  return workers.some(({ name }) => name.startsWith("python"));
}

interface Strike {
  readonly chance: Chance;
  readonly endMs: number;
  readonly outageMs: number;
  readonly say: (line: string) => void;
}

/** Lets faults come, two at a time, each as often as the others. Answers how often each came. */
async function strike(
  arena: Arena,
  owners: Owners,
  nemeses: readonly Nemesis[],
  { chance, endMs, outageMs, say }: Strike,
): Promise<Map<string, number>> {
  const done = new Map<string, number>();
  const busy = new Set<Part>();
  const leftMs = (): number => endMs - performance.now();
  const pause = (ms: number): Promise<void> => sleep(Math.max(0, Math.min(ms, leftMs())));
  let bag: Nemesis[] = [];
  const next = (): Nemesis | undefined => {
    if (bag.length === 0) bag = shuffled(nemeses, chance);
    const index = bag.findIndex(({ touches }) => touches.every((part) => !busy.has(part)));
    return index === -1 ? undefined : bag.splice(index, 1)[0];
  };
  const lane = async (own: Chance): Promise<void> => {
    while (leftMs() > 0) {
      const nemesis = next();
      if (nemesis !== undefined) {
        for (const part of nemesis.touches) busy.add(part);
        const note =
          (what: "fault" | "healed") =>
          (text: string): void => {
            arena.journal.write({ what, atUs: nowUs(), who: nemesis.name, note: text });
            say(`${what === "fault" ? "" : "end of "}${nemesis.name} ${text}`);
          };
        const stage: Stage = { arena, owners, chance: own, ttlMs: TTL_MS, outageMs, pause };
        try {
          // One that a full disk has ended is started again.
          if (nemesis.touches.includes("postgres")) await arena.postgres.start();
          await nemesis.run(stage, note("fault"));
        } catch (error) {
          note("fault")(`could not be done to its end: ${String(error)}`);
        }
        arena.journal.write({ what: "healed", atUs: nowUs(), who: nemesis.name, note: "" });
        for (const part of nemesis.touches) busy.delete(part);
        done.set(nemesis.name, (done.get(nemesis.name) ?? 0) + 1);
      }
      await pause(300 + own.below(1_500));
    }
  };
  await sleep(WARM_UP_MS);
  await Promise.all(Array.from({ length: LANES }, () => lane(chance.fork())));
  return done;
}

function shuffled<T>(items: readonly T[], chance: Chance): T[] {
  return items
    .map((item) => ({ item, place: chance.next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** What is stored, through the first server that tells; one that does not answer when all faults are over is complained about. */
async function collectAnywhere({ servers, complain }: Arena): Promise<Map<string, FinalTask>> {
  const errors: unknown[] = [];
  for (const { name, address } of servers) {
    try {
      return await collectTasks(address);
    } catch (error) {
      errors.push(error);
      complain(`${name} does not answer reads although all faults are over: ${String(error)}`);
    }
  }
  throw new AggregateError(errors, `no server tells what is stored: ${errors.map(String).join("; ")}`);
}

/** Heals everything, and waits until every task has ended; answers how many have not. */
async function untilDone({ postgres, servers, workers }: Arena, owners: Owners, patienceMs: number): Promise<number> {
  await postgres.start();
  for (const seat of [...servers, ...workers]) seat.skew(0);
  await Promise.all([...servers, ...workers].map((seat) => seat.start()));
  await owners.quiet();
  const endMs = performance.now() + patienceMs;
  for (;;) {
    await owners.proceedAll();
    const [row] = await postgres.rows<{ count: number }>("SELECT count(*)::int AS count FROM live_tasks");
    const unfinished = row?.count ?? 0;
    if (unfinished === 0 || performance.now() > endMs) return unfinished;
    await sleep(500);
  }
}

function summaryOf({ entries, tasks }: History, done: ReadonlyMap<string, number>, violations: readonly Violation[], seed: number): string {
  const leases = entries.filter(({ what }) => what === "leased").length;
  const lost = [...tasks.values()].reduce((sum, { events }) => sum + events.filter(({ type }) => type === "LEASE_LOST").length, 0);
  const calls = entries.flatMap((entry) => (entry.what === "call" ? [entry] : []));
  const of = (counts: ReadonlyMap<string, number>): string => [...counts].map(([name, count]) => `${name} ${count}`).join(", ");
  return [
    `seed ${seed}: ${tasks.size} tasks (${of(tally([...tasks.values()].map(({ state }) => state)))})`,
    `${leases} leases seen, ${lost} lost`,
    `${calls.length} calls (${of(tally(calls.map(({ outcome }) => outcome)))})`,
    `faults: ${of(done)}`,
    `${violations.length} violations`,
  ].join("; ");
}

function tally(values: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

function reportOf(history: History, violations: readonly Violation[]): string {
  const told = new Set<string | undefined>();
  const parts = violations.slice(0, MOST_SHOWN).map(({ guarantee, finding, task }) => {
    const line = `${guarantee} VIOLATED${task === undefined ? "" : ` by task ${task}`}: ${finding}`;
    if (told.size >= 3 || told.has(task)) return line;
    told.add(task);
    return `${line}\n${timelineOf(history, task)}`;
  });
  if (violations.length > MOST_SHOWN) parts.push(`… and ${violations.length - MOST_SHOWN} more`);
  return parts.join("\n\n");
}
