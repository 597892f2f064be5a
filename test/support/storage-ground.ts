// What does a test's storage stand on? A database of its own on a real Postgres, or a schema on a PGlite.
import type pg from "pg";
import type { Storage } from "@leasehold/server/storage/storage";

/** A place for storages. */
export interface StorageGround {
  /** The connection string; empty where nobody can connect. */
  readonly url: string;
  /** Opens a storage of one more server. */
  open(): Promise<Storage>;
  rows<T>(text: string, values: readonly unknown[]): Promise<T[]>;
  /** Moves the database's clock. */
  setTime(nowUs: number): Promise<void>;
  /** Rejects where there is only the one connection. */
  connection(): Promise<pg.Client>;
  remove(): Promise<void>;
}
