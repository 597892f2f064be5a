// How long are finished tasks kept? As long as the retention of their state says; removed in pages that never block the hot path.

import type { UpkeepParts } from "./apply-page.js";

const PAGE = 500;

/** Removes finished tasks whose time is over. */
export async function removeExpiredTasks({ storage, retentionUs }: UpkeepParts): Promise<void> {
  while ((await storage.removeExpiredTasks(retentionUs, PAGE)) >= PAGE);
}
