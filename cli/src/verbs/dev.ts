// `leasehold dev`: how does everything run on one machine, without any setting? Passes on to dev.ts and says in a sentence what is in its way.
import type { Command } from "commander";
import { CommandError } from "../command-error.js";
import { serverEnvironment } from "../environment.js";
import { exitCodes } from "../exit-codes.js";
import { type VerbContext, withExamples } from "../verb-context.js";

/** Adds the verb. */
export function addDev(program: Command, context: VerbContext): void {
  const command = program
    .command("dev")
    .summary("everything for development: Postgres, a server, a demo worker")
    .description("Run everything for development: a Postgres of its own in .leasehold/, a server, and a worker for three demo tasks.")
    .action(() => dev(context));
  withExamples(command, "leasehold dev", "LEASEHOLD_LISTEN=127.0.0.1:7411 leasehold dev");
}

async function dev({ env, screen }: VerbContext): Promise<void> {
  const [everything, { EmbeddedPostgresError }, { serverFailure }] = await Promise.all([
    import("../dev.js"),
    import("../embedded-postgres/start.js"),
    import("../server-failure.js"),
  ]);
  try {
    await everything.dev({ env: serverEnvironment(env), print: (line) => screen.print(line) });
  } catch (error) {
    if (error instanceof everything.DevError || error instanceof EmbeddedPostgresError)
      throw new CommandError(exitCodes.refused, error.message);
    throw serverFailure(error);
  }
}
