// How are the processes of the benchmark started, asked and ended? By questions and answers over the channel that Node gives a child.
import { fork, spawn } from "node:child_process";
import path from "node:path";

const ROOT = path.resolve(import.meta.dirname, "..");
const END_PATIENCE_MS = 10_000;
const START_PATIENCE_MS = 60_000;

/** A process of bench/processes. It ends with this one, however this one ends. */
export class Child {
  #child;
  #asked = new Map();
  #count = 0;
  #ended;

  /** Starts the file below bench/processes. */
  constructor(file, args = []) {
    this.#child = fork(path.join(import.meta.dirname, "processes", file), args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child.on("message", ({ id, value, error }) => {
      const { resolve, reject } = this.#asked.get(id);
      this.#asked.delete(id);
      if (error === undefined) resolve(value);
      else reject(new Error(`${file}: ${error}`));
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        for (const { reject } of this.#asked.values()) reject(new Error(`${file} ended (${code ?? signal})`));
        resolve();
      });
    });
  }

  /** Asks and waits for the answer; rejects with the child's error, or when it ends. */
  ask(verb, body = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#count++;
      this.#asked.set(id, { resolve, reject });
      this.#child.send({ id, verb, body }, (error) => {
        if (error !== null) reject(error);
      });
    });
  }

  /** Ends it. */
  async stop() {
    if (this.#child.connected) this.#child.disconnect();
    const limit = setTimeout(() => this.#child.kill("SIGKILL"), END_PATIENCE_MS);
    await this.#ended;
    clearTimeout(limit);
  }
}

/** Starts `leasehold serve` on a free port and waits until it is ready. `profileDir`: where it leaves a CPU profile when it stops. */
export async function startServer(databaseUrl, profileDir) {
  const profile = profileDir === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`];
  const args = ["--import", path.join(import.meta.dirname, "processes/end-with-parent.mjs"), ...profile, "cli/bin/leasehold.js", "serve"];
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("LEASEHOLD_"));
  const env = { ...Object.fromEntries(own), LEASEHOLD_DATABASE_URL: databaseUrl, LEASEHOLD_LISTEN: "127.0.0.1:0" };
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...env, LEASEHOLD_LOG_LEVEL: "warn" },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  // That it was asked to stop is no news here.
  child.stderr.setEncoding("utf8").on("data", (text) => process.stderr.write(text.replaceAll(/^stopping .*\n/gm, "")));
  const [, address] = await said(child, /is ready on (\S+)/);
  return { pid: child.pid, address, stop: () => ended(child) };
}

/** Starts any program; `stop` ends it by SIGTERM. */
export async function startProgram(program, args, ready) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  await said(child, ready);
  return { pid: child.pid, stop: () => ended(child) };
}

function said(child, pattern) {
  return new Promise((resolve, reject) => {
    let text = "";
    const fail = () => reject(new Error(`${child.spawnfile} did not become ready; it said:\n${text}`));
    const limit = setTimeout(fail, START_PATIENCE_MS);
    child.stdout.setEncoding("utf8").on("data", (part) => {
      // Nobody needs what it says later.
      if (text.length < 10_000) text += part;
      const match = pattern.exec(text);
      if (match === null) return;
      clearTimeout(limit);
      resolve(match);
    });
    child.once("error", reject);
    child.once("exit", fail);
  });
}

async function ended(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const limit = setTimeout(() => child.kill("SIGKILL"), END_PATIENCE_MS);
  await gone;
  clearTimeout(limit);
}
