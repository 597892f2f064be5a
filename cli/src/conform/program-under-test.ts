// How is the program that is tested started, asked to stop, and ended with all that it started?
import { type ChildProcess, spawn } from "node:child_process";

/** What of the program's output is kept. */
const MOST_OUTPUT = 20_000;

/** Programs that run, so that none outlives the kit. */
const running = new Set<ProgramUnderTest>();

/** Ends every program that still runs. */
export function endAllPrograms(): void {
  for (const program of running) program.kill();
}

/** One process of the worker that is tested. */
export class ProgramUnderTest {
  readonly #child: ChildProcess;
  #said = "";
  /** How it ended: an exit code, the name of a signal, or why it did not start. */
  readonly ended: Promise<number | string>;

  /** Starts it in a process group of its own with the address of the scripted server. */
  constructor(command: readonly string[], address: string) {
    const [program = "", ...args] = command;
    this.#child = spawn(program, args, {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, LEASEHOLD_ADDRESS: address },
    });
    running.add(this);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => (this.#said = (this.#said + text).slice(-MOST_OUTPUT)));
    }
    this.ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(`it did not start: ${error.message}`));
      this.#child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
    });
  }

  /** The end of what it wrote, standard output and error together. */
  get said(): string {
    return this.#said;
  }

  /** Asks it to stop, and what it started as well: a wrapper such as `npx` may not pass it on. */
  terminate(): void {
    this.#signal("SIGTERM");
  }

  /** Ends it at once, with its whole group. */
  kill(): void {
    running.delete(this);
    this.#signal("SIGKILL");
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // The group has ended already.
    }
  }
}
