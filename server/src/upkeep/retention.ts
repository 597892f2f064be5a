// How long is what is over kept? Finished tasks as long as the retention of their state says, progress until its task no longer runs;
// removed in pages that never block the hot path.

import type { UpkeepParts } from "./apply-page.js";

const PAGE = 500;

/** Removes finished tasks whose time is over. */
export async function removeExpiredTasks({ storage, retentionUs }: UpkeepParts): Promise<void> {
  while ((await storage.removeExpiredTasks(retentionUs, PAGE)) >= PAGE);
}

/** Removes progress of tasks that no longer run. Finishing does not do it: that would cost every task a statement for the few that said some. */
export async function sweepProgress({ storage }: UpkeepParts): Promise<void> {
  while ((await storage.sweepProgress(PAGE)) >= PAGE);
}
