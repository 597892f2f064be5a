// A process that owns an embedded Postgres on the folder of its first argument, for tests that end such processes in every way.
import { EmbeddedPostgresError, startEmbeddedPostgres, type EmbeddedPostgres } from "../../cli/src/embedded-postgres/start.js";
import { onStopRequested } from "../../cli/src/stop-signals.js";

let postgres: EmbeddedPostgres | undefined;
const signal = onStopRequested(async () => {
  await postgres?.stop();
});
try {
  postgres = await startEmbeddedPostgres({ dataDir: process.argv[2] ?? "", signal });
  process.stdout.write(`ready ${String(postgres.pid)} ${postgres.socketDir}\n`);
} catch (error) {
  if (!signal.aborted) process.stderr.write(`${error instanceof EmbeddedPostgresError ? "refused" : "crashed"}: ${String(error)}\n`);
  process.exitCode = 1;
}
