// Is the test kit's double honest? What a test of the storage stands on in the vitest project `pglite`: a schema of its own on the process's PGlite,
// reached as the kit reaches it.
import type { Clock } from "@leasehold/server/clock";
import { cellsAsObjects } from "@leasehold/server/storage/embedded-database";
import { timeStatement } from "@leasehold/server/storage/embedded-schema";
import { openEmbeddedStorage } from "@leasehold/server/storage/embedded-storage";
import { sharedDatabase } from "../../testing/src/pglite.js";
import { giveSchemaBack, takeSchema } from "../../testing/src/schemas.js";
import type { StorageGround } from "./storage-ground.js";

/** The types whose cells `pg` answers as something else than text. */
const PARSERS: Readonly<Record<number, (cell: string) => unknown>> = { 16: (cell) => cell === "t", 21: Number, 23: Number };

/** A schema whose clock stands at `startUs` until it is moved. */
export async function pgliteGround(
  settings: Parameters<typeof openEmbeddedStorage>[1],
  startUs: number,
  clock: Clock,
): Promise<StorageGround> {
  const database = await sharedDatabase();
  const schema = await takeSchema(database, startUs);
  let nowUs = startUs;
  return {
    url: "",
    open: () => openEmbeddedStorage(database, { ...settings, schema }, clock),
    rows: <T>(text: string, values: readonly unknown[]) =>
      database.alone(async (session) => {
        await session.script(`SET search_path TO ${schema}, pg_catalog`);
        try {
          const result = await session.run([timeStatement(schema, nowUs), { text, values }]);
          const types = new Map(result.fields.map(({ name, dataTypeID }) => [name, dataTypeID]));
          const valueOf = (name: string, cell: string | null): unknown =>
            cell === null ? null : (PARSERS[types.get(name) ?? 0]?.(cell) ?? cell);
          const parsed = cellsAsObjects(result).map((row) =>
            Object.fromEntries(Object.entries(row).map(([name, cell]) => [name, valueOf(name, cell)])),
          );
          return parsed as T[];
        } finally {
          await session.script("SET search_path TO DEFAULT");
        }
      }),
    setTime: (us) => {
      nowUs = us;
      return Promise.resolve();
    },
    connection: () => Promise.reject(new Error("PGlite has one connection: a test that needs several is written with itOverConnections")),
    remove: () => {
      giveSchemaBack(database, schema);
      return Promise.resolve();
    },
  };
}
