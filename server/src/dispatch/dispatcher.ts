// How does due work reach free slots? One loop a server: it knows which sessions have room and which groups have work, claims
// for as many as it can in one statement, and hands over what it got. It sleeps until a slot frees, work is noted, work becomes
// due, or the poll's turn comes. Hints wake it; the scan of the poll is the truth.

import type { Clock, Timer } from "../clock.js";
import type { LiveTask } from "../domain/task.js";
import type { Claim, Group, GroupWithWork, LeasedTask, Storage } from "../storage/storage.js";
import type { WorkerSession } from "./worker-session.js";
import { planClaims } from "./claim-plan.js";
import { Watermarks } from "./watermarks.js";
import { WorkMap } from "./work-map.js";

/** Settings of the loop. */
export interface DispatcherSettings {
  /** Most tasks of one claim. */
  readonly batchSize: number;
  /** Time between two scans while slots are free; jittered. */
  readonly pollingDelayMs: number;
}

/** Most groups that a scan brings. */
const MOST_GROUPS = 10_000;
/** Least time between two scans that claims ask for. */
const SCAN_INTERVAL_MS = 50;

/** The dispatcher of one server. */
export class Dispatcher {
  private readonly work = new WorkMap();
  private readonly marks = new Watermarks();
  private readonly sessions = new Set<WorkerSession>();
  private running = false;
  private again = false;
  private stopped = false;
  private timer: Timer | null = null;
  private lastScanMs = Number.NEGATIVE_INFINITY;
  /** When the next scan is wanted at the latest, on the monotonic clock. */
  private scanAtMs = 0;
  private turn = 0;
  /** When the last pass looked at what is due, in the database's time. */
  private lookedUs = 0;

  constructor(
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "leaseTasks" | "groupsWithWork">,
    private readonly settings: DispatcherSettings,
    private readonly deliver: (session: WorkerSession, tasks: readonly LeasedTask[]) => Promise<void>,
    private readonly giveBack: (tasks: readonly LeasedTask[]) => Promise<void>,
    /** Nobody knows what a claim for these sessions did. */
    private readonly lost: (sessions: Claim["sessions"]) => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  /** A session may be given tasks from now on. */
  add(session: WorkerSession): void {
    this.sessions.add(session);
    this.scanAtMs = 0;
    this.wake();
  }

  /** A session gets no more tasks. */
  remove(session: WorkerSession): void {
    this.sessions.delete(session);
  }

  /** A group has work. */
  note(group: GroupWithWork): void {
    this.marks.lower(group, group.earliestUs);
    const isNews = this.work.note(group);
    // A claim that is under way may have looked before this task was there: look again after it, though the group is known.
    if (isNews || this.running) this.wake();
  }

  /** Sessions with a free slot and nothing due that they could take: what is stored now may be leased to them at once. */
  idle(namespace: string): readonly WorkerSession[] {
    if (this.stopped) return [];
    const due = this.work.due(namespace, this.clock.nowUs());
    const busy = new Map<string, boolean>();
    return [...this.sessions].filter((session) => {
      if (session.namespace !== namespace || session.free() === 0) return false;
      const known = busy.get(session.claimClass);
      const hasWork = known ?? due.some((group) => session.takesFrom(group.queue) && session.handles(group.name));
      if (known === undefined) busy.set(session.claimClass, hasWork);
      return !hasWork;
    });
  }

  /** Anything may have changed: scan. */
  rescan(): void {
    this.scanAtMs = 0;
    this.wake();
  }

  /** Something changed: look again at the end of this turn of the event loop. */
  wake(): void {
    if (this.stopped) return;
    this.again = true;
    if (this.running) return;
    this.running = true;
    this.clock.soon(() => void this.loop());
  }

  /** Claims nothing more. */
  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private async loop(): Promise<void> {
    this.timer?.cancel();
    let failedNow = false;
    while (this.again && !this.stopped) {
      this.again = false;
      try {
        await this.pass();
      } catch (error) {
        this.failed(error);
        failedNow = true;
        break;
      }
    }
    this.running = false;
    if (!this.stopped) this.sleep(failedNow);
  }

  private async pass(): Promise<void> {
    const free = [...this.sessions].filter((session) => session.free() > 0);
    if (free.length === 0) return;
    const nowMs = this.clock.monotonicMs();
    if (this.scanAtMs <= nowMs && nowMs - this.lastScanMs >= SCAN_INTERVAL_MS) await this.scan(free);
    this.turn++;
    const nowUs = this.clock.nowUs();
    this.lookedUs = nowUs;
    for (const { claim, sessions } of planClaims(
      free,
      (namespace) => this.work.due(namespace, nowUs),
      this.settings.batchSize,
      this.turn,
    )) {
      const taken = await this.claim(claim, sessions);
      // Everything that was asked for was there: there may be more.
      if (taken === mostOf(claim)) this.again = true;
    }
  }

  private async claim(planned: Claim, sessions: readonly WorkerSession[]): Promise<number> {
    const step = this.work.now;
    const nowMs = this.clock.monotonicMs();
    const claim = { ...planned, groups: planned.groups.map((group) => ({ ...group, fromUs: this.marks.from(group, nowMs) })) };
    const { leased: tasks, outdated } = await this.storage.leaseTasks(claim).catch((error: unknown) => {
      this.lost(claim.sessions);
      throw error;
    });
    this.remember(claim, [...tasks, ...outdated], nowMs);
    if (outdated.length > 0) await this.giveBack(outdated);
    if (tasks.length < mostOf(claim)) {
      this.work.exhausted(claim.groups, step);
      // What becomes due later in these groups is found by a scan.
      this.scanAtMs = Math.min(this.scanAtMs, this.lastScanMs + SCAN_INTERVAL_MS);
    }
    const bySession = new Map<string, LeasedTask[]>();
    for (const task of tasks) {
      const id = task.live.lease?.sessionId ?? "";
      const list = bySession.get(id);
      if (list === undefined) bySession.set(id, [task]);
      else list.push(task);
    }
    await Promise.all(sessions.map((session) => this.handOver(session, bySession.get(session.id) ?? [])));
    return tasks.length;
  }

  private remember(claim: Claim, tasks: readonly LeasedTask[], nowMs: number): void {
    for (const group of claim.groups) {
      let lastUs = Number.NEGATIVE_INFINITY;
      for (const { live } of tasks) if (isOf(group, live)) lastUs = Math.max(lastUs, live.runAtUs ?? lastUs);
      if (lastUs > Number.NEGATIVE_INFINITY) this.marks.found(group, group.fromUs ?? null, lastUs, nowMs);
    }
  }

  private async handOver(session: WorkerSession, tasks: readonly LeasedTask[]): Promise<void> {
    if (tasks.length > 0) await this.deliver(session, tasks);
  }

  private async scan(free: readonly WorkerSession[]): Promise<void> {
    const namespaces = new Set(free.map((session) => session.namespace));
    this.lastScanMs = this.clock.monotonicMs();
    this.scanAtMs = this.lastScanMs + this.settings.pollingDelayMs * (0.75 + this.clock.chance() / 2);
    for (const namespace of namespaces) {
      const step = this.work.now;
      const found = await this.storage.groupsWithWork(namespace, MOST_GROUPS);
      for (const group of found) this.marks.lower(group, group.earliestUs);
      this.work.scanned(namespace, found, step);
    }
  }

  // Until the next known task is due or the poll's turn comes, whichever is first. A wake ends it earlier.
  private sleep(failedNow: boolean): void {
    if (this.again && !failedNow) {
      this.wake();
      return;
    }
    // Without room there is nothing to look for: a freed slot or a new session wakes the loop.
    if (![...this.sessions].some((session) => session.free() > 0)) return;
    const nowMs = this.clock.monotonicMs();
    // Counted from the last look: what became due since then was claimed by nobody.
    const nextDueUs = this.work.nextDueUs(this.lookedUs);
    const dueInMs = nextDueUs === null ? Number.POSITIVE_INFINITY : (nextDueUs - this.clock.nowUs()) / 1000;
    const scanInMs = Math.max(this.scanAtMs - nowMs, SCAN_INTERVAL_MS - (nowMs - this.lastScanMs), 1);
    const delayMs = failedNow ? this.settings.pollingDelayMs : Math.min(dueInMs, scanInMs);
    this.timer?.cancel();
    this.timer = this.clock.after(
      Math.max(delayMs, 1),
      () => {
        this.wake();
      },
      "look",
    );
  }
}

function isOf({ queue, name, priority }: Group, task: LiveTask): boolean {
  return task.priority === priority && task.identity.name === name && task.queue === queue;
}

// What a claim could bring at most: its slots, or what the names have left of their own.
function mostOf(claim: Claim): number {
  const freeByName = new Map(claim.groups.map((group) => [group.name, group.free]));
  return Math.min(
    claim.slots.length,
    [...freeByName.values()].reduce((sum, free) => sum + free, 0),
  );
}
