// What happened to a task, in order? What was stored entry by entry, merged with what its columns tell: submitted, the current or last lease,
// the last checkpoint, and an end that nobody logged, because the plain way to success writes no entries.

import { instantArray } from "./binary-arrays.js";
import { readError } from "./json-columns.js";
import { finishReasonOf, stateOf } from "./live-rows.js";
import type { EventPlace, TaskEvent, TaskEventType } from "./queries.js";
import type { Connection, Row, Statement } from "./statement.js";
import { instant, integer, optionalInstant, optionalInteger, text } from "./statement.js";
import type { StoredTask } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface EventStatements {
  readonly events: Statement;
  readonly eventFacts: Statement;
}

/** Builds the statements of this file for one schema. */
export function eventStatements(build: Build): EventStatements {
  return {
    // Entries of one lease share its fencing token, which decides between entries of one instant.
    events: build(
      "task_events",
      `SELECT v.event_time, v.fencing_token, v.revision, v.place, v.type, v.state, v.attempt, v.worker_name, v.message, v.error, v.run_at,
        v.finish_reason
      FROM $schema.task_events v WHERE v.shard = $1 AND v.id = $2::uuid AND v.namespace = $3
        AND ($4::timestamptz[] IS NULL OR (v.event_time, v.fencing_token, v.revision, v.place) > (($4::timestamptz[])[1], $5::int8, $6::int8, $7::int4))
      ORDER BY v.event_time, v.fencing_token, v.revision, v.place LIMIT $8::int4`,
    ),
    eventFacts: build(
      "task_event_facts",
      `SELECT (SELECT v.attempt FROM $schema.task_events v WHERE v.shard = $1 AND v.id = $2::uuid AND v.fencing_token = $3::int8
          ORDER BY v.revision, v.place LIMIT 1),
        EXISTS (SELECT 1 FROM $schema.task_events v WHERE v.shard = $1 AND v.id = $2::uuid AND v.revision = $4::int8 AND v.type = 'FINISHED')`,
    ),
  };
}

/** What the columns of a task do not say about its own entries. */
export interface EventFacts {
  /** The attempt that the first entry of the last lease belongs to; null where it has none. */
  readonly leasedAttempt: number | null;
  /** Its end is an entry already. */
  readonly endLogged: boolean;
}

// Before every stored entry of the same instant and lease, whose revisions begin at 1; an end comes after them all.
const BEFORE_ENTRIES = 0;
const LAST_PLACE = 32_767;

/** A page of a task's timeline: at most `most` entries behind `after`. */
export async function readTaskEvents(
  connection: Connection,
  statements: EventStatements,
  shard: number,
  task: StoredTask,
  after: EventPlace | null,
  most: number,
): Promise<TaskEvent[]> {
  const { live, id, namespace } = task;
  const rows = await connection.run(statements.events, [
    shard,
    id,
    namespace,
    after === null ? null : instantArray([after.timeUs]),
    after?.fencingToken ?? 0,
    after?.revision ?? 0,
    after?.place ?? 0,
    most,
  ]);
  const [facts] = await connection.run(statements.eventFacts, [shard, id, live.fencingToken, live.revision]);
  const told = columnEvents(task, { leasedAttempt: optionalInteger(facts ?? [null], 0), endLogged: facts?.[1] === "t" });
  const later = told.filter(({ at }) => after === null || comparePlaces(at, after) > 0);
  return [...rows.map(readEvent), ...later].sort((a, b) => comparePlaces(a.at, b.at)).slice(0, most);
}

/** What the columns of a task tell of its timeline. */
export function columnEvents(task: StoredTask, facts: EventFacts): TaskEvent[] {
  const { live, finish } = task;
  const { createTimeUs } = live.identity;
  const attempt = facts.leasedAttempt ?? live.failures + 1;
  const blank = { message: "", error: null, runAtUs: null, count: 0, finishReason: null, workerName: live.workerName, attempt };
  const at = (timeUs: number, fencingToken: number, place: number, revision = BEFORE_ENTRIES): EventPlace => ({
    timeUs,
    fencingToken,
    revision,
    place,
  });
  const runAtUs = Math.max(task.scheduleUs ?? createTimeUs, createTimeUs);
  const found: TaskEvent[] = [
    { ...blank, at: at(createTimeUs, 0, 0), type: "SUBMITTED", state: "PENDING", workerName: "", attempt: 1, runAtUs },
  ];
  if (live.leaseTimeUs !== null) found.push({ ...blank, at: at(live.leaseTimeUs, live.fencingToken, 1), type: "LEASED", state: "RUNNING" });
  if (live.checkpointTimeUs !== null) {
    // An earlier checkpoint belongs to a lease whose token nobody kept: it stands before the last lease.
    const ofLastLease = live.checkpointTimeUs >= (live.leaseTimeUs ?? 0);
    const place = at(live.checkpointTimeUs, ofLastLease ? live.fencingToken : Math.max(live.fencingToken - 1, 0), 2);
    const worker = ofLastLease ? {} : { workerName: "" };
    found.push({ ...blank, ...worker, at: place, type: "CHECKPOINTED", state: "RUNNING", count: live.checkpointCount });
  }
  if (finish !== null && !facts.endLogged) {
    const place = at(finish.finishTimeUs, live.fencingToken, LAST_PLACE, live.revision);
    found.push({ ...blank, at: place, type: "FINISHED", state: finish.state, error: finish.error, finishReason: finish.reason });
  }
  return found;
}

function readEvent(row: Row): TaskEvent {
  return {
    at: { timeUs: instant(row, 0), fencingToken: integer(row, 1), revision: integer(row, 2), place: integer(row, 3) },
    type: text(row, 4) as TaskEventType,
    state: stateOf(integer(row, 5)),
    attempt: integer(row, 6),
    workerName: text(row, 7),
    message: row[8] ?? "",
    error: readError(row[9] ?? null),
    runAtUs: optionalInstant(row, 10),
    count: 0,
    finishReason: finishReasonOf(optionalInteger(row, 11)),
  };
}

function comparePlaces(a: EventPlace, b: EventPlace): number {
  return a.timeUs - b.timeUs || a.fencingToken - b.fencingToken || a.revision - b.revision || a.place - b.place;
}
