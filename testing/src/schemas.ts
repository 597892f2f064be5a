// Where does an environment keep its tasks? In a schema of its own on the shared database. Making one takes as long as its migrations; one that
// another environment has given back is emptied instead.

import { emptySchema, prepareSchema } from "@leasehold/server/storage/embedded-schema";
import type { SharedDatabase } from "./pglite.js";

/** A schema that nobody else uses until it is given back. */
export async function takeSchema(database: SharedDatabase, nowUs: number): Promise<string> {
  const used = database.freeSchemas.pop();
  if (used !== undefined) {
    await emptySchema(database, used, nowUs);
    return used;
  }
  database.schemas += 1;
  const schema = `environment_${String(database.schemas)}`;
  await prepareSchema(database, schema, nowUs);
  return schema;
}

/** Gives a schema back. Nothing may use it any more. */
export function giveSchemaBack(database: SharedDatabase, schema: string): void {
  database.freeSchemas.push(schema);
}
