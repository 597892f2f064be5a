// Where does a system keep its tasks? In a fresh database of the one durable Postgres that all of them share.
import pg from "pg";

const DEADLOCK = "40P01";
const TRUNCATE_TRIES = 5;

let made = 0;

/** Makes a database and opens a connection to it, for what the benchmark itself asks. */
export async function createDatabase({ postgres, admin }, system) {
  const name = `bench_${system.replaceAll(/\W/g, "_")}_${++made}`;
  await admin.query(`CREATE DATABASE ${name}`);
  const url = postgres.url.replace(/\/leasehold\?/, `/${name}?`);
  const client = await connect(url);
  return {
    url,
    client,
    /** Where the write-ahead log stands, in bytes. */
    async walBytes() {
      const { rows } = await client.query("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS bytes");
      return Number(rows[0].bytes);
    },
    async drop() {
      await client.end();
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

/** Empties the tables that the query names. */
export async function truncate({ client }, query) {
  const { rows } = await client.query(query);
  const statement = `TRUNCATE ${rows.map(({ name }) => name).join(", ")}`;
  for (let triesLeft = TRUNCATE_TRIES; ; triesLeft--) {
    try {
      await client.query(statement);
      return;
    } catch (error) {
      // The system's own upkeep goes on, and locks its tables in another order.
      if (error.code !== DEADLOCK || triesLeft === 0) throw error;
    }
  }
}

/** Opens one connection. */
export async function connect(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}
