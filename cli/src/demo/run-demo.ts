// How does the demo go from beginning to end? Sets the stage, plays the acts, checks what was seen, shows the table, and leaves nothing behind.
import { exitCodes } from "../exit-codes.js";
import type { Screen } from "../output/screen.js";
import { tableLines } from "../output/table.js";
import { duration } from "../output/time.js";
import { onStopRequested } from "../stop-signals.js";
import { playApproval, playImport, playMail, type Act, type Hire, type ImportAct, type Narrate } from "./acts.js";
import { falsehoods } from "./checks.js";
import { writtenRows } from "./chunks.js";
import { demoRows } from "./generate-csv.js";
import { setStage, type Stage, type Undo } from "./stage.js";
import { startWorkerChild } from "./worker-child.js";

/** Runs the demo and takes everything down. @returns whether everything that it claims was true. Ctrl-C takes everything down and ends with 130. */
export async function runDemo(screen: Screen): Promise<boolean> {
  const began = performance.now();
  const narrate: Narrate = (line) => screen.print(`${screen.paint("quiet", `+${duration(performance.now() - began)}`.padEnd(8))}${line}`);
  const undo: Undo[] = [];
  const signal = onStopRequested(
    async () => {
      await takeDown(undo);
      // The clean code would say that all was true.
      process.exit(exitCodes.interrupted);
    },
    { log: (line) => screen.remark(line) },
  );
  try {
    const verdict = await play(screen, narrate, undo, signal);
    await takeDown(undo);
    narrate(
      verdict ? "all of it was true; everything is stopped and removed" : "not all of it was true; everything is stopped and removed",
    );
    return verdict;
  } catch (error) {
    // Parts that are taken down under the acts make them fail; whoever asked for the stop knows.
    if (signal.aborted) return false;
    await takeDown(undo);
    throw error;
  }
}

async function play(screen: Screen, narrate: Narrate, undo: Undo[], signal: AbortSignal): Promise<boolean> {
  const stage = await setStage(narrate, undo, signal);
  const hire: Hire = async (name, hear) => {
    const worker = await startWorkerChild(stage.address, name, hear);
    undo.push(() => worker.stop());
    return worker;
  };
  let replaced = (): void => undefined;
  const stageIsFree = new Promise<void>((resolve) => (replaced = resolve));
  const importing = playImport(stage, hire, narrate, () => replaced());
  // The other two run while the import waits for its lease to be lost: it holds nobody up.
  const others = stageIsFree.then(() => Promise.all([playApproval(stage, narrate), playMail(stage, narrate)]));
  const [imported, [approval, mail]] = await Promise.all([importing, others]);
  const problems = await check(stage, imported, approval, mail);
  for (const line of summary(screen, imported, approval, mail)) screen.print(line);
  for (const problem of problems) screen.print(screen.paint("bad", `Not as claimed: ${problem}.`));
  return problems.length === 0;
}

async function check(
  stage: Stage,
  imported: ImportAct,
  approval: Act & { readonly suspended: boolean },
  mail: Act & { readonly failures: number },
): Promise<string[]> {
  return falsehoods({
    csv: stage.csv,
    arrived: await writtenRows(stage.outputPath),
    killedBy: imported.killedBy,
    resumedFromRow: imported.resumedFromRow,
    resumedBy: imported.resumedBy,
    suspended: approval.suspended,
    outcomes: { import: imported.outcome, approval: approval.outcome, mail: mail.outcome },
    mailFailures: mail.failures,
  });
}

function summary(screen: Screen, imported: ImportAct, approval: Act, mail: Act): string[] {
  const row = ({ snapshot }: Act, worker: string, remark: string): string[] => {
    const { name, state, attempt, createTime, finishTime } = snapshot;
    const took = createTime === undefined || finishTime === undefined ? "" : duration(finishTime.getTime() - createTime.getTime());
    return [name, screen.paint(state === "completed" ? "good" : "bad", state.toUpperCase()), String(attempt), worker, took, remark];
  };
  const rows = [
    row(imported, "worker-1, worker-2", `${demoRows.toLocaleString("en-US")} rows, each once; a lost lease uses no attempt`),
    row(approval, approval.snapshot.workerName ?? "", "suspended, then proceeded"),
    row(mail, mail.snapshot.workerName ?? "", "failed twice, then succeeded"),
  ];
  return ["", ...tableLines(["TASK", "STATE", "ATTEMPTS", "WORKER", "DURATION", "REMARK"], rows), ""];
}

/** Last started, first stopped; one part that fails does not keep the others up. */
async function takeDown(undo: Undo[]): Promise<void> {
  for (const stop of undo.splice(0).reverse()) await stop().catch(() => undefined);
}
