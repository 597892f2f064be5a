// Does the server listen where it is told to, or say in one sentence why not? And do health and reflection answer beside our services?
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials, status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";
import { service as health } from "grpc-health-check";
import { afterEach, describe, expect, it } from "vitest";
import { serveApi } from "../../support/api-fakes.js";

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function serveAt(address: string) {
  const api = await serveApi({ env: { LEASEHOLD_LISTEN: address, LEASEHOLD_INSECURE_BIND: "true" } });
  const client = new Client(api.address, credentials.createInsecure());
  open.push(
    () => api.server.shutdown(0),
    () => client.close(),
  );
  return { api, client };
}

function check(client: Client, service = "", bytes?: Buffer): Promise<{ status?: string; code?: number }> {
  const { path, requestSerialize, responseDeserialize } = health["Check"]!;
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, bytes === undefined ? requestSerialize : () => bytes, responseDeserialize, { service }, (error, answer) =>
      resolve(error === null ? (answer as { status: string }) : { code: error.code }),
    );
  });
}

describe("listening", () => {
  it.each(["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])("at %s answers the real address", async (address) => {
    const { api, client } = await serveAt(address);
    expect(api.address).toMatch(/:[1-9]\d*$/);
    expect(await check(client)).toEqual({ status: "NOT_SERVING" });
  });

  it("at a unix socket works, and a second server there is refused with a sentence", async () => {
    const folder = mkdtempSync(join(tmpdir(), "leasehold-"));
    open.push(() => rmSync(folder, { recursive: true, force: true }));
    const { client } = await serveAt(`unix:${folder}/l.sock`);
    expect(await check(client)).toEqual({ status: "NOT_SERVING" });
    await expect(serveAt(`unix:${folder}/l.sock`)).rejects.toThrow(/^cannot listen at unix:.*: another process listens there/);
    await expect(serveAt(`unix:${folder}/no/l.sock`)).rejects.toThrow(/^cannot listen at unix:.*/);
  });

  it("at an address in use, or of another machine, is refused with a sentence", async () => {
    const { api } = await serveAt("127.0.0.1:0");
    await expect(serveAt(api.address)).rejects.toThrow(`cannot listen at ${api.address}: another process listens there`);
    await expect(serveAt("192.0.2.1:1")).rejects.toThrow("cannot listen at 192.0.2.1:1: this machine has no such address");
    await expect(serveAt("no-such-host.invalid:1")).rejects.toThrow(/cannot be resolved/);
  });
});

describe("health", () => {
  it("says of the server and each service whether it serves", async () => {
    const { api, client } = await serveAt("127.0.0.1:0");
    api.server.setServing(true);
    for (const service of ["", "leasehold.v1.TaskService", "leasehold.v1.WorkerService"])
      expect(await check(client, service)).toEqual({ status: "SERVING" });
    expect(await check(client, "x")).toEqual({ code: status.NOT_FOUND });
    api.server.setServing(false);
    expect(await check(client)).toEqual({ status: "NOT_SERVING" });
  });

  it("answers INVALID_ARGUMENT to bytes that do not decode", async () => {
    const { client } = await serveAt("127.0.0.1:0");
    expect(await check(client, "", Buffer.from([0x0a, 0xff]))).toEqual({ code: status.INVALID_ARGUMENT });
  });

  it("that is watched does not hold up a shutdown", async () => {
    const { api, client } = await serveAt("127.0.0.1:0");
    const { path, requestSerialize, responseDeserialize } = health["Watch"]!;
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { service: "" });
    const ended = new Promise<ServiceError>((resolve) => call.on("error", (error) => resolve(error as ServiceError)));
    await new Promise((resolve) => call.once("data", resolve));
    const stopped = api.server.shutdown(20_000);
    expect((await ended).code).toBe(status.UNAVAILABLE);
    client.close();
    await stopped;
  });
});

describe("reflection", () => {
  const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const same = (value: Buffer): Buffer => value;

  async function ask(client: Client, bytes: Buffer): Promise<Buffer | ServiceError> {
    const call = client.makeBidiStreamRequest(path, same, same);
    const answer = new Promise<Buffer | ServiceError>((resolve) => call.on("data", resolve).on("error", resolve));
    call.write(bytes);
    const first = await answer;
    call.cancel();
    return first;
  }

  it("lists our services", async () => {
    const { client } = await serveAt("127.0.0.1:0");
    // list_services = 7, a string.
    const answer = (await ask(client, Buffer.from([0x3a, 1, 0x2a]))) as Buffer;
    expect(answer.toString("latin1")).toContain("leasehold.v1.TaskService");
    expect(answer.toString("latin1")).toContain("leasehold.v1.WorkerService");
  });

  it("answers bytes that do not decode without INTERNAL or UNKNOWN", async () => {
    const { client } = await serveAt("127.0.0.1:0");
    const answer = await ask(client, Buffer.from([0x3a, 0xff]));
    if (!Buffer.isBuffer(answer)) expect([status.INTERNAL, status.UNKNOWN]).not.toContain(answer.code);
  });
});
