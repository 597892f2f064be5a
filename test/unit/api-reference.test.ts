// Is the API reference what the contract says? Its pages are made anew and compared, its examples are read as the messages they show.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { createFileRegistry, fromBinary, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import { WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import { describe, expect, it } from "vitest";

const FOLDER = path.join(import.meta.dirname, "../../docs/api");

const ANSWERS: Record<string, string> = {
  GetTask: "Task",
  CancelTask: "Task",
  RetryTask: "Task",
  UpdateTask: "Task",
  ExecuteTasks: "ServerMessage",
};
const RPCS = [
  ...Object.values(TaskServiceService).map(({ path: at }) => ["TaskService", at.split("/")[2] ?? ""] as const),
  ...Object.values(WorkerServiceService).map(({ path: at }) => ["WorkerService", at.split("/")[2] ?? ""] as const),
];

/** Reads canonical JSON as a message of the contract; throws for whatever the contract does not know. */
async function readAs(typeName: string, json: unknown): Promise<void> {
  const image = fromBinary(FileDescriptorSetSchema, await readFile(path.join(FOLDER, "../../proto/leasehold.binpb")));
  const type = createFileRegistry(image).getMessage(`leasehold.v1.${typeName}`);
  if (type === undefined) throw new Error(`there is no message ${typeName}`);
  fromJson(type, json as JsonValue);
}

describe("the API reference", () => {
  it("is what the comments of the contract say", async () => {
    const { referencePages } = (await import(path.join(FOLDER, "generate.mjs"))) as { referencePages: () => Promise<Map<string, string>> };
    const pages = await referencePages();
    expect([...pages.keys()].sort()).toEqual(["task-service.md", "task.md", "worker-service.md"]);
    for (const [name, text] of pages) {
      expect(await readFile(path.join(FOLDER, name), "utf8"), `${name} is out of date: npm run generate:reference`).toBe(text);
    }
  });

  it.each(RPCS)("%s.%s has an example that the contract understands whole", async (service, method) => {
    const examples = JSON.parse(await readFile(path.join(FOLDER, "examples.json"), "utf8")) as Record<
      string,
      { request: object; response: object }
    >;
    const example = examples[`${service}.${method}`];
    if (example === undefined) throw new Error("there is no example");
    await readAs(method === "ExecuteTasks" ? "WorkerMessage" : `${method}Request`, example.request);
    await readAs(ANSWERS[method] ?? `${method}Response`, example.response);
  });
});
