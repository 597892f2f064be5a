// Which Postgres does a server refuse? One that would forget what it acknowledged; the run's own is such a one, because it is fast.
import { loadConfig } from "@leasehold/server/config";
import { startServer } from "@leasehold/server/main";
import { judge, notDurable, readConditions, unusable } from "@leasehold/server/storage/conditions";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { keptLog } from "../support/api-fakes.js";
import { createTestDatabase, type TestDatabase } from "../support/postgres.js";

const GOOD = { versionNumber: 180_004, inRecovery: false, fsync: "on", fullPageWrites: "on", synchronousCommit: "on" };

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

const configWith = (durability: string) =>
  loadConfig({ LEASEHOLD_DATABASE_URL: database.url, LEASEHOLD_LISTEN: "127.0.0.1:0", LEASEHOLD_DURABILITY: durability });

describe("conditions", () => {
  it("hold for a Postgres that is durable, up to date and a primary", () => {
    expect([unusable(GOOD), notDurable(GOOD)]).toEqual([[], []]);
    expect(notDurable({ ...GOOD, synchronousCommit: "remote_apply" })).toEqual([]);
  });

  it("name each thing that is wrong in a sentence", () => {
    const bad = { versionNumber: 130_022, inRecovery: true, fsync: "off", fullPageWrites: "off", synchronousCommit: "off" };
    expect(unusable(bad).map((problem) => problem.split(" ").slice(0, 3).join(" "))).toEqual(["Postgres 13 is", "Postgres is in"]);
    expect(notDurable(bad).map((problem) => problem.split(" ")[0])).toEqual(["fsync", "full_page_writes", "synchronous_commit"]);
  });

  it.each([
    ["LOCAL", {}],
    ["SYNCHRONOUS_STANDBY", { synchronousStandbyNames: "*", synchronousStandbys: 1 }],
    ["SYNCHRONOUS_STANDBY", { synchronousStandbyNames: "ANY 1 (a, b)", synchronousStandbys: null, synchronousCommit: "remote_write" }],
    ["LOCAL", { synchronousStandbyNames: "*", synchronousStandbys: 0 }],
    ["LOCAL", { synchronousStandbyNames: "*", synchronousStandbys: 1, synchronousCommit: "local" }],
    ["UNSAFE", { synchronousStandbyNames: "*", synchronousStandbys: 1, fsync: "off" }],
  ])("make the class %s of %o", (durability, changed) => {
    const conditions = { ...GOOD, synchronousStandbyNames: "", synchronousStandbys: null, traits: "", ...changed };
    expect(judge(conditions, "checked").durability).toBe(durability);
    expect(judge(conditions, "unsafe")).toEqual({ durability, problems: [] });
    expect(judge(conditions, "provider")).toEqual({ durability: "PROVIDER", problems: [] });
  });

  it("are read from the server itself", async () => {
    expect(await readConditions(database.url)).toMatchObject({ inRecovery: false, fsync: "off", synchronousCommit: "on" });
  });
});

describe("a server on a Postgres without fsync", () => {
  it("does not start, and says why", async () => {
    await expect(startServer(configWith("checked"), keptLog())).rejects.toThrow(/fsync is off.*full_page_writes is off/);
  });

  it("starts where the platform vouches for it, and for development says loudly what is wrong", async () => {
    for (const [durability, warnings] of [
      ["provider", 0],
      ["unsafe", 1],
    ] as const) {
      const log = keptLog();
      const server = await startServer(configWith(durability), log);
      await server.stop();
      expect(log.lines.filter((line) => JSON.stringify(line).includes("may forget"))).toHaveLength(warnings);
    }
  });
});
