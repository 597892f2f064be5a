// From where on does a claim look through a group? What was leased and finished stays in the index until vacuum may remove it, which a
// long transaction elsewhere can put off for hours, and a claim from the beginning walks over all of it. So it begins a little before the
// last task that it found, and every few seconds at the beginning all the same, for what came in late.

import type { Group } from "../storage/storage.js";
import { groupKey } from "./announcements.js";

/** Transactions commit in another order than their tasks' times, but not by more than this. */
const SLACK_US = 5_000_000;
/** How often a group is looked through from the beginning. */
const FULL_EVERY_MS = 5_000;
/** Groups that are remembered; the ones whose turn from the beginning has come are forgotten first, for they lose nothing. */
const MOST_GROUPS = 20_000;

interface Mark {
  fromUs: number;
  readonly fullAtMs: number;
}

/** Where claims begin. */
export class Watermarks {
  private readonly marks = new Map<string, Mark>();

  /** Where a claim of the group may begin; null: at the beginning. */
  from(group: Group, nowMs: number): number | null {
    const mark = this.marks.get(groupKey(group));
    return mark === undefined || mark.fullAtMs <= nowMs ? null : mark.fromUs;
  }

  /** A claim that began at `fromUs` found a task that was due at `lastUs`, and none later. */
  found(group: Group, fromUs: number | null, lastUs: number, nowMs: number): void {
    const key = groupKey(group);
    const mark = this.marks.get(key);
    if (fromUs !== null && mark !== undefined) {
      mark.fromUs = Math.max(mark.fromUs, lastUs - SLACK_US);
      return;
    }
    if (this.marks.size >= MOST_GROUPS) this.forget(nowMs);
    if (this.marks.size < MOST_GROUPS) this.marks.set(key, { fromUs: lastUs - SLACK_US, fullAtMs: nowMs + FULL_EVERY_MS });
  }

  /** The group has a task that is due at `runAtUs`. */
  lower(group: Group, runAtUs: number): void {
    const mark = this.marks.get(groupKey(group));
    if (mark !== undefined && runAtUs < mark.fromUs) mark.fromUs = runAtUs;
  }

  private forget(nowMs: number): void {
    for (const [key, mark] of this.marks) if (mark.fullAtMs <= nowMs) this.marks.delete(key);
  }
}
