// How is the limit started? One process with so many connections to a database of its own; no server, no producer, no worker.
import { Child } from "../children.mjs";
import { createDatabase } from "../database.mjs";
import { Scene } from "../scene.mjs";

/** The system with so many connections. */
export function limitSystem(name, connections) {
  return {
    name,
    cases: ["life-100", "life-500", "insert-100", "insert-500", "lease-complete-100", "lease-complete-500"],
    absent: () => undefined,
    async start(environment) {
      const database = await createDatabase(environment, name);
      const statements = new Child("limit.mjs");
      await statements.ask("open", { databaseUrl: database.url, connections });
      const scene = new Scene({ name, database, reset: () => statements.ask("reset"), close: () => statements.stop() });
      return Object.assign(scene, { statements });
    },
  };
}
