// How does a test start one of our programs as a process of its own, wait for what it says, and end it?
import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** A started process and what it has said. */
export interface StartedProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Everything it wrote so far, stdout and stderr together. */
  readonly said: () => string;
  /** Waits until what it wrote matches; rejects with all it wrote when it ends before or 45 s have passed. */
  readonly waitFor: (pattern: RegExp) => Promise<RegExpExecArray>;
  /** How it ended: exit code, or the name of the signal. */
  readonly ended: Promise<number | string>;
}

const patienceMs = 45_000;

/** Starts any program with pipes for its output. */
export function startProcess(program: string, args: readonly string[], options: SpawnOptions = {}): StartedProcess {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let said = "";
  const listeners = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      said += part;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<number | string>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  const waitFor = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const fail = (reason: string): void => reject(new Error(`${reason} before it said ${String(pattern)}; it said:\n${said}`));
      const timer = setTimeout(() => fail(`${String(patienceMs)} ms passed`), patienceMs);
      const look = (): void => {
        const match = pattern.exec(said);
        if (match === null) return;
        clearTimeout(timer);
        listeners.delete(look);
        resolve(match);
      };
      listeners.add(look);
      look();
      void ended.then((how) => {
        look();
        clearTimeout(timer);
        fail(`it ended (${String(how)})`);
      });
    });
  return { child, pid: child.pid ?? 0, said: () => said, waitFor, ended };
}

/** The arguments that make `node` run a TypeScript file of test/support. */
export function typescriptArguments(file: string, ...args: readonly string[]): string[] {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  return ["--import", loader, join(import.meta.dirname, file), ...args];
}

/** The environment without any trace of npm, with changes. */
export function environment(changes: Readonly<Record<string, string | undefined>> = {}): Record<string, string | undefined> {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name));
  return { ...Object.fromEntries(own), ...changes };
}

/** Starts a TypeScript file of test/support under node. */
export function startTypescript(file: string, args: readonly string[] = [], options: SpawnOptions = {}): StartedProcess {
  return startProcess(process.execPath, typescriptArguments(file, ...args), { env: environment(), ...options });
}

/** Polls until the condition holds: for what no process tells us of. Rejects after 10 s. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited 10 s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
