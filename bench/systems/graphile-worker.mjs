// How is graphile-worker started? It has no server: its library works on Postgres from producer and worker.
import { createDatabase, truncate } from "../database.mjs";
import { Scene } from "../scene.mjs";
import { missingPackage } from "./installed.mjs";

const TABLES = "SELECT 'graphile_worker._private_jobs' AS name";

/** The system. */
export default {
  name: "graphile-worker",
  cases: ["a-64", "b", "c", "d-64", "e", "f"],
  absent: () => missingPackage("graphile-worker"),
  async start(environment) {
    const database = await createDatabase(environment, "graphile-worker");
    const target = { databaseUrl: database.url };
    return new Scene({ name: "graphile-worker", target, database, reset: () => truncate(database, TABLES) });
  },
};
