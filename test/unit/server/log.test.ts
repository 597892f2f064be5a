// Does the log keep its form, and its mouth shut?
import { expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { DatabaseFault } from "@leasehold/server/storage/faults";
import { collectorFailures } from "@leasehold/server/telemetry/collector-failures";
import { createLog } from "@leasehold/server/telemetry/log";
import { quietly } from "@leasehold/server/telemetry/quiet-failures";
import { taskLog } from "@leasehold/server/telemetry/task-log";
import { transition } from "@leasehold/server/domain/transition";
import { decisionContext, runningTask } from "../../support/domain.js";

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

const TRACE = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "", baggage: "" };
const FIELDS = {
  task_id: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e",
  trace_id: "0af7651916cd43dd8448eb211c80319c",
  span_id: "b7ad6b7169203331",
};

it("names the task and the trace of background work that failed, bug or fault", () => {
  const failures = [new Error("a bug"), new DatabaseFault("unavailable", "away", false, null)];
  for (const failure of failures) {
    const line = logged("json", (log) => quietly(systemClock(), log)(failure, { taskId: FIELDS.task_id, traceContext: TRACE }));
    expect(JSON.parse(line)).toMatchObject(FIELDS);
  }
  expect(logged("json", (log) => quietly(systemClock(), log)(new Error("a bug")))).not.toContain("_id");
});

it("warns of a task that is poisoned, by its id, and of no lease that was lost before", () => {
  const lost = (losses: number): string =>
    logged("json", (log) => {
      const before = runningTask({ lostLeases: losses });
      const answer = transition(before, { kind: "lease-lost" }, decisionContext());
      if (answer.kind === "changed" || answer.kind === "finished") taskLog(log)(before, answer);
    });
  expect(lost(0)).toBe("");
  expect(JSON.parse(lost(1_000))).toMatchObject({
    level: "warn",
    task_id: FIELDS.task_id,
    task_name: "report.render",
    cause: "LEASE_LOST",
  });
});

it("tells the first of many complaints of OpenTelemetry, without what is secret in it", () => {
  const text = logged("json", (log) => {
    const diag = collectorFailures(systemClock(), log);
    diag.info("nobody needs this");
    diag.error(JSON.stringify({ stack: "x", message: `no answer for ${SECRET}` }));
    for (let n = 0; n < 100; n++) diag.warn(`dropped ${String(n)}`);
  });
  expect(text.trimEnd().split("\n")).toHaveLength(1);
  expect(JSON.parse(text)).toMatchObject({ level: "warn", said: "no answer for postgres://[removed]" });
});
