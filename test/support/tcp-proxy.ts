// How does a test break a connection in the way it wants? A TCP proxy in this process that passes bytes on until it is told to delay them, to
// swallow them without a word, to cut the connection after some of them, or to reset it.
import { createConnection, createServer, type NetConnectOpts, type Socket } from "node:net";

/** Which way bytes go: from whoever connected to the target, or back. */
export type Direction = "to-target" | "to-client";

/** A running proxy. Every order counts for the connections that are open and for later ones, until `heal`. */
export interface TcpProxy {
  /** Where it listens, as host:port. */
  readonly address: string;
  readonly port: number;
  /** Connections that are open now. */
  readonly open: () => number;
  /** Bytes that came through in a direction, over all connections. */
  readonly passed: (direction: Direction) => number;
  /** Sends later connections elsewhere. */
  readonly aim: (target: NetConnectOpts) => void;
  /** Passes bytes of a direction on after this long, in order. */
  readonly delay: (direction: Direction, delayMs: number) => void;
  /** Drops bytes of a direction; the connection stays open. */
  readonly blackHole: (direction: Direction) => void;
  /** Nothing passes on the connections that are open now, not even their end, as if the host at the other side were gone; later ones are spared. */
  readonly freeze: () => void;
  /** Resets each open connection after this many further bytes of a direction came through it; later ones are spared. */
  readonly cutAfter: (direction: Direction, bytes: number) => void;
  /** Resets every open connection. */
  readonly reset: () => void;
  /** Passes everything on again. What was dropped is lost. */
  readonly heal: () => void;
  /** Resets what is open and stops listening. */
  readonly close: () => Promise<void>;
}

interface Pair {
  readonly ends: Readonly<Record<Direction, { readonly from: Socket; readonly to: Socket }>>;
  /** Bytes that may still come through. */
  readonly budget: Record<Direction, number>;
  frozen: boolean;
}

/** Starts a proxy in front of a target. */
export async function startTcpProxy(first: NetConnectOpts): Promise<TcpProxy> {
  let target = first;
  const pairs = new Set<Pair>();
  const passed: Record<Direction, number> = { "to-target": 0, "to-client": 0 };
  const delays: Record<Direction, number> = { "to-target": 0, "to-client": 0 };
  const swallowed = new Set<Direction>();

  const reset = (pair: Pair): void => {
    pairs.delete(pair);
    // A unix socket knows no reset.
    for (const { to } of Object.values(pair.ends))
      if (to.remoteFamily === undefined) to.destroy();
      else to.resetAndDestroy();
  };
  const pass = (pair: Pair, direction: Direction, bytes: Buffer): void => {
    const { to } = pair.ends[direction];
    const allowed = bytes.subarray(0, Math.min(bytes.length, pair.budget[direction]));
    pair.budget[direction] -= allowed.length;
    const send = (): void => {
      if (to.destroyed || pair.frozen || swallowed.has(direction)) return;
      passed[direction] += allowed.length;
      // The last allowed bytes arrive before the reset does.
      to.write(allowed, () => {
        if (pair.budget[direction] === 0) reset(pair);
      });
    };
    if (delays[direction] === 0) send();
    else setTimeout(send, delays[direction]);
  };

  const server = createServer((client) => {
    const remote = createConnection(target);
    const ends = { "to-target": { from: client, to: remote }, "to-client": { from: remote, to: client } };
    const pair: Pair = { ends, budget: { "to-target": Infinity, "to-client": Infinity }, frozen: false };
    pairs.add(pair);
    for (const direction of ["to-target", "to-client"] as const) {
      const { from, to } = ends[direction];
      from.on("data", (bytes) => pass(pair, direction, bytes));
      from.on("end", () => {
        if (!pair.frozen && !swallowed.has(direction)) to.end();
      });
      // A target that is not there looks to the client like one that resets.
      from.on("error", () => {
        if (!pair.frozen) reset(pair);
      });
      from.on("close", () => {
        if (pair.frozen) return;
        pairs.delete(pair);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;

  return {
    address: `127.0.0.1:${port}`,
    port,
    open: () => pairs.size,
    passed: (direction) => passed[direction],
    aim: (next) => {
      target = next;
    },
    delay: (direction, delayMs) => {
      delays[direction] = delayMs;
    },
    blackHole: (direction) => swallowed.add(direction),
    freeze: () => {
      for (const pair of pairs) pair.frozen = true;
    },
    cutAfter: (direction, bytes) => {
      for (const pair of pairs) pair.budget[direction] = bytes;
    },
    reset: () => {
      for (const pair of [...pairs]) reset(pair);
    },
    heal: () => {
      swallowed.clear();
      delays["to-target"] = delays["to-client"] = 0;
    },
    close: async () => {
      for (const pair of [...pairs]) reset(pair);
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
