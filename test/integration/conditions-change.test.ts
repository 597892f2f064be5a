// What does a running server do when Postgres changes under it? It stops acknowledging what would be forgotten, says why once, and goes on by itself.
import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { DurabilityClass, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { loadConfig } from "@leasehold/server/config";
import { startServer } from "@leasehold/server/main";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type KeptLog, keptLog } from "../support/api-fakes.js";
import { startOwnPostgres, type OwnPostgres } from "../support/own-postgres.js";
import { ownerCalls } from "../support/owner-calls.js";
import { runStatements } from "../support/postgres.js";
import { endingOf, keepAlive, openRawWorker } from "../support/raw-worker.js";
import { eventually } from "../support/scene.js";
import { healthOf } from "../support/service-calls.js";
import { type PostgresPair, startPair } from "../support/standby.js";

const LOOK_MS = 100;
const UNFIT = "UNAVAILABLE DATABASE_UNFIT";
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

interface Scene {
  readonly address: string;
  readonly log: KeptLog;
  /** The class that a worker is told which connects now. */
  welcomed(): Promise<DurabilityClass | undefined>;
  submit(name?: string): Promise<unknown>;
}

async function openScene(url: string, env: Record<string, string> = {}): Promise<Scene> {
  const log = keptLog();
  const settings = { LEASEHOLD_DATABASE_URL: url, LEASEHOLD_LISTEN: "127.0.0.1:0", LEASEHOLD_DRAIN_TIMEOUT: "1s", ...env };
  const server = await startServer(loadConfig(settings), log, LOOK_MS);
  const { address } = server;
  const owner = ownerCalls(address);
  undo.push(() => server.stop());
  undo.push(() => owner.close());
  return {
    address,
    log,
    submit: (name = "a") => owner.submit({ taskId: randomUUID(), name }),
    welcomed: async () => {
      const worker = openRawWorker(address, ["nothing"]);
      const { durability } = await worker.welcome().finally(() => worker.close());
      return durability;
    },
  };
}

/** How a submission is answered: OK, or the reason of its refusal. */
async function answer(scene: Scene): Promise<string> {
  try {
    await scene.submit();
    return "OK";
  } catch (error) {
    const { code, reason } = endingOf(error as Parameters<typeof endingOf>[0]);
    return `${status[code]} ${reason}`;
  }
}

const untilAnswered = (scene: Scene, wanted: string): Promise<string> =>
  eventually(
    () => answer(scene),
    (said) => said === wanted,
    `a submission is answered ${wanted}`,
  );

const said = ({ log }: Scene, words: string): string[] =>
  log.lines.filter(({ message }) => message.includes(words)).map(({ fields }) => JSON.stringify(fields));

describe("a Postgres that stops to be durable", () => {
  let postgres: OwnPostgres;
  beforeAll(async () => {
    postgres = await startOwnPostgres({ durable: true });
  });
  afterAll(() => postgres.remove());

  it.each([
    ["fsync is off", ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"], ["ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()"]],
    [
      "full_page_writes is off",
      ["ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"],
      ["ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()"],
    ],
    // Only new connections have it; those of the server must not go on as they are, nor stay as they are when it is set back.
    [
      "synchronous_commit is off",
      ["ALTER ROLE CURRENT_USER SET synchronous_commit = off"],
      ["ALTER ROLE CURRENT_USER RESET synchronous_commit"],
    ],
  ])("because %s is not used until that is mended; reports wait, and it is said once", async (problem, spoil, mend) => {
    const scene = await openScene(postgres.url);
    undo.push(() => runStatements(postgres.url, ...mend));
    const worker = openRawWorker(scene.address, ["held"]);
    undo.push(() => worker.close());
    keepAlive(worker, 500);
    await scene.submit("held");
    const lease = await worker.lease();
    expect([await answer(scene), await healthOf(scene.address)]).toEqual(["OK", "SERVING"]);

    const spoiltAt = new Date().toISOString();
    await runStatements(postgres.url, ...spoil);
    await untilAnswered(scene, UNFIT);
    await eventually(
      () => healthOf(scene.address),
      (health) => health === "NOT_SERVING",
      "health says so",
    );
    worker.report(lease, 1, { complete: { result: undefined, executionMetadata: undefined } });
    expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.RETRY_LATER);

    await runStatements(postgres.url, ...mend);
    await untilAnswered(scene, "OK");
    await eventually(
      () => healthOf(scene.address),
      (health) => health === "SERVING",
      "health says so",
    );
    expect(said(scene, "must not be used")).toEqual([expect.stringContaining(problem)]);
    expect(said(scene, "may be used again")).toHaveLength(1);
    expect(said(scene, "does not answer")).toEqual([]);
    expect(said(scene, "failed")).toEqual([]);
    if (problem.startsWith("synchronous_commit")) {
      const old = `(SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'leasehold submits%' AND backend_start < '${spoiltAt}') = 0`;
      await runStatements(postgres.url, `DO $$ BEGIN ASSERT ${old}, 'no connection is left that was opened before'; END $$`);
    }
  });

  it("goes on where nobody vouches for it, and every worker that connects later is told", async () => {
    const scene = await openScene(postgres.url, { LEASEHOLD_DURABILITY: "unsafe" });
    undo.push(() => runStatements(postgres.url, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()"));
    expect(await scene.welcomed()).toBe(DurabilityClass.LOCAL);
    await runStatements(postgres.url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()");
    await eventually(
      () => scene.welcomed(),
      (durability) => durability === DurabilityClass.UNSAFE,
      "the welcome says UNSAFE",
    );
    expect(await answer(scene)).toBe("OK");
    expect(said(scene, "otherwise than before")).toEqual([JSON.stringify({ before: "LOCAL", durability: "UNSAFE" })]);
  });

  it("is what the platform says it is where that vouches for it", async () => {
    const scene = await openScene(postgres.url, { LEASEHOLD_DURABILITY: "provider" });
    expect(await scene.welcomed()).toBe(DurabilityClass.PROVIDER);
  });

  it("or whose schema becomes another one is not used until that is mended", async () => {
    const scene = await openScene(postgres.url);
    const forget = "DELETE FROM leasehold.schema_migrations WHERE version = 1000";
    undo.push(() => runStatements(postgres.url, forget));
    const apply = (compatible: string): Promise<void> =>
      runStatements(
        postgres.url,
        `INSERT INTO leasehold.schema_migrations (version, name, checksum, compatible_with) VALUES (1000, '1000-later.sql', '', ${compatible})`,
      );
    await apply("NULL");
    await untilAnswered(scene, UNFIT);
    expect(said(scene, "must not be used")).toEqual([expect.stringContaining("start a newer server")]);
    await runStatements(postgres.url, forget);
    await untilAnswered(scene, "OK");
    await apply("1");
    await new Promise((resolve) => setTimeout(resolve, 5 * LOOK_MS));
    expect(await answer(scene)).toBe("OK");
    expect(said(scene, "must not be used")).toHaveLength(1);
  });
});

describe("a Postgres with a synchronous standby", () => {
  let pair: PostgresPair;
  beforeAll(async () => {
    pair = await startPair({ synchronous: true });
  });
  afterAll(() => pair.remove());

  it(
    "is told as such for as long as commits wait for it, and a standby in its place is left alone until it is a primary",
    { timeout: 60_000 },
    async () => {
      const scene = await openScene(pair.database.url);
      expect(await scene.welcomed()).toBe(DurabilityClass.SYNCHRONOUS_STANDBY);
      const become = async (wanted: DurabilityClass, ...statements: string[]): Promise<void> => {
        await runStatements(pair.primary.url, ...statements);
        await eventually(
          () => scene.welcomed(),
          (durability) => durability === wanted,
          `the welcome says ${wanted}`,
        );
      };
      await become(DurabilityClass.LOCAL, "ALTER ROLE CURRENT_USER SET synchronous_commit = local");
      expect(said(scene, "connections replaced")).toHaveLength(1);
      await become(DurabilityClass.SYNCHRONOUS_STANDBY, "ALTER ROLE CURRENT_USER RESET synchronous_commit");
      expect(await answer(scene)).toBe("OK");

      // The name now leads to the standby; the old connections to the old primary are still good, and must go all the same.
      pair.database.moveTo(pair.standby.url);
      await untilAnswered(scene, UNFIT);
      expect(said(scene, "must not be used")).toEqual([expect.stringContaining("in recovery")]);
      await pair.promote();
      await untilAnswered(scene, "OK");
      const owner = ownerCalls(scene.address);
      undo.push(() => owner.close());
      const { task } = await owner.submit({ taskId: randomUUID(), name: "after" });
      expect(task.state).toBe(TaskState.PENDING);
      await runStatements(
        pair.standby.url,
        `DO $$ BEGIN ASSERT EXISTS (SELECT FROM leasehold.tasks WHERE id = '${task.taskId}'), 'it is on the new primary'; END $$`,
      );
    },
  );
});
