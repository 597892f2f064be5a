// How does a verb show tasks while they change, and when they have ended? Shared by `watch` and `submit --watch`.
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { GetTaskRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { exitCodes, type ExitCode } from "./exit-codes.js";
import { followTasks } from "./follow-tasks.js";
import { jsonLine } from "./output/json.js";
import { payloadText } from "./output/payload-text.js";
import type { Screen } from "./output/screen.js";
import { changesOf } from "./output/task-changes.js";
import { taskRecord } from "./output/task-record.js";
import { isFinished } from "./output/task-words.js";
import { duration } from "./output/time.js";
import type { ServerConnection } from "./server-connection.js";
import type { OutputForm } from "./verb-context.js";

const ELAPSED_WIDTH = 8;

/** Follows tasks and shows every change. @returns 0 if all completed, 1 if one failed or was cancelled, 3 if one is unknown. */
export async function showTasks(server: ServerConnection, taskIds: readonly string[], form: OutputForm, screen: Screen): Promise<ExitCode> {
  const seen = new Map<string, Task>();
  const lastLines = new Map<string, string>();
  const removed: string[] = [];
  const began = performance.now();
  const say = (taskId: string, line: string): void => {
    const elapsed = `+${duration(performance.now() - began)}`.padEnd(ELAPSED_WIDTH);
    // The end of an id tells tasks apart that were submitted together, its beginning does not.
    screen.print(`${screen.paint("quiet", elapsed)}${taskIds.length > 1 ? `${taskId.slice(-8)}  ` : ""}${line}`);
  };
  const stopListening = onInterrupt(taskIds, screen);
  try {
    await followTasks(server, taskIds, {
      changed: (task) => {
        if (form === "text") for (const line of changesOf(seen.get(task.taskId), task, screen.paint)) say(task.taskId, line);
        // The finished task follows in full, with its payloads.
        else if (!isFinished(task)) printOnce(jsonLine(taskRecord(task)), task.taskId, lastLines, screen);
        seen.set(task.taskId, task);
      },
      removed: (taskId) => {
        removed.push(taskId);
        screen.remark(`There is no task ${taskId}, or it was removed.`);
      },
      interrupted: () => screen.remark(`The connection to ${server.address} broke; connecting again …`),
    });
    for (const task of seen.values()) await showEnd(server, task, taskIds.length > 1, form, screen);
  } finally {
    stopListening();
  }
  if (removed.length > 0) return exitCodes.notFound;
  return [...seen.values()].every(({ state }) => state === TaskState.COMPLETED) ? exitCodes.ok : exitCodes.no;
}

/** A server may tell the same state twice. */
function printOnce(line: string, taskId: string, lastLines: Map<string, string>, screen: Screen): void {
  if (lastLines.get(taskId) !== line) screen.print(line);
  lastLines.set(taskId, line);
}

/** Ctrl-C ends the watching; the task is the server's and goes on. */
function onInterrupt(taskIds: readonly string[], screen: Screen): () => void {
  const stop = (exitCode: ExitCode) => () => {
    const ids = taskIds.join(" ");
    screen.remark(
      `Stopped watching; the task goes on. Watch it again with: leasehold watch ${ids}, or end it with: leasehold cancel ${taskIds[0] ?? ""}`,
    );
    process.exit(exitCode);
  };
  const [interrupted, terminated] = [stop(exitCodes.interrupted), stop(exitCodes.terminated)];
  process.once("SIGINT", interrupted).once("SIGTERM", terminated).once("SIGHUP", terminated);
  return () => void process.off("SIGINT", interrupted).off("SIGTERM", terminated).off("SIGHUP", terminated);
}

/** The result, which the watch does not carry; of a failure its line has said enough. */
async function showEnd(server: ServerConnection, { taskId, state }: Task, named: boolean, form: OutputForm, screen: Screen): Promise<void> {
  if (form === "text" && state !== TaskState.COMPLETED) return;
  const task = await server.call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId } }));
  if (form === "json") screen.print(jsonLine(taskRecord(task)));
  else if (task.result !== undefined) screen.print(`${named ? `${taskId.slice(-8)}  ` : ""}${payloadText(task.result)}`);
}
