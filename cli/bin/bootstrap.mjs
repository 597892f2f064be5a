// How does a fresh clone come to run the command? Prepares (installs, builds), then runs the verb in this same process, which therefore gets
// the signals itself: node cli/bin/bootstrap.mjs <verb> [arguments].
import { readFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { prepare, PrepareError } from "./prepare.mjs";

const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 143 };
const parentPollMs = 500;

/** The pids of the parent and, where the parent is a shell that waits for this process, of the shell's parent. */
function wrapperPids() {
  try {
    const stat = readFileSync(`/proc/${process.ppid}/stat`, "utf8");
    const [, name, grandparent] = /\((.*)\) \S (\d+)/.exec(stat);
    return /^(sh|dash|ash|bash|zsh)$/.test(name) ? [process.ppid, Number(grandparent)] : [process.ppid];
  } catch {
    return [process.ppid];
  }
}

// While preparing there is nothing to drain: a signal ends it. Explicit, because PID 1 has no default handlers. As soon as the verb listens
// for itself these say nothing more.
for (const [signal, code] of Object.entries(exitCodes)) {
  process.on(signal, () => {
    if (process.listenerCount(signal) === 1) process.exit(code);
  });
}
// npm and the shell it uses die of a SIGHUP or SIGTERM without passing it on, so their death counts as one. Watched from the very first moment:
// later it could not be told from having been started without them.
if (process.env.npm_lifecycle_event !== undefined) {
  const wrappers = wrapperPids();
  const watch = setInterval(() => {
    if (!wrapperPids().some((pid, index) => pid !== wrappers[index])) return;
    clearInterval(watch);
    process.kill(process.pid, "SIGHUP");
  }, parentPollMs).unref();
}

try {
  await prepare();
} catch (error) {
  console.error(error instanceof PrepareError ? `leasehold: ${error.message}` : error);
  process.exit(1);
}

process.argv = [process.argv[0], fileURLToPath(new URL("leasehold.js", import.meta.url)), ...process.argv.slice(2)];
await import("./leasehold.js");
