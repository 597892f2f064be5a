// Over what do slonik's reads travel? Its own driver sets no limit of the client's on a statement: over a socket that went dead without a reset
// a read would wait for ever, and its place in the pool with it. This one is the same driver, pg, with that limit.

import pg from "pg";
import { createDriverFactory } from "slonik";

/** Makes connections for slonik. */
export type ReaderDriver = ReturnType<typeof createDriverFactory>;

/**
 * Makes the connections of a pool that only reads. What fails rejects with the driver's own error; slonik drops its connection then.
 *
 * slonik's pool takes two failures badly, so neither reaches it: a connection that cannot be made leaves those waiting that came meanwhile, and
 * one that breaks with a statement under way is never taken off its list when the break is told beside the statement's own failure.
 */
export function readerDriver(config: pg.ClientConfig): ReaderDriver {
  return createDriverFactory(async () => ({
    createPoolClient: async ({ clientEventEmitter }) => {
      const client = new pg.Client(config);
      let connected: Promise<unknown> | null = null;
      let busy = false;
      client.on("error", (error) => {
        if (!busy) clientEventEmitter.emit("error", error);
      });
      return {
        // With its first statement, so that it fails as one.
        connect: () => Promise.resolve(),
        end: async () => {
          if (connected !== null) await client.end();
        },
        query: async (text, values) => {
          busy = true;
          try {
            await (connected ??= client.connect());
            const { fields, rowCount, rows } = await client.query<Record<string, unknown>>(text, values);
            return { command: "SELECT", fields: fields.map(({ dataTypeID, name }) => ({ dataTypeId: dataTypeID, name })), rowCount, rows };
          } finally {
            busy = false;
          }
        },
        stream: () => {
          throw new Error("reads are answered in pages, not in streams");
        },
      };
    },
  }));
}
