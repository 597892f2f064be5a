// Which one-line changes must make the tests go red? Each as a text that stands exactly once in its file and what takes its place; run.ts
// puts them in one at a time. A suite that stays green with one of them in place proves less than it says.

/** A sabotage of the code. */
export interface Mutant {
  readonly name: string;
  readonly changes: readonly Change[];
  /** Test files that may see it, in the words of vitest. Empty where `onlyBy` says why. */
  readonly suites: readonly string[];
  /** The vitest project, where another than the usual ones must see it. */
  readonly project?: "postgres-17";
  /** What sees it, where no suite of this run can. */
  readonly onlyBy?: string;
}

/** One text of one file, and what takes its place. */
export interface Change {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const APPLY = "server/src/storage/apply-decisions.ts";
const TRANSITION = "server/src/domain/transition.ts";
const REPORTS = "server/src/dispatch/reports.ts";
const SESSIONS = "server/src/storage/sessions.ts";
const WORKER_SESSION = "server/src/dispatch/worker-session.ts";

const DOMAIN_TESTS = "test/unit/domain";
const MODEL = "test/model";
const RACES = "test/integration/races";
const APPLY_TESTS = "test/integration/storage/apply-decisions";
const STREAMS = "test/integration/streams";

/** All of them. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "drop the token compare in the domain",
    changes: [
      {
        file: TRANSITION,
        find: "if (task.lease?.nonce !== nonce) return closedLease",
        replace: "if (task.lease === null) return closedLease",
      },
    ],
    suites: [DOMAIN_TESTS, MODEL],
  },
  {
    name: "drop the token compare in the fence",
    changes: [
      {
        file: APPLY,
        find: "AND l.lease_nonce IS NOT DISTINCT FROM u.nonce AND l.revision = u.revision OFFSET 0",
        replace: "AND l.revision = u.revision OFFSET 0",
      },
      {
        file: APPLY,
        find: "AND l.lease_nonce IS NOT DISTINCT FROM f.nonce AND l.revision = f.revision`",
        replace: "AND l.revision = f.revision`",
      },
    ],
    suites: [APPLY_TESTS],
  },
  {
    name: "drop the revision compare in the fence",
    changes: [
      {
        file: APPLY,
        find: "IS NOT DISTINCT FROM u.nonce AND l.revision = u.revision OFFSET 0",
        replace: "IS NOT DISTINCT FROM u.nonce OFFSET 0",
      },
      { file: APPLY, find: "IS NOT DISTINCT FROM f.nonce AND l.revision = f.revision`", replace: "IS NOT DISTINCT FROM f.nonce`" },
    ],
    suites: [APPLY_TESTS, RACES],
  },
  {
    name: "guard only in the CTE, on the old server",
    changes: [
      { file: APPLY, find: "AND l.id = f.id AND l.lease_nonce IS NOT DISTINCT FROM f.nonce AND l.revision = f.revision`", replace: "`" },
    ],
    suites: [RACES, APPLY_TESTS],
    project: "postgres-17",
  },
  {
    name: "guard of a heartbeat only in the CTE, on the old server",
    changes: [
      {
        file: SESSIONS,
        find: "WHERE s.ctid = u.tid AND s.shard = $1 AND s.id = u.id AND s.epoch = u.epoch AND s.end_time IS NULL",
        replace: "WHERE s.ctid = u.tid AND s.shard = $1",
      },
    ],
    suites: [RACES, "test/integration/storage/sessions"],
    project: "postgres-17",
  },
  {
    name: "acknowledge a report before its commit",
    changes: [
      { file: REPORTS, find: "const written = await this.writes.add(", replace: "const written = true;\n    void this.writes.add(" },
    ],
    suites: [MODEL],
  },
  {
    name: "acknowledge an owner's change before its commit",
    changes: [
      {
        file: "server/src/storage/connections.ts",
        find: 'await control(client, "COMMIT");',
        replace: 'setTimeout(() => void control(client, "COMMIT"), 20);',
      },
    ],
    suites: [MODEL, "test/integration/storage/decide"],
  },
  {
    name: "`end` releases",
    changes: [
      {
        file: WORKER_SESSION,
        find: "  streamClosed(): void {\n    if (this.ended) return;",
        replace:
          "  streamClosed(): void {\n    if (this.ended) return;\n    this.around.giveBack([...this.held.all()].flatMap((lease) => (lease.copy === null ? [] : [lease.copy])));",
      },
    ],
    suites: [STREAMS],
  },
  {
    name: "no recheck of expiry",
    changes: [
      {
        file: "server/src/storage/upkeep-statements.ts",
        find: "WHERE s.shard = $1 AND s.end_time IS NULL AND s.expires_at <= (SELECT now FROM c) RETURNING s.id",
        replace:
          "WHERE s.shard = $1 AND s.id = ANY (ARRAY(SELECT x.id FROM $schema.sessions x WHERE x.shard = $1 AND x.end_time IS NULL AND x.expires_at <= (SELECT now FROM c))) RETURNING s.id",
      },
    ],
    suites: [RACES],
  },
  {
    name: "no recheck of what time decided",
    changes: [{ file: APPLY, find: "        WHERE u.not_before IS NULL OR u.not_before <= (SELECT now FROM c)\n", replace: "" }],
    suites: [APPLY_TESTS],
  },
  {
    name: "synchronous_commit off",
    changes: [],
    suites: [],
    onlyBy:
      "test/fault/mixed.test.ts and `npm run fault -- --saboteur synchronous-commit-off --nemesis kill-postgres`, and the check at start",
  },
  {
    name: "no ON CONFLICT for ids",
    changes: [{ file: "server/src/storage/insert-tasks.ts", find: "        ON CONFLICT (shard, id) DO NOTHING\n", replace: "" }],
    suites: ["test/integration/storage/insert-tasks"],
  },
  {
    name: "no ON CONFLICT for execution metadata",
    changes: [
      {
        file: APPLY,
        find: "ON CONFLICT (shard, id) DO UPDATE SET version = excluded.version, searchable = excluded.searchable,\n          content_type = excluded.content_type, content = excluded.content)",
        replace: "ON CONFLICT DO NOTHING)",
      },
    ],
    suites: [APPLY_TESTS, MODEL],
  },
  {
    name: "ignore rowCount in storage",
    changes: [{ file: APPLY, find: "written.has(identity.id) && first.get", replace: "first.get" }],
    suites: [APPLY_TESTS, RACES],
  },
  {
    name: "ignore rowCount in reports",
    changes: [
      {
        file: REPORTS,
        find: "return written ? this.recorded(copy, answer, report) : null;",
        replace: "void written;\n    return this.recorded(copy, answer, report);",
      },
    ],
    suites: [MODEL],
  },
  {
    name: "seq without the +1",
    changes: [{ file: TRANSITION, find: "if (seq !== task.settledSeq + 1)", replace: "if (seq < task.settledSeq)" }],
    suites: [DOMAIN_TESTS, MODEL],
  },
  {
    name: "a report that is sent again counts again",
    changes: [{ file: TRANSITION, find: "if (seq <= task.settledSeq)", replace: "if (seq < task.settledSeq)" }],
    suites: [DOMAIN_TESTS, MODEL],
  },
  {
    name: "takeover without the connection compare",
    changes: [{ file: SESSIONS, find: "AND s.connection < $4::int8 AND s.end_time IS NULL", replace: "AND s.end_time IS NULL" }],
    suites: [RACES, "test/integration/storage/sessions"],
  },
  {
    name: "deliver a claim without re-reading the epoch",
    changes: [
      {
        file: "server/src/storage/lease-tasks.ts",
        find: "const isCurrent = task.live.lease !== null && current.has(task.live.lease.sessionId);",
        replace: "const isCurrent = true;",
      },
    ],
    suites: [RACES],
  },
  {
    name: "claim for a session of an older epoch",
    changes: [
      { file: "server/src/storage/lease-tasks.ts", find: "AND s.namespace = $2 AND s.epoch = u.epoch", replace: "AND s.namespace = $2" },
    ],
    suites: [RACES, "test/integration/storage/lease-tasks"],
  },
  {
    name: "an unlisted lease with an unacknowledged outcome goes back",
    changes: [
      {
        file: "client/src/lease-keeper.ts",
        find: "return [...this.#held.keys()];",
        replace: "return [...this.#held].filter(([, held]) => held.waiting.at(-1)?.final !== true).map(([token]) => token);",
      },
    ],
    suites: ["test/unit/client/worker"],
  },
  {
    name: "the heartbeat answered is guessed as the latest, by the server",
    changes: [
      {
        file: "server/src/dispatch/worker-sessions.ts",
        find: "else session.beatStored(number, beat.expiresInUs);",
        replace: "else session.beatStored(this.beats.get(session.id)?.number ?? number, beat.expiresInUs);",
      },
    ],
    suites: [STREAMS],
  },
  {
    name: "the heartbeat answered is guessed as the latest, by the SDK",
    changes: [
      {
        file: "client/src/session-deadline.ts",
        find: "const sentMs = this.#sentMs.get(number);",
        replace: "const sentMs = this.#sentMs.get(number) && this.#sentMs.get(this.#number);",
      },
    ],
    suites: ["test/unit/client/session-deadline"],
  },
  {
    name: "a proceed of a WOKEN task is remembered",
    changes: [
      {
        file: TRANSITION,
        find: 'task.pendingReason === "PROCEEDED" || task.pendingReason === "WOKEN");',
        replace: 'task.pendingReason === "PROCEEDED");',
      },
    ],
    suites: [DOMAIN_TESTS, RACES],
  },
  {
    name: "a cancel forgotten when the worker drains",
    changes: [
      {
        file: WORKER_SESSION,
        find: "if (lease === undefined || task.cancel === null) return;",
        replace: "if (lease === undefined || task.cancel === null || this.draining) return;",
      },
    ],
    suites: [STREAMS],
  },
  {
    name: "one malformed item fails its batch",
    changes: [
      {
        file: "server/src/dispatch/batch.ts",
        find: "if (batch.length > 1 && isCausedByOneItem(error)) {",
        replace: "if (batch.length > 1 && isCausedByOneItem(error) && batch.length === 0) {",
      },
    ],
    suites: ["test/unit/server/batch"],
  },
  {
    name: "a key that a finished task holds is dropped as a stray",
    changes: [{ file: "server/src/storage/insert-keyed.ts", find: " AND k.held_until IS NULL OFFSET 0) x", replace: " OFFSET 0) x" }],
    suites: ["test/integration/held-twice"],
  },
  {
    name: "of two listed leases of one task the last counts",
    changes: [
      {
        file: "server/src/storage/session-takeover.ts",
        find: "const listed = new Set(held.map(({ taskId, nonce }) => `${taskId} ${nonce}`));",
        replace: "const listed = new Set([...new Map(held.map(({ taskId, nonce }) => [taskId, `${taskId} ${nonce}`])).values()]);",
      },
    ],
    suites: ["test/integration/held-twice"],
  },
];
