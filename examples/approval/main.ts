// How is an approval used from a web application? Three routes over one task definition, and a worker in the same process.
import { createClient, createWorker, LeaseholdError } from "@leasehold/client";
import { createServer, type IncomingMessage } from "node:http";
import { json } from "node:stream/consumers";
import { z } from "zod";
import { expense, expenseHandler } from "./expense.js";

const client = createClient();
const worker = createWorker({ client, handlers: [expenseHandler], grace: "5s" });

const Submitted = z.object({ number: z.string(), employee: z.string(), amount: z.number().positive() });
const Decided = z.object({ approved: z.boolean(), by: z.string() });

/** Answers `[status, body]`. */
async function answer(request: IncomingMessage): Promise<readonly [number, unknown]> {
  const [, route, number = ""] = (request.url ?? "").split("/");
  if (route !== "expenses") return [404, { error: "try /expenses" }];
  if (request.method === "POST" && number === "") {
    const { number: key, employee, amount } = Submitted.parse(await json(request));
    const { id, created } = await client.submit(expense, { employee, amount }, { key, keyHold: "1d" });
    return [created ? 201 : 200, { id }];
  }
  const task = client.handle(expense, { key: number });
  if (request.method === "POST") {
    const decision = Decided.parse(await json(request));
    await task.proceed({ update: (current) => ({ ...current, decision }), note: `by ${decision.by}` });
    return [200, await task.result({ timeout: "10s" })];
  }
  const { state, metadata, result } = await task.snapshot();
  return [200, { state, ...metadata, result }];
}

const server = createServer((request, response) => {
  answer(request)
    .catch((error: unknown) => {
      if (LeaseholdError.is(error)) return [error.code === "NOT_FOUND" ? 404 : 409, { error: error.message }] as const;
      return [400, { error: String(error) }] as const;
    })
    .then(([status, body]) => response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`))
    .catch(() => response.destroy());
});
const port = Number(process.env["PORT"] ?? 8080);
server.listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}`));

await worker.run(); // until Ctrl+C
server.close();
client.close();
