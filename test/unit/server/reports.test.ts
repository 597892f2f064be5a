// Which reports are answered from a server's own copy of a task, and which only by the stored one?
import { systemClock } from "@leasehold/server/clock";
import type { Announcements } from "@leasehold/server/dispatch/announcements";
import type { Batcher } from "@leasehold/server/dispatch/batch";
import { Reports } from "@leasehold/server/dispatch/reports";
import { encodeLeaseToken } from "@leasehold/server/domain/lease-token";
import type { Decision, Storage } from "@leasehold/server/storage/storage";
import { describe, expect, it } from "vitest";
import { standIn } from "../../support/api-fakes.js";
import { bodies, NONCE, runningTask } from "../../support/domain.js";

describe("a report before its turn", () => {
  it("is never refused by a copy: the stored task may have forgotten what came before it", async () => {
    const copy = runningTask();
    const returned = { ...copy, state: "PENDING" as const, lease: null };
    const answer = { kind: "changed", task: returned, timeline: [], revoked: "LEASE_LOST" } as const;
    const asked: string[] = [];
    const storage = standIn<Storage>({
      decide: (reference) => {
        asked.push("id" in reference ? reference.id : "");
        return Promise.resolve({ kind: "decided", decided: { before: copy, answer } });
      },
    });
    const writes = standIn<Batcher<Decision, boolean>>({});
    const announcements = standIn<Announcements>({ committed: () => undefined });
    const reports = new Reports(systemClock(), storage, writes, announcements, 1000, (error) => {
      throw error;
    });
    const { id } = copy.identity;
    const report = { leaseToken: encodeLeaseToken(id, NONCE), seq: copy.settledSeq + 2, body: bodies.checkpoint };
    const { verdict, task } = await reports.apply("default", copy, report);
    // A lease that the stored task gave back is lost to its worker, whatever the report said.
    expect([asked, verdict.code, task]).toEqual([[id], "LEASE_LOST", null]);
  });
});
