// How does a test come between a server and its Postgres? By a TCP proxy in front of the socket; the connection string stays when Postgres moves.
import type { NetConnectOpts } from "node:net";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.js";

/** A database behind a proxy. */
export interface DatabaseProxy {
  readonly proxy: TcpProxy;
  /** The database as it is reached through the proxy. */
  readonly url: string;
  /** Leads later connections to the Postgres of another connection string. */
  moveTo(url: string): void;
}

/** Starts a proxy in front of the Postgres of a connection string, over TCP or a unix socket. */
export async function startDatabaseProxy(url: string): Promise<DatabaseProxy> {
  const proxy = await startTcpProxy(placeOf(url));
  const own = new URL(url);
  const through = `postgresql://${own.username}${own.password === "" ? "" : `:${own.password}`}@${proxy.address}${own.pathname}${own.search}`;
  return { proxy, url: through, moveTo: (next) => proxy.aim(placeOf(next)) };
}

/** Where the Postgres of a connection string listens. */
export function placeOf(url: string): NetConnectOpts {
  const { hostname, port } = new URL(url);
  const host = decodeURIComponent(hostname);
  const number = port === "" ? 5432 : Number(port);
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${number}` } : { host, port: number };
}
