// Was the database away? Upkeep writes down each of its ticks; a gap means that nobody could heartbeat or report, so for a
// while nothing is charged to anybody.

import type { TransactionPool } from "./connections.js";
import { instant } from "./statement.js";
import type { UpkeepTick } from "./storage.js";
import type { UpkeepStatements } from "./upkeep-statements.js";

/** A gap between two ticks that counts as an outage. */
const OUTAGE_US = 3_000_000;
/** For how long after an outage no deadline and no grace fires: the longest heartbeat interval and 5 s. */
const LENIENT_US = 20_000_000;

/** Writes a tick down; after a gap it spares all sessions for their TTL. */
export async function tickUpkeep(
  pool: TransactionPool,
  statements: UpkeepStatements,
  shard: number,
  server: { readonly id: string; readonly address: string; readonly version: string },
  observe: (nowUs: number) => void,
): Promise<UpkeepTick> {
  return pool.transaction(async (connection) => {
    const [row] = await connection.run(statements.lockTick, [shard]);
    if (row === undefined) throw new Error("the upkeep row is missing");
    const lastTickUs = instant(row, 0);
    const nowUs = instant(row, 2);
    observe(nowUs);
    // Without living sessions there is nobody to be lenient with: a first start is no outage.
    const outage = nowUs - lastTickUs > OUTAGE_US && row[3] === "t";
    const lenientUntilUs = outage ? nowUs + LENIENT_US : instant(row, 1);
    if (outage) await connection.run(statements.spareSessions, [shard]);
    await connection.run(statements.writeTick, [lenientUntilUs]);
    const [seen] = await connection.run(statements.seen, [server.id, server.address, server.version]);
    return { lenient: nowUs < lenientUntilUs, alone: seen?.[0] !== "t" };
  });
}
