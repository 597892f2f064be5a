// Which claims does one pass make? Sessions that can take the same tasks share a statement; queues and classes of sessions take turns.

import { freshNonce } from "../storage/nonce.js";
import type { Claim, Group } from "../storage/storage.js";
import type { WorkerSession } from "./worker-session.js";

/** Most groups that one claim visits. */
const MOST_GROUPS_A_CLAIM = 64;

/** A claim and the sessions it is for, in its order. */
export interface PlannedClaim {
  readonly claim: Claim;
  readonly sessions: readonly WorkerSession[];
}

/** Plans the claims of one pass. `turn` grows with each pass, so that nobody is always first. */
export function planClaims(
  sessions: readonly WorkerSession[],
  due: (namespace: string) => readonly Group[],
  batchSize: number,
  turn: number,
): PlannedClaim[] {
  const classes = new Map<string, WorkerSession[]>();
  for (const session of sessions) {
    const members = classes.get(session.claimClass);
    if (members === undefined) classes.set(session.claimClass, [session]);
    else members.push(session);
  }
  return rotate([...classes.values()], turn).flatMap((members) => {
    const groups = due(members[0]?.namespace ?? "");
    const trusted = planClaim(
      members,
      groups.filter((group) => !group.suspect),
      batchSize,
      turn,
    );
    const suspects = planSuspects(
      members,
      groups.filter((group) => group.suspect),
    );
    return trusted === null ? suspects : [trusted, ...suspects];
  });
}

// Each suspect goes alone to a session that holds no other: when that session dies, it is known who did it.
function planSuspects(members: readonly WorkerSession[], groups: readonly Group[]): PlannedClaim[] {
  if (groups.length === 0) return [];
  const free = members.filter((session) => !session.holdsSuspect);
  const planned: PlannedClaim[] = [];
  for (const group of groups) {
    const index = free.findIndex((session) => session.takesFrom(group.queue) && session.freeFor(group.name) > 0);
    const [session] = index < 0 ? [] : free.splice(index, 1);
    if (session === undefined) continue;
    const claim: Claim = {
      namespace: group.namespace,
      suspects: true,
      groups: [{ ...group, free: 1 }],
      sessions: [claiming(session)],
      slots: [0],
    };
    planned.push({ claim, sessions: [session] });
  }
  return planned;
}

function planClaim(members: readonly WorkerSession[], due: readonly Group[], batchSize: number, turn: number): PlannedClaim | null {
  const [first] = members;
  if (first === undefined) return null;
  const groups = inTurns(
    due.filter((group) => first.takesFrom(group.queue) && first.freeFor(group.name) > 0),
    turn,
  ).slice(0, MOST_GROUPS_A_CLAIM);
  if (groups.length === 0) return null;
  const slots = spread(
    members.map((session) => session.free()),
    batchSize,
  );
  const most = slots.length;
  // Sessions with slots of their own for a name are alone in their class, so the first member's count is the claim's.
  const free = (name: string): number => (first.limits(name) ? Math.min(first.freeFor(name), most) : most);
  const claim: Claim = {
    namespace: first.namespace,
    suspects: false,
    groups: groups.map((group) => ({ ...group, free: free(group.name) })),
    sessions: members.map(claiming),
    slots,
  };
  return { claim, sessions: members };
}

function claiming(session: WorkerSession): Claim["sessions"][number] {
  return { id: session.id, epoch: session.epoch, nonce: freshNonce(), workerName: session.workerName };
}

// Queues by turns, each with its groups together: the statement takes from them alternately, beginning with the first.
function inTurns(groups: readonly Group[], turn: number): Group[] {
  const byQueue = new Map<string, Group[]>();
  for (const group of groups) {
    const list = byQueue.get(group.queue);
    if (list === undefined) byQueue.set(group.queue, [group]);
    else list.push(group);
  }
  const queues = [...byQueue.values()].map((list) => list.sort((a, b) => b.priority - a.priority));
  return rotate(queues, turn).flat();
}

// One free slot of each session after the other, so that a small claim is shared out evenly.
function spread(free: readonly number[], most: number): number[] {
  const left = [...free];
  const slots: number[] = [];
  for (let any = true; any && slots.length < most;) {
    any = false;
    for (let index = 0; index < left.length && slots.length < most; index++) {
      const remaining = left[index] ?? 0;
      if (remaining === 0) continue;
      left[index] = remaining - 1;
      slots.push(index);
      any = true;
    }
  }
  return slots;
}

function rotate<T>(list: readonly T[], by: number): T[] {
  const start = list.length === 0 ? 0 : by % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
