// How is one lane of a server made slow while all others stay quick? By a proxy before Postgres that reads the name with which each connection
// introduces itself, and lets only so many bytes a second through to those that it shall slow down: a batch takes the longer the larger it is.
import { createConnection, createServer, type Socket } from "node:net";
import { placeOf } from "./database-proxy.js";

/** A database of which some connections are slow. */
export interface SlowLanes {
  /** The database as it is reached through the proxy. */
  readonly url: string;
  /** What a slow connection may send to Postgres; Infinity, as at the start: as much as it likes. */
  setBytesPerSecond(bytesPerSecond: number): void;
  /** Ends what is open and stops listening. */
  close(): Promise<void>;
}

/** The start-up packet is length, version, then names and values, each ended by a zero byte. */
const NAMES_FROM = 8;

/** Starts a proxy that slows the connections whose application_name fits. */
export async function startSlowLanes(url: string, slow: RegExp): Promise<SlowLanes> {
  const target = placeOf(url);
  const open = new Set<Socket>();
  let bytesPerSecond = Infinity;

  const server = createServer((client) => {
    const postgres = createConnection(target);
    let isSlow: boolean | null = null;
    // When what was sent so far is through.
    let freeMs = 0;
    client.on("data", (bytes) => {
      isSlow ??= slow.test(applicationName(bytes));
      if (!isSlow || (bytesPerSecond === Infinity && freeMs <= performance.now())) {
        postgres.write(bytes);
        return;
      }
      freeMs = Math.max(freeMs, performance.now()) + (bytes.length / bytesPerSecond) * 1000;
      setTimeout(() => postgres.write(bytes), freeMs - performance.now());
    });
    postgres.on("data", (bytes) => client.write(bytes));
    for (const [end, other] of [
      [client, postgres],
      [postgres, client],
    ] as const) {
      open.add(end);
      end.on("error", () => other.destroy());
      end.on("close", () => {
        open.delete(end);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const own = new URL(url);
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `postgresql://${own.username}${own.password === "" ? "" : `:${own.password}`}@127.0.0.1:${port}${own.pathname}${own.search}`,
    setBytesPerSecond: (next) => {
      bytesPerSecond = next;
    },
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function applicationName(startUp: Buffer): string {
  const parts = startUp.subarray(NAMES_FROM).toString("utf8").split("\0");
  const at = parts.indexOf("application_name");
  return at < 0 ? "" : (parts[at + 1] ?? "");
}
