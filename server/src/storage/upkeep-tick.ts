// Was the database away? Upkeep writes down each of its ticks; a gap means that nobody could heartbeat or report, so for a
// while nothing is charged to anybody.

import type { Connection } from "./statement.js";
import { instant } from "./statement.js";
import type { UpkeepTick } from "./storage.js";
import type { UpkeepStatements } from "./upkeep-statements.js";

/** A gap between two ticks that counts as an outage. */
const OUTAGE_US = 3_000_000;
/** For how long after an outage no deadline and no grace fires: the longest heartbeat interval and 5 s. */
const LENIENT_US = 20_000_000;

/** Writes a tick down; after a gap it spares all sessions for their TTL. */
export async function tickUpkeep(
  pool: Connection,
  statements: UpkeepStatements,
  shard: number,
  server: { readonly id: string; readonly address: string; readonly version: string },
  observe: (nowUs: number) => void,
): Promise<UpkeepTick> {
  const [row] = await pool.run(statements.tick, [shard, server.id, server.address, server.version, OUTAGE_US, LENIENT_US]);
  if (row === undefined) throw new Error("the upkeep row is missing");
  observe(instant(row, 0));
  return { lenient: row[1] === "t", alone: row[2] !== "t" };
}
