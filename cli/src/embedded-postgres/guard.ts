// Who stops Postgres when this process cannot do it any more?
// A small shell between the two. It holds a pipe from this process; when the pipe closes, for whatever reason (kill -9 included), it stops
// Postgres cleanly and tidies the socket folder away. Asking for an ordinary stop is closing the pipe as well: there is one way down.
import { spawn, type ChildProcess } from "node:child_process";
import { runAs, type Account } from "./account.js";
import { cleanEnvironment } from "./cluster.js";

// Signals to the whole group (a closing terminal, a service stop) are for the owner; Postgres sets handlers of its own over the ignored ones.
// The request is repeated, because one that comes before Postgres has set its handlers is lost; a sleep for less than a second is no POSIX but
// works nearly everywhere. After $2 repetitions the fast shutdown becomes an immediate one, which the next start recovers from.
const script = `
trap '' HUP INT TERM
exec 3<&0 </dev/null
socket_dir=$1 limit=$2
shift 2
"$@" 3<&- &
postgres=$!
(
  while read -r _; do :; done <&3
  while [ "$limit" -gt 0 ] && kill -INT "$postgres"; do limit=$((limit - 1)); sleep 0.2 || sleep 1; done
  kill -QUIT "$postgres"
) 2>/dev/null &
watcher=$!
exec 3<&-
wait "$postgres"
status=$?
kill -KILL "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
rm -f "$socket_dir"/.s.PGSQL.* && rmdir "$socket_dir" 2>/dev/null
exit "$status"
`;

const fastShutdownRequests = 100;

/** What to run, as whom, and where its output goes. */
export interface GuardedProgram {
  readonly account: Account;
  /** The private folder of the unix socket, which belongs to the account; removed at the end. */
  readonly socketDir: string;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** An open file that receives what the program writes. */
  readonly logFile: number;
}

/** A running guard. */
export interface Guard {
  /** Settles when Postgres and the guard have ended, with the exit code; undefined for a signal. */
  readonly ended: Promise<number | undefined>;
  /** False once they have ended. */
  readonly running: () => boolean;
  /** Asks for a clean stop; `ended` tells when it is done. Asking again does nothing. */
  readonly release: () => void;
}

/** Starts the program under a guard, in a session of its own: a Ctrl-C on the terminal reaches neither. */
export function startGuarded(program: GuardedProgram): Guard {
  const child: ChildProcess = spawn(
    "/bin/sh",
    ["-c", script, "leasehold-guard", program.socketDir, String(fastShutdownRequests), ...program.command],
    {
      ...runAs(program.account),
      cwd: "/",
      env: cleanEnvironment(program.environment),
      detached: true,
      stdio: ["pipe", program.logFile, program.logFile],
    },
  );
  const ended = new Promise<number | undefined>((resolve) => {
    child.once("error", () => resolve(127));
    child.once("exit", (code) => resolve(code ?? undefined));
  });
  // The pipe breaks when the guard ends first; that is what `ended` says.
  child.stdin?.on("error", () => undefined);
  return { ended, running: () => child.exitCode === null && child.signalCode === null, release: () => void child.stdin?.end() };
}
