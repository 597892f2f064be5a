// Which faults strike Postgres itself? Crashes, long absences, frozen backends, no connection left, locks that somebody holds.
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { type Arena, MAX_CONNECTIONS } from "./arena.js";
import { type Nemesis, signal } from "./nemesis.js";

const killPostgres: Nemesis = {
  name: "kill-postgres",
  touches: ["postgres"],
  run: async ({ arena, chance, pause: wait }, note) => {
    const awayMs = chance.below(2_500);
    note(`for ${awayMs} ms`);
    await arena.postgres.kill();
    await wait(awayMs);
    await arena.postgres.start();
  },
};

/** Lines that a server may log in an outage beside one a second: its change of state, and what was under way. */
const LINES_ALLOWED = 20;

const outage: Nemesis = {
  name: "database-outage",
  touches: ["postgres", "servers"],
  run: async ({ arena, outageMs, pause: wait }, note) => {
    note(`for ${outageMs} ms`);
    const before = arena.servers.map((server) => server.logLines());
    await arena.postgres.kill();
    await wait(outageMs);
    arena.servers.forEach((server, index) => {
      const lines = server.logLines() - (before[index] ?? 0);
      if (lines > outageMs / 1000 + LINES_ALLOWED) arena.complain(`${server.name} logged ${lines} lines in an outage of ${outageMs} ms`);
    });
    await arena.postgres.start();
  },
};

const freezeBackend: Nemesis = {
  name: "freeze-backend",
  touches: ["postgres"],
  run: async ({ arena, chance, pause: wait }, note) => {
    const backends = await arena.postgres.rows<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'leasehold%'",
    );
    const pids = backends.map(({ pid }) => pid).filter(() => chance.oneIn(3));
    note(`${pids.length} backends`);
    for (const pid of pids) signal(pid, "SIGSTOP");
    try {
      await wait(1_000 + chance.below(4_000));
    } finally {
      for (const pid of pids) signal(pid, "SIGCONT");
    }
  },
};

const freezePostmaster: Nemesis = {
  name: "freeze-postmaster",
  touches: ["postgres"],
  run: async ({ arena, chance, pause: wait }, note) => {
    const pid = arena.postgres.pid();
    note("no new connections");
    signal(pid, "SIGSTOP");
    try {
      await wait(2_000 + chance.below(4_000));
    } finally {
      signal(pid, "SIGCONT");
    }
  },
};

/** Opens connections until Postgres refuses; answers what closes them. */
async function exhaust(arena: Arena): Promise<{ count: number; release: () => Promise<unknown> }> {
  const clients: pg.Client[] = [];
  for (let left = MAX_CONNECTIONS; left > 0; left--) {
    const client = new pg.Client(arena.postgres.url());
    client.on("error", () => undefined);
    try {
      await client.connect();
      clients.push(client);
    } catch {
      break;
    }
  }
  return { count: clients.length, release: () => Promise.allSettled(clients.map((client) => client.end())) };
}

const noConnections: Nemesis = {
  name: "no-connections",
  touches: ["postgres"],
  run: async ({ arena, chance, pause: wait }, note) => {
    const { count, release } = await exhaust(arena);
    note(`${count} idle ones`);
    try {
      // Servers that would go on with what they have must open new ones as well.
      if (chance.oneIn(2)) for (const { database } of arena.servers) database.proxy.reset();
      await wait(2_000 + chance.below(3_000));
    } finally {
      await release();
    }
  },
};

const LOCKS = [
  "LOCK TABLE live_tasks IN ACCESS EXCLUSIVE MODE",
  "LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE",
  "SELECT 1 FROM live_tasks WHERE random() < 0.5 FOR UPDATE",
  "SELECT 1 FROM sessions FOR UPDATE",
  "LOCK TABLE task_events IN SHARE MODE",
];

const lockStorm: Nemesis = {
  name: "lock-storm",
  touches: ["postgres"],
  run: async ({ arena, chance, pause: wait }, note) => {
    const lock = chance.of(LOCKS);
    note(lock);
    const client = new pg.Client({ connectionString: arena.postgres.url(), options: "-c search_path=leasehold" });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.query("SET lock_timeout = '5s'");
      await client.query("BEGIN");
      await client.query(lock);
      await wait(1_000 + chance.below(5_000));
      await client.query("ROLLBACK");
    } catch (error) {
      // The storm was the weaker one.
      note(`ended early: ${String(error)}`);
      await pause(100);
    } finally {
      await client.end().catch(() => undefined);
    }
  },
};

/** All of them. */
export const POSTGRES_NEMESES: readonly Nemesis[] = [...[killPostgres, outage, freezeBackend, freezePostmaster, noConnections, lockStorm]];
