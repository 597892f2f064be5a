// How do servers tell each other that something changed? By NOTIFY on a channel of the schema, heard on a connection of its own.
// Hints only: polling is the truth, and a gap in hearing is told as such.

import { createHash } from "node:crypto";

import pg from "pg";

import type { Clock, Timer } from "../clock.js";
import type { RevocationReason } from "../domain/event.js";
import type { Hint } from "./storage.js";

/** Largest payload that Postgres takes is 8,000 bytes. */
const MOST_PAYLOAD_BYTES = 7900;
/** More parts of a hint than this are not written out: it then says that anything may have changed. */
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

interface WireHint {
  readonly from: string;
  readonly groups?: readonly (readonly [string, string, string, number, number, boolean])[];
  readonly leases?: readonly (readonly [string, string, string | null])[];
  readonly tasks?: readonly string[];
  readonly everything?: true;
}

/** Writes a hint as NOTIFY payloads. */
export function writeHint(from: string, hint: Hint): string[] {
  if (hint.groups.length + hint.leases.length + hint.taskIds.length > MOST_HINT_PARTS) return [JSON.stringify({ from, everything: true })];
  const parts: WireHint[] = [
    ...hint.groups.map((g): WireHint => ({ from, groups: [[g.namespace, g.queue, g.name, g.priority, g.earliestUs, g.suspect]] })),
    ...hint.leases.map((l): WireHint => ({ from, leases: [[l.sessionId, l.taskId, l.revoked]] })),
    ...hint.taskIds.map((id): WireHint => ({ from, tasks: [id] })),
  ];
  const payloads: string[] = [];
  let open: WireHint = { from };
  let size = 0;
  for (const part of parts) {
    const added = Buffer.byteLength(JSON.stringify(part));
    if (size + added > MOST_PAYLOAD_BYTES && size > 0) {
      payloads.push(JSON.stringify(open));
      open = { from };
      size = 0;
    }
    open = {
      from,
      groups: [...(open.groups ?? []), ...(part.groups ?? [])],
      leases: [...(open.leases ?? []), ...(part.leases ?? [])],
      tasks: [...(open.tasks ?? []), ...(part.tasks ?? [])],
    };
    size += added;
  }
  if (size > 0) payloads.push(JSON.stringify(open));
  return payloads.length > MOST_MESSAGES ? [JSON.stringify({ from, everything: true })] : payloads;
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
    taskIds: wire.tasks ?? [],
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
