// What does an order go through? Two payments arrive for it; each step is told as it is stored.
import { type Client, createClient, createWorker } from "@leasehold/client";
import { order, orderHandler } from "./order.js";

/** As a payment provider's callback would. */
async function pay(client: Client, key: string, cents: number): Promise<void> {
  await client.handle(order, { key }).proceed({
    update: (current) => {
      if (current.state !== "awaiting_payment") return current;
      return { ...current, data: { ...current.data, paid: (current.data.paid ?? 0) + cents } };
    },
    note: `${cents} cents arrived`,
  });
  console.log(`${cents} cents arrived`);
}

const client = createClient();
const worker = createWorker({ client, handlers: [orderHandler] });
const running = worker.run();

const number = String(Date.now());
const job = await client.submit(order, { number, cents: 500, address: { street: "1 Main Street", city: "Springfield" } }, { key: number });
const payments = [200, 300];
for await (const { state } of job.watch({ timeout: "1m" })) {
  if (state !== "suspended") continue;
  const { executionMetadata } = await job.snapshot();
  console.log(`waits as ${executionMetadata.state}: ${JSON.stringify(executionMetadata.data)}`);
  const cents = payments.shift();
  if (cents !== undefined) await pay(client, number, cents);
}
const { parcel } = await job.result();
console.log(`shipped as ${parcel === `parcel-${number}` ? "parcel-<number>" : parcel}`);
for await (const { type, message } of job.events()) console.log(`  ${type} ${message}`);

await worker.drain();
await running;
client.close();
