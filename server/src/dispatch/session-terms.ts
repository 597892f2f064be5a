// On what terms does a session live? Its heartbeat interval, and what is stored of its hello.

import type { SessionHello } from "../storage/storage.js";
import type { WorkerHello } from "./messages.js";

/** Longest heartbeat interval. */
const MOST_INTERVAL_US = 15_000_000;

/** Heartbeat interval of a session: a quarter of its TTL, at most 15 s. */
export function intervalOf(ttlUs: number): number {
  return Math.min(ttlUs / 4, MOST_INTERVAL_US);
}

/** What is stored of a hello. */
export function sessionHello(namespace: string, hello: WorkerHello, ttlUs: number): SessionHello {
  const { workerName, sdk, language, queues, labels, slots, connection } = hello;
  const handlers = hello.handlers.map((handler) => handler.taskName);
  const ownSlots = new Map(hello.handlers.flatMap(({ taskName, slots: own }) => (own === null ? [] : [[taskName, own] as const])));
  return { namespace, workerName, sdk, language, queues, handlers, labels, slots, ownSlots, ttlUs, connection, unary: false };
}
