// `leasehold list`: which tasks are there? A page of them, or all, by state, name, queue and labels.
import type { TaskState } from "@leasehold/proto/leasehold/v1/task";
import { ListTasksRequest, TaskOrder, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { InvalidArgumentError, type Command } from "commander";
import { parseLabel, parseList, wholeNumber } from "../arguments.js";
import { exitCodes, type ExitCode } from "../exit-codes.js";
import { jsonLine } from "../output/json.js";
import { taskRecord } from "../output/task-record.js";
import { taskTable } from "../output/task-rows.js";
import { stateByWord } from "../output/task-words.js";
import { type ServerConnection, type ServerOptions, withServerOptions } from "../server-connection.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

const DEFAULT_LIMIT = 50;
const MOST_PER_PAGE = 1_000;
const MOST_LIMIT = 1_000_000;

interface ListOptions extends ServerOptions {
  readonly state?: readonly TaskState[];
  readonly name?: readonly string[];
  readonly queue?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly limit?: number;
  readonly all?: boolean;
  readonly oldestFirst?: boolean;
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addList(program: Command, context: VerbContext): void {
  const command = program
    .command("list")
    .summary("list tasks")
    .description("List tasks, newest first. All filters must hold; of repeated ones any may match (of labels all).")
    .option("-s, --state <state>", "pending, running, suspended, completed, failed, cancelled; repeat it or use commas", parseStates)
    .option("-n, --name <name>", "task name; repeat it or use commas", parseList)
    .option("-q, --queue <queue>", "queue; repeat it or use commas", parseList)
    .option("-l, --label <key=value>", "label; may be repeated", parseLabel)
    .option("--limit <count>", `how many at most; default ${DEFAULT_LIMIT}`, wholeNumber(1, MOST_LIMIT))
    .option("--all", "all pages")
    .option("--oldest-first", "oldest first")
    .addOption(outputOption("json: one object a line, without payloads"))
    .action((options: ListOptions) => withServer(context, options, (server) => list(server, options, context)));
  withServerOptions(command);
  withExamples(
    command,
    "leasehold list --state failed,cancelled --name report.render",
    "leasehold list --label tenant=acme --all -o json | jq -r .taskId",
  );
}

async function list(server: ServerConnection, options: ListOptions, { screen }: VerbContext): Promise<ExitCode> {
  const filter = {
    states: [...(options.state ?? [])],
    names: [...(options.name ?? [])],
    queues: [...(options.queue ?? [])],
    labels: { ...options.label },
  };
  const order = options.oldestFirst === true ? TaskOrder.OLDEST_FIRST : TaskOrder.NEWEST_FIRST;
  let left = options.all === true ? Infinity : (options.limit ?? DEFAULT_LIMIT);
  let pageToken = "";
  for (let first = true; ; first = false) {
    const request = ListTasksRequest.create({ filter, order, pageSize: Math.min(left, MOST_PER_PAGE), pageToken });
    const { tasks, nextPageToken } = await server.call(TaskServiceService.listTasks, request);
    if (options.output === "json") for (const task of tasks) screen.print(jsonLine(taskRecord(task)));
    else for (const line of taskTable(tasks, screen).slice(first ? 0 : 1)) screen.print(line);
    left -= tasks.length;
    pageToken = nextPageToken;
    if (pageToken === "" || left <= 0) break;
  }
  if (pageToken !== "" && options.output === "text") screen.remark("There are more; see them with --all or a higher --limit.");
  return exitCodes.ok;
}

function parseStates(text: string, before: readonly TaskState[] = []): readonly TaskState[] {
  const states = parseList(text).map((word) => {
    const state = stateByWord[word.toLowerCase()];
    if (state === undefined) throw new InvalidArgumentError(`It must be one of ${Object.keys(stateByWord).join(", ")}.`);
    return state;
  });
  return [...before, ...states];
}
