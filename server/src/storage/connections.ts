// How does the server reach Postgres? By a few lanes for the hot path, each a connection of its own that runs one statement
// after the other, and a small pool for everything that needs a transaction. Broken connections are replaced, never reused.

import pg from "pg";

import { breaksConnection, DatabaseFault, toFault } from "./faults.js";
import type { Cell, Connection, Row, Statement } from "./statement.js";

/** How to connect. */
export interface ConnectionSettings {
  readonly url: string;
  /** Off behind old poolers that mix up prepared statements. */
  readonly prepared: boolean;
  readonly poolSize: number;
  readonly statementTimeoutMs: number;
}

// A plan made while the tables were empty must never become a sequential scan later, and nobody's settings for time zone,
// planner or durability of the role or database may reach in here.
const START_UP_OPTIONS = [
  "enable_seqscan=off",
  "enable_bitmapscan=off",
  "jit=off",
  "plan_cache_mode=force_generic_plan",
  "timezone=UTC",
  "datestyle=ISO",
  "bytea_output=hex",
  "client_min_messages=warning",
]
  .map((setting) => `-c ${setting}`)
  .join(" ");

// Everything arrives as the text that Postgres sent; the statement that asked knows what it is.
const RAW_TEXT = {
  getTypeParser:
    () =>
    (value: string): string =>
      value,
};

/** What a client is made of. */
export function clientConfig(settings: ConnectionSettings, applicationName: string): pg.ClientConfig {
  return {
    connectionString: settings.url,
    application_name: applicationName,
    options: START_UP_OPTIONS,
    types: RAW_TEXT,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    statement_timeout: settings.statementTimeoutMs,
    // The client's own limit: over a socket that went dead without a reset the server's answer never comes.
    query_timeout: settings.statementTimeoutMs + 2000,
  };
}

/** Watches whether Postgres answers. */
export interface Reachability {
  reached(): void;
  failed(fault: DatabaseFault): void;
}

/** A connection of its own that is opened when first needed and replaced after a break. */
export class Lane implements Connection {
  private client: pg.Client | null = null;
  private opening: Promise<pg.Client> | null = null;
  private closed = false;
  private running = 0;
  /** Ends with the statement before. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly settings: ConnectionSettings,
    private readonly name: string,
    private readonly reachability: Reachability,
    /** Runs on each new connection before anything else. */
    private readonly onOpen: (client: pg.Client) => Promise<void> = () => Promise.resolve(),
  ) {}

  async run(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    this.running++;
    try {
      const client = await this.connected();
      // Queued here, because the driver means to stop doing it. What waits when the connection breaks fails with it, at once.
      const turn = this.last.then(() => this.runConnected(client, statement, values));
      this.last = turn.catch(() => undefined);
      return await turn;
    } finally {
      this.running--;
    }
  }

  /** Statements that are under way or wait for their turn. */
  get inFlight(): number {
    return this.running;
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.client?.end().catch(() => undefined);
  }

  private async runConnected(client: pg.Client, statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    try {
      const rows = await runOn(client, statement, values, this.settings.prepared);
      this.reachability.reached();
      return rows;
    } catch (error) {
      if (error instanceof DatabaseFault) {
        if (breaksConnection(error)) this.discard(client);
        this.reachability.failed(error);
      }
      throw error;
    }
  }

  private async connected(): Promise<pg.Client> {
    if (this.client !== null) return this.client;
    if (this.closed) throw new DatabaseFault("unavailable", "the server is going away", false, 1000);
    this.opening ??= this.open().finally(() => {
      this.opening = null;
    });
    return this.opening;
  }

  private async open(): Promise<pg.Client> {
    const client = new pg.Client(clientConfig(this.settings, `leasehold ${this.name}`));
    client.on("error", () => {
      this.discard(client);
    });
    try {
      await client.connect();
      await this.onOpen(client);
    } catch (error) {
      client.end().catch(() => undefined);
      const fault = new DatabaseFault("unavailable", toFault(error).message, false, 1000, { cause: error });
      this.reachability.failed(fault);
      throw fault;
    }
    this.client = client;
    this.reachability.reached();
    return client;
  }

  private discard(client: pg.Client): void {
    if (this.client === client) this.client = null;
    client.end().catch(() => undefined);
  }
}

/** The pool for transactions and for what is not hot. */
export class TransactionPool implements Connection {
  private readonly pool: pg.Pool;

  constructor(
    private readonly settings: ConnectionSettings,
    private readonly reachability: Reachability,
  ) {
    this.pool = new pg.Pool({ ...clientConfig(settings, "leasehold commands"), max: settings.poolSize, idleTimeoutMillis: 60_000 });
    // An idle connection that breaks is replaced by the pool; without a listener the error would end the process.
    this.pool.on("error", () => undefined);
  }

  run(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    return this.withClient((client) => runOn(client, statement, values, this.settings.prepared));
  }

  /** Runs `work` in a transaction; commits when it resolves. Conflicts with other transactions are tried once more. */
  async transaction<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      return await this.once(work);
    } catch (error) {
      if (error instanceof DatabaseFault && error.kind === "conflict") return this.once(work);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  private once<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    return this.withClient(async (client) => {
      await control(client, "BEGIN");
      try {
        const result = await work({ run: (statement, values) => runOn(client, statement, values, this.settings.prepared) });
        await control(client, "COMMIT");
        return result;
      } catch (error) {
        await client.query("ROLLBACK").catch(() => undefined);
        throw error;
      }
    });
  }

  private async withClient<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    let client: pg.PoolClient;
    try {
      client = await this.pool.connect();
    } catch (error) {
      const fault = new DatabaseFault("unavailable", toFault(error).message, false, 1000, { cause: error });
      this.reachability.failed(fault);
      throw fault;
    }
    // While it is lent out the pool does not listen for its errors.
    const ignore = (): void => undefined;
    client.on("error", ignore);
    let broken = false;
    try {
      const result = await work(client);
      this.reachability.reached();
      return result;
    } catch (error) {
      // Only the driver's own faults say anything about the connection; everything else is the caller's.
      if (error instanceof DatabaseFault) {
        broken = breaksConnection(error);
        this.reachability.failed(error);
      }
      throw error;
    } finally {
      client.off("error", ignore);
      client.release(broken);
    }
  }
}

async function runOn(client: pg.ClientBase, statement: Statement, values: readonly unknown[], prepared: boolean): Promise<Row[]> {
  const query = {
    text: statement.text,
    values: values as unknown[],
    rowMode: "array" as const,
    ...(prepared ? { name: statement.name } : {}),
  };
  try {
    const result = await client.query<Cell[]>(query);
    return result.rows;
  } catch (error) {
    throw toFault(error);
  }
}

async function control(client: pg.ClientBase, command: "BEGIN" | "COMMIT"): Promise<void> {
  try {
    await client.query(command);
  } catch (error) {
    throw toFault(error);
  }
}
