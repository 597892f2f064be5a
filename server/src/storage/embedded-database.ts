// What is a Postgres that runs within this process? One session, which everybody takes turns at: the test kit's, which brings it. Nothing here
// is durable, and no server that serves anybody runs on it.

import type { Cell, Row } from "./statement.js";

/** A statement for an embedded database. */
export interface EmbeddedStatement {
  /** Prepared under this name once; left out: not kept. */
  readonly name?: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/** What a statement answered: all cells as text. */
export interface EmbeddedResult {
  readonly fields: readonly { readonly name: string; readonly dataTypeID: number }[];
  readonly rows: readonly Row[];
}

/** The session, while it is somebody's turn. */
export interface EmbeddedSession {
  /** Runs statements in one round trip and answers the last one's result. Rejects with the first one's error, which carries its SQLSTATE as `code`. */
  run(statements: readonly EmbeddedStatement[]): Promise<EmbeddedResult>;
  /** Runs a script of many statements. */
  script(sql: string): Promise<void>;
}

/** A Postgres in this process. */
export interface EmbeddedDatabase {
  /** Waits for its turn, and has the session for itself until `work` has ended. */
  alone<T>(work: (session: EmbeddedSession) => Promise<T>): Promise<T>;
}

/** A session as migrations use it: objects with parsed values are made by the columns that they read. */
export function cellsAsObjects({ fields, rows }: EmbeddedResult): Record<string, Cell>[] {
  return rows.map((row) => Object.fromEntries(fields.map(({ name }, index) => [name, row[index] ?? null])));
}
