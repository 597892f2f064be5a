// Does the code of docs/client.md do what the guide says? Each block is run as it stands, against a real server; addresses and a file name are its only changes.
import { type Client, defineTask, handle, type TaskDefinition, type TaskHandler, type Worker } from "@leasehold/client";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { z } from "zod";
import { sdkScene, until } from "../../support/sdk-scene.js";
import { snippetsOf } from "../../support/snippets.js";

const ROOT = join(import.meta.dirname, "../../..");
const sdk = sdkScene();
const PATIENCE = { timeout: "20s" } as const;
const KEY = "t1/2026-01";

let folder = "";
const blocks = new Map<string, string>();
const said: unknown[][] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "leasehold-guide-"));
  // Where the blocks find the packages that they import.
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const guide = await readFile(join(ROOT, "docs/client.md"), "utf8");
  const urls = join(folder, "urls.txt");
  await writeFile(urls, "https://example.com/a.csv\nhttps://example.com/b.csv\n");
  for (const part of guide.split(/^## /m).slice(1)) {
    const text = snippetsOf(part)
      .map((snippet) => snippet.text)
      .findLast((block) => block.includes("import"));
    if (text === undefined) continue;
    const title = part.split("\n")[0] ?? "";
    const file = join(folder, title === "Define a task" ? "tasks.ts" : `${title.toLowerCase().replaceAll(" ", "-")}.ts`);
    blocks.set(title, file);
    await writeFile(
      file,
      text
        .replaceAll(/"(?:127\.0\.0\.1|leasehold-[12]):7410"/g, '(process.env["LEASEHOLD_ADDRESS"] ?? "")')
        .replace('"urls.txt"', JSON.stringify(urls)),
    );
  }
  vi.spyOn(console, "log").mockImplementation((...words) => void said.push(words));
  vi.spyOn(console, "error").mockImplementation((...words) => void said.push(words));
}, 60_000);
afterAll(async () => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  await rm(folder, { recursive: true });
});

/** Runs a block; what it exports. */
async function run(title: string): Promise<Record<string, unknown>> {
  vi.stubEnv("LEASEHOLD_ADDRESS", sdk.address);
  said.length = 0;
  vi.resetModules();
  const file = blocks.get(title);
  if (file === undefined) throw new Error(`the guide has no code under ${title}`);
  return (await import(/* @vite-ignore */ file)) as Record<string, unknown>;
}

/** Ends the worker that a block runs until SIGTERM. Every listener of this process but those that were there before. */
function terminate(before: readonly unknown[]): void {
  for (const listener of process.listeners("SIGTERM")) if (!before.includes(listener)) listener("SIGTERM");
}

const importCsv = defineTask({
  name: "import-csv",
  metadata: z.object({ url: z.string(), tenant: z.string() }),
  result: z.object({ rows: z.number() }),
});
const theImport = () => sdk.client.handle(importCsv, { key: KEY });

describe("the guide, block by block", { timeout: 60_000 }, () => {
  it("defines, submits once for a key, and submits a file of any size", async () => {
    expect(Object.keys(await run("Define a task"))).toEqual(expect.arrayContaining(["approval", "importCsv"]));
    await writeFile(
      join(folder, "submit-first.ts"),
      snippetsOf(await readFile(join(ROOT, "docs/client.md"), "utf8"))[1]!.text.replace('"127.0.0.1:7410"', JSON.stringify(sdk.address)),
    );
    const first = join(folder, "submit-first.ts");
    await import(/* @vite-ignore */ first);
    expect(said).toEqual([[expect.any(String), true]]);
    vi.resetModules();
    await import(/* @vite-ignore */ first);
    expect(said[1]).toEqual([said[0]?.[0], false]);
    await run("Submit");
    expect(said).toEqual([[expect.any(String)], [expect.any(String)]]);
  });

  it("runs, is waited for, and fails with the declared error", async () => {
    const before = process.listeners("SIGTERM");
    vi.stubGlobal("readRows", async (url: string, offset: number) => {
      if (url.endsWith("/2.csv")) return { rows: 0, badColumn: "price" };
      return { rows: offset === 0 ? 2 : 0 };
    });
    const running = run("Run a worker");
    await theImport().update({ scheduleTime: "now" });
    await run("Wait");
    expect(said).toContainEqual([2]);

    await sdk.client.submit(importCsv, { url: "https://example.com/2.csv", tenant: "t1" }, { key: KEY });
    await run("Errors");
    expect(said).toEqual([["price"], ["bad_header", "not_retryable"]]);
    terminate(before);
    await running;
  });

  it("surrounds handlers, and shuts down in order", async () => {
    const { worker } = await run("Around every handler");
    const middle = worker as Worker;
    const running = middle.run();
    const approval = (await run("Define a task"))["approval"] as TaskDefinition;
    const job = await sdk.client.submit(approval, { amount: 1 }, { labels: { tenant: "t1" } });
    expect(await job.result(PATIENCE)).toEqual({ approved: true });
    await middle.drain();
    await running;
    await run("Shut down");
    expect(said).toContainEqual(["ready"]);
  });

  it("suspends and is proceeded in each of the three ways", async () => {
    interface Block {
      approvalHandler: TaskHandler;
      approve: () => Promise<void>;
      refuse: () => Promise<void>;
      approveTheOneOf: (amount: number) => Promise<void>;
    }
    const ways: [(block: Block) => Promise<void>, boolean][] = [
      [({ approve }) => approve(), true],
      [({ refuse }) => refuse(), false],
      [({ approveTheOneOf }) => approveTheOneOf(100), true],
    ];
    for (const [proceed, approved] of ways) {
      const block = (await run("Suspend and proceed")) as unknown as Block;
      const worker = await sdk.work([block.approvalHandler]);
      const job = await sdk.client.submit(block.approvalHandler.task, { amount: 100 }, { key: "E-17" });
      await until(job, ({ state }) => state === "suspended");
      await proceed(block);
      expect(await job.result(PATIENCE)).toEqual({ approved });
      await worker.drain();
    }
  });

  it("goes through the states of a machine", async () => {
    const before = process.listeners("SIGTERM");
    vi.stubGlobal("invoiceFor", (orderId: string) => `invoice-${orderId}`);
    const order = defineTask({ name: "order", result: z.object({ receipt: z.string() }) });
    const running = run("State machines");
    const job = sdk.client.handle(order, { key: "7" });
    await expect.poll(() => job.findId().catch(() => ""), { timeout: 20_000 }).not.toBe("");
    expect(await job.result(PATIENCE)).toEqual({ receipt: "paid invoice-7" });
    terminate(before);
    await running;
  });

  it("cancels, retries, deletes, asks and changes", async () => {
    const later = { key: KEY, scheduleTime: { in: "1h" } } as const;
    const job = await sdk.client.submit(importCsv, { url: "https://example.com/3.csv", tenant: "t1" }, later);
    await run("Ask and change");
    expect(said[0]).toEqual(["not_due", expect.any(String)]);
    expect(said.at(-1)).toEqual([["500 to 1000 ms", "0 to 0 ms"]]);
    await run("Cancel and retry");
    await expect(job.snapshot()).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("compresses and encrypts, and passes an unavailable address over with headers of its own", async () => {
    for (const name of ["KEY_2026_07", "KEY_2026_01", "FINGERPRINT_KEY"]) vi.stubEnv(name, randomBytes(32).toString("base64"));
    const secret = defineTask({ name: "secret", metadata: z.string(), result: z.string() });
    for (const title of ["Compress and encrypt", "Around every call"]) {
      const client = (await run(title))["client"] as Client;
      onTestFinished(() => client.close());
      const worker = await sdk.work([handle(secret, ({ metadata }) => metadata)], { client });
      expect(await (await client.submit(secret, title)).result(PATIENCE)).toBe(title);
      await worker.drain();
    }
    expect(said).toContainEqual(["SubmitTask", 1, expect.any(Number)]);
  });
});
