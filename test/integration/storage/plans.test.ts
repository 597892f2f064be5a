// Do hot statements stay fast that were planned while the tables were empty? Each is prepared and run six times on empty, analysed tables,
// which are then filled: no plan may scan a large table, and nothing may take a second.
import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newTask } from "@leasehold/server/domain/new-task";
import type { LiveTask } from "@leasehold/server/domain/task";
import { transition } from "@leasehold/server/domain/transition";
import { applyDecisions, applyStatements } from "@leasehold/server/storage/apply-decisions";
import { clientConfig } from "@leasehold/server/storage/connections";
import { decideById, decideStatements } from "@leasehold/server/storage/decide";
import { insertStatements, insertTasks } from "@leasehold/server/storage/insert-tasks";
import { leaseStatements, leaseTasks, readPayloads } from "@leasehold/server/storage/lease-tasks";
import { cancelledLeases, lockHeld, lockListed, openSession, sessionStatements, storeBeats } from "@leasehold/server/storage/sessions";
import { statementsFor, type Cell, type Statement } from "@leasehold/server/storage/statement";
import type { Decision, LeasedTask } from "@leasehold/server/storage/storage";
import {
  groupsWithWork,
  orphanedLeases,
  overdueTasks,
  removeExpiredTasks,
  upkeepStatements,
} from "@leasehold/server/storage/upkeep-statements";
import { readChanged, storeProgress, watchStatements } from "@leasehold/server/storage/watch-statements";
import { bodies } from "../../support/domain.js";
import { createTestDatabase, type TestDatabase } from "../../support/postgres.js";
import { claimOf, helloOf, nextReport, storageSettings, submissionOf } from "../../support/storage.js";

const SECOND = 1_000_000;
const TASKS = 20_000;
const NAMES = 20;
const SERVER = "0190b6f2-0000-7000-8000-000000000001";
/** Few rows each, and no index could serve them. */
const SMALL_TABLES = ["sessions", "upkeep", "servers"];

const build = statementsFor("leasehold");
const statements = {
  ...insertStatements(build),
  ...leaseStatements(build),
  ...applyStatements(build),
  ...sessionStatements(build),
  ...decideStatements(build),
  ...upkeepStatements(build),
  ...watchStatements(build),
};

let database: TestDatabase;
let client: pg.Client;
let nowUs = 0;
/** Every statement that ran, with the longest time it took since the tables were filled. */
const ran = new Map<Statement, { parameters: number; longestMs: number }>();
const observe = (us: number): void => void (nowUs = us);
const connection = {
  run: async (statement: Statement, values: readonly unknown[]): Promise<Cell[][]> => {
    const begin = performance.now();
    const { rows } = await client.query<Cell[]>({ name: statement.name, text: statement.text, values: [...values], rowMode: "array" });
    const longestMs = Math.max(ran.get(statement)?.longestMs ?? 0, performance.now() - begin);
    ran.set(statement, { parameters: values.length, longestMs });
    return rows;
  },
};

function decisions(leased: readonly LeasedTask[], report: "complete" | "checkpoint" | "fail"): Decision[] {
  return leased.map(({ live }) => decisionOf(live, report));
}

function decisionOf(before: LiveTask, report: "complete" | "checkpoint" | "fail"): Decision {
  const answer = transition(before, nextReport(before, bodies[report]), {
    nowUs,
    chance: 0,
    executionMetadata: null,
    maxPayloadBytes: 1000,
  });
  if (answer.kind !== "changed" && answer.kind !== "finished") throw new Error("the report was refused");
  return { before, answer, notBeforeUs: null };
}

async function store(count: number): Promise<void> {
  const tasks = Array.from({ length: count }, (_, at) =>
    newTask(
      submissionOf({
        name: `name.${String(at % NAMES)}`,
        priority: at % 3,
        labels: new Map([["n", String(at)]]),
        executionMetadata: at % 4 === 0 ? bodies.complete.result : null,
      }),
      nowUs,
    ),
  );
  await insertTasks(connection, statements, 0, tasks, observe);
}

/** Everything that a server asks all the time, once. */
async function everything(): Promise<void> {
  const session = await openSession(connection, statements, 0, randomUUID(), SERVER, helloOf());
  await store(10);
  const groups = await groupsWithWork(connection, statements, 0, "default", 1000, observe);
  const claim = { ...claimOf([session], groups.slice(0, 64), { most: 10 }), suspects: false };
  const { leased } = await leaseTasks(connection, statements, 0, claim, 2 ** 40, observe);
  expect(leased.length).toBeGreaterThan(5);
  await leaseTasks(connection, statements, 0, { ...claim, suspects: true }, 2 ** 40, observe);
  const [first, second, ...rest] = leased;
  const { id } = first!.live.identity;
  await readPayloads(connection, statements, 0, "default", id);
  await storeBeats(connection, statements, 0, [{ sessionId: session.id, epoch: 1, number: 1 }]);
  await cancelledLeases(connection, statements, 0, [session.id]);
  await lockHeld(connection, statements, 0, session.id);
  await lockListed(connection, statements, 0, [id]);
  await connection.run(statements.running, [0, session.id]);
  await storeProgress(connection, statements, 0, [{ taskId: id, progress: { done: 1, total: 2, message: "", updateUs: nowUs } }]);
  await readChanged(connection, statements, 0, [{ id, revision: 0, progressUs: null }]);
  const context = { chance: 0, maxPayloadBytes: 1000, observe };
  await decideById(
    connection,
    statements,
    0,
    "default",
    second!.live.identity.id,
    nextReport(second!.live, bodies.suspendUntil),
    undefined,
    context,
  );
  await decideById(connection, statements, 0, "default", randomUUID(), { kind: "lease-lost" }, undefined, context);
  expect(
    await applyDecisions(connection, statements, 0, [...decisions([first!], "checkpoint"), ...decisions(rest, "complete")], observe),
  ).not.toContain(false);
  await orphanedLeases(connection, statements, 0, 100);
  await overdueTasks(connection, statements, 0, 100);
  await removeExpiredTasks(
    connection,
    statements,
    0,
    "default",
    { COMPLETED: 3600 * SECOND, FAILED: 3600 * SECOND, CANCELLED: 3600 * SECOND },
    100,
  );
}

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly Plans?: readonly Plan[];
}

function scansOf(plan: Plan): string[] {
  const own = plan["Node Type"] === "Seq Scan" ? [plan["Relation Name"] ?? ""] : [];
  return [...own, ...(plan.Plans ?? []).flatMap(scansOf)];
}

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client(clientConfig(storageSettings(database.url), "plans"));
  await client.connect();
  await client.query("ANALYZE");
  for (let turn = 0; turn < 6; turn++) {
    await client.query("BEGIN");
    await everything();
    await client.query("ROLLBACK");
  }
  for (let stored = 0; stored < TASKS; stored += 1000) await store(1000);
  const session = await openSession(connection, statements, 0, randomUUID(), SERVER, helloOf());
  for (let turn = 0; turn < 6; turn++) {
    const groups = await groupsWithWork(connection, statements, 0, "default", 1000, observe);
    const claim = claimOf([session], groups.slice(0, 64), { most: 500 });
    const { leased } = await leaseTasks(connection, statements, 0, claim, 2 ** 40, observe);
    if (turn % 2 === 0) await applyDecisions(connection, statements, 0, decisions(leased, "complete"), observe);
  }
  ran.clear();
  for (let turn = 0; turn < 3; turn++) await everything();
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

describe("statements planned on empty tables", () => {
  it("are all here that a server runs all the time", () => {
    const names = [...ran.keys()].map(({ name }) => name.replace("leasehold_", "")).sort();
    expect(names).toEqual(
      expect.arrayContaining(["apply_changes", "apply_endings", "claim", "groups_with_work", "insert_tasks", "store_heartbeats"]),
    );
    expect(names.length).toBeGreaterThan(20);
  });

  it("scan no table that may be large", async () => {
    const scans: string[] = [];
    for (const [{ name }, { parameters }] of ran) {
      const { rows } = await client.query<[string]>({
        text: `EXPLAIN (FORMAT JSON) EXECUTE "${name}" (${Array.from({ length: parameters }, () => "NULL").join(", ")})`,
        rowMode: "array",
      });
      const [{ Plan: plan }] = JSON.parse(rows[0]![0]) as [{ Plan: Plan }];
      for (const table of scansOf(plan)) if (!SMALL_TABLES.includes(table)) scans.push(`${name} scans ${table}`);
    }
    expect(scans).toEqual([]);
  });

  it("take less than a second each, among 20,000 tasks", () => {
    const slow = [...ran]
      .filter(([, { longestMs }]) => longestMs > 1000)
      .map(([{ name }, { longestMs }]) => `${name}: ${longestMs.toFixed(0)} ms`);
    expect(slow).toEqual([]);
  });
});
