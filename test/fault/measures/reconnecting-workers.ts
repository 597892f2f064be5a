// How do many workers come back to a server that was away? Soon, spread out, with few words, and ready for what became due meanwhile.
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { environment, startProcess, typescriptArguments } from "../../support/child-process.js";
import { jsonPayload } from "../../support/task-client.js";
import { openProbe } from "./probes.js";
import { eventually, type Stage } from "./stage.js";

/** What was seen; times in milliseconds from the return of the server. */
export interface ReconnectingSeen {
  readonly workers: number;
  readonly halfReadyAfterMs: number;
  readonly allReadyAfterMs: number;
  /** Connections that were tried while the server was away and until all were back. */
  readonly tries: number;
  /** The most of them in any second, as a share of the workers. */
  readonly busiestSecondShare: number;
  /** Lines that a worker would have logged, on the average. */
  readonly linesPerWorker: number;
  /** Until everything had run that became due during the absence. */
  readonly dueDoneAfterMs: number;
  readonly lostLeases: number;
}

const PROCESSES = 4;
const DUE = 100;

/** Kills the only server under so many workers and starts it again after a while. */
export async function reconnectingWorkers(stage: Stage, workers: number, awayMs = 10_000): Promise<ReconnectingSeen> {
  const first = await stage.server();
  const each = Math.ceil(workers / PROCESSES);
  const crowds = Array.from({ length: PROCESSES }, (_, index) => {
    const program = { addresses: [first.address], count: each, prefix: `crowd-${index}` };
    const file = join("../fault/measures", "many-workers-program.ts");
    const crowd = startProcess(process.execPath, typescriptArguments(file, JSON.stringify(program)), { env: environment() });
    stage.undo(async () => {
      crowd.child.kill("SIGKILL");
      await crowd.ended;
    });
    return crowd;
  });
  await Promise.all(crowds.map((crowd) => crowd.waitFor(/^ready/m)));
  const probe = openProbe(first.address);
  stage.undo(async () => probe.close());
  // They become due in the middle of the absence.
  const due = await Promise.all(
    Array.from({ length: DUE }, (_, n) =>
      probe.submit({
        name: "e2e.quick",
        metadata: jsonPayload({ n }),
        scheduleTime: { seconds: BigInt(Math.ceil(Date.now() / 1_000) + 5) },
      }),
    ),
  );
  if (due.some(({ code }) => code !== "OK")) throw new Error("a submission failed before anything was broken");
  const killedMs = Date.now();
  await first.kill();
  await pause(awayMs);
  const second = await stage.server({ listen: first.address });
  const backMs = Date.now();
  // Its row comes with its first upkeep.
  const [row] = await eventually(
    () => stage.rows<{ id: string }>("SELECT id::text FROM servers ORDER BY start_time DESC LIMIT 1"),
    ([newest]) => newest !== undefined && second.log().includes(newest.id),
    "the server that came back is known",
  );
  if (row === undefined) throw new Error("no server is known");
  const back = async (share: number): Promise<number> => {
    await eventually(
      () => stage.rows("SELECT 1 FROM sessions WHERE end_time IS NULL AND server_id = $1", [row.id]),
      (rows) => rows.length >= share * each * PROCESSES,
      "the workers are back",
      60_000,
    );
    return Date.now() - backMs;
  };
  const done = eventually(
    () => stage.rows("SELECT 1 FROM finished_tasks WHERE state = 3"),
    (rows) => rows.length === DUE,
    "everything has run that became due",
    60_000,
  ).then(() => Date.now() - backMs);
  const [halfReadyAfterMs, allReadyAfterMs, dueDoneAfterMs] = await Promise.all([back(0.5), back(1), done]);
  const said = (word: string): number[] =>
    crowds
      .flatMap((crowd) => [...crowd.said().matchAll(new RegExp(`^${word} (\\d+)$`, "gm"))].map(([, ms]) => Number(ms)))
      .filter((ms) => ms >= killedMs);
  const tries = said("try").toSorted((a, b) => a - b);
  const busiest = Math.max(
    0,
    ...tries
      .map((ms, index) => tries.slice(index).findIndex((later) => later >= ms + 1_000))
      .map((n, index) => (n < 0 ? tries.length - index : n)),
  );
  const [lost] = await stage.rows<{ n: number }>("SELECT count(*)::int AS n FROM task_events WHERE type = 'LEASE_LOST'");
  return {
    workers: each * PROCESSES,
    ...{ halfReadyAfterMs, allReadyAfterMs, dueDoneAfterMs },
    tries: tries.length,
    busiestSecondShare: busiest / (each * PROCESSES),
    linesPerWorker: said("logged").length / (each * PROCESSES),
    lostLeases: lost?.n ?? Number.NaN,
  };
}
