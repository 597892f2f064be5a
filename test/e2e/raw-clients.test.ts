// Is the contract enough for a client in another language? Programs from generated stubs submit, wait and read typed errors.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createWorker, defineTask, handle, type } from "@leasehold/client";
import { expect, it } from "vitest";
import { environment, startProcess } from "../support/child-process.js";
import { prepareGo } from "../support/go.js";
import { preparePython } from "../support/python.js";
import { missingTool, type WorkerCommand } from "../support/raw-languages.js";
import { sdkScene } from "../support/sdk-scene.js";

const PROTO = join(import.meta.dirname, "../../proto");
const PYTHON_CLIENT = join(import.meta.dirname, "../support/python/task_client.py");
const FILES = ["leasehold/v1/task.proto", "leasehold/v1/task_service.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];

/** A language whose stubs own tasks, with its names of the codes of gRPC. */
interface ClientLanguage {
  readonly name: string;
  readonly tools: readonly (readonly [string, ...string[]])[];
  readonly codes: { readonly malformed: string; readonly unknown: string; readonly tooLate: string };
  build(folder: string): Promise<WorkerCommand>;
}

const PYTHON: ClientLanguage = {
  name: "Python",
  tools: [["python3", "--version"]],
  codes: { malformed: "INVALID_ARGUMENT", unknown: "NOT_FOUND", tooLate: "FAILED_PRECONDITION" },
  build: async (stubs) => {
    const { interpreter } = await preparePython();
    const folders = [`-I${PROTO}`, `-I${join(PROTO, "third_party")}`, `--python_out=${stubs}`, `--grpc_python_out=${stubs}`];
    const generated = startProcess(interpreter, ["-m", "grpc_tools.protoc", ...folders, ...FILES], { env: environment() });
    expect(await generated.ended, generated.said()).toBe(0);
    return { program: interpreter, args: [PYTHON_CLIENT], env: { PYTHONPATH: stubs, PYTHONUNBUFFERED: "1" } };
  },
};

const GO: ClientLanguage = {
  name: "Go",
  tools: [["go", "version"]],
  codes: { malformed: "InvalidArgument", unknown: "NotFound", tooLate: "FailedPrecondition" },
  build: async () => ({ program: (await prepareGo()).client, args: [], env: {} }),
};

const sdk = sdkScene();

for (const language of [PYTHON, GO]) {
  const missing = missingTool(language);
  if (missing === undefined)
    it(`a ${language.name} client submits, waits, and reads what went wrong: reason, field, task`, () => testClient(language), 900_000);
  else {
    process.stderr.write(`\n*** THE CLIENT IN ${language.name.toUpperCase()} IS NOT TESTED: there is no ${missing} ***\n\n`);
    it(`has no ${missing} here: THE CLIENT IN ${language.name.toUpperCase()} IS NOT TESTED`, () => expect(missing).toBeDefined());
  }
}

async function testClient(language: ClientLanguage): Promise<void> {
  const { name, codes } = language;
  const folder = await mkdtemp(join(tmpdir(), "leasehold-raw-client-"));
  const half = defineTask({
    name: `${name.toLowerCase()}.half`,
    metadata: type<{ n: number }>(),
    result: type<{ half: number }>(),
    errors: { negative: type<{ n: number }>() },
  });
  const handler = handle(half, ({ metadata: { n }, ...ctx }) => (n < 0 ? ctx.fail("negative", { n }, { retry: false }) : { half: n / 2 }));
  const worker = createWorker({ client: sdk.client, handlers: [handler], grace: 0 });
  const running = worker.run();
  try {
    const { program, args, env } = await language.build(folder);
    await worker.ready();
    const client = startProcess(program, [...args, sdk.address, half.name], { env: environment(env) });
    expect(await client.ended, client.said()).toBe(0);
    const lines = client.said().trim().split("\n");
    const leasehold = { domain: "leasehold" };
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { step: "submitted", created: [true, false], same: true },
      { step: "finished", state: "TASK_STATE_COMPLETED", result: { half: 10 } },
      { step: "failed", state: "TASK_STATE_FAILED", code: "negative", details: { n: -1 } },
      { ...leasehold, step: "malformed", code: codes.malformed, reason: "INVALID_FIELD", fields: ["task.name", "task.priority"] },
      { ...leasehold, step: "unknown", code: codes.unknown, reason: "TASK_NOT_FOUND" },
      { ...leasehold, step: "too_late", code: codes.tooLate, reason: "TASK_FINISHED", resource: true },
      { ...leasehold, step: "batch", stored: true, reason: "INVALID_FIELD", fields: ["tasks[1].name"] },
    ]);
    // Python reads the trailer by hand: what it says there is the status of the call.
    if (name === "Python") for (const line of lines.slice(3, 6)) expect(JSON.parse(line)).toMatchObject({ same: true });
  } finally {
    await worker.drain();
    await running;
    await rm(folder, { recursive: true, force: true });
  }
}
