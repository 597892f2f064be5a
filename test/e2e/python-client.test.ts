// Is the contract enough for a client in another language? A Python program from generated stubs submits, waits and reads typed errors.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createWorker, defineTask, handle, type } from "@leasehold/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment, startProcess } from "../support/child-process.js";
import { preparePython, type Python } from "../support/python.js";
import { sdkScene } from "../support/sdk-scene.js";

const PROTO = join(import.meta.dirname, "../../proto");
const PROGRAM = join(import.meta.dirname, "../support/python/task_client.py");
const FILES = ["leasehold/v1/task.proto", "leasehold/v1/task_service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];

const sdk = sdkScene();
let python: Python;
let stubs = "";

beforeAll(async () => {
  python = await preparePython();
  stubs = await mkdtemp(join(tmpdir(), "leasehold-python-client-"));
  const folders = [`-I${PROTO}`, `-I${join(PROTO, "third_party")}`, `--python_out=${stubs}`, `--grpc_python_out=${stubs}`];
  const generated = startProcess(python.interpreter, ["-m", "grpc_tools.protoc", ...folders, ...FILES], { env: environment() });
  expect(await generated.ended, generated.said()).toBe(0);
}, 600_000);

afterAll(async () => {
  await rm(stubs, { recursive: true, force: true });
});

describe("a Python client of generated stubs", () => {
  it("submits, waits, and reads what went wrong: reason, field, task", async () => {
    const half = defineTask({
      name: "py.half",
      metadata: type<{ n: number }>(),
      result: type<{ half: number }>(),
      errors: { negative: type<{ n: number }>() },
    });
    const handler = handle(half, ({ metadata: { n }, ...ctx }) =>
      n < 0 ? ctx.fail("negative", { n }, { retry: false }) : { half: n / 2 },
    );
    const worker = createWorker({ client: sdk.client, handlers: [handler], grace: 0 });
    const running = worker.run();
    await worker.ready();
    const env = environment({ PYTHONPATH: stubs, PYTHONUNBUFFERED: "1" });
    const program = startProcess(python.interpreter, [PROGRAM, sdk.address, half.name], { env });
    expect(await program.ended, program.said()).toBe(0);
    const steps = program
      .said()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    const leasehold = { domain: "leasehold" };
    expect(steps).toMatchObject([
      { step: "submitted", created: [true, false], same: true },
      { step: "finished", state: "TASK_STATE_COMPLETED", result: { half: 10 } },
      { step: "failed", state: "TASK_STATE_FAILED", code: "negative", details: { n: -1 } },
      {
        ...leasehold,
        step: "malformed",
        code: "INVALID_ARGUMENT",
        same: true,
        reason: "INVALID_FIELD",
        fields: ["task.name", "task.priority"],
      },
      { ...leasehold, step: "unknown", code: "NOT_FOUND", same: true, reason: "TASK_NOT_FOUND" },
      { ...leasehold, step: "too_late", code: "FAILED_PRECONDITION", same: true, reason: "TASK_FINISHED", resource: true },
      { ...leasehold, step: "batch", stored: true, code: 3, reason: "INVALID_FIELD", fields: ["tasks[1].name"] },
    ]);
    await worker.drain();
    await running;
  });
});
