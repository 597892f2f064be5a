// How does the demo start a worker process, hear from it, and end it?
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { WorkerMessage } from "./tasks.js";

/** A worker process. */
export interface WorkerChild {
  readonly name: string;
  readonly pid: number;
  /** SIGKILL: no farewell. @returns the signal that ended it, as the system says. */
  kill(): Promise<string>;
  /** Asks it to drain, and ends it if it does not. */
  stop(): Promise<void>;
}

const READY_MS = 15_000;
const STOP_MS = 5_000;

/** Starts a worker; resolves when it is connected. `hear` gets what it tells. @throws Error if it ends before. */
export async function startWorkerChild(address: string, name: string, hear: (message: WorkerMessage) => void): Promise<WorkerChild> {
  const child = fork(fileURLToPath(new URL("./worker-process.js", import.meta.url)), [address, name], {
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const ended = new Promise<string>((resolve) => child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code ?? "unknown"}`)));
  const ready = new Promise<void>((resolve) => {
    child.on("message", (message) => {
      // Only worker-process.ts writes to this channel.
      const told = message as WorkerMessage;
      if (told.kind === "ready") resolve();
      else hear(told);
    });
  });
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<string> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    const how = await ended;
    clearTimeout(timer);
    return how;
  };
  const failed = ended.then((how) => Promise.reject(new Error(`worker process ${name} ended before it was ready (${how})`)));
  const late = once(AbortSignal.timeout(READY_MS), "abort").then(() =>
    Promise.reject(new Error(`worker process ${name} was not ready within ${READY_MS} ms`)),
  );
  failed.catch(() => undefined);
  late.catch(() => undefined);
  try {
    await Promise.race([ready, failed, late]);
  } catch (error) {
    await end("SIGKILL");
    throw error;
  }
  return {
    name,
    pid: child.pid ?? 0,
    kill: () => end("SIGKILL"),
    stop: async () => {
      await end("SIGTERM");
    },
  };
}
