// From which indexes does a list come? One source for each state (and each name or queue, while those are few), or for a key, a label or ids:
// every source gives rows in the list's order from an index. Conditions that the sources do not serve are left over, to be checked row by row.

import { sql } from "slonik";

import type { TaskState } from "../domain/task.js";
import type { Fragment } from "./fragments.js";
import { all, constant, micros, table } from "./fragments.js";
import type { Condition, Served } from "./list-conditions.js";
import { leftOver } from "./list-conditions.js";
import { isFinal, stateNumber } from "./live-rows.js";
import type { ListFilter, ListOrder, PageStart } from "./queries.js";

/** What a source is read for. */
export interface Scope {
  readonly schema: string;
  readonly shard: number;
  readonly namespace: string;
  readonly order: ListOrder;
  readonly after: PageStart | null;
  /** Most rows of each source. */
  readonly limit: number;
  /** True where conditions are left over, which need more than time and id. */
  readonly withColumns: boolean;
}

/** How a list is read. Without sources nothing can match. */
export interface ListPlan {
  readonly sources: readonly ((scope: Scope) => Fragment)[];
  /** Conditions that no source serves. */
  readonly conditions: readonly Condition[];
}

/** Most combinations of names or queues with states that are sources of their own. */
const MOST_COMBINATIONS = 20;
const ALL_STATES: readonly TaskState[] = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "FAILED", "CANCELLED"];

// What a condition left over may ask about, whatever table a row comes from.
const LIVE_COLUMNS =
  "r.create_time, r.state, r.name, r.queue, r.pending_reason, r.run_at, NULL::timestamptz AS finish_time, r.last_error_code AS error_code";
const FINISHED_COLUMNS = "r.create_time, r.state, r.name, r.queue, r.pending_reason, r.run_at, r.finish_time, r.error_code";

/** Plans a list or a count. */
export function planList(filter: ListFilter, order: ListOrder): ListPlan {
  const states = possibleStates(filter, order);
  if (states.length === 0) return { sources: [], conditions: [] };
  const byCreateTime = order === "NEWEST_FIRST" || order === "OLDEST_FIRST";
  const range: Served = byCreateTime ? "create" : "finish";
  const narrowed = states.length < ALL_STATES.length ? states : [];
  const plan = (sources: ListPlan["sources"], served: readonly Served[]): ListPlan => ({
    sources,
    conditions: leftOver(filter, narrowed, new Set([range, ...served])),
  });
  const [label] = filter.labels;
  if (filter.taskIds.length > 0) return plan([ofIds(filter)], ["ids"]);
  if (byCreateTime && filter.key !== null) return plan([ofKey(filter, filter.key)], filter.names.length > 0 ? ["key", "names"] : ["key"]);
  if (byCreateTime && label !== undefined) return plan([ofLabel(filter, ...label)], ["label"]);
  // A name or queue given twice must not be two sources, which would show its tasks twice.
  for (const [served, column, values] of [
    ["names", "name", new Set(filter.names)],
    ["queues", "queue", new Set(filter.queues)],
  ] as const) {
    if (!byCreateTime || values.size === 0 || values.size * states.length > MOST_COMBINATIONS) continue;
    const sources = states.flatMap((state) => [...values].map((value) => ofState(filter, state, { column, value })));
    return plan(sources, ["states", served]);
  }
  return plan(
    states.map((state) => ofState(filter, state)),
    ["states"],
  );
}

// States that the rest of the filter and the order leave possible.
function possibleStates(filter: ListFilter, order: ListOrder): TaskState[] {
  const finished = filter.finishFromUs !== null || filter.finishBeforeUs !== null || order === "FINISHED_LAST_FIRST";
  const due = filter.runFromUs !== null || filter.runBeforeUs !== null;
  return ALL_STATES.filter(
    (state) =>
      (filter.states.length === 0 || filter.states.includes(state)) &&
      (!finished || isFinal(state)) &&
      (!due || state === "PENDING" || state === "SUSPENDED") &&
      (filter.pendingReasons.length === 0 || state === "PENDING") &&
      (order !== "WAITING_LONGEST_FIRST" || state === "SUSPENDED"),
  );
}

/** Whether the order goes from the latest time to the earliest. */
export function isDescending(order: ListOrder): boolean {
  return order === "NEWEST_FIRST" || order === "FINISHED_LAST_FIRST";
}

/** The column that the order goes by. */
function timeColumn(order: ListOrder): "create_time" | "finish_time" | "suspend_time" {
  if (order === "FINISHED_LAST_FIRST") return "finish_time";
  return order === "WAITING_LONGEST_FIRST" ? "suspend_time" : "create_time";
}

function ofState(filter: ListFilter, state: TaskState, only?: { column: "name" | "queue"; value: string }): (scope: Scope) => Fragment {
  return (scope) => {
    const where = [
      sql.fragment`r.namespace = ${scope.namespace}`,
      ...(only === undefined ? [] : [sql.fragment`${sql.identifier(["r", only.column])} = ${only.value}`]),
      // Written into the text, because the partial indexes are chosen by it.
      sql.fragment`r.state = ${constant(String(stateNumber(state)))}`,
      ...(state === "PENDING" || state === "SUSPENDED" ? [sql.fragment`r.state + 0 <> 1`] : []),
    ];
    const [name, columns] = isFinal(state) ? (["finished_tasks", FINISHED_COLUMNS] as const) : (["live_tasks", LIVE_COLUMNS] as const);
    return inOrder(filter, scope, table(scope.schema, name), where, scope.withColumns ? columns : null);
  };
}

function ofIds(filter: ListFilter): (scope: Scope) => Fragment {
  return (scope) => {
    const name = { create_time: "tasks", finish_time: "finished_tasks", suspend_time: "live_tasks" }[timeColumn(scope.order)];
    const where = [sql.fragment`r.namespace = ${scope.namespace}`, sql.fragment`r.id = ANY (${sql.array([...filter.taskIds], "uuid")})`];
    return lookedUp(scope, inOrder(filter, scope, table(scope.schema, name), where, null));
  };
}

function ofLabel(filter: ListFilter, key: string, value: string): (scope: Scope) => Fragment {
  return (scope) => {
    const where = [sql.fragment`r.namespace = ${scope.namespace}`, sql.fragment`r.key = ${key}`, sql.fragment`r.value = ${value}`];
    return lookedUp(scope, inOrder(filter, scope, table(scope.schema, "task_labels"), where, null));
  };
}

// A key is one name's. Where the list does not say which, the names that have it are found by a loose scan: they are few.
function ofKey(filter: ListFilter, key: string): (scope: Scope) => Fragment {
  return (scope) => {
    const tasks = table(scope.schema, "tasks");
    const ofThisKey = sql.fragment`x.shard = ${scope.shard} AND x.namespace = ${scope.namespace} AND x.key = ${key}`;
    const names =
      filter.names.length > 0
        ? sql.fragment`SELECT DISTINCT name FROM unnest(${sql.array([...filter.names], "text")}) AS given(name)`
        : sql.fragment`
          WITH RECURSIVE n(name) AS (
            (SELECT x.name FROM ${tasks} x WHERE ${ofThisKey} ORDER BY x.name LIMIT 1)
            UNION ALL
            SELECT y.name FROM n, LATERAL (
              SELECT x.name FROM ${tasks} x WHERE ${ofThisKey} AND x.name > n.name ORDER BY x.name LIMIT 1) y)
          SELECT name FROM n`;
    const where = [sql.fragment`r.namespace = ${scope.namespace}`, sql.fragment`r.key = ${key}`, sql.fragment`r.name = n.name`];
    const direction = isDescending(scope.order) ? sql.fragment`DESC` : sql.fragment``;
    return lookedUp(
      scope,
      sql.fragment`SELECT s.time, s.id FROM (${names}) n CROSS JOIN LATERAL (${inOrder(filter, scope, tasks, where, null)}) s
        ORDER BY s.time ${direction}, s.id ${direction} LIMIT ${scope.limit}`,
    );
  };
}

// Rows of one table in the order of one of its indexes, behind the place where the page begins.
function inOrder(
  filter: ListFilter,
  { shard, order, after, limit }: Scope,
  from: ReturnType<typeof table>,
  where: readonly Fragment[],
  columns: string | null,
): Fragment {
  const time = sql.identifier(["r", timeColumn(order)]);
  const conditions = [sql.fragment`r.shard = ${shard}`, ...where, ...bounds(filter, order, time)];
  const down = isDescending(order);
  if (after !== null) {
    const start = sql.fragment`(${micros(after.timeUs)}, ${after.id}::uuid)`;
    conditions.push(down ? sql.fragment`(${time}, r.id) < ${start}` : sql.fragment`(${time}, r.id) > ${start}`);
  }
  const direction = down ? sql.fragment`DESC` : sql.fragment``;
  return sql.fragment`SELECT ${time} AS time, r.id${columns === null ? sql.fragment`` : sql.fragment`, ${constant(columns)}`}
    FROM ${from} r WHERE ${all(conditions)} ORDER BY ${time} ${direction}, r.id ${direction} LIMIT ${limit}`;
}

// The range of the time that the order goes by belongs to the index's condition.
function bounds(filter: ListFilter, order: ListOrder, time: ReturnType<typeof sql.identifier>): Fragment[] {
  const [fromUs, beforeUs] = {
    create_time: [filter.createFromUs, filter.createBeforeUs],
    finish_time: [filter.finishFromUs, filter.finishBeforeUs],
    suspend_time: [null, null],
  }[timeColumn(order)];
  return [
    ...(fromUs === null || fromUs === undefined ? [] : [sql.fragment`${time} >= ${micros(fromUs)}`]),
    ...(beforeUs === null || beforeUs === undefined ? [] : [sql.fragment`${time} < ${micros(beforeUs)}`]),
  ];
}

// Rows that come with time and id alone, with the columns of the task beside them where conditions are left over.
function lookedUp({ schema, shard, withColumns }: Scope, rows: Fragment): Fragment {
  if (!withColumns) return rows;
  return sql.fragment`SELECT s.time, s.id, x.* FROM (${rows}) s LEFT JOIN LATERAL (
      SELECT ${constant(LIVE_COLUMNS)} FROM ${table(schema, "live_tasks")} r WHERE r.shard = ${shard} AND r.id = s.id
      UNION ALL
      SELECT ${constant(FINISHED_COLUMNS)} FROM ${table(schema, "finished_tasks")} r WHERE r.shard = ${shard} AND r.id = s.id) x ON true`;
}
