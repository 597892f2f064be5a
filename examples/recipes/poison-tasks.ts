// What keeps a task that always fails, or always takes its worker down, from coming back for ever, and who hears of it?
import { type Client, defineTask, handle, type TaskHandler } from "@leasehold/client";
import { z } from "zod";

/** Makes a thumbnail of a file that may be anything. */
export const thumbnail = defineTask({
  name: "thumbnail",
  metadata: z.object({ file: z.string() }),
  result: z.object({ width: z.number() }),
  errors: { not_an_image: z.object({ type: z.string() }) },
  options: {
    retry: {
      maxAttempts: 4,
      backoff: { initial: "1s", factor: 4, max: "5m" },
      rules: [{ codes: ["not_an_image"], action: "fail" }], // another attempt sees the same file
      maxLostLeases: 2, // its worker may die twice in a row; the third time it is the task's fault
    },
    deadlines: { attempt: "2m" }, // an endless loop is a failed attempt
  },
});

/** What is known of a file. */
export type Look = (file: string) => Promise<{ readonly type: string; readonly width: number }>;

/** Anything that is thrown is tried again; what is declared follows the rule. */
export function thumbnailHandler(look: Look): TaskHandler {
  return handle(thumbnail, async (ctx) => {
    const { type, width } = await look(ctx.metadata.file);
    return type.startsWith("image/") ? { width } : ctx.fail("not_an_image", { type });
  });
}

/** Tasks that were given up, newest first: `max_attempts`, `poisoned` (took its workers down), `not_retryable`. */
export async function givenUp(client: Client): Promise<{ id: string; why: string; error: string }[]> {
  const found: { id: string; why: string; error: string }[] = [];
  for await (const { id, finishReason, lastError } of client.list(thumbnail, { state: ["failed"] }))
    found.push({ id, why: finishReason ?? "", error: lastError?.message ?? "" });
  return found;
}

/** After the bug is mended: each goes on from what it saved, its attempts counted anew. */
export async function revive(client: Client, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.map((id) => client.handle(thumbnail, { id }).retry()));
}
