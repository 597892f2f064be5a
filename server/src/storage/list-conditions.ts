// What is left of a filter that no index serves? Conditions on one row `r` of a source, its submission `t` and its execution metadata `e`.

import { sql } from "slonik";

import type { TaskState } from "../domain/task.js";
import type { Fragment } from "./fragments.js";
import { micros, table } from "./fragments.js";
import { pendingReasonNumber, stateNumber } from "./live-rows.js";
import type { ListFilter } from "./queries.js";

/** What sources serve by themselves. */
export type Served = "ids" | "key" | "label" | "names" | "queues" | "states" | "create" | "finish";

/** A condition and what it must look at beside the row itself. */
export interface Condition {
  readonly holds: (schema: string, shard: number, namespace: string) => Fragment;
  /** `metadata` and `execution metadata` are parsed for each row: fewer rows are looked at in one statement. */
  readonly needs: "row" | "task" | "metadata" | "execution metadata";
}

/** The conditions of a filter that are not `served`; `states` empty: any. */
export function leftOver(filter: ListFilter, states: readonly TaskState[], served: ReadonlySet<Served>): Condition[] {
  const found: Condition[] = [];
  const row = (holds: Fragment): void => void found.push({ holds: () => holds, needs: "row" });
  const { names, queues, pendingReasons, errorCodes } = filter;
  if (states.length > 0 && !served.has("states")) row(sql.fragment`r.state = ANY (${sql.array(states.map(stateNumber), "int2")})`);
  if (names.length > 0 && !served.has("names")) row(sql.fragment`r.name = ANY (${sql.array([...names], "text")})`);
  if (queues.length > 0 && !served.has("queues")) row(sql.fragment`r.queue = ANY (${sql.array([...queues], "text")})`);
  if (pendingReasons.length > 0) row(sql.fragment`r.pending_reason = ANY (${sql.array(pendingReasons.map(pendingReasonNumber), "int2")})`);
  if (errorCodes.length > 0) row(sql.fragment`r.error_code = ANY (${sql.array([...errorCodes], "text")})`);
  for (const condition of ranges(filter, served)) row(condition);
  if (filter.key !== null && !served.has("key")) {
    const { key } = filter;
    found.push({ holds: () => sql.fragment`t.key = ${key}`, needs: "task" });
  }
  const labels = [...filter.labels].slice(served.has("label") ? 1 : 0);
  for (const [key, value] of labels) found.push(labelled(key, value));
  if (filter.metadataContains !== null) {
    const part = filter.metadataContains;
    // The CASE keeps Postgres from parsing what cannot be parsed, in whatever order it checks conditions.
    const holds = sql.fragment`CASE WHEN t.metadata_searchable THEN convert_from(t.metadata, 'UTF8')::jsonb END @> ${part}::jsonb`;
    found.push({ holds: () => holds, needs: "metadata" });
  }
  if (filter.executionMetadataContains !== null) {
    const part = filter.executionMetadataContains;
    const holds = sql.fragment`CASE WHEN e.searchable THEN convert_from(e.content, 'UTF8')::jsonb END @> ${part}::jsonb`;
    found.push({ holds: () => holds, needs: "execution metadata" });
  }
  return found;
}

function ranges(filter: ListFilter, served: ReadonlySet<Served>): Fragment[] {
  const found: Fragment[] = [];
  const range = (column: "create_time" | "finish_time" | "run_at", fromUs: number | null, beforeUs: number | null): void => {
    const time = sql.identifier(["r", column]);
    if (fromUs !== null) found.push(sql.fragment`${time} >= ${micros(fromUs)}`);
    if (beforeUs !== null) found.push(sql.fragment`${time} < ${micros(beforeUs)}`);
  };
  if (!served.has("create")) range("create_time", filter.createFromUs, filter.createBeforeUs);
  if (!served.has("finish")) range("finish_time", filter.finishFromUs, filter.finishBeforeUs);
  range("run_at", filter.runFromUs, filter.runBeforeUs);
  return found;
}

function labelled(key: string, value: string): Condition {
  return {
    holds: (schema, shard, namespace) => sql.fragment`EXISTS (
      SELECT 1 FROM ${table(schema, "task_labels")} b WHERE b.shard = ${shard} AND b.namespace = ${namespace} AND b.key = ${key}
        AND b.value = ${value} AND b.create_time = r.create_time AND b.id = r.id)`,
    needs: "row",
  };
}
