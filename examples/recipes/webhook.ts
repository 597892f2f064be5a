// How does another system's callback reach the task that waits for it? By the key that both know, whenever it comes and however often.
import { type Client, defineTask, handle, LeaseholdError, type TaskHandler } from "@leasehold/client";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { json } from "node:stream/consumers";
import { z } from "zod";

/** A payment that a provider confirms later. Its key is the order. */
export const payment = defineTask({
  name: "payment",
  metadata: z.object({ order: z.string(), cents: z.number() }),
  executionMetadata: z.object({ started: z.boolean().default(false), status: z.enum(["paid", "refused"]).optional() }),
  result: z.object({ paid: z.literal(true) }),
  errors: { refused: z.object({ order: z.string() }) },
});

/** Starts the payment once, then waits for the callback. */
export function paymentHandler(start: (order: string, cents: number) => Promise<void>): TaskHandler {
  return handle(payment, async (ctx) => {
    const { started, status } = ctx.executionMetadata.current;
    const { order, cents } = ctx.metadata;
    if (status === "paid") return { paid: true };
    if (status === "refused") return ctx.fail("refused", { order }, { retry: false });
    if (ctx.resumed.by === "woken") return ctx.cancel("the provider never called back");
    if (!started) await start(order, cents); // the callback may come before this returns: it is remembered
    return ctx.suspend({ executionMetadata: { started: true }, untilProceeded: true, timeout: "1d" });
  });
}

const callback = z.object({ order: z.string(), status: z.enum(["paid", "refused"]) });

/** Answers the provider: 204 when the callback is stored, 404 for an order that nobody knows, so that the provider comes again. */
export function webhookServer(client: Client): Server {
  const answer = async (request: IncomingMessage): Promise<number> => {
    const parsed = callback.safeParse(await json(request));
    if (!parsed.success) return 400;
    const { order, status } = parsed.data;
    try {
      await client.handle(payment, { key: order }).proceed({ patch: { status }, note: "webhook" });
      return 204;
    } catch (error) {
      if (!LeaseholdError.is(error)) throw error;
      if (error.reason === "TASK_FINISHED") return 204; // it came before
      if (error.code === "NOT_FOUND") return 404;
      throw error;
    }
  };
  return createServer((request, response) => {
    answer(request).then(
      (status) => response.writeHead(status).end(),
      () => response.writeHead(503).end(), // the provider comes again
    );
  });
}
