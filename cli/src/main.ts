// What happens when somebody types `leasehold`? The arguments go to the program, its exit code to the system. Everything else is in program.ts.
import { createScreen } from "./output/screen.js";
import { exitCodes } from "./exit-codes.js";
import { runCommandLine } from "./program.js";

// Whoever reads our output may leave (`leasehold list | head` gives EPIPE, a closed terminal EIO): there is nobody left to answer.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
  // A server goes on without readers: stop-signals.ts listens as well then.
  if (process.stdout.listenerCount("error") === 1) process.exit(exitCodes.ok);
});

const screen = createScreen(process.stdout, process.stderr, process.env);
process.exitCode = await runCommandLine(process.argv.slice(2), { screen, env: process.env, stdin: process.stdin });
