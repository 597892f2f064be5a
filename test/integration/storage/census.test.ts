// Is everything counted, in whatever schema it is kept?
import { systemClock } from "@leasehold/server/clock";
import { migrate, readMigrations } from "@leasehold/server/storage/migrate";
import { openStorage } from "@leasehold/server/storage/postgres-storage";
import { expect, it } from "vitest";
import { createTestDatabase } from "../../support/postgres.js";
import { openTestStorage, storageSettings } from "../../support/storage.js";

it("a census counts tasks by queue and state, and sessions with their slots", async () => {
  await using test = await openTestStorage();
  const session = await test.session({ slots: 3 });
  await test.store({ queue: "a" }, { queue: "a" }, { queue: "b" });
  await test.lease(session, { most: 1 });
  const { groups, sessions, slots } = await test.storage.census();
  expect(groups.reduce((sum, group) => sum + group.count, 0)).toBe(3);
  expect(groups.filter(({ state }) => state === "RUNNING").map(({ count }) => count)).toEqual([1]);
  expect([sessions, slots]).toEqual([1, 3]);
});

it.each(["leasehold", `it's "odd"`])("a census of the schema %s tells of its tables and version", async (schema) => {
  const database = await createTestDatabase();
  await migrate(database.url, { schema });
  const storage = await openStorage(storageSettings(database.url, schema), systemClock());
  const { tables, schemaVersion } = await storage.census();
  expect(tables.map(({ table }) => table).sort()).toEqual(["execution_metadata", "finished_tasks", "live_tasks", "sessions", "tasks"]);
  expect(schemaVersion).toBe((await readMigrations()).length);
  await storage.close();
  await database.drop();
});
