// What does Leasehold look like in one file? A task, a worker that runs it, and a caller that waits for its typed result.
import { createClient, createWorker, defineTask, handle, isTaskFailed } from "@leasehold/client";
import { z } from "zod";

const divide = defineTask({
  name: "quickstart.divide",
  metadata: z.object({ dividend: z.number(), divisor: z.number() }),
  result: z.object({ quotient: z.number() }),
  errors: { division_by_zero: z.object({ dividend: z.number() }) },
});

const divideHandler = handle(divide, (ctx) => {
  const { dividend, divisor } = ctx.metadata;
  if (divisor === 0) return ctx.fail("division_by_zero", { dividend }, { retry: false });
  return { quotient: dividend / divisor };
});

const client = createClient(); // LEASEHOLD_ADDRESS, or 127.0.0.1:7410
const worker = createWorker({ client, handlers: [divideHandler] });
const running = worker.run();

const job = await client.submit(divide, { dividend: 84, divisor: 2 });
console.log(`submitted ${job.id}`);
const { quotient } = await job.result({ timeout: "1m" });
console.log(`84 / 2 = ${quotient}`);

const hopeless = await client.submit(divide, { dividend: 1, divisor: 0 });
try {
  await hopeless.result({ timeout: "1m" });
} catch (error) {
  if (!isTaskFailed(error, divide) || error.failure.code !== "division_by_zero") throw error;
  console.log(`${error.failure.data.dividend} / 0 failed: ${error.failure.code}`);
}

await worker.drain();
await running;
client.close();
