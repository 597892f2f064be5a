// Which faults strike the network? Bytes that vanish in one direction, answers that are cut off after their COMMIT, connections that are reset or slow,
// and very many workers that come back at once.
import type { TcpProxy } from "../support/tcp-proxy.js";
import { openCrowd } from "./crowd.js";
import type { Nemesis } from "./nemesis.js";

const DIRECTIONS = ["to-target", "to-client"] as const;

/** Passes everything on again, over new connections: TCP never goes on behind bytes that were lost. */
function heal(proxy: TcpProxy): void {
  proxy.reset();
  proxy.heal();
}

const blackHole: Nemesis = {
  name: "black-hole",
  touches: ["network"],
  run: async ({ arena, chance, pause }, note) => {
    const server = chance.of(arena.servers);
    const [place, proxy] = chance.of([["gRPC", server.grpc] as const, ["its database", server.database.proxy] as const]);
    const direction = chance.of(DIRECTIONS);
    note(`${server.name}, ${place}, ${direction}`);
    proxy.blackHole(direction);
    try {
      await pause(2_000 + chance.below(6_000));
    } finally {
      heal(proxy);
    }
  },
};

const commitCut: Nemesis = {
  name: "commit-cut",
  touches: ["network"],
  run: async ({ arena, chance, pause }, note) => {
    note("what was committed is not answered");
    for (let left = 6; left > 0; left--) {
      const { proxy } = chance.of(arena.servers).database;
      proxy.blackHole("to-client");
      await pause(50 + chance.below(400));
      heal(proxy);
      await pause(500 + chance.below(500));
    }
  },
};

const cutAnswers: Nemesis = {
  name: "cut",
  touches: ["network"],
  run: async ({ arena, chance, pause }, note) => {
    note("connections end in the middle of what they say");
    for (let left = 6; left > 0; left--) {
      const server = chance.of(arena.servers);
      const proxy = chance.oneIn(2) ? server.grpc : server.database.proxy;
      proxy.cutAfter(chance.of(DIRECTIONS), 1 + chance.below(3_000));
      await pause(300 + chance.below(700));
    }
  },
};

const slow: Nemesis = {
  name: "slow",
  touches: ["network"],
  run: async ({ arena, chance, pause }, note) => {
    const server = chance.of(arena.servers);
    const proxy = chance.oneIn(2) ? server.grpc : server.database.proxy;
    const delayMs = 50 + chance.below(700);
    note(`${server.name}, ${proxy === server.grpc ? "gRPC" : "its database"}, ${delayMs} ms`);
    for (const direction of DIRECTIONS) proxy.delay(direction, delayMs);
    try {
      await pause(3_000 + chance.below(3_000));
    } finally {
      heal(proxy);
    }
  },
};

const silentListen: Nemesis = {
  name: "silent-listen",
  touches: ["network"],
  run: async ({ arena, chance, pause }, note) => {
    const servers = arena.servers.filter(() => chance.oneIn(2));
    note(servers.map(({ name }) => name).join(", "));
    for (const { listen } of servers) for (const direction of DIRECTIONS) listen.proxy.blackHole(direction);
    try {
      await pause(4_000 + chance.below(6_000));
    } finally {
      for (const { listen } of servers) heal(listen.proxy);
    }
  },
};

const CROWD = 500;

const crowd: Nemesis = {
  name: "crowd",
  touches: ["network", "servers"],
  run: async ({ arena, pause }, note) => {
    note(`${CROWD} workers`);
    const workers = openCrowd(
      arena.servers.map(({ address }) => address),
      CROWD,
    );
    try {
      const first = await workers.welcomed(60_000);
      await pause(1_000);
      for (const { grpc } of arena.servers) grpc.reset();
      const again = await workers.welcomed(60_000);
      note(`${first} welcomed, then ${again} again`);
      if (first < CROWD || again < CROWD) arena.complain(`of ${CROWD} workers at once ${first} were welcomed, then ${again}`);
    } finally {
      workers.close();
    }
  },
};

/** All of them. */
export const NETWORK_NEMESES: readonly Nemesis[] = [blackHole, commitCut, cutAnswers, slow, silentListen, crowd];
