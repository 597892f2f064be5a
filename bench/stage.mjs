// What do all systems share? One durable Postgres in /var/tmp, and a list of things to stop in reverse, also after Ctrl-C.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import path from "node:path";
import { connect } from "./database.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");

/** Starts what all systems share. Its `stop` ends everything that was pushed to `scenes` too. */
export async function openEnvironment(options) {
  if (!existsSync(path.join(ROOT, "cli/dist/main.js"))) throw new Error("nothing is built: run npm run build first");
  const { startEmbeddedPostgres } = await import("../cli/dist/embedded-postgres/start.js");
  const folder = mkdtempSync("/var/tmp/leasehold-bench-");
  // Postgres runs under an account of its own, which must come through.
  chmodSync(folder, 0o755);
  // Durable: every acknowledged commit is on the disk. All systems' pools together need more connections than Postgres allows by default.
  const settings = { max_connections: "300", ...(options.profile ? { shared_preload_libraries: "pg_stat_statements" } : {}) };
  const postgres = await startEmbeddedPostgres({ dataDir: path.join(folder, "postgres"), settings });
  const admin = await connect(postgres.url);
  if (options.profile) await admin.query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
  const profileDir = options.profile ? path.join(options.out, "profiles") : undefined;
  if (profileDir !== undefined) mkdirSync(profileDir, { recursive: true });
  const scenes = [];
  const environment = { postgres, admin, folder, scenes, profileDir, turn: 0, interrupted: false };
  let stopping;
  const stop = () =>
    (stopping ??= (async () => {
      for (const scene of scenes.splice(0).reverse()) await scene.stop().catch((error) => console.error(error.message));
      await admin.end();
      await postgres.stop();
      rmSync(folder, { recursive: true, force: true });
    })());
  const interrupt = () => {
    environment.interrupted = true;
    void stop().finally(() => process.exit(130));
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, interrupt);
  return Object.assign(environment, { stop });
}

/** Starts a system and keeps it among what `stop` ends. */
export async function startScene(environment, system) {
  environment.turn++;
  const scene = await system.start(environment);
  environment.scenes.push(scene);
  return scene;
}

/** Ends the scenes that run, before the next round. */
export async function stopScenes({ scenes }) {
  for (const scene of scenes.splice(0)) await scene.stop();
}

/** Installs what the peers need, as far as this machine lets it. */
export function install() {
  spawnSync("npm", ["ci", "--prefix", import.meta.dirname], { cwd: ROOT, stdio: "inherit" });
  if (spawnSync("redis-server", ["--version"]).status !== 0) {
    spawnSync("apt-get", ["install", "-y", "--no-install-recommends", "redis-server"], { stdio: "inherit" });
  }
}
