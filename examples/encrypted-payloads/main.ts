// What does a server see of encrypted tasks? Nothing but names, states and labels. This program encrypts, rotates its key, and looks from outside.
import { aesGcmCodec, type Client, createClient, createWorker, defineTask, gzipCodec, handle, LeaseholdError } from "@leasehold/client";
import { randomBytes } from "node:crypto";
import { z } from "zod";

const letter = defineTask({
  name: "example.letter",
  metadata: z.object({ to: z.string(), text: z.string() }),
  result: z.object({ words: z.number() }),
});
const letterHandler = handle(letter, (ctx) => ({ words: ctx.metadata.text.split(" ").length }));

// In earnest these come from where your secrets are: 32 bytes each, in base64.
const keys = { "2026-01": randomBytes(32).toString("base64"), "2026-07": randomBytes(32).toString("base64") };
const fingerprintKey = randomBytes(32).toString("base64");

const encrypting = (known: Readonly<Record<string, string>>, current: string): Client =>
  createClient({ codecs: [gzipCodec({ fromBytes: 1_024 }), aesGcmCodec({ keys: known, current, fingerprintKey })] });

// Before the rotation, while it goes on, and somebody without any key.
const before = encrypting({ "2026-01": keys["2026-01"] }, "2026-01");
const after = encrypting(keys, "2026-07");
const outside = createClient();

const worker = createWorker({ client: after, handlers: [letterHandler] }); // a worker decodes and encodes with its client's codecs
const running = worker.run();

for (const [name, client] of Object.entries({ before, after })) {
  const job = await client.submit(letter, { to: "ada", text: "the analytical engine has no pretensions" }, { labels: { tenant: "t1" } });
  const { words } = await after.handle(letter, { id: job.id }).result({ timeout: "1m" });
  console.log(`submitted ${name} the rotation, read by the worker: ${words} words`);
  const { state, labels } = (await outside.list(letter, { ids: [job.id] }).page()).tasks[0] ?? {};
  console.log(`from outside: ${state}, ${JSON.stringify(labels)}`);
  await outside
    .handle(letter, { id: job.id })
    .result()
    .catch((error: unknown) => console.log(`from outside: ${LeaseholdError.from(error).code}`));
}

await worker.drain();
await running;
for (const client of [before, after, outside]) client.close();
