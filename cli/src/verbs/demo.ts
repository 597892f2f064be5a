// `leasehold demo`: what is the point of Leasehold, in less than a minute? Passes on to demo/ and ends with 0 only if all of it was true.
import type { Command } from "commander";
import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";
import { type VerbContext, withExamples } from "../verb-context.js";

/** Adds the verb. */
export function addDemo(program: Command, context: VerbContext): void {
  const command = program
    .command("demo")
    .summary("the point in half a minute: a worker is killed, nothing is lost")
    .description("Show the point in half a minute: a worker is killed half way and nothing is lost. Leaves nothing behind.")
    .action(() => demo(context));
  withExamples(command, "leasehold demo");
}

async function demo({ screen, end }: VerbContext): Promise<void> {
  const [{ runDemo }, { EmbeddedPostgresError }] = await Promise.all([
    import("../demo/run-demo.js"),
    import("../embedded-postgres/start.js"),
  ]);
  try {
    end((await runDemo(screen)) ? exitCodes.ok : exitCodes.no);
  } catch (error) {
    if (error instanceof EmbeddedPostgresError) throw new CommandError(exitCodes.refused, error.message);
    throw error;
  }
}
