// Is a wake-up ever missed when nothing polls? A temporary question.
import { defineTask, handle } from "@leasehold/client";
import { it } from "vitest";
import { z } from "zod";
import { sdkScene } from "../../support/sdk-scene.js";
const sdk = sdkScene({ LEASEHOLD_SCHEDULING_POLLING_DELAY: "1h", LEASEHOLD_SCHEDULING_BATCH_SIZE: "2" });
it("soon", { timeout: 100000 }, async () => {
  const task = defineTask({ name: sdk.name(), metadata: z.number(), result: z.number() });
  await sdk.work([handle(task, ({ metadata }) => metadata)]);
  for (let round = 0; round < 200; round += 1) {
    const job = await sdk.client.submit(task, round, { scheduleTime: { in: round % 60 } });
    await job.result({ timeout: "8s" }).catch(async (e) => { throw new Error(`soon ${round} ${JSON.stringify((await sdk.client.handle(task, job.id).snapshot()).state)}`, { cause: e }); });
  }
});
it("burst", { timeout: 100000 }, async () => {
  for (let round = 0; round < 40; round += 1) {
    const task = defineTask({ name: sdk.name(), metadata: z.number(), result: z.number() });
    const w = await sdk.work([handle(task, ({ metadata }) => metadata)]);
    const jobs = await Promise.all(Array.from({ length: 9 }, (_, n) => sdk.client.submit(task, n)));
    await Promise.all(jobs.map(async (job) => job.result({ timeout: "8s" }).catch(async (e) => { throw new Error(`burst ${round} ${job.id}`, { cause: e }); })));
    await w.drain();
  }
});
