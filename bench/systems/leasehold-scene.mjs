// How is Leasehold started, for raw calls and for the SDK alike? One server on a database of its own; a second one where a case asks.
import { startServer } from "../children.mjs";
import { createDatabase, truncate } from "../database.mjs";
import { Scene } from "../scene.mjs";

// Sessions stay: their workers are connected.
const TABLES = `
  SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.columns
  WHERE table_schema = 'leasehold' AND column_name = 'shard' AND table_name <> 'sessions'`;

/** Starts it. */
export async function startLeasehold(name, environment) {
  const { profileDir } = environment;
  const database = await createDatabase(environment, name);
  const servers = [await startServer(database.url, profileDir)];
  const target = { addresses: servers.map(({ address }) => address) };
  return new Scene({
    name,
    target,
    database,
    pids: () => servers.map(({ pid }) => pid),
    reset: () => truncate(database, TABLES),
    close: () => Promise.all(servers.map((server) => server.stop())),
    async addServer() {
      const added = await startServer(database.url, profileDir);
      servers.push(added);
      target.addresses.push(added.address);
      return async () => {
        servers.splice(servers.indexOf(added), 1);
        target.addresses.splice(target.addresses.indexOf(added.address), 1);
        await added.stop();
      };
    },
  });
}
