// What is the whole command? The verbs in the order that one learns them, the help, and what becomes of a verb that ends or fails.
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { exitCodes, type ExitCode } from "./exit-codes.js";
import { failureText } from "./failure-text.js";
import type { VerbContext } from "./verb-context.js";
import { addCancel } from "./verbs/cancel.js";
import { addDemo } from "./verbs/demo.js";
import { addDev } from "./verbs/dev.js";
import { addGet } from "./verbs/get.js";
import { addList } from "./verbs/list.js";
import { addMigrate } from "./verbs/migrate.js";
import { addProceed } from "./verbs/proceed.js";
import { addServe } from "./verbs/serve.js";
import { addSubmit } from "./verbs/submit.js";
import { addWatch } from "./verbs/watch.js";
import { addWorker } from "./verbs/worker.js";

const AFTER = `
A first walk, with \`leasehold dev\` running in another terminal:
  leasehold submit demo.count --metadata '{"to":10}' --watch
  leasehold submit demo.approval --metadata '{"question":"Ship it?"}'
  leasehold list
  leasehold proceed ID --patch '{"decision":"yes"}'
  leasehold get ID

Exit codes:
  0 done   1 the task failed, or the answer is no   2 not valid   3 no such task   4 refused by the state of things
  5 not reachable, overloaded or too late: try again   6 not allowed   70 a bug   130 Ctrl-C   143 SIGTERM

\`leasehold VERB --help\` says more about each. The whole manual is docs/cli.md.`;

/** Runs a command line. @returns the exit code; after \`serve\` and \`dev\` the process goes on until it is asked to stop. */
export async function runCommandLine(
  args: readonly string[],
  surroundings: Pick<VerbContext, "screen" | "env" | "stdin">,
): Promise<ExitCode> {
  let exitCode: ExitCode = exitCodes.ok;
  let address = "127.0.0.1:7410";
  const context: VerbContext = {
    ...surroundings,
    end: (code) => (exitCode = code),
    talksTo: (server) => (address = server),
  };
  try {
    await createProgram(context).parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    // Commander has said it already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    const failure = failureText(error, address);
    const [first = "", ...rest] = failure.lines;
    for (const line of [`leasehold: ${first}`, ...rest]) surroundings.screen.remark(line);
    return failure.exitCode;
  }
}

/** The command with all its verbs. */
function createProgram(context: VerbContext): Command {
  const { screen } = context;
  const write = (to: (line: string) => void) => (text: string) => to(text.replace(/\n$/, ""));
  const program = new Command("leasehold")
    .description("Durable background tasks over gRPC, on nothing but Postgres.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [verb]", "print the help of a verb")
    .configureOutput({
      writeOut: write(screen.print),
      writeErr: write(screen.remark),
      outputError: (text, out) => out(text.replace(/^error: /, "leasehold: ")),
    })
    .exitOverride()
    .showHelpAfterError("(`leasehold help`, and the verb, says what is possible)")
    .addHelpText("after", AFTER);
  program.commandsGroup("Try it:");
  addDev(program, context);
  addDemo(program, context);
  program.commandsGroup("Tasks:");
  addSubmit(program, context);
  addGet(program, context);
  addList(program, context);
  addWatch(program, context);
  addProceed(program, context);
  addCancel(program, context);
  program.commandsGroup("Workers:");
  addWorker(program, context);
  program.commandsGroup("Server:");
  addServe(program, context);
  addMigrate(program, context);
  return program;
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  return manifest.version;
}
