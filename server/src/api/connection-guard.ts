// What may a connection cost? Connections are counted, must introduce themselves, may not flood with frames that ask for nothing, and hold only so
// many bytes of unfinished requests and unread answers. grpc-js bounds none of that, and has no option for it: this stands at its HTTP/2 servers.

import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Server } from "@grpc/grpc-js";
import type { Clock, Timer } from "../clock.js";
import type { Config } from "../config.js";
import type { Log } from "../telemetry/log.js";
import { GuardedConnection } from "./guarded-connection.js";
import type { Refused } from "./request-gate.js";
import { answer, correctDecompression, judge } from "./request-gate.js";

/** The guard of a server. */
export interface ConnectionGuard {
  /** Guards what the server listens on by now; to be called in the turn in which it began to listen. */
  attach(): void;
  stop(): void;
}

/** How often connections are looked at. */
const LOOK_MS = 500;
const LINE_INTERVAL_MS = 10_000;
const RETRY_MS = 1_000;

/** Makes the guard. `takesStream` says whether a path takes a stream of requests, which may last for ever. */
export function guardConnections(
  server: Server,
  takesStream: (path: string) => boolean,
  { limits }: Config,
  clock: Clock,
  log: Log,
): ConnectionGuard {
  const guarded = new Set<Http2Server>();
  const connections = new Map<ServerHttp2Session, GuardedConnection>();
  const say = sparingly(clock, log);
  let timer: Timer | null = null;

  const cut = (connection: GuardedConnection, why: string): void => {
    say(why);
    connection.cut(why);
  };
  const begin = (session: ServerHttp2Session): void => {
    const connection = new GuardedConnection(session, limits, clock.monotonicMs());
    connections.set(session, connection);
    session.once("close", () => connections.delete(session));
  };
  const admit = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[]): GuardedConnection | null => {
    const connection = stream.session === undefined ? undefined : connections.get(stream.session as ServerHttp2Session);
    const refused: Refused | null = judge(headers, rawHeaders, limits.metadataBytes);
    if (connection === undefined || refused === null) return connection ?? null;
    answer(stream, refused);
    return null;
  };
  const look = (): void => {
    const nowMs = clock.monotonicMs();
    let heldBytes = 0;
    for (const connection of connections.values()) {
      const fault = connection.look(nowMs);
      if (fault !== null) cut(connection, fault);
      heldBytes += connection.heldBytes;
    }
    if (heldBytes > limits.heldBytes) {
      const largestFirst = [...connections.values()].sort((a, b) => b.heldBytes - a.heldBytes);
      for (const connection of largestFirst) {
        if (heldBytes <= limits.heldBytes) break;
        heldBytes -= connection.heldBytes;
        cut(connection, "it held the most of unfinished requests and unread answers, and all together too much");
      }
    }
    timer = clock.after(LOOK_MS, look);
  };
  timer = clock.after(LOOK_MS, look);

  const guard = (http2: Http2Server): void => {
    http2.maxConnections = limits.connections;
    http2.on("drop", () => say("there were too many connections already"));
    http2.updateSettings({ maxHeaderListSize: limits.metadataBytes });
    http2.on("session", begin);
    const handlers = http2.listeners("stream");
    http2.removeAllListeners("stream");
    http2.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, rawHeaders: readonly string[]) => {
      // Whatever becomes of the stream, an error of it is nobody's bug.
      stream.on("error", () => undefined);
      const connection = admit(stream, headers, rawHeaders);
      if (connection === null) return;
      if (connection.heldBytes > limits.connectionBytes) {
        answer(stream, { refusal: { reason: "OVERLOADED", message: "This connection holds too much already.", retryAfterMs: RETRY_MS } });
        return;
      }
      correctDecompression(stream, headers);
      for (const handler of handlers) Reflect.apply(handler, http2, [stream, headers, flags, rawHeaders]);
      // After them: a listener for data that comes first would start the flow.
      connection.follow(stream, takesStream(headers[":path"] ?? ""), clock.monotonicMs());
    });
  };
  return {
    attach: () => {
      for (const http2 of http2ServersOf(server)) {
        if (guarded.has(http2)) continue;
        guarded.add(http2);
        guard(http2);
      }
    },
    stop: () => timer?.cancel(),
  };
}

// grpc-js does not hand them out. If a version keeps them elsewhere, a server must not run unguarded.
function http2ServersOf(server: Server): Http2Server[] {
  const servers: unknown = Reflect.get(server, "http2Servers");
  if (!(servers instanceof Map) || servers.size === 0) throw new Error("this version of grpc-js keeps its HTTP/2 servers elsewhere");
  return [...(servers as ReadonlyMap<Http2Server, unknown>).keys()];
}

/** Logs why a connection was ended: a reason at most once each 10 s, with how often it was. */
function sparingly(clock: Clock, log: Log): (why: string) => void {
  const said = new Map<string, { atMs: number; unsaid: number }>();
  return (why) => {
    const nowMs = clock.monotonicMs();
    const last = said.get(why);
    if (last !== undefined && nowMs - last.atMs < LINE_INTERVAL_MS) {
      last.unsaid++;
      return;
    }
    log.warn({ why, unsaid: last?.unsaid ?? 0 }, "a connection was ended by the server");
    said.set(why, { atMs: nowMs, unsaid: 0 });
  };
}
