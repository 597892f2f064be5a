// How does a test step between the two halves of a claim, or of an insert that leases? The statement that leases, and the look at the sessions'
// epochs after its commit.
import pg from "pg";
import type { NewTask } from "@leasehold/server/domain/new-task";
import { clientConfig } from "@leasehold/server/storage/connections";
import { insertLeasing, insertStatements } from "@leasehold/server/storage/insert-tasks";
import type { Claim, Claimed, Inserted, ReservedSlots } from "@leasehold/server/storage/storage";
import { leaseStatements, leaseTasks } from "@leasehold/server/storage/lease-tasks";
import type { Cell, Connection } from "@leasehold/server/storage/statement";
import { statementsFor } from "@leasehold/server/storage/statement";
import { storageSettings } from "./storage.js";

/** Claims that can be stepped into. */
export interface ClaimParts {
  /** Leases as a server does, and does `between` after the commit of the claim. */
  lease(claim: Claim, between: () => Promise<unknown>): Promise<Claimed>;
  /** Stores and leases as a server does, and does `between` after the commit of the insert. */
  insert(tasks: readonly NewTask[], slots: ReservedSlots, between: () => Promise<unknown>): Promise<Inserted[]>;
  close(): Promise<void>;
}

/** Opens a connection as the server's lane for leases has one. */
export async function claimParts(url: string): Promise<ClaimParts> {
  const client = new pg.Client(clientConfig(storageSettings(url), "claim parts"));
  await client.connect();
  const build = statementsFor("leasehold");
  const statements = { ...leaseStatements(build), ...insertStatements(build) };
  const stepped = (between: () => Promise<unknown>): Connection => {
    let before: Promise<unknown> = Promise.resolve();
    return {
      run: (statement, values) => {
        const turn = before.then(async () => {
          if (statement === statements.epochs) await between();
          return (await client.query<Cell[]>({ text: statement.text, values: [...values], rowMode: "array" })).rows;
        });
        before = turn.catch(() => undefined);
        return turn;
      },
    };
  };
  return {
    lease: (claim, between) => leaseTasks(stepped(between), statements, 0, claim, () => undefined),
    insert: (tasks, slots, between) => insertLeasing(stepped(between), statements, tasks, { shard: 0, slots, observe: () => undefined }),
    close: () => client.end(),
  };
}
