// `leasehold cancel`: how does a person end a task that is not wanted any more?
import type { Duration } from "@leasehold/proto/google/protobuf/duration";
import { TaskState, type Task } from "@leasehold/proto/leasehold/v1/task";
import { CancelTaskRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { Command } from "commander";
import { parseDuration } from "../arguments.js";
import { exitCodes, type ExitCode } from "../exit-codes.js";
import { jsonText } from "../output/json.js";
import { taskRecord } from "../output/task-record.js";
import { standing } from "../output/task-words.js";
import { isoTime } from "../output/time.js";
import { type ServerConnection, type ServerOptions, withServerOptions } from "../server-connection.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

interface CancelOptions extends ServerOptions {
  readonly reason?: string;
  readonly grace?: Duration;
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addCancel(program: Command, context: VerbContext): void {
  const command = program
    .command("cancel")
    .summary("cancel a task")
    .description("Cancel a task: at once while nobody runs it, else its worker is told and has a time of grace.")
    .argument("<id>", "id of the task")
    .option("--reason <text>", "told to the handler and kept")
    .option("--grace <duration>", "how long a running handler may still take; the server's default is 30s", parseDuration)
    .addOption(outputOption("json: the task after it"))
    .action((id: string, options: CancelOptions) => withServer(context, options, (server) => cancel(server, id, options, context)));
  withServerOptions(command);
  withExamples(command, "leasehold cancel 0197d0c2-… --reason 'superseded by another import'", "leasehold cancel 0197d0c2-… --grace 5s");
}

async function cancel(server: ServerConnection, taskId: string, options: CancelOptions, { screen }: VerbContext): Promise<ExitCode> {
  const request = CancelTaskRequest.create({ task: { taskId }, reason: options.reason ?? "" });
  request.grace = options.grace;
  const task = await server.call(TaskServiceService.cancelTask, request);
  screen.print(options.output === "json" ? jsonText(taskRecord(task)) : cancelText(task));
  return exitCodes.ok;
}

function cancelText(task: Task): string {
  if (task.state === TaskState.CANCELLED) return `The task is ${standing(task)}.`;
  const until = task.cancelRequest?.deadlineTime;
  return `Its worker is told to stop${until === undefined ? "" : `; the task is CANCELLED at the latest at ${isoTime(until)}`}.`;
}
