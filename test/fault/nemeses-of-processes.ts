// Which faults strike processes? Kills, freezes, restarts in turn, workers that die of a task or say nothing, and clocks that are wrong.
import { type Nemesis, signal } from "./nemesis.js";

const killWorkers: Nemesis = {
  name: "kill-workers",
  touches: ["workers"],
  run: async ({ arena, chance, pause }, note) => {
    const victims = arena.workers.filter(() => chance.oneIn(2));
    note(victims.map(({ name }) => name).join(", "));
    await Promise.all(victims.map((victim) => victim.kill()));
    await pause(chance.below(1_000));
    await Promise.all(victims.map((victim) => victim.start()));
  },
};

const killServers: Nemesis = {
  name: "kill-servers",
  touches: ["servers"],
  run: async ({ arena, chance, pause }, note) => {
    const victims = chance.oneIn(3) ? arena.servers : [chance.of(arena.servers)];
    note(victims.map(({ name }) => name).join(", "));
    await Promise.all(victims.map((victim) => victim.kill()));
    await pause(chance.below(2_000));
    await Promise.all(victims.map((victim) => victim.start()));
  },
};

const rollingRestart: Nemesis = {
  name: "rolling-restart",
  touches: ["servers"],
  run: async ({ arena, pause }, note) => {
    for (const server of arena.servers) {
      const code = await server.stop();
      note(`${server.name} ended with ${code}`);
      if (code !== 0) arena.complain(`${server.name} was asked to stop and ended with ${code}`);
      await server.start();
      await pause(1_000);
    }
  },
};

const freezeWorker: Nemesis = {
  name: "freeze-worker",
  touches: ["workers"],
  run: async ({ arena, chance, ttlMs, pause }, note) => {
    const victim = chance.of(arena.workers);
    note(victim.name);
    const pid = victim.pid();
    signal(pid, "SIGSTOP");
    try {
      await pause(ttlMs + 1_000 + chance.below(2_000));
    } finally {
      signal(pid, "SIGCONT");
    }
  },
};

const freezeServer: Nemesis = {
  name: "freeze-server",
  touches: ["servers"],
  run: async ({ arena, chance, ttlMs, pause }, note) => {
    const victim = chance.of(arena.servers);
    note(victim.name);
    const pid = victim.pid();
    signal(pid, "SIGSTOP");
    try {
      await pause(1_000 + chance.below(ttlMs + 2_000));
    } finally {
      signal(pid, "SIGCONT");
    }
  },
};

const poison: Nemesis = {
  name: "poison",
  touches: ["workers"],
  run: async ({ owners, chance, ttlMs, pause }, note) => {
    note("one task that kills its workers");
    await owners.submit("poison");
    await pause(ttlMs + chance.below(ttlMs));
  },
};

const deafWorker: Nemesis = {
  name: "deaf-worker",
  touches: ["intruders"],
  run: async ({ arena, chance, ttlMs, pause }, note) => {
    const seat = await arena.intruder(chance.oneIn(2) ? "mute" : "unread");
    note(seat.name);
    try {
      await pause(ttlMs + chance.below(ttlMs));
    } finally {
      await seat.kill();
    }
  },
};

const HOUR_MS = 3_600_000;

const clockSkew: Nemesis = {
  name: "clock-skew",
  touches: ["clocks"],
  run: async ({ arena, chance, pause }, note) => {
    const seats = [...arena.servers, ...arena.workers];
    const skews = [-HOUR_MS, -30_000, -2_000, 2_000, 30_000, HOUR_MS, 24 * HOUR_MS];
    const shifted = seats.filter(() => chance.oneIn(2)).map((seat) => ({ seat, ms: chance.of(skews) }));
    note(shifted.map(({ seat, ms }) => `${seat.name} by ${ms} ms`).join(", "));
    for (const { seat, ms } of shifted) seat.skew(ms);
    try {
      await pause(3_000 + chance.below(5_000));
    } finally {
      for (const { seat } of shifted) seat.skew(0);
    }
  },
};

/** All of them. */
export const PROCESS_NEMESES: readonly Nemesis[] = [
  ...[killWorkers, killServers, rollingRestart, freezeWorker, freezeServer],
  ...[poison, deafWorker, clockSkew],
];
