// When is this process asked to stop, and how does it answer?
// SIGTERM, SIGINT and SIGHUP, and below npm also the death of the wrapper, mean: stop in order, once. A second signal means: at once.
// What stopping consists of is the caller's business.
import { commandLine, parentOf } from "./embedded-postgres/processes.js";
import { exitCodes } from "./exit-codes.js";

/** How stop requests are noticed and told. */
export interface StopOptions {
  /** Receives one line for each thing worth telling a person. Default: nobody. */
  log?: (line: string) => void;
  /**
   * Whether the death of the parent counts as a request. Default: true when started by npm or npx, whose process and shell die of a SIGHUP or
   * SIGTERM without passing it on; false otherwise, because a daemon's parent leaves on purpose.
   */
  watchParent?: boolean;
}

// When a second signal cuts the stop short.
const hurriedExitCodes = { SIGINT: exitCodes.interrupted, SIGTERM: exitCodes.terminated } as const;

const parentPollMs = 500;
// On Ctrl-C the terminal signals everybody and npm passes its own on: one key press arrives twice within milliseconds.
const echoMs = 250;

function belowNpm(): boolean {
  return process.env["npm_lifecycle_event"] !== undefined || process.env["npm_execpath"] !== undefined;
}

/** Calls `onGone` once when the process that wraps this one ends. */
function watchWrapper(onGone: () => void): void {
  const parent = process.ppid;
  // A shell that does not replace itself by its command (dash) stands between npm and us, and stays when npm is gone.
  const shell = process.platform === "linux" && /^\S*\b(?:sh|dash|ash|bash|zsh)(?: |$)/.test(commandLine(parent));
  const grandparent = shell ? parentOf(parent) : undefined;
  const timer = setInterval(() => {
    if (process.ppid === parent && (grandparent === undefined || parentOf(parent) === grandparent)) return;
    clearInterval(timer);
    onGone();
  }, parentPollMs);
  timer.unref();
}

// Whoever reads our output may leave (`| head`), and a closed terminal gives EIO; neither is a reason to crash while tasks run.
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
    });
  }
}

/**
 * Runs `stop` at the first request to stop and then ends the process: with code 0, or 1 when `stop` rejects. A second SIGINT or SIGTERM ends it
 * at once (130, 143); a repeated SIGHUP does not, because a closing terminal sends several. Works as PID 1, which has no default handlers.
 * Call it before anything is started: requests during start-up are honoured as well. Once for a process.
 * @param stop stops whatever is running by then; called at most once.
 * @returns a signal that is aborted at the first request, to give up a start that is under way.
 */
export function onStopRequested(stop: () => Promise<void>, options: StopOptions = {}): AbortSignal {
  const { log = () => undefined, watchParent = belowNpm() } = options;
  const controller = new AbortController();
  let first: { readonly cause: string; readonly atMs: number } | undefined;

  const request = (cause: string): void => {
    if (first !== undefined) return;
    first = { cause, atMs: performance.now() };
    log(`stopping (${cause})`);
    controller.abort(new Error(`stop requested: ${cause}`));
    stop().then(
      () => process.exit(exitCodes.ok),
      (error: unknown) => {
        log(`stopping failed: ${error instanceof Error ? error.message : String(error)}`);
        process.exit(exitCodes.no);
      },
    );
  };
  const onSignal = (signal: "SIGINT" | "SIGTERM"): void => {
    if (first === undefined) {
      request(signal);
      return;
    }
    if (watchParent && first.cause === signal && performance.now() - first.atMs < echoMs) return;
    process.exit(hurriedExitCodes[signal]);
  };

  outliveReaders();
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  process.on("SIGHUP", request);
  if (watchParent) watchWrapper(() => request("the process that started this one has ended"));
  return controller.signal;
}
