// How do servers tell each other that something changed? By NOTIFY on a channel of the schema, heard on a connection of its own.
// Hints only: polling is the truth, and a gap in hearing is told as such.

import { createHash } from "node:crypto";

import pg from "pg";

import type { Clock, Timer } from "../clock.js";
import type { RevocationReason } from "../domain/event.js";
import type { Hint } from "./storage.js";

/** Largest payload that Postgres takes is 8,000 bytes; this much of it is for what is told. */
const MOST_PAYLOAD_BYTES = 7700;
/** More groups and leases than this are not written out: the hint then says that anything may have changed. */
export const MOST_HINT_PARTS = 1000;
/** More messages than this for one hint are replaced by one that says: look yourself. */
const MOST_MESSAGES = 4;
const PROBE_INTERVAL_MS = 10_000;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 10_000;

/** Channel of a schema: the name itself may be longer than the 63 bytes at which Postgres would cut it. */
export function channelOf(schema: string): string {
  return `leasehold_${createHash("sha256").update(schema).digest("hex").slice(0, 32)}`;
}

type WireGroup = readonly [namespace: string, queue: string, name: string, priority: number, earliestUs: number, suspect: boolean];
type WireLease = readonly [sessionId: string, taskId: string, revoked: string | null];

interface WireHint {
  readonly from: string;
  readonly groups?: WireGroup[];
  readonly leases?: WireLease[];
  readonly tasks?: string[];
  /** Any task that is awaited may have changed. */
  readonly anyTask?: true;
  readonly everything?: true;
}

/** Writes a hint as NOTIFY payloads. */
export function writeHint(from: string, hint: Hint): string[] {
  if (hint.groups.length + hint.leases.length > MOST_HINT_PARTS) return [JSON.stringify({ from, everything: true })];
  const payloads = writeParts(from, hint);
  if (payloads.length <= MOST_MESSAGES) return payloads;
  // Tasks are many where much is done and nothing is wrong: who is told of all at once looks for those that are awaited, not for his leases.
  return hint.taskIds === null ? [JSON.stringify({ from, everything: true })] : writeHint(from, { ...hint, taskIds: null });
}

function writeParts(from: string, { groups, leases, taskIds }: Hint): string[] {
  const payloads: string[] = [];
  const empty = () => ({ from, groups: [] as WireGroup[], leases: [] as WireLease[], tasks: [] as string[] });
  let open = empty();
  let size = 0;
  const flush = (): void => {
    if (size > 0) payloads.push(JSON.stringify(open));
    open = empty();
    size = 0;
  };
  const withRoomFor = (part: unknown): typeof open => {
    const added = Buffer.byteLength(JSON.stringify(part)) + 1;
    if (size + added > MOST_PAYLOAD_BYTES) flush();
    size += added;
    return open;
  };
  for (const { namespace, queue, name, priority, earliestUs, suspect } of groups) {
    const group: WireGroup = [namespace, queue, name, priority, earliestUs, suspect];
    withRoomFor(group).groups.push(group);
  }
  for (const { sessionId, taskId, revoked } of leases) {
    const lease: WireLease = [sessionId, taskId, revoked];
    withRoomFor(lease).leases.push(lease);
  }
  for (const taskId of taskIds ?? []) withRoomFor(taskId).tasks.push(taskId);
  flush();
  if (taskIds === null) payloads.push(JSON.stringify({ from, anyTask: true }));
  return payloads;
}

/** Reads a payload; null says that anything may have changed. Undefined: it is this server's own. */
export function readHint(payload: string, self: string): Hint | null | undefined {
  let wire: WireHint;
  try {
    wire = JSON.parse(payload) as WireHint;
  } catch {
    return null;
  }
  if (wire.from === self) return undefined;
  if (wire.everything === true) return null;
  return {
    groups: (wire.groups ?? []).map(([namespace, queue, name, priority, earliestUs, suspect]) => ({
      namespace,
      queue,
      name,
      priority,
      earliestUs,
      suspect,
    })),
    leases: (wire.leases ?? []).map(([sessionId, taskId, revoked]) => ({ sessionId, taskId, revoked: revoked as RevocationReason | null })),
    taskIds: wire.anyTask === true ? null : (wire.tasks ?? []),
  };
}

/** Hears the hints of other servers, over a connection that is replaced when it breaks or falls silent. */
export class HintListener {
  private client: pg.Client | null = null;
  private timer: Timer | null = null;
  private retryMs = FIRST_RETRY_MS;
  private closed = false;
  private heardLast: pg.Client | null = null;

  constructor(
    private readonly config: pg.ClientConfig,
    private readonly channel: string,
    private readonly self: string,
    private readonly clock: Clock,
    private readonly heard: (hint: Hint | null) => void,
  ) {}

  /** Begins to listen; a failure is tried again for as long as it takes. */
  start(): void {
    void this.connect();
  }

  /** Whether its connection stands. */
  get listening(): boolean {
    return this.client !== null && this.client === this.heardLast;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.timer?.cancel();
    await this.client?.end().catch(() => undefined);
  }

  private async connect(): Promise<void> {
    const client = new pg.Client({ ...this.config, application_name: "leasehold wakeups" });
    client.on("error", () => {
      this.broken(client);
    });
    client.on("end", () => {
      this.broken(client);
    });
    client.on("notification", ({ payload }) => {
      const hint = readHint(payload ?? "", this.self);
      if (hint !== undefined) this.heard(hint);
    });
    this.client = client;
    try {
      await client.connect();
      await client.query(`LISTEN ${this.channel}`);
    } catch {
      this.broken(client);
      return;
    }
    this.retryMs = FIRST_RETRY_MS;
    this.heardLast = client;
    // Whatever was said while nobody listened is lost.
    this.heard(null);
    this.probeLater(client);
  }

  // A connection that went dead without a reset would hear nothing for ever.
  private probeLater(client: pg.Client): void {
    this.timer = this.clock.after(PROBE_INTERVAL_MS, () => {
      client.query("SELECT 1").then(
        () => {
          if (this.client === client) this.probeLater(client);
        },
        () => {
          this.broken(client);
        },
      );
    });
  }

  private broken(client: pg.Client): void {
    if (this.client !== client) return;
    this.client = null;
    this.timer?.cancel();
    client.end().catch(() => undefined);
    if (this.closed) return;
    const delayMs = this.retryMs * (0.5 + this.clock.chance() / 2);
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
    this.timer = this.clock.after(delayMs, () => void this.connect());
  }
}
