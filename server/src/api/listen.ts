// How does the server come to listen where it was told to? On every address of the name that this machine has, or not at all; what cannot
// be bound is said in one sentence, and the addresses that are served are the real ones.

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ListenAddress } from "../config/listen.js";
import { formatListen } from "../config/listen.js";

/** Why the server cannot listen, in one sentence. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/** Addresses of a name that a machine may not have, as ::1 without IPv6. */
const NOT_HERE = /EADDRNOTAVAIL|EAFNOSUPPORT|EINVAL/;

/** Binds the server. Answers the addresses that are served. Calls `bound` after each, before anybody can have connected. Throws a `ListenError`. */
export async function listen(
  server: Server,
  address: ListenAddress,
  credentials: ServerCredentials,
  bound: () => void = () => undefined,
): Promise<string[]> {
  if (address.kind === "unix") {
    await bind(server, `unix:${address.path}`, credentials, formatListen(address), bound);
    return [formatListen(address)];
  }
  const hosts = await resolve(address.host);
  const served: string[] = [];
  const missing: ListenError[] = [];
  let port = address.port;
  for (const host of hosts) {
    const target = formatListen({ kind: "tcp", host, port });
    try {
      // With port 0 the system chooses once; the other addresses of the name get the same port.
      port = await bind(server, target, credentials, formatListen({ ...address, port }), bound);
      served.push(formatListen({ kind: "tcp", host, port }));
    } catch (error) {
      if (!(error instanceof ListenError) || hosts.length === 1 || !NOT_HERE.test(String(error.cause))) throw error;
      missing.push(error);
    }
  }
  if (served.length === 0) throw missing[0] ?? new ListenError(`cannot listen at ${formatListen(address)}: the name has no address`);
  return served;
}

async function resolve(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    const found = await lookup(host, { all: true });
    return [...new Set(found.map(({ address }) => address))];
  } catch (error) {
    throw new ListenError(`cannot listen at ${host}: the name cannot be resolved`, { cause: error });
  }
}

function bind(server: Server, target: string, credentials: ServerCredentials, shown: string, bound: () => void): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, credentials, (error, port) => {
      if (error === null) {
        bound();
        resolve(port);
      } else reject(new ListenError(`cannot listen at ${shown}: ${reasonOf(error.message)}`, { cause: error }));
    });
  });
}

function reasonOf(message: string): string {
  if (message.includes("EADDRINUSE")) return "another process listens there, or a socket file was left behind";
  // Node says EACCES of a socket file in a folder that is not there, too.
  if (message.includes("EACCES") || message.includes("EPERM"))
    return "this user may not, or the folder does not exist; ports below 1024 and foreign folders need rights";
  if (NOT_HERE.test(message)) return "this machine has no such address";
  if (message.includes("ENOENT") || message.includes("ENOTDIR")) return "its folder does not exist";
  if (message.includes("ENAMETOOLONG")) return "the path is too long";
  return message;
}
