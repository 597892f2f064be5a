// How do millions of tasks get into the tables within minutes? By copies of one real task, made by Postgres itself.
import { credentials } from "@grpc/grpc-js";
import { TaskServiceClient } from "@leasehold/proto/leasehold/v1/task_service";
import pg from "pg";
import { newTask } from "./clients/leasehold-task.mjs";
import { pause } from "./clock.mjs";

const FINISH_LOOK_MS = 50;

let fills = 0;

/** Stores one task over the API and answers its id: the model of the copies. `finished`: a worker must be running. */
async function storeModel({ target, database }, finished) {
  const client = new TaskServiceClient(target.addresses[0], credentials.createInsecure());
  const task = { ...newTask(), name: finished ? newTask().name : "bench.model" };
  const { task: stored } = await new Promise((resolve, reject) => {
    client.submitTask({ task }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  client.close();
  while (finished && !(await exists(database, stored.taskId))) await pause(FINISH_LOOK_MS);
  return stored.taskId;
}

async function exists({ client }, id) {
  const { rowCount } = await client.query("SELECT 1 FROM leasehold.finished_tasks WHERE id = $1", [id]);
  return rowCount > 0;
}

/**
 * Copies a task `count` times, in the order of due time. `columns` are SQL expressions by column, for tables that have it; in them `g` is
 * the number of the copy, from 1.
 */
export async function fill(scene, { count, finished = false, columns }) {
  const { client } = scene.database;
  const worker = await scene.worker();
  if (finished) await worker.ask("start", { slots: 1 });
  const model = await storeModel(scene, finished);
  if (finished) await worker.ask("stop");
  // Ids of version 7 that ascend with the number of the copy.
  const prefix = `0190${(++fills).toString(16).padStart(4, "0")}-0000-7000-8000-`;
  const changed = { id: `('${prefix}' || lpad(to_hex(g), 12, '0'))::uuid`, ...columns };
  for (const table of ["tasks", finished ? "finished_tasks" : "live_tasks"]) await copyRows(client, table, { model, count, changed });
  if (!finished) await removeModel(client, model);
  await client.query("VACUUM (ANALYZE) leasehold.tasks, leasehold.live_tasks, leasehold.finished_tasks");
}

async function copyRows(client, table, { model, count, changed }) {
  const { rows } = await client.query(
    "SELECT quote_ident(column_name) AS name FROM information_schema.columns WHERE table_schema = 'leasehold' AND table_name = $1",
    [table],
  );
  const names = rows.map(({ name }) => name);
  const values = names.map((name) => changed[name] ?? `t.${name}`);
  await client.query(
    `INSERT INTO leasehold.${table} (${names.join(", ")}) SELECT ${values.join(", ")}
     FROM generate_series(1, ${count}) g, leasehold.${table} t WHERE t.id = ${pg.escapeLiteral(model)}`,
  );
}

async function removeModel(client, model) {
  for (const table of ["live_tasks", "tasks"]) await client.query(`DELETE FROM leasehold.${table} WHERE id = $1`, [model]);
}
