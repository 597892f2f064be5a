// When does a lease expire? When its session was silent for the TTL, by the database's clock, compared in the statement that ends
// the session. Its leases then return page by page, each guarded by the revision that was read.

import type { UpkeepParts } from "./apply-page.js";
import { applyToPage } from "./apply-page.js";

const PAGE = 500;

/** Ends silent sessions and returns every lease that has no living session at its epoch. */
export async function expireLeases(parts: UpkeepParts): Promise<void> {
  // After an outage every session was spared for its TTL by the tick that noticed it.
  await parts.storage.endExpiredSessions();
  for (;;) {
    const { lost, bystanders, returned } = await parts.storage.orphanedLeases(PAGE);
    const written =
      (await applyToPage(parts, bystanders, { kind: "lease-lost", charged: false })) +
      (await applyToPage(parts, lost, { kind: "lease-lost" })) +
      (await applyToPage(parts, returned, { kind: "lease-returned" }));
    if (bystanders.length + lost.length + returned.length < PAGE || written === 0) return;
  }
}
