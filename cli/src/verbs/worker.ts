// `leasehold worker conform`: does a worker program, in whatever language, keep the contract?
import { writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { parseDurationMs, wholeNumber } from "../arguments.js";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { type VerbContext, withExamples } from "../verb-context.js";

interface ConformOptions {
  readonly only?: string;
  readonly list?: boolean;
  readonly tap?: string;
  readonly junit?: string;
  readonly timeout: number;
  readonly jobs: number;
}

/** Several at once: scenarios mostly wait. */
const JOBS_PER_CORE = 4;
const MOST_JOBS = 100;

/** Adds the verb. */
export function addWorker(program: Command, context: VerbContext): void {
  const worker = program.command("worker").summary("test a worker program").description("Test a worker program.");
  const conform = worker
    .command("conform")
    .summary("play the scenarios of the contract with a worker program")
    .description(
      "Start the program once for each scenario, with LEASEHOLD_ADDRESS naming a scripted server, and tell what it did otherwise than the contract says. docs/workers.md names the tasks that it handles.",
    )
    .argument("[program...]", "the program and its arguments, after --")
    .option("--only <pattern>", "only scenarios whose name contains this, or matches it as a regular expression")
    .option("--list", "list the scenarios and run none")
    .option("--tap <file>", "write results as TAP")
    .option("--junit <file>", "write results as JUnit XML")
    .option("--timeout <duration>", "longest time of one scenario", parseDurationMs, 30_000)
    .option("--jobs <number>", "scenarios at once", wholeNumber(1, MOST_JOBS), JOBS_PER_CORE * availableParallelism())
    .action((command: string[], options: ConformOptions) => runConform(command, options, context));
  withExamples(
    conform,
    "leasehold worker conform -- python worker.py",
    "leasehold worker conform --only cancel --jobs 1 -- ./worker",
    "leasehold worker conform --tap results.tap --junit results.xml -- java -jar worker.jar",
  );
}

async function runConform(command: readonly string[], options: ConformOptions, { screen, end }: VerbContext): Promise<void> {
  const [{ readScenarios }, { runScenarios }, outputs, { endAllPrograms }] = await Promise.all([
    import("../conform/scenario.js"),
    import("../conform/run.js"),
    import("../conform/outputs.js"),
    import("../conform/program-under-test.js"),
  ]);
  const scenarios = (await readScenarios()).filter(({ name }) => fits(name, options.only));
  if (scenarios.length === 0)
    throw new CommandError(exitCodes.usage, `There is no scenario for --only ${options.only ?? ""}; --list shows all.`);
  if (options.list === true) {
    for (const { name, title } of scenarios) screen.print(`${name}: ${title}`);
    return;
  }
  if (command.length === 0)
    throw new CommandError(exitCodes.usage, "Which program? Say it after --, as in: leasehold worker conform -- python worker.py");
  // Programs have process groups of their own, which a Ctrl-C does not reach.
  process.once("exit", endAllPrograms);
  process.once("SIGINT", () => process.exit(exitCodes.interrupted));
  process.once("SIGTERM", () => process.exit(exitCodes.terminated));
  const { jobs, timeout: limitMs } = options;
  const results = await runScenarios(scenarios, { command, jobs, limitMs, done: (result) => outputs.printResult(screen, result) });
  if (options.tap !== undefined) await writeResults(options.tap, outputs.tapText(results));
  if (options.junit !== undefined) await writeResults(options.junit, outputs.junitText(results));
  screen.print("");
  screen.print(outputs.scoreLine(results));
  end(results.every(({ failure }) => failure === undefined) ? exitCodes.ok : exitCodes.no);
}

function fits(name: string, pattern: string | undefined): boolean {
  if (pattern === undefined || name.includes(pattern)) return true;
  try {
    return new RegExp(pattern).test(name);
  } catch {
    throw new CommandError(exitCodes.usage, `--only ${pattern} is no regular expression, and no scenario's name contains it.`);
  }
}

async function writeResults(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw new CommandError(exitCodes.usage, `Cannot write ${file}: ${error instanceof Error ? error.message : String(error)}.`);
  }
}
