// How long is what is over kept? Finished tasks as long as the retention of their state says, progress until its task no longer runs;
// removed in pages with a pause between them, so that the hot path and the ticks of upkeep never wait.

import type { UpkeepParts } from "./apply-page.js";

const PAGE = 500;
const PAUSE_MS = 20;

/** Removes finished tasks whose time is over; answers how many. Ends early when `stopped` says so. */
export async function removeExpiredTasks({ storage, retentionUs, clock }: UpkeepParts, stopped: () => boolean): Promise<number> {
  let removed = 0;
  for (let page = PAGE; page >= PAGE && !stopped();) {
    page = await storage.removeExpiredTasks(retentionUs, PAGE);
    removed += page;
    if (page >= PAGE) await new Promise<void>((resolve) => clock.after(PAUSE_MS, resolve));
  }
  return removed;
}

/** Removes progress of tasks that no longer run. Finishing does not do it: that would cost every task a statement for the few that said some. */
export async function sweepProgress({ storage }: UpkeepParts, stopped: () => boolean): Promise<void> {
  while (!stopped() && (await storage.sweepProgress(PAGE)) >= PAGE);
}
