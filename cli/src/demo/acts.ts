// What happens in the demo? Three acts, each a task: an import whose worker is killed, an approval that waits, a mail that fails twice.
import type { TaskDefinition, TaskHandle, TaskSnapshot } from "@leasehold/client";
import { demoRows } from "./generate-csv.js";
import { type Stage } from "./stage.js";
import { approveInvoice, importReadings, sendMail, type WorkerMessage } from "./tasks.js";
import type { WorkerChild } from "./worker-child.js";

/** Tells a line to whoever watches. */
export type Narrate = (line: string) => void;

/** What one act came to. */
export interface Act {
  readonly outcome: unknown;
  readonly snapshot: TaskSnapshot;
}

/** Starts a worker process by its name. */
export type Hire = (name: string, hear: (message: WorkerMessage) => void) => Promise<WorkerChild>;

/** The first act and what was seen in it. */
export interface ImportAct extends Act {
  readonly killedBy: string;
  readonly resumedFromRow: number | undefined;
  readonly resumedBy: string | undefined;
}

const OUTCOME_LIMIT = "40s";
const count = (rows: number): string => rows.toLocaleString("en-US");

async function finish<Task extends TaskDefinition>(job: TaskHandle<Task>): Promise<Act> {
  return { outcome: await job.outcome({ timeout: OUTCOME_LIMIT }), snapshot: await job.snapshot() };
}

/**
 * Imports the file with a first worker, kills that one half way, and goes on with a second.
 * @param replaced called when the second worker is there: the other acts may begin.
 */
export async function playImport(stage: Stage, hire: Hire, narrate: Narrate, replaced: () => void): Promise<ImportAct> {
  let halfWay = (): void => undefined;
  const half = new Promise<void>((resolve) => (halfWay = resolve));
  const first = await hire("worker-1", (message) => {
    if (message.kind === "took") narrate("worker-1 begins with the first row");
    if (message.kind === "wrote" && message.rows >= demoRows / 2) halfWay();
  });
  narrate(`worker-1 is a process of its own, pid ${first.pid}`);
  const job = await stage.client.submit(importReadings, { csv: stage.csvPath, output: stage.outputPath });
  narrate(`submitted readings.import: ${count(demoRows)} rows of a CSV file, a checkpoint after each chunk`);
  await half;
  const killedBy = await first.kill();
  narrate(`killed worker-1 with SIGKILL half way: no farewell, no clean-up`);

  let resumed: Extract<WorkerMessage, { kind: "took" }> | undefined;
  const second = await hire("worker-2", (message) => {
    if (message.kind === "wrote" && message.again)
      narrate("worker-2 wrote the chunk again that worker-1 wrote without a checkpoint; the output had it already");
    if (message.kind !== "took" || message.task !== importReadings.name) return;
    resumed = message;
    narrate(
      `worker-2 goes on with readings.import from row ${count(message.fromRow)}, the last checkpoint (${message.resumedBy.replace("_", " ")})`,
    );
  });
  narrate(`started worker-2, pid ${second.pid}; it gets the import when worker-1 has been silent long enough`);
  replaced();
  const act = await finish(job);
  narrate(`readings.import is ${act.snapshot.state}`);
  return { ...act, killedBy, resumedFromRow: resumed?.fromRow, resumedBy: resumed?.resumedBy };
}

/** Waits for an approval, gives it, and waits for the end. */
export async function playApproval({ client }: Stage, narrate: Narrate): Promise<Act & { readonly suspended: boolean }> {
  const job = await client.submit(approveInvoice, { invoice: "2026-0117", amount: "1,250.00 EUR" });
  let suspended = false;
  for await (const { state } of job.watch({ timeout: OUTCOME_LIMIT })) {
    if (state !== "suspended" || suspended) continue;
    suspended = true;
    narrate("invoice.approve is suspended: it waits for a person, and occupies no worker");
    await job.proceed({ patch: { decision: "approve" }, note: "approved in the demo" });
    narrate("proceeded it with the decision");
  }
  const act = await finish(job);
  narrate(`invoice.approve is ${act.snapshot.state}`);
  return { ...act, suspended };
}

/** Sends a mail whose first two attempts fail. */
export async function playMail({ client }: Stage, narrate: Narrate): Promise<Act & { readonly failures: number }> {
  const job = await client.submit(sendMail, { to: "ada@example.org" });
  let failures = 0;
  for await (const { state, attempt, maxAttempts, lastError } of job.watch({ timeout: OUTCOME_LIMIT })) {
    if (attempt - 1 <= failures) continue;
    failures = attempt - 1;
    if (state === "pending")
      narrate(`mail.send failed: ${lastError?.message ?? ""}; attempt ${attempt} of ${maxAttempts} comes after a pause`);
  }
  const act = await finish(job);
  narrate(`mail.send is ${act.snapshot.state} at attempt ${act.snapshot.attempt}`);
  return { ...act, failures };
}
