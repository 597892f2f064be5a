// How is the conversation of storage.ts held with an embedded database? By the same statements, all over its one session: what uses several
// connections on a real Postgres takes turns here. There are no other servers to tell or to hear, and time is what the given clock says.

import { createDriverFactory } from "slonik";

import type { Clock } from "../clock.js";
import type { HotLane, Transactions } from "./connections.js";
import { cellsAsObjects, type EmbeddedDatabase, type EmbeddedSession, type EmbeddedStatement } from "./embedded-database.js";
import { timeStatement } from "./embedded-schema.js";
import { DatabaseFault, toFault } from "./faults.js";
import type { Pools } from "./pools.js";
import { buildStatements, type Lanes, operations, type OperationSettings } from "./postgres-storage.js";
import type { ReaderDriver } from "./reader-driver.js";
import { readerOver } from "./read-tasks.js";
import type { Connection, Row, Statement } from "./statement.js";
import type { Hint, Storage } from "./storage.js";
import { Turnstile } from "./turnstile.js";

/** As many reads as wait for their turn; the session runs one of them. */
const READS = 4;
const MOST_READS = 5_000;

/** A storage over an embedded database. */
export interface EmbeddedStorage extends Storage {
  /** Says to the server what another one would after a gap: anything may have changed. */
  readonly lookAgain: () => void;
}

/** Opens the storage of a schema that `prepareSchema` made. Its `leasehold_now()` is what `clock.nowUs()` answers, looked up for each statement. */
export async function openEmbeddedStorage(database: EmbeddedDatabase, settings: OperationSettings, clock: Clock): Promise<EmbeddedStorage> {
  const { schema } = settings;
  const connection = new EmbeddedConnection(database, schema, clock);
  const driver = embeddedDriver(connection);
  // The address is nobody's: the driver connects to nothing.
  const reader = await readerOver("postgres://embedded", driver, schema, READS, clock);
  const listeners: ((hint: Hint | null) => void)[] = [];
  const reads = new Turnstile(clock, { places: READS, maxWaiting: MOST_READS, maxWaitMs: Number.POSITIVE_INFINITY });
  return {
    ...operations(settings, clock, { lanes: lanesOver(connection), pools: poolsOver(connection, reads), reader }, buildStatements(schema)),
    notify: () => Promise.resolve(),
    onHint: (heard) => void listeners.push(heard),
    lookAgain: () => {
      for (const heard of listeners) heard(null);
    },
    listening: true,
    health: { available: true, unavailableSinceMs: null },
    // There is nothing to close: the reader's pool has connections to nothing, and would wait for a timer that a test may have replaced.
    close: () => Promise.resolve(),
  };
}

/** The one session, as whatever kind of connection an operation asks for. */
class EmbeddedConnection implements HotLane, Transactions {
  inFlight = 0;

  constructor(
    private readonly database: EmbeddedDatabase,
    private readonly schema: string,
    private readonly clock: Clock,
  ) {}

  run(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    return this.alone((session) => this.runOn(session, statement, values));
  }

  for(): Connection {
    return this;
  }

  transaction<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    return this.alone(async (session) => {
      await session.script("BEGIN");
      try {
        const result = await work({ run: (statement, values) => this.runOn(session, statement, values) });
        await session.script("COMMIT");
        return result;
      } catch (error) {
        await session.script("ROLLBACK");
        throw error;
      }
    });
  }

  /** A statement that was composed, for slonik. Rejects with the database's own error. */
  composed(statement: EmbeddedStatement): Promise<Awaited<ReturnType<EmbeddedSession["run"]>>> {
    return this.alone((session) => session.run([timeStatement(this.schema, this.clock.nowUs()), statement]));
  }

  renew(): void {
    // There is only the one.
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private async alone<T>(work: (session: EmbeddedSession) => Promise<T>): Promise<T> {
    this.inFlight++;
    try {
      return await this.database.alone(work);
    } finally {
      this.inFlight--;
    }
  }

  private async runOn(session: EmbeddedSession, { name, text }: Statement, values: readonly unknown[]): Promise<Row[]> {
    try {
      const named = { name: `${this.schema} ${name}`, text, values };
      return [...(await session.run([timeStatement(this.schema, this.clock.nowUs()), named])).rows];
    } catch (error) {
      const fault = toFault(error);
      // The session cannot break: what carries no SQLSTATE is a bug of the embedded database or of its use.
      throw fault.kind === "unavailable" ? new DatabaseFault("unexpected", fault.message, false, null, { cause: error }) : fault;
    }
  }
}

function lanesOver(lane: EmbeddedConnection): Lanes {
  return { submits: [lane], reports: [lane], leases: lane, beats: lane, hints: lane, all: [lane] };
}

function poolsOver(pool: EmbeddedConnection, reads: Turnstile): Pools {
  return { reads, lookups: pool, submissions: pool, commands: pool, workers: pool, upkeep: pool, all: [pool] };
}

function embeddedDriver(connection: EmbeddedConnection): ReaderDriver {
  return createDriverFactory(() =>
    Promise.resolve({
      createPoolClient: () =>
        Promise.resolve({
          connect: () => Promise.resolve(),
          end: () => Promise.resolve(),
          query: async (text, values) => {
            const result = await connection.composed({ text, values: [...(values ?? [])] });
            const fields = result.fields.map(({ name, dataTypeID }) => ({ name, dataTypeId: dataTypeID }));
            return { command: "SELECT" as const, fields, rowCount: result.rows.length, rows: cellsAsObjects(result) };
          },
          stream: () => {
            throw new Error("reads are answered in pages, not in streams");
          },
        }),
    }),
  );
}
