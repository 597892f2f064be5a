// `leasehold proceed`: how does a person let a suspended task go on, and change what it resumes from?
import { randomUUID } from "node:crypto";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import {
  ProceedResult,
  ProceedTaskRequest,
  TaskServiceService,
  type ExecutionMetadataUpdate,
} from "@leasehold/proto/leasehold/v1/task_service";
import { Option, type Command } from "commander";
import { parseTime, readPayload } from "../arguments.js";
import { exitCodes, type ExitCode } from "../exit-codes.js";
import { jsonText } from "../output/json.js";
import { taskRecord } from "../output/task-record.js";
import { standing } from "../output/task-words.js";
import { type ServerConnection, type ServerOptions, withServerOptions } from "../server-connection.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

interface ProceedOptions extends ServerOptions {
  readonly patch?: string;
  readonly replace?: string;
  readonly note?: string;
  readonly scheduleTime?: Timestamp;
  readonly etag?: string;
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addProceed(program: Command, context: VerbContext): void {
  const command = program
    .command("proceed")
    .summary("let a suspended task go on")
    .description("Let a suspended task go on. One that is not suspended yet remembers it for its next suspension (not with --replace).")
    .argument("<id>", "id of the task")
    .addOption(new Option("--patch <json>", "JSON Merge Patch of the execution metadata: JSON, @file or -").conflicts("replace"))
    .addOption(new Option("--replace <json>", "the new execution metadata: JSON, @file or -"))
    .option("--note <text>", "for the handler and the timeline")
    .option("--schedule-time <time>", "not before: 2026-01-31T12:00:00Z, or +5m from now", (text: string) => parseTime(text))
    .option("--etag <etag>", "only if the task has not changed since; see `leasehold get ID -o json`")
    .addOption(outputOption("json: what became of it, and the task"))
    .action((id: string, options: ProceedOptions) => withServer(context, options, (server) => proceed(server, id, options, context)));
  withServerOptions(command);
  withExamples(command, `leasehold proceed 0197d0c2-… --patch '{"decision":"approve"}' --note 'by phone'`, "leasehold proceed 0197d0c2-…");
}

async function proceed(
  server: ServerConnection,
  taskId: string,
  options: ProceedOptions,
  { screen, stdin }: VerbContext,
): Promise<ExitCode> {
  // The request id makes a repeated try harmless.
  const request = ProceedTaskRequest.create({
    task: { taskId },
    note: options.note ?? "",
    etag: options.etag ?? "",
    requestId: randomUUID(),
  });
  request.scheduleTime = options.scheduleTime;
  request.update = await updateOf(options, stdin);
  const { task, result } = await server.call(TaskServiceService.proceedTask, request);
  const remembered = result === ProceedResult.REMEMBERED;
  if (options.output === "json") {
    screen.print(jsonText({ result: remembered ? "REMEMBERED" : "APPLIED", task: task === undefined ? null : taskRecord(task) }));
  } else if (remembered) {
    screen.print(
      `Remembered: the task is ${task === undefined ? "not suspended" : standing(task)}, and its next suspension goes on at once.`,
    );
  } else screen.print(`The task goes on${task === undefined ? "" : `: ${standing(task)}`}.`);
  return exitCodes.ok;
}

async function updateOf({ patch, replace }: ProceedOptions, stdin: VerbContext["stdin"]): Promise<ExecutionMetadataUpdate | undefined> {
  if (patch !== undefined) return { mergePatch: await readPayload(patch, stdin), replace: undefined };
  return replace === undefined ? undefined : { mergePatch: undefined, replace: await readPayload(replace, stdin) };
}
