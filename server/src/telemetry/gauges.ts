// What do gauges show? What the database holds, counted at most every few seconds, and how this process is. Zero-filled: a queue that had tasks a
// while ago shows 0, not nothing.

import type { Attributes, ObservableCallback, ObservableGauge } from "@opentelemetry/api";
import { watchEventLoopDelay } from "../clock.js";
import type { LiveState } from "../domain/task.js";
import { DURABILITIES, type Durability } from "../storage/conditions.js";
import type { Census } from "../storage/queries.js";
import type { Storage } from "../storage/storage.js";
import type { TaskCounts } from "./task-counts.js";

/** What gauges read. */
export interface Gauged {
  readonly storage: Pick<Storage, "census" | "listening">;
  readonly counts: TaskCounts;
  readonly nowMs: () => number;
  readonly streams: () => number;
  readonly durability: () => Durability;
  /** Whether Postgres and its schema may be used as they are. */
  readonly fit: () => boolean;
  /** The newest migration that this server knows. */
  readonly schemaVersion: number;
  /** When a round of upkeep ended last, on the same clock. */
  readonly upkeepMs: () => number;
  readonly failed: (error: unknown) => void;
}

const STATES = ["PENDING", "RUNNING", "SUSPENDED"] as const satisfies readonly LiveState[];
/** A census is used for this long, and for so many times as long as it took: counting may take a fiftieth of the time. */
const CENSUS_MS = 5_000;
const CENSUS_SHARE = 50;
/** A queue without tasks is shown as 0 for this long. */
const SHOWN_EMPTY_MS = 600_000;
const MS_PER_S = 1_000;

/** Lets the gauges be read. Answers what ends that. */
export function observeGauges(gauged: Gauged): () => void {
  const { counts, nowMs } = gauged;
  const { metrics } = counts;
  const delay = watchEventLoopDelay();
  const census = repeatedCensus(gauged);
  const callbacks: [ObservableGauge, ObservableCallback][] = [
    [metrics.streams, (result) => result.observe(gauged.streams())],
    [metrics.listening, (result) => result.observe(gauged.storage.listening ? 1 : 0)],
    [metrics.fit, (result) => result.observe(gauged.fit() ? 1 : 0)],
    [metrics.upkeepAge, (result) => result.observe((nowMs() - gauged.upkeepMs()) / MS_PER_S)],
    [
      metrics.durability,
      (result) => {
        for (const name of DURABILITIES) result.observe(name === gauged.durability() ? 1 : 0, { class: name });
      },
    ],
    [metrics.delayP50, (result) => result.observe(delay.percentile(50))],
    [metrics.delayP99, (result) => result.observe(delay.percentile(99))],
    [metrics.delayMax, (result) => result.observe(delay.takeMax())],
    ...censusCallbacks(gauged, census),
  ];
  for (const [gauge, callback] of callbacks) gauge.addCallback(callback);
  return () => {
    for (const [gauge, callback] of callbacks) gauge.removeCallback(callback);
    delay.stop();
  };
}

interface Counted {
  readonly census: Census;
  readonly atMs: number;
}

function censusCallbacks(gauged: Gauged, read: () => Promise<Counted | null>): [ObservableGauge, ObservableCallback][] {
  const { counts, nowMs } = gauged;
  const { metrics } = counts;
  const from =
    (observe: (census: Census, show: (value: number, labels?: Attributes) => void) => void): ObservableCallback =>
    async (result) => {
      const counted = await read();
      // Nothing is shown rather than what was true before: the age of the census says why.
      if (counted !== null) observe(counted.census, (value, labels) => result.observe(value, labels));
    };
  const shown = shownQueues(counts);
  return [
    [
      metrics.tasks,
      from((census, show) => {
        for (const [queue, group] of shown(census)) for (const state of STATES) show(group.counts[state], { queue, state });
      }),
    ],
    [
      metrics.oldest,
      from((census, show) => {
        for (const [queue, group] of shown(census)) show(group.oldestDueS, { queue });
      }),
    ],
    [
      metrics.tableRows,
      from(({ tables }, show) => {
        for (const { table, live, dead } of tables) {
          show(live, { table, rows: "live" });
          show(dead, { table, rows: "dead" });
        }
      }),
    ],
    [
      metrics.schema,
      from(({ schemaVersion }, show) => {
        show(schemaVersion, { of: "database" });
        show(gauged.schemaVersion, { of: "server" });
      }),
    ],
    [metrics.sessions, from(({ sessions }, show) => show(sessions))],
    [
      metrics.slots,
      from(({ groups, slots }, show) => {
        const held = groups.reduce((sum, { state, count }) => sum + (state === "RUNNING" ? count : 0), 0);
        show(held, { use: "held" });
        show(Math.max(slots - held, 0), { use: "free" });
      }),
    ],
    [
      metrics.censusAge,
      async (result) => {
        const counted = await read();
        if (counted !== null) result.observe((nowMs() - counted.atMs) / MS_PER_S);
      },
    ],
  ];
}

interface Shown {
  readonly counts: Record<LiveState, number>;
  oldestDueS: number;
}

// Queues beyond the number of labels are summed up as one.
function shownQueues({ queues }: TaskCounts): (census: Census) => ReadonlyMap<string, Shown> {
  return ({ groups }) => {
    const shown = new Map<string, Shown>();
    const of = (queue: string): Shown => {
      let group = shown.get(queue);
      if (group === undefined) shown.set(queue, (group = { counts: { PENDING: 0, RUNNING: 0, SUSPENDED: 0 }, oldestDueS: 0 }));
      return group;
    };
    for (const { queue, state, count, oldestDueS } of groups) {
      const group = of(queues.of(queue));
      group.counts[state] += count;
      group.oldestDueS = Math.max(group.oldestDueS, oldestDueS);
    }
    for (const queue of queues.usedWithin(SHOWN_EMPTY_MS)) of(queue);
    return shown;
  };
}

// All gauges of one collection, and those of a second reader, share one count.
function repeatedCensus({ storage, nowMs, failed }: Gauged): () => Promise<Counted | null> {
  let last: Promise<Counted | null> | null = null;
  let untilMs = Number.NEGATIVE_INFINITY;
  const count = async (): Promise<Counted | null> => {
    const atMs = nowMs();
    try {
      const census = await storage.census();
      untilMs = Math.max(atMs + CENSUS_MS, atMs + (nowMs() - atMs) * CENSUS_SHARE);
      return { census, atMs };
    } catch (error) {
      untilMs = atMs + CENSUS_MS;
      failed(error);
      return null;
    }
  };
  return () => {
    if (last !== null && nowMs() < untilMs) return last;
    untilMs = Number.POSITIVE_INFINITY;
    last = count();
    return last;
  };
}
