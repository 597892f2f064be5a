// Where does Postgres' time go? What pg_stat_statements counted during a case, its warm-up included.

const SHOWN = 14;

/** Forgets what was counted. */
export async function forgetStatements({ admin }) {
  await admin.query("SELECT pg_stat_statements_reset()");
}

/** Prints the statements that took longest together. */
export async function tellStatements({ admin }) {
  const { rows } = await admin.query(
    `SELECT total_exec_time AS ms, calls, rows, wal_bytes::float8 AS wal, shared_blks_hit::float8 AS hits, query
     FROM pg_stat_statements WHERE query !~ 'pg_stat_statements' ORDER BY total_exec_time DESC LIMIT ${SHOWN}`,
  );
  for (const { ms, calls, rows: count, wal, hits, query } of rows) {
    const figures = [ms.toFixed(0), calls, count, (wal / 1e6).toFixed(1), (hits / Math.max(1, Number(calls))).toFixed(0)];
    console.log(`    ${figures.map((figure) => String(figure).padStart(8)).join(" ")}  ${outline(query)}`);
  }
  console.log("          ms    calls     rows   WAL MB pages/call");
}

// Statements of several parts begin alike: what they write tells them apart.
function outline(query) {
  const flat = query.replaceAll(/\s+/g, " ");
  const writes = [...flat.matchAll(/(INSERT INTO|UPDATE|DELETE FROM) ("?\w+"?\.)?("?\w+"?)/g)].map(
    ([, verb, , table]) => `${verb.split(" ")[0]} ${table}`,
  );
  return writes.length > 0 ? [...new Set(writes)].join(", ").slice(0, 140) : flat.slice(0, 140);
}
