// How is pg-boss started? It has no server: its library works on Postgres from producer and worker.
import { createDatabase, truncate } from "../database.mjs";
import { QUEUE } from "../payload.mjs";
import { Scene } from "../scene.mjs";
import { missingPackage } from "./installed.mjs";

const TABLES = "SELECT 'pgboss.job' AS name UNION ALL SELECT 'pgboss.archive'";

/** The system. */
export default {
  name: "pg-boss",
  cases: ["a-64", "b", "c", "d-64", "e", "f"],
  absent: () => missingPackage("pg-boss"),
  async start(environment) {
    const database = await createDatabase(environment, "pg-boss");
    const { openBoss } = await import("../clients/pg-boss.mjs");
    const boss = await openBoss(database.url);
    await boss.createQueue(QUEUE);
    await boss.stop({ graceful: false });
    return new Scene({ name: "pg-boss", target: { databaseUrl: database.url }, database, reset: () => truncate(database, TABLES) });
  },
};
