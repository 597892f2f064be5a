// Does each list that promises an index come from that index, from the first page to the last, whatever the statistics say?
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { planList } from "@leasehold/server/storage/list-sources";
import { listStatement } from "@leasehold/server/storage/list-tasks";
import type { ListFilter, ListOrder, ListQuery } from "@leasehold/server/storage/queries";
import { readerUrl } from "@leasehold/server/storage/read-tasks";
import { createTestDatabase, type TestDatabase } from "../../support/postgres.js";
import { listQuery } from "../../support/reading.js";

const TASKS = 20_000;
const PAGE = 50;
/** Create time of the first task; one a second follows. */
const FIRST_US = 1_767_225_600_000_000;

let database: TestDatabase;
let client: pg.Client;

// Of 20,000 tasks 5,000 each are pending, suspended, completed and failed; 20 names, 10 queues, 100 labels, 10 keys; 100 run.
const FILL = `
  INSERT INTO tasks (shard, namespace, id, name, key, create_time, metadata, metadata_type, metadata_searchable, retry_policy)
  SELECT 0, 'default', md5(i::text)::uuid, 'name.' || i % 20, 'key ' || i % 10, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second',
    '{}', '', true, '{}' FROM generate_series(1, ${TASKS}) i;
  INSERT INTO task_labels (shard, namespace, key, value, create_time, id)
  SELECT 0, 'default', 'customer', (i % 100)::text, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', md5(i::text)::uuid
  FROM generate_series(1, ${TASKS}) i;
  INSERT INTO live_tasks (shard, namespace, id, queue, name, priority, state, pending_reason, create_time, run_at, suspend_time, revision)
  SELECT 0, 'default', md5(i::text)::uuid, 'queue.' || i % 10, 'name.' || i % 20, 0, CASE WHEN i % 4 = 0 THEN 0 ELSE 2 END, 1,
    timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', timestamptz '2026-01-01 00:00:00+00',
    timestamptz '2026-01-02 00:00:00+00' + i * interval '1 second', 1
  FROM generate_series(1, ${TASKS}) i WHERE i % 4 < 2;
  UPDATE live_tasks SET state = 1, session_id = gen_random_uuid(), session_epoch = 1, lease_nonce = '\\x00'
  WHERE id IN (SELECT id FROM live_tasks WHERE state = 0 LIMIT 100);
  INSERT INTO finished_tasks (shard, namespace, id, queue, name, priority, state, pending_reason, failures, lost_leases, revision,
    create_time, finish_time, fencing_token, execution_metadata_version, execution_metadata_bytes, checkpoint_count, worker_name, error_code)
  SELECT 0, 'default', md5(i::text)::uuid, 'queue.' || i % 10, 'name.' || i % 20, 0, CASE WHEN i % 4 = 2 THEN 3 ELSE 4 END, 1, 0, 0, 1,
    timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', timestamptz '2026-01-03 00:00:00+00' - i * interval '1 second',
    1, 0, 0, 0, '', 'code.' || i % 7
  FROM generate_series(1, ${TASKS}) i WHERE i % 4 >= 2`;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client(readerUrl(database.url));
  await client.connect();
  await client.query("SET search_path TO leasehold");
  // Statistics as they are after a start: of empty tables.
  await client.query("ANALYZE");
  await client.query(FILL);
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

interface Node {
  readonly "Node Type": string;
  readonly "Index Name"?: string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Node[];
}

async function nodesOf(query: ListQuery, limit = query.pageSize + 1): Promise<Node[]> {
  const token = listStatement({ schema: "leasehold", shard: 0 }, planList(query.filter, query.order), query, limit, query.pageSize + 1);
  const text = token.sql.replaceAll(/\$slonik_(\d+)/g, "$$$1");
  const { rows } = await client.query<[string]>({
    text: `EXPLAIN (ANALYZE, FORMAT JSON) ${text}`,
    values: [...token.values],
    rowMode: "array",
    types: { getTypeParser: () => (value: string) => value },
  });
  const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];
  return all((JSON.parse(rows[0]![0]) as [{ Plan: Node }])[0].Plan);
}

const middle = { timeUs: FIRST_US + (TASKS / 2) * 1_000_000, id: "80000000-0000-0000-0000-000000000000" };
const LISTS: readonly (readonly [string, Partial<ListFilter>, ListOrder, readonly string[]])[] = [
  ["all tasks", {}, "NEWEST_FIRST", ["live_tasks_created", "live_tasks_running", "finished_tasks_created"]],
  ["of a state", { states: ["PENDING"] }, "NEWEST_FIRST", ["live_tasks_created"]],
  ["of a state, oldest first", { states: ["SUSPENDED"] }, "OLDEST_FIRST", ["live_tasks_created"]],
  ["that run", { states: ["RUNNING"] }, "NEWEST_FIRST", ["live_tasks_running"]],
  ["that failed", { states: ["FAILED"] }, "NEWEST_FIRST", ["finished_tasks_created"]],
  ["of a name and state", { names: ["name.4"], states: ["PENDING"] }, "NEWEST_FIRST", ["live_tasks_name"]],
  ["of names and finished", { names: ["name.2", "name.3"], states: ["COMPLETED", "FAILED"] }, "NEWEST_FIRST", ["finished_tasks_name"]],
  ["of a queue and state", { queues: ["queue.4"], states: ["PENDING"] }, "NEWEST_FIRST", ["live_tasks_queue"]],
  ["of a queue and finished", { queues: ["queue.3"], states: ["FAILED"] }, "OLDEST_FIRST", ["finished_tasks_queue"]],
  ["of a name", { names: ["name.4"] }, "NEWEST_FIRST", ["live_tasks_name", "finished_tasks_name"]],
  ["of a key", { key: "key 4" }, "NEWEST_FIRST", ["tasks_key"]],
  ["of a name and key", { names: ["name.4"], key: "key 4" }, "NEWEST_FIRST", ["tasks_key"]],
  ["of a label", { labels: new Map([["customer", "7"]]) }, "NEWEST_FIRST", ["task_labels_pkey"]],
  [
    "that failed in the last hours",
    { states: ["FAILED"], finishFromUs: FIRST_US + 2 * 86_400_000_000 - 7_200_000_000 },
    "FINISHED_LAST_FIRST",
    ["finished_tasks_state_time"],
  ],
  ["that wait longest", { states: ["SUSPENDED"] }, "WAITING_LONGEST_FIRST", ["live_tasks_suspended"]],
];

describe.each(["of empty tables", "that are fresh"])("with statistics %s, a list of tasks", (statistics) => {
  beforeAll(async () => {
    if (statistics === "that are fresh") await client.query("ANALYZE");
  });

  it.each(LISTS)("%s reads its index, a page of it, and no table as a whole", async (_, filter, order, indexes) => {
    for (const after of [null, middle]) {
      const nodes = await nodesOf(listQuery(filter, { order, after, pageSize: PAGE }));
      expect(nodes.filter((node) => node["Node Type"] === "Seq Scan").map((node) => node["Relation Name"])).toEqual([]);
      const used = nodes.filter((node) => node["Index Name"] !== undefined);
      expect(used.map((node) => node["Index Name"])).toEqual(expect.arrayContaining([...indexes]));
      for (const node of used) {
        // Running tasks alone are read whole: they are as many as there are slots.
        if (node["Index Name"] === "live_tasks_running") continue;
        expect([node["Index Name"], node["Rows Removed by Filter"] ?? 0]).toEqual([node["Index Name"], 0]);
        expect(node["Actual Rows"]).toBeLessThanOrEqual(PAGE + 1);
      }
    }
  });

  it("by what has no index reads no more rows than it may", async () => {
    const nodes = await nodesOf(listQuery({ states: ["FAILED"], errorCodes: ["no such"] }, { pageSize: PAGE }), 500);
    const [node] = nodes.filter((found) => found["Index Name"] === "finished_tasks_created");
    expect([node?.["Actual Rows"], node?.["Rows Removed by Filter"] ?? 0]).toEqual([500, 0]);
  });
});
