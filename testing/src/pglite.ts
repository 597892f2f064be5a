// Where does the kit's Postgres run? In this process, as WebAssembly, started once for all environments; they take turns at its one session.

import { PGlite, protocol } from "@electric-sql/pglite";
import { captured } from "@leasehold/client/kit";
import type { EmbeddedDatabase, EmbeddedResult, EmbeddedSession, EmbeddedStatement } from "@leasehold/server/storage/embedded-database";
import { prepareSession } from "@leasehold/server/storage/embedded-schema";
import { startedWithRealGlobals, withRealGlobals } from "./real-globals.js";

type Message = Awaited<ReturnType<PGlite["execProtocol"]>>["messages"][number];

const { serialize } = protocol;

// Modules are loaded once per test file, the database once per process.
const SLOT = Symbol.for("@leasehold/testing database 0.1.0");
const shared = globalThis as Partial<Record<symbol, Promise<SharedDatabase>>>;

/** A database that all environments of this process share. */
export interface SharedDatabase extends EmbeddedDatabase {
  /** Schemas that were used and are free again. */
  readonly freeSchemas: string[];
  /** How many schemas there are. */
  schemas: number;
  /** How long the database took to start, in milliseconds. */
  readonly startMs: number;
}

/** The database of this process; the first call starts it, which takes some seconds. */
export function sharedDatabase(): Promise<SharedDatabase> {
  return (shared[SLOT] ??= start());
}

async function start(): Promise<SharedDatabase> {
  const sinceMs = captured.monotonic();
  const session = new PgliteSession(await startedWithRealGlobals(() => PGlite.create()));
  let last: Promise<unknown> = Promise.resolve();
  const alone = <T>(work: (session: EmbeddedSession) => Promise<T>): Promise<T> => {
    const turn = last.then(() => work(session));
    last = turn.catch(() => undefined);
    return turn;
  };
  await prepareSession({ alone });
  return { alone, freeSchemas: [], schemas: 0, startMs: captured.monotonic() - sinceMs };
}

/** The session, over the wire protocol: so values travel, and cells arrive, as they do with a real Postgres. */
class PgliteSession implements EmbeddedSession {
  readonly #prepared = new Set<string>();

  constructor(private readonly database: PGlite) {}

  run(statements: readonly EmbeddedStatement[]): Promise<EmbeddedResult> {
    return Promise.resolve().then(() => {
      const parsed: string[] = [];
      const parts = statements.flatMap((statement) => this.#messages(statement, parsed));
      const messages = this.#exchange([...parts, serialize.sync()]);
      // Those before an error were kept all the same: they are no part of the transaction.
      const complete = messages.filter(({ name }) => name === "parseComplete").length;
      for (const name of parsed.slice(0, complete)) if (name !== "") this.#prepared.add(name);
      requireSuccess(messages);
      return lastResult(messages);
    });
  }

  script(sql: string): Promise<void> {
    return Promise.resolve().then(() => {
      requireSuccess(this.#exchange([serialize.query(sql)]));
    });
  }

  // Its asynchronous calls do the same thing, after turns in which others could see the globals changed.
  #exchange(parts: readonly Uint8Array[]): Message[] {
    const answer = withRealGlobals(() => this.database.execProtocolRawSync(Buffer.concat(parts)));
    const messages: Message[] = [];
    new protocol.Parser().parse(answer, (message) => messages.push(message));
    return messages;
  }

  #messages({ name = "", text, values }: EmbeddedStatement, parsed: string[]): Uint8Array[] {
    // Postgres keeps 63 bytes of a name: statements of one schema differ at their ends.
    const kept = name.slice(-63);
    const parse = this.#prepared.has(kept) ? [] : [serialize.parse({ name: kept, text })];
    if (parse.length > 0) parsed.push(kept);
    const bound = values.map(wireValue);
    return [...parse, serialize.bind({ statement: kept, values: bound }), serialize.describe({ type: "P" }), serialize.execute()];
  }
}

function requireSuccess(messages: readonly Message[]): void {
  const failure = messages.find((message) => message instanceof Error);
  if (failure instanceof Error) throw failure;
}

function lastResult(messages: readonly Message[]): EmbeddedResult {
  let result: { fields: EmbeddedResult["fields"]; rows: EmbeddedResult["rows"][number][] } = { fields: [], rows: [] };
  for (const message of messages) {
    if (message instanceof protocol.messages.RowDescriptionMessage) result = { fields: message.fields, rows: [] };
    else if (message instanceof protocol.messages.DataRowMessage) result.rows.push(message.fields);
    // A statement without rows.
    else if (message.name === "noData") result = { fields: [], rows: [] };
  }
  return result;
}

/** A value as the driver of a real Postgres would send it: bytes as they are, everything else as text. */
function wireValue(value: unknown): string | Uint8Array | null {
  if (value === null || value === undefined) return null;
  if (value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return arrayText(value);
  return scalarText(value);
}

function scalarText(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString("hex")}`;
  throw new TypeError(`no statement takes a ${typeof value}`);
}

function arrayText(values: readonly unknown[]): string {
  const elements = values.map((value) => {
    if (value === null || value === undefined) return "NULL";
    if (Array.isArray(value)) return arrayText(value);
    return `"${scalarText(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  });
  return `{${elements.join(",")}}`;
}
