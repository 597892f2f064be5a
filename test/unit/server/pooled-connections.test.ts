// Does the process outlive what Postgres says to a pooled connection at any time of its life? With a server that says the worst at the worst moment.
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { TransactionPool } from "@leasehold/server/storage/connections";
import { DatabaseFault } from "@leasehold/server/storage/faults";
import { statementsFor } from "@leasehold/server/storage/statement";
import { Turnstile } from "@leasehold/server/storage/turnstile";

const ASK = statementsFor("leasehold")("ask", "SELECT 1");

/** A message of Postgres: its letter, its length, its content. */
function message(letter: string, content: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(letter);
  head.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([head, content]);
}

const ACCEPTED = message("R", Buffer.from([0, 0, 0, 0]));
const READY = message("Z", Buffer.from("I"));
const DYING = message("E", Buffer.from("SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0"));

let server: Server;
let pool: TransactionPool;
let uncaught: unknown[];
const note = (error: unknown): void => void uncaught.push(error);
beforeEach(async () => {
  uncaught = [];
  process.prependListener("uncaughtException", note);
  // Ready and dying arrive as one: there is no moment in between for whoever was given the connection.
  server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.end(Buffer.concat([ACCEPTED, READY, DYING])));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const settings = { url: `postgresql://leasehold@127.0.0.1:${String(port)}/none`, prepared: true, poolSize: 1, statementTimeoutMs: 5_000 };
  const gate = new Turnstile(systemClock(), { places: 1, maxWaiting: 10, maxWaitMs: 10_000 });
  pool = new TransactionPool(settings, "test", gate, { reached: () => undefined, failed: () => undefined });
});
afterEach(async () => {
  process.off("uncaughtException", note);
  await pool.close();
  server.close();
});

it("hears that its connection is ended by Postgres in the moment in which it is lent out", async () => {
  await expect(pool.run(ASK, [])).rejects.toThrow(DatabaseFault);
  expect(uncaught).toEqual([]);
});
