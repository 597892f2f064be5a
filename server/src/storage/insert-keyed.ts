// How are tasks with idempotency keys stored? The key's row is the lock: whoever inserts it may store its task, everybody else
// is answered by the task that has the key. Run in a transaction, because a replaced task and its successor are one step.

import type { Answer } from "../domain/event.js";
import type { NewTask, Submission } from "../domain/new-task.js";
import type { LiveTask } from "../domain/task.js";
import { isJson } from "../domain/proceeds.js";
import { sameJson } from "../domain/same-json.js";
import { transition } from "../domain/transition.js";
import type { ApplyStatements } from "./apply-decisions.js";
import { applyDecisions } from "./apply-decisions.js";
import { textArray, uuidArray } from "./binary-arrays.js";
import type { DecideStatements } from "./decide.js";
import type { InsertContext, InsertStatements } from "./insert-tasks.js";
import { insertTasks } from "./insert-tasks.js";
import { FINISHED_FIRST, finishedOf, TASK_OF_LIVE, readLive } from "./live-rows.js";
import type { Connection, Row, Statement } from "./statement.js";
import { bytes, instant, text } from "./statement.js";
import type { Inserted } from "./storage.js";

type Build = (name: string, text: string) => Statement;

/** Statements of this file. */
export interface KeyStatements {
  readonly lockHolders: Statement;
  readonly holders: Statement;
  readonly passOn: Statement;
  readonly dropStray: Statement;
}

/** Builds the statements of this file for one schema. */
export function keyStatements(build: Build): KeyStatements {
  return {
    lockHolders: build(
      "lock_key_holders",
      `SELECT l.id FROM $schema.live_tasks l WHERE l.shard = $1 AND l.id = ANY (ARRAY(
        SELECT k.id FROM unnest($2::text[], $3::text[], $4::text[]) AS u(namespace, name, key) CROSS JOIN LATERAL (
          SELECT k.id FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = u.namespace AND k.name = u.name
            AND k.key = u.key OFFSET 0) k))
      ORDER BY l.id FOR UPDATE OF l`,
    ),
    holders: build(
      "key_holders",
      `SELECT u.place, k.id, t.metadata, t.metadata_type, t.metadata_fingerprint, f.id IS NOT NULL
      FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(namespace, name, key, place)
      CROSS JOIN LATERAL (
        SELECT * FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = u.namespace AND k.name = u.name AND k.key = u.key OFFSET 0) k
      CROSS JOIN LATERAL (SELECT * FROM $schema.tasks t WHERE t.shard = $1 AND t.id = k.id OFFSET 0) t
      LEFT JOIN LATERAL (SELECT f.id FROM $schema.finished_tasks f WHERE ${finishedOf("k.id")} ${FINISHED_FIRST}) f ON true`,
    ),
    passOn: build(
      "pass_key_on",
      `UPDATE $schema.task_keys k SET id = $5::uuid, held_until = NULL
      WHERE k.shard = $1 AND k.namespace = $2 AND k.name = $3 AND k.key = $4 AND k.id = $6::uuid RETURNING k.id`,
    ),
    // A key that was taken for a task whose id existed already would stay taken for ever. One with an end is no stray: its finished task holds it.
    dropStray: build(
      "drop_stray_keys",
      `DELETE FROM $schema.task_keys k WHERE k.shard = $1 AND k.ctid = ANY (ARRAY(
        SELECT x.tid FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[]) AS u(namespace, name, key, id) CROSS JOIN LATERAL (
          SELECT k.ctid AS tid FROM $schema.task_keys k WHERE k.shard = $1 AND k.namespace = u.namespace AND k.name = u.name
            AND k.key = u.key AND k.id = u.id AND k.held_until IS NULL OFFSET 0) x
        WHERE (SELECT true FROM $schema.live_tasks l ${TASK_OF_LIVE}
          WHERE l.shard = $1 AND l.id = u.id AND t.key = u.key OFFSET 0) IS NULL))`,
    ),
  };
}

/** What the insert needs from outside. */
export interface KeyContext extends InsertContext {
  readonly chance: number;
}

/** A key may be freed between the insert and the look at its holder; then the insert is tried again, at most so often. */
const MOST_TRIES = 5;

type Statements = InsertStatements & KeyStatements & ApplyStatements & DecideStatements;

/** Stores tasks of which some have keys; answers them in the order given. To be called within a transaction. */
export async function insertWithKeys(
  connection: Connection,
  statements: Statements,
  tasks: readonly NewTask[],
  context: KeyContext,
): Promise<Inserted[]> {
  const answers = new Map<NewTask, Inserted>();
  let open = [...tasks];
  await lockHolders(connection, statements, context.shard, tasks);
  for (let turn = 0; open.length > 0; turn++) {
    if (turn === MOST_TRIES * Math.max(tasks.length, 1)) throw new Error("keys changed hands again and again");
    // Of several tasks with one key only the first can be inserted by one statement; the others meet its key afterwards.
    const round = firstOfEachKey(open);
    const inserted = await insertTasks(connection, statements, round, context);
    const unstored: NewTask[] = [];
    round.forEach((task, index) => {
      const answer = inserted[index];
      if (answer?.kind === "created" || (answer?.kind === "id-exists" && answer.exists)) answers.set(task, answer);
      else unstored.push(task);
    });
    await dropStrayKeys(
      connection,
      statements,
      context.shard,
      round.filter((task) => answers.get(task)?.kind === "id-exists"),
    );
    for (const [task, answer] of await meetHolders(connection, statements, unstored, context)) answers.set(task, answer);
    open = open.filter((task) => !answers.has(task));
  }
  return tasks.map((task) => answers.get(task) ?? { kind: "id-exists", sameContent: false, exists: false });
}

// Whoever ends a task locks its row and then its key, so whoever may replace one must take the row first too: the insert locks the key.
async function lockHolders(connection: Connection, statements: Statements, shard: number, tasks: readonly NewTask[]): Promise<void> {
  const replacing = tasks
    .map(({ submission }) => submission)
    .filter(({ key, keyConflictPolicy }) => key !== null && keyConflictPolicy === "REPLACE_PENDING");
  if (replacing.length > 0) await connection.run(statements.lockHolders, [shard, ...keyArrays(replacing)]);
}

function keyArrays(submissions: readonly Submission[]): unknown[] {
  return [
    textArray(submissions.map((s) => s.namespace)),
    textArray(submissions.map((s) => s.name)),
    textArray(submissions.map((s) => s.key)),
  ];
}

function firstOfEachKey(tasks: readonly NewTask[]): NewTask[] {
  const seen = new Set<string>();
  return tasks.filter(({ submission: { namespace, name, key } }) => {
    if (key === null) return true;
    const full = `${namespace}\n${name}\n${key}`;
    return seen.has(full) ? false : seen.add(full);
  });
}

async function dropStrayKeys(connection: Connection, statements: Statements, shard: number, tasks: readonly NewTask[]): Promise<void> {
  const keyed = tasks.map(({ submission }) => submission).filter(({ key }) => key !== null);
  if (keyed.length === 0) return;
  await connection.run(statements.dropStray, [shard, ...keyArrays(keyed), uuidArray(keyed.map((s) => s.id))]);
}

// Answers those whose key somebody else has; a key that was freed meanwhile is left open for another try.
async function meetHolders(
  connection: Connection,
  statements: Statements,
  tasks: readonly NewTask[],
  context: KeyContext,
): Promise<Map<NewTask, Inserted>> {
  const answers = new Map<NewTask, Inserted>();
  if (tasks.length === 0) return answers;
  const rows = await connection.run(statements.holders, [context.shard, ...keyArrays(tasks.map((task) => task.submission))]);
  for (const row of rows) {
    const task = tasks[Number(text(row, 0)) - 1];
    if (task === undefined) continue;
    const finished = row[5] === "t";
    const taken: Inserted = { kind: "key-taken", id: text(row, 1), sameMetadata: sameMetadata(task, row), finished, started: finished };
    if (task.submission.keyConflictPolicy !== "REPLACE_PENDING" || finished) answers.set(task, taken);
    else {
      const answer = await replace(connection, statements, task, taken, context);
      if (answer !== null) answers.set(task, answer);
    }
  }
  return answers;
}

// JSON is compared by what it means. Opaque metadata, which may be encrypted anew each time, is compared by the fingerprints that its
// submitters gave, or not at all.
function sameMetadata({ submission: { metadata, metadataFingerprint } }: NewTask, row: Row): boolean {
  const stored = { data: bytes(row, 2) ?? Buffer.alloc(0), contentType: text(row, 3) };
  const areJson = isJson(metadata) && isJson(stored);
  if (areJson) return sameJson(metadata.data, stored.data);
  const fingerprint = bytes(row, 4);
  if (metadataFingerprint !== null && fingerprint !== null) return Buffer.compare(fingerprint, metadataFingerprint) === 0;
  return !isJson(metadata) && !isJson(stored);
}

// The old task ends as REPLACED and its key passes to the new one; null where somebody else was faster.
async function replace(
  connection: Connection,
  statements: Statements,
  task: NewTask,
  taken: Inserted & { kind: "key-taken" },
  context: KeyContext,
): Promise<Inserted | null> {
  const { namespace, name, key, id } = task.submission;
  const [row] = await connection.run(statements.lock, [context.shard, taken.id, namespace]);
  if (row === undefined) return null;
  const before: LiveTask = readLive(row);
  const [time] = await connection.run(statements.now, [context.shard, taken.id, false]);
  if (time === undefined) return null;
  const answer: Answer = transition(
    before,
    { kind: "replaced" },
    { nowUs: instant(time, 0), chance: context.chance, executionMetadata: null, maxPayloadBytes: 0 },
  );
  if (answer.kind !== "finished") return { ...taken, started: true };
  // Passed on before the old task ends, so that its end neither frees nor holds the key.
  await connection.run(statements.passOn, [context.shard, namespace, name, key, id, taken.id]);
  await applyDecisions(connection, statements, context.shard, [{ before, answer, notBeforeUs: null }], context.observe);
  const [inserted] = await insertTasks(connection, statements, [task], context);
  if (inserted?.kind !== "created") return { kind: "id-exists", sameContent: false, exists: true };
  return { ...inserted, replaced: { before, answer } };
}
