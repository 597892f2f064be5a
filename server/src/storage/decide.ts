// How does an event happen to one stored task? Lock it, let the domain answer, write the answer: all in one transaction.

import type { Context, Event } from "../domain/event.js";
import type { LiveTask } from "../domain/task.js";
import { transition } from "../domain/transition.js";
import type { ApplyStatements } from "./apply-decisions.js";
import { applyDecisions } from "./apply-decisions.js";
import { FENCING_BASE } from "./lease-tasks.js";
import { FINISHED_FIRST, finishedOf, LIVE_COLUMNS, TASK_OF_LIVE, readLive, stateOf } from "./live-rows.js";
import type { Connection, Statement } from "./statement.js";
import { bytes, hexDigits, instant, integer, optionalInstant, text } from "./statement.js";
import type { DecideResult, FinishedOutcome, TaskReference } from "./storage.js";
import type { FinalState } from "../domain/task.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface DecideStatements {
  readonly lock: Statement;
  readonly now: Statement;
  readonly finished: Statement;
  readonly ofKey: Statement;
}

/** Builds the statements of this file for one schema. */
export function decideStatements(build: Build): DecideStatements {
  return {
    lock: build(
      "lock_task",
      `SELECT ${LIVE_COLUMNS} FROM $schema.live_tasks l ${TASK_OF_LIVE}
      WHERE l.shard = $1 AND l.id = $2::uuid AND l.namespace = $3 FOR UPDATE OF l`,
    ),
    // The time is read after the lock was got: a clock read before a lock wait would be old.
    now: build(
      "now_and_execution_metadata",
      `SELECT c.now, e.content_type, e.content, p.update_time, ${FENCING_BASE} FROM (SELECT $schema.leasehold_now() AS now) c
      LEFT JOIN $schema.execution_metadata e ON e.shard = $1 AND e.id = $2::uuid AND $3::bool
      LEFT JOIN $schema.task_progress p ON p.shard = $1 AND p.id = $2::uuid`,
    ),
    finished: build(
      "finished_outcome",
      `SELECT f.state, f.last_outcome_nonce, f.last_outcome_seq, f.last_outcome_invalid FROM $schema.finished_tasks f
      WHERE ${finishedOf("$2::uuid")} AND f.namespace = $3 ${FINISHED_FIRST}`,
    ),
    // Whoever has the key; else the latest task that had it.
    ofKey: build(
      "task_of_key",
      `SELECT coalesce(
        (SELECT k.id FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = $2 AND k.name = $3 AND k.key = $4),
        (SELECT t.id FROM $schema.tasks t WHERE t.shard = $1 AND t.namespace = $2 AND t.name = $3 AND t.key = $4
          ORDER BY t.create_time DESC LIMIT 1))`,
    ),
  };
}

/** The id that a reference names; null where no task has the key. */
export async function resolveId(
  connection: Connection,
  statements: DecideStatements,
  shard: number,
  reference: TaskReference,
): Promise<string | null> {
  if ("id" in reference) return reference.id;
  const [row] = await connection.run(statements.ofKey, [shard, reference.namespace, reference.name, reference.key]);
  return row?.[0] ?? null;
}

/** What the decision needs from outside. */
export interface DecideContext {
  readonly chance: number;
  readonly maxPayloadBytes: number;
  readonly observe: (nowUs: number) => void;
}

/** Lets an event happen to one task; to be called within a transaction. */
export async function decideById(
  connection: Connection,
  statements: DecideStatements & ApplyStatements,
  shard: number,
  namespace: string,
  id: string,
  event: Event,
  etagRevision: number | undefined,
  context: DecideContext,
): Promise<DecideResult> {
  const [row] = await connection.run(statements.lock, [shard, id, namespace]);
  if (row === undefined) {
    const outcome = await readFinishedOutcome(connection, statements, shard, namespace, id);
    return outcome === null ? { kind: "not-found" } : { kind: "finished", outcome, id };
  }
  const before = readLive(row);
  const now = await readNow(connection, statements, shard, before, needsMetadata(before, event));
  context.observe(now.nowUs);
  const { chance, maxPayloadBytes } = context;
  const answer = transition(before, event, { ...now, chance, maxPayloadBytes });
  // A request that is repeated gets its first answer, whatever its etag has become meanwhile.
  if (answer.kind !== "repeated" && etagRevision !== undefined && etagRevision !== before.revision) return { kind: "etag-mismatch" };
  if (answer.kind === "changed" || answer.kind === "finished") {
    const [written] = await applyDecisions(connection, statements, shard, [{ before, answer, notBeforeUs: null }], context.observe);
    if (written !== true) throw new Error(`task ${id} changed under its lock`);
  }
  return { kind: "decided", decided: { before, answer } };
}

/** The last outcome of a finished task; null where it is not finished, or unknown. */
export async function readFinishedOutcome(
  connection: Connection,
  statements: DecideStatements,
  shard: number,
  namespace: string,
  id: string,
): Promise<FinishedOutcome | null> {
  const [row] = await connection.run(statements.finished, [shard, id, namespace]);
  if (row === undefined) return null;
  const nonce = hexDigits(row, 1);
  const lastOutcome = nonce === null ? null : { nonce, seq: integer(row, 2), invalid: row[3] === "t" };
  return { state: stateOf(integer(row, 0)) as FinalState, lastOutcome };
}

async function readNow(
  connection: Connection,
  statements: DecideStatements,
  shard: number,
  task: LiveTask,
  withMetadata: boolean,
): Promise<Pick<Context, "nowUs" | "executionMetadata" | "progressUs" | "fencingBase">> {
  const [row] = await connection.run(statements.now, [shard, task.identity.id, withMetadata]);
  if (row === undefined) throw new Error("the clock statement answered nothing");
  const content = bytes(row, 2);
  const executionMetadata = content === null ? null : { contentType: text(row, 1), data: content };
  return { nowUs: instant(row, 0), executionMetadata, progressUs: optionalInstant(row, 3), fencingBase: integer(row, 4) };
}

// Only proceeds look into the execution metadata, and it may be large.
function needsMetadata(task: LiveTask, event: Event): boolean {
  if (task.executionMetadataVersion === 0) return false;
  return event.kind === "proceeded" || (event.kind === "reported" && (task.proceeds?.remembered.length ?? 0) > 0);
}
