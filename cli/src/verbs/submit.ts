// `leasehold submit`: how does a task get from the command line to a server? The metadata travels as the bytes that were given.
import { randomBytes } from "node:crypto";
import { NewTask, TaskServiceService, type SubmitTaskResponse } from "@leasehold/proto/leasehold/v1/task_service";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import type { Command } from "commander";
import { parseLabel, parseTime, readPayload, wholeNumber } from "../arguments.js";
import { exitCodes, type ExitCode } from "../exit-codes.js";
import { jsonLine, jsonText } from "../output/json.js";
import { taskRecord } from "../output/task-record.js";
import { standing } from "../output/task-words.js";
import { type ServerConnection, type ServerOptions, withServerOptions } from "../server-connection.js";
import { showTasks } from "../show-tasks.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

interface SubmitOptions extends ServerOptions {
  readonly metadata?: string;
  readonly queue?: string;
  readonly priority?: number;
  readonly label?: Readonly<Record<string, string>>;
  readonly scheduleTime?: Timestamp;
  readonly id?: string;
  readonly key?: string;
  readonly watch?: boolean;
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addSubmit(program: Command, context: VerbContext): void {
  const command = program
    .command("submit")
    .summary("submit a task")
    .description("Submit a task: store it, so that a worker that handles its name runs it. Prints its id.")
    .argument("<name>", "task name, such as report.render")
    .option("-m, --metadata <json>", "what the handler gets: JSON, @file, or - for standard input; passed on byte for byte")
    .option("-q, --queue <queue>", "the line it waits in; the server's default is `default`")
    .option("-p, --priority <0-9>", "higher goes first; default 0", wholeNumber(0, 9))
    .option("-l, --label <key=value>", "a label; may be repeated", parseLabel)
    .option("--schedule-time <time>", "not before: 2026-01-31T12:00:00Z, or +5m from now", (text: string) => parseTime(text))
    .option("--id <uuid>", "the task's id; the same id with the same content is the same task, so that repeating is safe")
    .option("--key <key>", "idempotency key: while an unfinished task of this name has it, that task is the answer")
    .option("-w, --watch", "show each change until the task is finished; exit code 0 only if it completed")
    .addOption(outputOption("json: the task (with --watch a line for each change)"))
    .action((name: string, options: SubmitOptions) => withServer(context, options, (server) => submit(server, name, options, context)));
  withServerOptions(command);
  withExamples(
    command,
    `leasehold submit demo.count --metadata '{"to":10}' --watch`,
    "leasehold submit report.render --metadata @report.json --queue reports --label tenant=acme",
    "echo null | leasehold submit nightly.cleanup --metadata - --schedule-time +8h",
  );
}

async function submit(server: ServerConnection, name: string, options: SubmitOptions, { screen, stdin }: VerbContext): Promise<ExitCode> {
  const { output, watch = false } = options;
  const { key = "" } = options;
  const task = NewTask.create({
    // A key makes repeating safe by itself, and its tasks get ids of the server's.
    taskId: options.id ?? (key === "" ? newTaskId() : ""),
    name,
    key,
    queue: options.queue ?? "",
    labels: { ...options.label },
    priority: options.priority ?? 0,
  });
  task.scheduleTime = options.scheduleTime;
  // Set as it is: `create` would copy the bytes.
  if (options.metadata !== undefined) task.metadata = await readPayload(options.metadata, stdin);
  const answer = await server.call(TaskServiceService.submitTask, { task });
  const taskId = answer.task?.taskId ?? task.taskId;
  // Our own id was made for this call alone: only a repeated try of it can have found the task there.
  const created = answer.created || (options.id === undefined && key === "");
  if (output === "json") screen.print(submittedJson(answer, created, watch));
  else if (watch) screen.print(`${created ? "submitted" : "exists already:"} ${taskId}`);
  else {
    screen.print(taskId);
    if (!created) screen.remark(`This task exists already and is ${answer.task === undefined ? "stored" : standing(answer.task)}.`);
  }
  return watch ? showTasks(server, [taskId], output, screen) : exitCodes.ok;
}

function submittedJson({ task }: SubmitTaskResponse, created: boolean, oneLine: boolean): string {
  const record = { created, ...(task && taskRecord(task)) };
  return oneLine ? jsonLine(record) : jsonText(record);
}

/** A UUID version 7, so that ids sort by time and the call may be repeated. */
function newTaskId(): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
