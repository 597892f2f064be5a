// How does the server reach Postgres? By a few lanes for the hot path, each a connection of its own that runs one statement
// after the other, and small pools for everything that needs a transaction. Broken connections are replaced, never reused.

import pg from "pg";

import { breaksConnection, DatabaseFault, overloaded, toFault } from "./faults.js";
import type { Cell, Connection, Row, Statement } from "./statement.js";
import type { Caller, Turnstile } from "./turnstile.js";

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
  // A standby refuses a connection that asks for this. What it would answer to reads may be old.
  "transaction_read_only=off",
  // A host that is gone without a word must not hold its locks and connections for the hours that the system's defaults allow.
  "idle_in_transaction_session_timeout=10s",
  "tcp_keepalives_idle=10",
  "tcp_keepalives_interval=5",
  "tcp_keepalives_count=3",
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

/** Shorter than a statement waits over a dead socket: when the first one has found out, no other that is as dead lies in the pool. */
const IDLE_MS = 10_000;

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

/** A connection that runs one statement after the other. */
export interface HotLane extends Connection {
  /** Statements that are under way or wait for their turn. */
  readonly inFlight: number;
  /** The next statement gets a new connection; the present one ends with what it was given. */
  renew(): void;
  close(): Promise<void>;
}

/** Where transactions run, and what is not hot. */
export interface Transactions extends Connection {
  /** The same for a caller, who is refused where he would wait too long. */
  for(caller: Caller | undefined): Connection;
  /** Runs `work` in a transaction; commits when it resolves. Conflicts with other transactions are tried once more. */
  transaction<T>(work: (connection: Connection) => Promise<T>, caller?: Caller): Promise<T>;
  /** Whatever comes next gets a new connection. */
  renew(): void;
  close(): Promise<void>;
}

/** Statements that may be on one lane. Whoever uses it bounds what he sends; this is for calls that come one by one, as hellos. */
const MOST_ON_A_LANE = 1_000;

/**
 * A connection of its own that is opened when first needed and replaced after a break. Statements are sent as they come, each a transaction of
 * its own: those of one turn of the event loop run in their order, each after the commit of the one before, in one way there and back.
 */
export class Lane implements HotLane {
  private client: pg.Client | null = null;
  private opening: Promise<pg.Client> | null = null;
  private closed = false;
  private running = 0;
  /** Ends with all statements that were given. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly settings: ConnectionSettings,
    private readonly name: string,
    private readonly reachability: Reachability,
  ) {}

  async run(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    if (this.running >= MOST_ON_A_LANE) throw overloaded("too many statements wait for a connection", 1000, 0);
    this.running++;
    try {
      // Without waiting where it is there already: nothing may come between statements of one turn.
      const client = this.client ?? (await this.connected());
      const before = this.last;
      // What is under way when the connection breaks fails with it, at once. Without pipelining it waits here, because the driver means to stop
      // queueing.
      const turn = this.settings.prepared
        ? this.runConnected(client, statement, values)
        : before.then(() => this.runConnected(client, statement, values));
      this.last = turn.then(
        () => before,
        () => before,
      );
      return await turn;
    } finally {
      this.running--;
    }
  }

  get inFlight(): number {
    return this.running;
  }

  renew(): void {
    const { client } = this;
    this.client = null;
    if (client !== null) void this.last.then(() => client.end()).catch(() => undefined);
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
    // Poolers that mix up prepared statements are trusted with one statement at a time.
    const client = new pg.Client({ ...clientConfig(this.settings, `leasehold ${this.name}`), pipeline: this.settings.prepared });
    client.on("error", () => {
      this.discard(client);
    });
    try {
      await client.connect();
      heedWarnings(client);
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

/** A pool for transactions and for what is not hot. */
export class TransactionPool implements Transactions {
  private readonly pool: pg.Pool;
  /** Connections that may be lent out; the others are replaced when their turn comes. */
  private current = new WeakSet<pg.PoolClient>();

  constructor(
    private readonly settings: ConnectionSettings,
    name: string,
    private readonly turnstile: Turnstile,
    private readonly reachability: Reachability,
  ) {
    this.pool = new pg.Pool({ ...clientConfig(settings, `leasehold ${name}`), max: settings.poolSize, idleTimeoutMillis: IDLE_MS });
    // An idle connection that breaks is replaced by the pool; without a listener the error would end the process.
    this.pool.on("error", () => undefined);
    this.pool.on("connect", (client) => {
      // The pool listens only while a connection is idle. One that is lent out may be told its end too, even before its borrower learns of it:
      // a connection that is ready and its FATAL can arrive as one.
      client.on("error", () => undefined);
      heedWarnings(client);
      this.current.add(client);
    });
  }

  run(statement: Statement, values: readonly unknown[]): Promise<Row[]> {
    return this.withClient((client) => runOn(client, statement, values, this.settings.prepared));
  }

  for(caller: Caller | undefined): Connection {
    return {
      run: (statement, values) => this.withClient((client) => runOn(client, statement, values, this.settings.prepared), caller),
    };
  }

  async transaction<T>(work: (connection: Connection) => Promise<T>, caller?: Caller): Promise<T> {
    try {
      return await this.once(work, caller);
    } catch (error) {
      if (error instanceof DatabaseFault && error.kind === "conflict") return this.once(work, caller);
      throw error;
    }
  }

  renew(): void {
    this.current = new WeakSet();
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  private once<T>(work: (connection: Connection) => Promise<T>, caller: Caller | undefined): Promise<T> {
    return this.withClient(async (client) => {
      await control(client, "BEGIN");
      try {
        const result = await work({ run: (statement, values) => runOn(client, statement, values, this.settings.prepared) });
        await control(client, "COMMIT");
        return result;
      } catch (error) {
        // A broken connection is closed, which rolls back; over a dead socket this would wait once more for an answer that never comes.
        if (!(error instanceof DatabaseFault && breaksConnection(error))) await client.query("ROLLBACK").catch(() => undefined);
        throw error;
      }
    }, caller);
  }

  // The pool's own queue stays empty: no more pass than it has connections.
  private withClient<T>(work: (client: pg.PoolClient) => Promise<T>, caller?: Caller): Promise<T> {
    return this.turnstile.pass(() => this.lent(work), caller);
  }

  private async lent<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    let client: pg.PoolClient;
    try {
      for (client = await this.pool.connect(); !this.current.has(client); client = await this.pool.connect()) client.release(true);
    } catch (error) {
      const fault = new DatabaseFault("unavailable", toFault(error).message, false, 1000, { cause: error });
      this.reachability.failed(fault);
      throw fault;
    }
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
      client.release(broken);
    }
  }
}

/** Connections on which a warning came. Nobody can tell with which of the statements that were under way: all of them are refused. */
const doubted = new WeakSet<pg.ClientBase>();

// A commit whose wait for the standby was cancelled is answered like any other; this warning is all that tells it apart.
function heedWarnings(client: pg.ClientBase): void {
  client.on("notice", ({ code }) => {
    if (code === "01000") doubted.add(client);
  });
}

function refuseDoubt(client: pg.ClientBase): void {
  if (doubted.has(client)) throw new DatabaseFault("unavailable", "the commit may not have reached the standby", true, 1000);
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
    refuseDoubt(client);
    return result.rows;
  } catch (error) {
    throw toFault(error);
  }
}

async function control(client: pg.ClientBase, command: "BEGIN" | "COMMIT"): Promise<void> {
  try {
    await client.query(command);
    refuseDoubt(client);
  } catch (error) {
    throw toFault(error);
  }
}
