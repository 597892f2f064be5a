// Which groups of tasks have work, and when? What the dispatcher believes, from its own writes, hints and the poll's scan.

import type { Group, GroupWithWork } from "../storage/storage.js";
import { groupKey } from "./announcements.js";

interface Entry {
  readonly group: Group;
  earliestUs: number;
  /** When it was noted, in steps of this map, so that a claim does not forget what was noted while it ran. */
  step: number;
}

/** Groups with work. */
export class WorkMap {
  private readonly entries = new Map<string, Entry>();
  private step = 0;

  /** The present step: hand it to `exhausted` or `scanned` after the statement that began now. */
  get now(): number {
    return this.step;
  }

  /** Groups that are known. */
  get size(): number {
    return this.entries.size;
  }

  /** A task of the group is due at `earliestUs`. Answers whether that is news. */
  note(group: GroupWithWork): boolean {
    this.step++;
    const key = groupKey(group);
    const entry = this.entries.get(key);
    if (entry === undefined) {
      this.entries.set(key, { group, earliestUs: group.earliestUs, step: this.step });
      return true;
    }
    entry.step = this.step;
    if (group.earliestUs >= entry.earliestUs) return false;
    entry.earliestUs = group.earliestUs;
    return true;
  }

  /** A claim that began at `step` found no more due tasks in these groups. */
  exhausted(groups: readonly Group[], step: number): void {
    for (const group of groups) {
      const key = groupKey(group);
      const entry = this.entries.get(key);
      if (entry !== undefined && entry.step <= step) this.entries.delete(key);
    }
  }

  /** A scan of a namespace that began at `step` found exactly these groups. */
  scanned(namespace: string, found: readonly GroupWithWork[], step: number): void {
    for (const [key, entry] of this.entries) if (entry.group.namespace === namespace && entry.step <= step) this.entries.delete(key);
    for (const group of found) {
      const entry = this.entries.get(groupKey(group));
      if (entry === undefined) this.entries.set(groupKey(group), { group, earliestUs: group.earliestUs, step });
      else entry.earliestUs = Math.min(entry.earliestUs, group.earliestUs);
    }
  }

  /** Groups of a namespace with due work. */
  due(namespace: string, nowUs: number): Group[] {
    const found: Group[] = [];
    for (const { group, earliestUs } of this.entries.values()) if (earliestUs <= nowUs && group.namespace === namespace) found.push(group);
    return found;
  }

  /** When the next group that is not due becomes so, or null. */
  nextDueUs(nowUs: number): number | null {
    let next: number | null = null;
    for (const { earliestUs } of this.entries.values()) if (earliestUs > nowUs && (next === null || earliestUs < next)) next = earliestUs;
    return next;
  }
}
