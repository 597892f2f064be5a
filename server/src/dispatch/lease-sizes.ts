// How many leases will fit one answer of LeaseTasks? Judged by those of the last answer to the same kind of worker: what does not fit goes back,
// and a claim of a hundred for every one that fits would write more than the tasks are worth.

import type { OutgoingLease, WorkerHello } from "./messages.js";

/** What a lease takes beside its payloads, patches, notes and errors: names, labels, token. */
const LEASE_ROOM_BYTES = 8192;
const MOST_KINDS = 1000;

/** Bytes that a lease may take in an answer, never less than it does. */
export function bytesOf({ leased, payloads }: OutgoingLease): number {
  const { proceeds, lastError } = leased.live;
  let bytes = LEASE_ROOM_BYTES + payloads.metadata.data.byteLength + (payloads.executionMetadata?.data.byteLength ?? 0);
  for (const patch of proceeds?.unapplied ?? []) bytes += patch.data.byteLength + patch.contentType.length * 3;
  for (const { note } of proceeds?.consumed ?? []) bytes += note.length * 3;
  for (let error = lastError; error !== null; error = error.cause ?? null)
    bytes += (error.code.length + error.message.length + (error.stack?.length ?? 0)) * 3 + (error.details?.data.byteLength ?? 0);
  return bytes;
}

/** What is known of the sizes of leases. */
export class LeaseSizes {
  private readonly averages = new Map<string, number>();

  /** `roomBytes`: what one answer holds. */
  constructor(private readonly roomBytes: number) {}

  /** Leases to claim for a worker: as many as it asked for, or as will probably fit; at least one. */
  most(worker: WorkerHello): number {
    const average = this.averages.get(kindOf(worker)) ?? 0;
    return average === 0 ? worker.slots : Math.min(worker.slots, Math.max(Math.floor(this.roomBytes / average), 1));
  }

  /** Notes the sizes of the leases that a worker was given. */
  learn(worker: WorkerHello, sizes: readonly number[]): void {
    if (sizes.length === 0) return;
    if (this.averages.size >= MOST_KINDS) this.averages.clear();
    this.averages.set(kindOf(worker), sizes.reduce((sum, size) => sum + size, 0) / sizes.length);
  }
}

function kindOf({ queues, handlers }: WorkerHello): string {
  return [...queues, "", ...handlers.map(({ taskName }) => taskName)].join("\n");
}
