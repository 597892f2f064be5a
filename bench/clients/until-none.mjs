// When is the last task recorded, where a library does not tell? When its table holds no unfinished one.
import pg from "pg";
import { pause } from "../clock.mjs";

const LOOK_MS = 10;

/** A function that waits until the query finds nothing. */
export function untilNone(databaseUrl, query) {
  return async () => {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    while ((await client.query(query)).rowCount > 0) await pause(LOOK_MS);
    await client.end();
  };
}
