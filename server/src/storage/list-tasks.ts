// Which tasks match, page by page, and how many are they? The sources of a list are read side by side, each at most so many rows, and
// merged up to the horizon: the first place, in the list's order, behind which a source was not read. What lies before it is complete.

import { type DatabasePool, sql } from "slonik";
import { z } from "zod";

import type { Fragment } from "./fragments.js";
import { all, constant, joined, table } from "./fragments.js";
import type { ListPlan, Scope } from "./list-sources.js";
import { isDescending, planList } from "./list-sources.js";
import type { ListFilter, ListOrder, ListQuery, PageStart, TaskCount } from "./queries.js";
import { NO_FILTER, placeOf } from "./queries.js";
import { parseInstant } from "./statement.js";
import type { ListPage, StoredTask } from "./storage.js";
import { readStored, selection } from "./task-selection.js";

/** Most rows that one page looks at in each source where conditions are left over. */
export const SCAN_LIMIT = 10_000;
/** Most that a count says. */
export const COUNT_LIMIT = 10_000;
/** Most rows that a count looks at in all sources together. */
const COUNT_SCAN_LIMIT = 200_000;
/** Rows of the first look; each next one takes four times as many. */
const FIRST_STEP = 500;
/** Rows of one look where payloads are parsed: each may have a megabyte. */
const PARSED_STEP = 250;
/** No look begins after this long: a page ends at its bound of time as it does at that of rows, and a count takes less than a second. */
const MOST_MS = { page: 2000, count: 700 } as const;

const horizon = z.object({ horizon_time: z.string().nullable(), horizon_id: z.string().nullable() });
const FOUND = horizon.extend({ cells: z.string().nullable() });
const COUNTED = horizon.extend({ count: z.string() });

/** What lists work with. */
export interface ListParts {
  readonly pool: DatabasePool;
  readonly schema: string;
  readonly shard: number;
  readonly monotonicMs: () => number;
}

/** One page. */
export async function listTasks(parts: ListParts, query: ListQuery): Promise<ListPage> {
  const plan = planList(query.filter, query.order);
  const tasks: StoredTask[] = [];
  const steps = looks(parts, plan, "page", SCAN_LIMIT);
  let after = query.after;
  while (plan.sources.length > 0) {
    const wanted = query.pageSize - tasks.length;
    const limit = steps.next() ?? wanted + 1;
    const rows = await parts.pool.any(sql.type(FOUND)`${listStatement(parts, plan, { ...query, after }, limit, wanted + 1)}`);
    const found = rows.flatMap(({ cells }) => (cells === null ? [] : [readStored(cells, query.withPayloads)]));
    tasks.push(...inOrder(found, query.order).slice(0, wanted));
    const last = tasks.at(-1);
    if (found.length > wanted && last !== undefined) return { tasks, next: placeOf(last, query.order), scanLimitReached: false };
    after = horizonOf(rows[0]);
    if (after === null) break;
    if (steps.over()) return { tasks, next: after, scanLimitReached: true };
  }
  return { tasks, next: null, scanLimitReached: false };
}

/** How many tasks match, exactly to `COUNT_LIMIT`. */
export async function countTasks(parts: ListParts, namespace: string, filter: ListFilter): Promise<TaskCount> {
  const plan = planList(filter, "NEWEST_FIRST");
  const steps = looks(parts, plan, "count", Math.floor(COUNT_SCAN_LIMIT / Math.max(plan.sources.length, 1)));
  let after: PageStart | null = null;
  let count = 0;
  while (plan.sources.length > 0) {
    const query = { ...WHOLE_LIST, namespace, filter, after };
    const [row] = await parts.pool.any(sql.type(COUNTED)`${countStatement(parts, plan, query, steps.next() ?? COUNT_LIMIT + 1)}`);
    count += Number(row?.count ?? 0);
    if (count > COUNT_LIMIT) return { count: COUNT_LIMIT, more: true };
    after = horizonOf(row);
    if (after === null) break;
    if (steps.over()) return { count, more: true };
  }
  return { count, more: false };
}

const WHOLE_LIST: ListQuery = { namespace: "", filter: NO_FILTER, order: "NEWEST_FIRST", after: null, pageSize: 0, withPayloads: false };

/** The statement of one look at a page: at most `limit` rows of each source, at most `most` tasks. */
export function listStatement(
  { schema, shard }: Pick<ListParts, "schema" | "shard">,
  plan: ListPlan,
  query: ListQuery,
  limit: number,
  most: number,
): Fragment {
  const tasks = sql.fragment`found CROSS JOIN LATERAL (
    SELECT t.* FROM ${table(schema, "tasks")} t WHERE t.shard = ${shard} AND t.id = found.id OFFSET 0) t`;
  const direction = isDescending(query.order) ? sql.fragment`DESC` : sql.fragment``;
  return sql.fragment`
    WITH ${scanned(schema, shard, plan, query, limit)},
    found AS MATERIALIZED (
      SELECT s.id FROM scanned s WHERE ${matching(query.order)} ORDER BY s.time ${direction}, s.id ${direction} LIMIT ${most})
    SELECT h.time::text AS horizon_time, h.id::text AS horizon_id, x.cells
    FROM (SELECT 1) one LEFT JOIN horizon h ON true LEFT JOIN (${selection(schema, query.withPayloads, tasks)}) x ON true`;
}

function countStatement({ schema, shard }: ListParts, plan: ListPlan, query: ListQuery, limit: number): Fragment {
  return sql.fragment`
    WITH ${scanned(schema, shard, plan, query, limit)}
    SELECT h.time::text AS horizon_time, h.id::text AS horizon_id, c.count::text
    FROM (SELECT count(*) FROM (SELECT 1 FROM scanned s WHERE ${matching(query.order)} LIMIT ${COUNT_LIMIT + 1}) m) c LEFT JOIN horizon h ON true`;
}

// `scanned`: what the sources gave, and whether it matches. `horizon`: of the sources that were not read to their end, the first last row.
function scanned(schema: string, shard: number, plan: ListPlan, query: ListQuery, limit: number): Fragment {
  const { namespace, order, after } = query;
  const direction = isDescending(order) ? sql.fragment`DESC` : sql.fragment``;
  const scope: Scope = { schema, shard, namespace, order, after, limit, withColumns: plan.conditions.length > 0 };
  const checked = plan.sources.map((source) => {
    const rows = source(scope);
    if (plan.conditions.length === 0) return sql.fragment`(SELECT r.time, r.id, true AS matches, 0 AS place FROM (${rows}) r)`;
    const conditions = plan.conditions.map(({ holds }) => holds(schema, shard, namespace));
    return sql.fragment`(
      SELECT r.time, r.id, ${all(conditions)} AS matches, row_number() OVER (ORDER BY r.time ${direction}, r.id ${direction}) AS place
      FROM (${rows}) r ${beside(schema, shard, plan)})`;
  });
  return sql.fragment`
    scanned AS MATERIALIZED (${joined(checked, " UNION ALL ")}),
    horizon AS MATERIALIZED (
      SELECT s.time, s.id FROM scanned s WHERE s.place = ${limit} ORDER BY s.time ${direction}, s.id ${direction} LIMIT 1)`;
}

function beside(schema: string, shard: number, { conditions }: ListPlan): Fragment {
  const needs = new Set(conditions.map((condition) => condition.needs));
  const joins: Fragment[] = [];
  if (needs.has("task") || needs.has("metadata"))
    joins.push(sql.fragment`LEFT JOIN LATERAL (
      SELECT t.key, t.metadata, t.metadata_searchable FROM ${table(schema, "tasks")} t WHERE t.shard = ${shard} AND t.id = r.id OFFSET 0) t ON true`);
  if (needs.has("execution metadata"))
    joins.push(sql.fragment`LEFT JOIN LATERAL (
      SELECT e.content, e.searchable FROM ${table(schema, "execution_metadata")} e WHERE e.shard = ${shard} AND e.id = r.id OFFSET 0) e ON true`);
  return joins.length === 0 ? sql.fragment`` : joined(joins, " ");
}

function matching(order: ListOrder): Fragment {
  const behind = constant(isDescending(order) ? "<" : ">");
  return sql.fragment`s.matches AND NOT EXISTS (SELECT 1 FROM horizon h WHERE (s.time, s.id) ${behind} (h.time, h.id))`;
}

interface Looks {
  /** How many rows of each source the next look takes; null where every row matches, so that the page says it. */
  next(): number | null;
  /** No further look may begin. */
  over(): boolean;
}

function looks({ monotonicMs }: ListParts, { conditions }: ListPlan, what: keyof typeof MOST_MS, mostRows: number): Looks {
  const untilMs = monotonicMs() + MOST_MS[what];
  const parsed = conditions.some(({ needs }) => needs === "metadata" || needs === "execution metadata");
  let step = parsed ? PARSED_STEP : FIRST_STEP;
  let left = mostRows;
  return {
    next: () => {
      if (conditions.length === 0) return null;
      const taken = Math.min(step, left);
      left -= taken;
      if (!parsed) step *= 4;
      return taken;
    },
    over: () => left <= 0 || monotonicMs() >= untilMs,
  };
}

function horizonOf(row: z.infer<typeof horizon> | undefined): PageStart | null {
  const { horizon_time: time, horizon_id: id } = row ?? { horizon_time: null, horizon_id: null };
  return time === null || id === null ? null : { timeUs: parseInstant(time), id };
}

// The statement picks by order; what it answers is a join and has none.
function inOrder(tasks: readonly StoredTask[], order: ListOrder): StoredTask[] {
  const sign = isDescending(order) ? -1 : 1;
  const places = new Map(tasks.map((task) => [task, placeOf(task, order)]));
  return [...tasks].sort((one, other) => {
    const [a, b] = [places.get(one), places.get(other)];
    if (a === undefined || b === undefined) return 0;
    return a.timeUs === b.timeUs ? (a.id < b.id ? -sign : sign) : sign * (a.timeUs - b.timeUs);
  });
}
