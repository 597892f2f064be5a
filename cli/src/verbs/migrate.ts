// `leasehold migrate`: how is the schema brought to the version of this release, without starting a server?
import type { Command } from "commander";
import { serverEnvironment } from "../environment.js";
import { exitCodes } from "../exit-codes.js";
import { type VerbContext, withExamples } from "../verb-context.js";

/** Adds the verb. */
export function addMigrate(program: Command, context: VerbContext): void {
  const command = program
    .command("migrate")
    .summary("bring the schema to the version of this release")
    .description("Bring the schema to the version of this release. Several at once are safe: one works, the others wait.")
    .action(() => migrateSchema(context));
  withExamples(command, "LEASEHOLD_DATABASE_URL=postgresql://leasehold@db/leasehold leasehold migrate");
}

async function migrateSchema({ env, screen, end }: VerbContext): Promise<void> {
  const [{ loadConfig }, { migrate }, { serverFailure }] = await Promise.all([
    import("@leasehold/server/config"),
    import("@leasehold/server/migrate"),
    import("../server-failure.js"),
  ]);
  try {
    const { url, schemaName } = loadConfig(serverEnvironment(env)).database;
    const { applied, version } = await migrate(url, { schema: schemaName });
    for (const name of applied) screen.print(`applied ${name}`);
    screen.print(`Schema "${schemaName}" is at version ${version}${applied.length === 0 ? "; there was nothing to do" : ""}.`);
    end(exitCodes.ok);
  } catch (error) {
    throw serverFailure(error);
  }
}
