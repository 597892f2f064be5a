// How do thousands of workers without a stream keep their leases? Renewals that come together share their statements, as the heartbeats of streams
// do, so that no number of calls stands before those on the one connection that heartbeats have.

import type { Clock } from "../clock.js";
import type { CancelledLease, RevokedLease, SessionBeat, Storage, StoredBeat } from "../storage/storage.js";
import { Batcher } from "./batch.js";

/** What became of the leases of a session, beside time. */
export interface Told {
  readonly cancelled: readonly CancelledLease[];
  readonly revoked: readonly RevokedLease[];
}

/** Sessions of one statement. */
const MOST_SESSIONS = 1_000;
/** Sessions that wait for one: ten times what a server of ten thousand workers has. */
const MOST_WAITING = 100_000;

/** A session of LeaseTasks is never taken over, so its epoch stays what it was. */
const FIRST_EPOCH = 1;

/** The heartbeats of sessions without a stream. */
export class UnaryBeats {
  private readonly beats: Batcher<string, StoredBeat | null>;
  private readonly looks: Batcher<string, Told>;

  constructor(clock: Clock, storage: Pick<Storage, "storeBeats" | "cancelledLeases" | "revokedLeases">) {
    const limits = { maxItems: MOST_SESSIONS, maxBytes: Number.MAX_SAFE_INTEGER, lanes: 1, maxWaiting: MOST_WAITING };
    this.beats = new Batcher(clock, limits, async (sessionIds) => {
      const beats = [...new Set(sessionIds)].map((sessionId): SessionBeat => ({ sessionId, epoch: FIRST_EPOCH, number: 0 }));
      const stored = new Map((await storage.storeBeats(beats)).map((beat) => [beat.sessionId, beat]));
      return sessionIds.map((sessionId) => stored.get(sessionId) ?? null);
    });
    this.looks = new Batcher<string, Told>(clock, limits, async (sessionIds) => {
      const asked = [...new Set(sessionIds)];
      const cancelled = bySession(await storage.cancelledLeases(asked));
      const revoked = bySession(await storage.revokedLeases(asked));
      return sessionIds.map((sessionId) => ({ cancelled: cancelled.get(sessionId) ?? [], revoked: revoked.get(sessionId) ?? [] }));
    });
  }

  /** Stores a heartbeat; null where the session has ended. */
  beat(sessionId: string): Promise<StoredBeat | null> {
    return this.beats.add(sessionId);
  }

  /** What was cancelled of a session's leases, or taken from it. */
  look(sessionId: string): Promise<Told> {
    return this.looks.add(sessionId);
  }
}

function bySession<T extends { readonly sessionId: string }>(leases: readonly T[]): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const lease of leases) {
    const known = found.get(lease.sessionId);
    if (known === undefined) found.set(lease.sessionId, [lease]);
    else known.push(lease);
  }
  return found;
}
