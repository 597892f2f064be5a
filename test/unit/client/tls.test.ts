// Do TLS options and tokens get where they belong: an authority of one's own, a certificate of the client, another name, a token that changes?
import { createClient, createWorker, handle, LeaseholdError, type TlsOptions } from "@leasehold/client";
import { ServerCredentials } from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { certificate, privateKey } from "./certificate.js";
import { rejection } from "./fake-transport.js";
import { double, serve, stopServers, tinyServer } from "./tiny-server.js";

const ours = Buffer.from(certificate);
const pair = { cert_chain: ours, private_key: Buffer.from(privateKey) };
const serverName = "leasehold.test";

afterEach(stopServers);

it("a client and its worker speak TLS to a server of an authority of their own, with a certificate and a token of their own", async () => {
  const server = tinyServer();
  const address = await serve(server, { security: ServerCredentials.createSsl(ours, [pair], true) });
  const tokens = ["first", "second"];
  const tls = { ca: certificate, cert: certificate, key: privateKey, serverName };
  const client = createClient({ address, tls, token: () => tokens.shift() ?? "later" });
  const job = await client.submit(double, { n: 21 }, { timeout: "20s" });
  expect(server.seen.metadata?.get("authorization")).toEqual(["Bearer first"]);
  const worker = createWorker({ client, handlers: [handle(double, ({ metadata: { n } }) => ({ n: n * 2 }))] });
  const running = worker.run();
  expect(await job.result({ timeout: "20s" })).toEqual({ n: 42 });
  expect(tokens).toEqual([]);
  await worker.drain({ grace: 0 });
  await running;
  client.close();
});

it.each<[string, TlsOptions]>([
  ["that it does not trust", { serverName }],
  ["of another name", { ca: certificate, serverName: "another.test" }],
])("a client tells a server %s nothing, and says so", async (_, tls) => {
  const server = tinyServer();
  const client = createClient({
    address: await serve(server, { security: ServerCredentials.createSsl(null, [pair]) }),
    tls,
    token: "secret",
  });
  const error = await rejection(client.submit(double, { n: 1 }, { timeout: "2s" }));
  expect(LeaseholdError.from(error).code).toMatch(/^(?:UNAVAILABLE|DEADLINE_EXCEEDED)$/);
  expect(server.seen.metadata).toBeUndefined();
  client.close();
});

it.each<[string, TlsOptions]>([
  ["a certificate without its key", { cert: certificate }],
  ["what is no certificate", { ca: "none", cert: "none", key: "none" }],
])("%s is refused when the client is made", (_, tls) => {
  expect(() => createClient({ address: "127.0.0.1:1", tls })).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", violations: [expect.objectContaining({ path: "tls" })] }) as Error,
  );
});
