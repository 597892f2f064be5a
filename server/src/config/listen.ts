// Where does the server listen, and does that reach beyond this machine? Addresses as people write them.

import { isIP, isIPv6 } from "node:net";
import { SettingFault } from "./setting.js";

/** Port where an address names none. */
export const DEFAULT_PORT = 7410;

/** A place to listen at. Port 0 lets the system choose one. */
export type ListenAddress =
  { readonly kind: "tcp"; readonly host: string; readonly port: number } | { readonly kind: "unix"; readonly path: string };

/** Longest path of a unix socket on Linux, without its closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Reads `127.0.0.1:7410`, `[::1]:7410`, `localhost:7410`, `0.0.0.0`, `::`, `unix:/path`. Port 7410 where none is given.
 * Throws a `SettingFault`.
 */
export function parseListen(text: string): ListenAddress {
  if (text.startsWith("unix:")) return parseSocket(text.slice("unix:".length).replace(/^\/\/(?=\/)/, ""));
  if (isIPv6(text)) return { kind: "tcp", host: text, port: DEFAULT_PORT };
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,6}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const bracketed = match?.[1] !== undefined;
  if (match === null || host === "" || (bracketed ? !isIPv6(host) : !isHost(host))) {
    throw new SettingFault(
      "must be host:port, [IPv6 address]:port or unix:/path, such as 127.0.0.1:7410, [::1]:7410 or unix:/run/leasehold.sock",
    );
  }
  const port = Number(match[3] ?? DEFAULT_PORT);
  if (port > 65_535) throw new SettingFault("must name a port from 0 to 65535");
  return { kind: "tcp", host, port };
}

/** Whether nobody on another machine can connect. The wildcards `::` and `0.0.0.0` are beyond loopback. */
export function isLoopback(address: ListenAddress): boolean {
  if (address.kind === "unix") return true;
  const { host } = address;
  if (isIP(host) === 4) return host.startsWith("127.");
  return host.toLowerCase() === "localhost" || /^(?:0{0,4}:){2,7}0{0,3}1$/.test(host);
}

/** The address as it is written in settings and logs. */
export function formatListen(address: ListenAddress): string {
  if (address.kind === "unix") return `unix:${address.path}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function parseSocket(path: string): ListenAddress {
  if (!path.startsWith("/") || path.includes("\0")) throw new SettingFault("must name an absolute path after unix:");
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
    throw new SettingFault(`must name a path of at most ${MAX_SOCKET_PATH_BYTES} bytes after unix:`);
  return { kind: "unix", path };
}

function isHost(host: string): boolean {
  // Digits alone would be a port without a host, or an IPv4 address in a spelling that people misread.
  return /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$/.test(host) && (isIP(host) === 4 || !/^[\d.]+$/.test(host));
}
