// `leasehold watch`: what happens to tasks from now on, until they are finished?
import type { Command } from "commander";
import { type ServerOptions, withServerOptions } from "../server-connection.js";
import { showTasks } from "../show-tasks.js";
import { type OutputForm, outputOption, type VerbContext, withExamples, withServer } from "../verb-context.js";

interface WatchOptions extends ServerOptions {
  readonly output: OutputForm;
}

/** Adds the verb. */
export function addWatch(program: Command, context: VerbContext): void {
  const command = program
    .command("watch")
    .summary("show each change of tasks until they are finished")
    .description(
      "Show each change of tasks until they are finished. Exit code 0 only if all completed. Ctrl-C stops watching, not the tasks.",
    )
    .argument("<id...>", "ids of up to 1,000 tasks")
    .addOption(outputOption("json: a line for each change, and the whole task at the end"))
    .action((ids: string[], options: WatchOptions) =>
      withServer(context, options, (server) =>
        showTasks(server, [...new Set(ids.map((id) => id.toLowerCase()))], options.output, context.screen),
      ),
    );
  withServerOptions(command);
  withExamples(command, "leasehold watch 0197d0c2-…", "leasehold list --state running -o json | jq -r .taskId | xargs leasehold watch");
}
