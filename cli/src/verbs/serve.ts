// `leasehold serve`: how is a server run? Settings from the environment, migration, start, and a stop in order at the first signal.
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { serverEnvironment } from "../environment.js";
import type { VerbContext } from "../verb-context.js";
import { withExamples } from "../verb-context.js";

// How long a start that is being given up may take to notice; a migration may wait for another one's lock.
const START_PATIENCE_MS = 3_000;

/** Adds the verb. */
export function addServe(program: Command, context: VerbContext): void {
  const command = program
    .command("serve")
    .summary("run a server")
    .description("Run a server. Its settings are the LEASEHOLD_* variables of docs/configuration.md; it migrates its schema first.")
    .option("--listen <address>", "host:port, [IPv6]:port or unix:/path, instead of LEASEHOLD_LISTEN")
    .action(({ listen }: { listen?: string }) => serve(context, listen));
  withExamples(
    command,
    "LEASEHOLD_DATABASE_URL=postgresql://leasehold@db/leasehold leasehold serve",
    "leasehold serve --listen 127.0.0.1:0",
  );
}

async function serve({ env, screen }: VerbContext, listen: string | undefined): Promise<void> {
  // Loaded here: client verbs need neither the server nor Postgres' driver, and start in half the time without them.
  const [{ startServer }, { loadConfig }, { serverFailure }, { onStopRequested }] = await Promise.all([
    import("@leasehold/server/main"),
    import("@leasehold/server/config"),
    import("../server-failure.js"),
    import("../stop-signals.js"),
  ]);
  let starting: Promise<{ readonly address: string; stop(): Promise<void> }> | undefined;
  const signal = onStopRequested(
    async () => {
      const server = await Promise.race([starting?.catch(() => undefined), sleep(START_PATIENCE_MS)]);
      await server?.stop();
    },
    { log: (line) => screen.remark(line) },
  );
  try {
    const config = loadConfig({ ...serverEnvironment(env), ...(listen === undefined ? {} : { LEASEHOLD_LISTEN: listen }) });
    starting = startServer(config);
    const { address } = await starting;
    if (!signal.aborted) screen.print(`Leasehold is ready on ${address}`);
  } catch (error) {
    // A start that was given up ends as the stop says.
    if (!signal.aborted) throw serverFailure(error);
  }
}
