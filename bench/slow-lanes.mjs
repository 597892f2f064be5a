// How are the lanes of submissions made slow? A proxy before Postgres reads the name with which each connection introduces itself, and lets only so
// many bytes a second through to those that fit: a batch takes the longer the larger it is. As test/support/slow-lanes.ts, for programs without tests.

import { createConnection, createServer } from "node:net";

/** The start-up packet is length, version, then names and values, each ended by a zero byte. */
const NAMES_FROM = 8;

/** Starts a proxy that slows the connections whose application_name fits. */
export async function startSlowLanes(url, slow) {
  const own = new URL(url);
  const host = decodeURIComponent(own.hostname);
  const number = own.port === "" ? 5432 : Number(own.port);
  const target = host.startsWith("/") ? { path: `${host}/.s.PGSQL.${number}` } : { host, port: number };
  let bytesPerSecond = Infinity;
  const open = new Set();

  const server = createServer((client) => {
    const postgres = createConnection(target);
    let isSlow = null;
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
    const ends = [client, postgres];
    for (const end of ends) {
      open.add(end);
      end.on("error", () => undefined);
      end.on("close", () => {
        open.delete(end);
        for (const other of ends) other.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const password = own.password === "" ? "" : `:${own.password}`;
  return {
    url: `postgresql://${own.username}${password}@127.0.0.1:${server.address().port}${own.pathname}${own.search}`,
    setBytesPerSecond: (next) => {
      bytesPerSecond = next;
    },
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function applicationName(startUp) {
  const parts = startUp.subarray(NAMES_FROM).toString("utf8").split("\0");
  const at = parts.indexOf("application_name");
  return at < 0 ? "" : (parts[at + 1] ?? "");
}
