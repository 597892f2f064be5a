// `leasehold get`: what is known of one task, with its payloads?
import type { Payload, Task } from "@leasehold/proto/leasehold/v1/task";
import { GetTaskRequest, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { Option, type Command } from "commander";
import { exitCodes, type ExitCode } from "../exit-codes.js";
import { jsonText } from "../output/json.js";
import { taskDetails } from "../output/task-details.js";
import { taskRecord } from "../output/task-record.js";
import { type ServerConnection, type ServerOptions, withServerOptions } from "../server-connection.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

type PayloadWord = "metadata" | "execution-metadata" | "result";

interface GetOptions extends ServerOptions {
  readonly only?: PayloadWord;
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addGet(program: Command, context: VerbContext): void {
  const command = program
    .command("get")
    .summary("show one task")
    .description("Show one task: its state, its times and its payloads.")
    .argument("<id>", "id of the task")
    .addOption(
      new Option("--only <payload>", "print the bytes of one payload and nothing else").choices([
        "metadata",
        "execution-metadata",
        "result",
      ]),
    )
    .addOption(outputOption("json: the task as one object, payloads as they came"))
    .action((id: string, options: GetOptions) => withServer(context, options, (server) => get(server, id, options, context)));
  withServerOptions(command);
  withExamples(
    command,
    "leasehold get 0197d0c2-…",
    "leasehold get 0197d0c2-… -o json",
    "leasehold get 0197d0c2-… --only result > result.json",
  );
}

async function get(server: ServerConnection, taskId: string, { only, output }: GetOptions, { screen }: VerbContext): Promise<ExitCode> {
  const task = await server.call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId } }));
  if (only !== undefined) {
    const payload = payloadOf(task, only);
    if (payload === undefined) {
      screen.remark(`The task has no ${only.replace("-", " ")}.`);
      return exitCodes.no;
    }
    screen.write(payload.data);
  } else if (output === "json") screen.print(jsonText(taskRecord(task)));
  else for (const line of taskDetails(task, screen)) screen.print(line);
  return exitCodes.ok;
}

function payloadOf(task: Task, word: PayloadWord): Payload | undefined {
  switch (word) {
    case "metadata":
      return task.metadata;
    case "execution-metadata":
      return task.executionMetadata;
    case "result":
      return task.result;
  }
}
