// Does the log keep its form, and its mouth shut?
import { expect, it } from "vitest";
import { createLog } from "@leasehold/server/telemetry/log";

const SECRET = "postgres://user:hunter2@db/x";
const TOKEN = "A".repeat(43);

function logged(format: "json" | "text", write: (log: ReturnType<typeof createLog>) => void): string {
  let text = "";
  write(createLog({ level: "info", format }, { write: (line) => (text += line) }));
  return text;
}

it("writes one JSON object a line", () => {
  const line = logged("json", (log) => log.info({ address: "127.0.0.1:7410" }, "listening"));
  expect(line).toMatch(/^\{"level":"info","time":"\d{4}-\d\d-\d\dT[\d:.]+Z","address":"127\.0\.0\.1:7410","msg":"listening"\}\n$/);
});

it("writes one line of text for people", () => {
  const line = logged("text", (log) => log.warn({ address: "127.0.0.1:7410", said: "two words" }, "listening"));
  expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z warn {2}listening address=127\.0\.0\.1:7410 said="two words"\n$/);
});

it("writes nothing below its level", () => {
  expect(logged("json", (log) => log.debug({}, "x"))).toBe("");
});

it.each(["json", "text"] as const)("never writes connection strings, lease tokens or payloads (%s)", (format) => {
  const error = Object.assign(new Error(`cannot reach ${SECRET} for ${TOKEN}`, { cause: new Error(SECRET) }), {
    parameters: ["payload!"],
    query: "payload!",
    connectionString: SECRET,
  });
  const text = logged(format, (log) =>
    log.error(
      { err: error, url: SECRET, token: TOKEN, database: { url: SECRET, listenUrl: SECRET }, task: { metadata: "payload!" } },
      "failed",
    ),
  );
  expect(text).toContain("cannot reach postgres://[removed] for [removed]");
  for (const secret of ["hunter2", TOKEN, "payload!"]) expect(text).not.toContain(secret);
  expect(text.trimEnd()).not.toContain("\n");
});
