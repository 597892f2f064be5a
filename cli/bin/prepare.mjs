// What must be there before the built command can run? The right Node, the packages of the lockfile, a build of the present sources.
// Plain JavaScript on Node alone, because nothing else is there yet. When all is there it writes nothing and returns within milliseconds.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const lowestNode = [20, 19];

const lockPollMs = 100;
const lockRefreshMs = 5_000;
// A lock that nobody has refreshed for this long belongs to a process that is gone, whatever now has its pid.
const lockStaleMs = 60_000;
const lockNoticeMs = 1_000;

/** Thrown by `prepare`. `message` is one sentence for a person that says what to do. */
export class PrepareError extends Error {}

/**
 * Refuses a Node that is too old for the packages.
 * @param {string} version for example `20.19.0`.
 */
export function requireNode(version) {
  const [major, minor] = version.split(".").map(Number);
  if (major > lowestNode[0] || (major === lowestNode[0] && minor >= lowestNode[1])) return;
  throw new PrepareError(
    `Leasehold needs Node ${lowestNode.join(".")} or newer and this is ${version}; install a newer one from https://nodejs.org.`,
  );
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, "utf8") : undefined;
}

// On a read-only checkout a stamp cannot be written; the longer comparison is then made each time.
function writeStamp(path, text) {
  try {
    writeFileSync(path, text);
  } catch (error) {
    if (!["EROFS", "EACCES"].includes(error.code)) throw error;
  }
}

// --- packages

function lockfile(root) {
  const text = readIfThere(join(root, "package-lock.json"));
  if (text === undefined) throw new PrepareError(`package-lock.json is missing in ${root}; restore it from the repository.`);
  return text;
}

const lockStamp = (root) => join(root, "node_modules", ".leasehold-lockfile");

/** Whether what npm says it installed is what the lockfile lists; packages for other platforms may be missing. */
function fits(wanted, present) {
  return Object.entries(wanted.packages).every(([path, entry]) => {
    if (!path.includes("node_modules/") || entry.link || entry.optional || entry.devOptional) return true;
    return present.packages[path]?.version === entry.version;
  });
}

function isInstalled(root) {
  const text = lockfile(root);
  if (readIfThere(lockStamp(root)) === sha256(text)) return true;
  // Somebody ran npm by hand, so there is no stamp of ours; npm keeps a list of what it installed.
  const present = readIfThere(join(root, "node_modules", ".package-lock.json"));
  if (present === undefined || !fits(JSON.parse(text), JSON.parse(present))) return false;
  writeStamp(lockStamp(root), sha256(text));
  return true;
}

function npmCommand() {
  const running = process.env.npm_execpath ?? "";
  const beside = join(dirname(process.execPath), "..", "lib", "node_modules", "npm", "bin", "npm-cli.js");
  for (const script of [running, beside]) {
    if (/npm-cli\.c?js$/.test(script) && existsSync(script)) return [process.execPath, script];
  }
  return ["npm"];
}

async function install(root, log) {
  log("installing the packages of package-lock.json (only when it changes) …");
  const [program, ...first] = npmCommand();
  // Explicit, because NODE_ENV=production leaves out the compiler, and --omit=optional the embedded Postgres.
  const code = await run(program, [...first, "ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund"], root);
  if (code === "ENOENT") throw new PrepareError("npm is not installed; install it, then start again.");
  if (code !== 0) throw new PrepareError(`npm ci failed (${code}); its reason is above. It needs the network or a filled cache once.`);
  writeStamp(lockStamp(root), sha256(lockfile(root)));
}

// --- build

const buildStamp = (root) => join(root, "cli", "dist", ".built");

function workspaces(root) {
  return JSON.parse(readFileSync(join(root, "package.json"), "utf8")).workspaces;
}

function* filesBelow(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else yield path;
  }
}

/** A string that changes when any source or build setting is added, removed or written. Looks at names, sizes and times, not contents. */
function fingerprint(root) {
  const settings = (folder) =>
    readdirSync(folder)
      .filter((name) => /^(package|package-lock|tsconfig.*)\.json$/.test(name))
      .map((name) => join(folder, name));
  const sources = (folder) => (existsSync(join(folder, "src")) ? [...filesBelow(join(folder, "src"))] : []);
  const folders = workspaces(root).map((name) => join(root, name));
  const files = [...settings(root), ...folders.flatMap((folder) => [...settings(folder), ...sources(folder)])];
  const lines = files.sort().map((path) => {
    const { size, mtimeMs } = statSync(path);
    return `${path.slice(root.length)} ${size} ${mtimeMs}`;
  });
  return sha256(lines.join("\n"));
}

function isBuilt(root) {
  const outputs = workspaces(root).map((name) => join(root, name, "dist", ".tsbuildinfo"));
  return outputs.every((path) => existsSync(path)) && readIfThere(buildStamp(root)) === fingerprint(root);
}

async function build(root, log) {
  log("building …");
  // Taken before: what is edited during the build is built the next time.
  const before = fingerprint(root);
  const code = await run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-b"], root);
  if (code !== 0) throw new PrepareError(`The build failed (${code}); the compiler's reasons are above.`);
  mkdirSync(dirname(buildStamp(root)), { recursive: true });
  writeStamp(buildStamp(root), before);
}

// --- one at a time

/** Runs a program with its output on stderr; it is ended when this process exits. @returns exit code, signal name, or system error code. */
function run(program, args, cwd) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", 2, 2] });
    const end = () => child.kill("SIGTERM");
    process.once("exit", end);
    const settle = (outcome) => {
      process.removeListener("exit", end);
      resolve(outcome);
    };
    child.once("error", (error) => settle(error.code));
    child.once("exit", (code, signal) => settle(code ?? signal));
  });
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** The pid of the process that holds the lock, or undefined when it is free or its holder is gone. */
function holderOf(path) {
  try {
    const fresh = Date.now() - statSync(path).mtimeMs < lockStaleMs;
    const pid = Number(readFileSync(path, "utf8"));
    // An empty file has just been made and is about to be written.
    return fresh && (pid === 0 || isAlive(pid)) ? pid : undefined;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

function tryLock(path) {
  try {
    writeFileSync(path, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  if (holderOf(path) !== undefined) return false;
  // Renamed first: of several that find it stale only one gets hold of it. One that has just become fresh is put back.
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (holderOf(aside) !== undefined) renameSync(aside, path);
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  rmSync(aside, { force: true });
  return false;
}

async function takeLock(root, log) {
  const path = join(root, ".leasehold", "prepare.lock");
  // The Postgres user of a start as root must be able to pass, whatever the umask.
  if (mkdirSync(dirname(path), { recursive: true }) !== undefined) chmodSync(dirname(path), 0o755);
  const startedAtMs = Date.now();
  for (let told = false; !tryLock(path);) {
    if (!told && Date.now() - startedAtMs > lockNoticeMs) {
      log(`waiting for another start (pid ${holderOf(path)}) to finish installing and building …`);
      told = true;
    }
    await new Promise((resolve) => setTimeout(resolve, lockPollMs));
  }
  const release = () => {
    clearInterval(refresh);
    process.removeListener("exit", release);
    rmSync(path, { force: true });
  };
  const refresh = setInterval(() => existsSync(path) && utimesSync(path, new Date(), new Date()), lockRefreshMs);
  process.once("exit", release);
  return release;
}

async function lockUnlessReadOnly(root, log) {
  try {
    return await takeLock(root, log);
  } catch (error) {
    if (["EROFS", "EACCES"].includes(error.code)) return () => undefined;
    throw error;
  }
}

/**
 * Installs and builds what is missing or out of date. Several processes may call it at once: one works, the others wait and find it done.
 * @param {{ root?: string, log?: (line: string) => void }} [options] `root`: the repository, default the one this file is in; `log`: receives a
 *   line before each thing that takes a while, default stderr.
 * @throws PrepareError with one sentence that says what to do.
 */
export async function prepare({ root = repository, log = (line) => process.stderr.write(`leasehold: ${line}\n`) } = {}) {
  requireNode(process.versions.node);
  if (isInstalled(root) && isBuilt(root)) return;
  const release = await lockUnlessReadOnly(root, log);
  try {
    // Asked again under the lock: whoever held it before has probably done it.
    if (!isInstalled(root)) await install(root, log);
    if (!isBuilt(root)) await build(root, log);
  } finally {
    release();
  }
}
