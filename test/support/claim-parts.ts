// How does a test step between the two halves of a claim? The statement that leases, and the look at the sessions' epochs after its commit.
import pg from "pg";
import { clientConfig } from "@leasehold/server/storage/connections";
import type { Claimed } from "@leasehold/server/storage/storage";
import { leaseStatements, leaseTasks } from "@leasehold/server/storage/lease-tasks";
import type { Cell } from "@leasehold/server/storage/statement";
import { statementsFor } from "@leasehold/server/storage/statement";
import type { Claim } from "@leasehold/server/storage/storage";
import { storageSettings } from "./storage.js";

/** Claims that can be stepped into. */
export interface ClaimParts {
  /** Leases as a server does, and does `between` after the commit of the claim. */
  lease(claim: Claim, between: () => Promise<unknown>): Promise<Claimed>;
  close(): Promise<void>;
}

/** Opens a connection as the server's lane for leases has one. */
export async function claimParts(url: string): Promise<ClaimParts> {
  const client = new pg.Client(clientConfig(storageSettings(url), "claim parts"));
  await client.connect();
  const statements = leaseStatements(statementsFor("leasehold"));
  return {
    lease: (claim, between) => {
      const run = async (statement: { name: string; text: string }, values: readonly unknown[]): Promise<Cell[][]> => {
        if (statement === statements.epochs) await between();
        return (await client.query<Cell[]>({ text: statement.text, values: [...values], rowMode: "array" })).rows;
      };
      return leaseTasks({ run }, statements, 0, claim, () => undefined);
    },
    close: () => client.end(),
  };
}
