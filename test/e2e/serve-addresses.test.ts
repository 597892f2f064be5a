// Where does `leasehold serve` listen, and what does it say when it may not? On what was said, with the real address, or one sentence.
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { environment, startProcess } from "../support/child-process.js";
import { test, type Scene } from "../support/scene.js";
import { healthOf } from "../support/service-calls.js";
import { startTcpProxy } from "../support/tcp-proxy.js";

const COMMAND = join(import.meta.dirname, "../../cli/bin/leasehold.js");

/** Starts a server that is to refuse; answers its exit code and what it said. */
async function refused(
  scene: Scene,
  listen: string,
  settings: Record<string, string> = {},
): Promise<{ code: number | string; said: string }> {
  const own = { LEASEHOLD_DATABASE_URL: scene.databaseUrl, LEASEHOLD_DURABILITY: "unsafe", LEASEHOLD_LOG_LEVEL: "error" };
  const env = environment({ ...own, ...settings });
  const server = startProcess(process.execPath, [COMMAND, "serve", "--listen", listen], { env });
  scene.undo(async () => void server.child.kill("SIGKILL"));
  return { code: await server.ended, said: server.said() };
}

function expectOneSentence(said: string): void {
  expect(said.trim().split("\n")).toHaveLength(1);
  expect(said).toMatch(/^leasehold: /);
  expect(said).not.toMatch(/\bat .*:\d+:\d+|Error:|EADDR/);
}

describe.concurrent("an address beyond loopback", () => {
  test.for(["::", "0.0.0.0", "[::]:0", "0.0.0.0:0"])(
    "as %s is refused without the flag, before anything is started",
    { timeout: 120_000 },
    async (listen, { scene }) => {
      const { code, said } = await refused(scene, listen);
      expect(code).toBe(2);
      expectOneSentence(said);
      expect(said).toContain("is reachable from other machines without TLS");
    },
  );

  test("serves with the flag", { timeout: 120_000 }, async ({ scene }) => {
    const server = await scene.server({ listen: "0.0.0.0:0", env: { LEASEHOLD_INSECURE_BIND: "true" } });
    expect(server.address).toMatch(/^0\.0\.0\.0:\d+$/);
    expect(await healthOf(server.address.replace("0.0.0.0", "127.0.0.1"))).toBe("SERVING");
  });
});

/** Whether this machine has an address of this kind. */
function has(wanted: string): boolean {
  return Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === wanted));
}

describe.concurrent("the address ::", () => {
  test("serves both families with the flag, where there are both, and says so", { timeout: 120_000 }, async ({ scene }) => {
    if (!has("::1")) {
      const { code, said } = await refused(scene, "[::]:0", { LEASEHOLD_INSECURE_BIND: "true" });
      expect(code).not.toBe(0);
      expectOneSentence(said);
      return;
    }
    const server = await scene.server({ listen: "[::]:0", env: { LEASEHOLD_INSECURE_BIND: "true" } });
    const [, port] = /^\[::\]:(\d+)$/.exec(server.address) ?? [];
    for (const host of ["[::1]", "127.0.0.1", "localhost"]) expect(await healthOf(`${host}:${port}`), host).toBe("SERVING");
  });
});

describe.concurrent("an address that cannot be served", () => {
  test.for([
    ["of another machine", "192.0.2.1:0", "no such address"],
    ["where this user may not", "unix:/proc/leasehold.sock", "may not"],
    ["in a folder that is not there", "unix:/nowhere/leasehold.sock", "or the folder does not exist"],
    ["below a file", "unix:/dev/null/leasehold.sock", "folder does not exist"],
    ["of a name that nobody has", "nobody.invalid:0", "cannot be resolved"],
  ] as const)("%s is refused in one sentence", { timeout: 120_000 }, async ([, listen, why], { scene }) => {
    const { code, said } = await refused(scene, listen, { LEASEHOLD_INSECURE_BIND: "true" });
    expect(code).toBe(4);
    expectOneSentence(said);
    expect(said).toContain(why);
  });
});

describe.concurrent("an address of this machine", () => {
  test("with port 0 is told with the port that the system chose", { timeout: 120_000 }, async ({ scene }) => {
    const [one, other] = await Promise.all([scene.server({ listen: "127.0.0.1:0" }), scene.server({ listen: "localhost:0" })]);
    expect(one.address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(other.address).toMatch(/^(?:127\.0\.0\.1|\[::1\]):[1-9]\d*$/);
    expect(await healthOf(one.address)).toBe("SERVING");
    expect(await healthOf(other.address.replace(/^.*:(?=\d+$)/, "localhost:"))).toBe("SERVING");
  });

  test("in IPv6 serves where there is IPv6, else is refused in one sentence", { timeout: 120_000 }, async ({ scene }) => {
    if (has("::1")) {
      const server = await scene.server({ listen: "[::1]:0" });
      expect(server.address).toMatch(/^\[::1\]:\d+$/);
      expect(await healthOf(server.address)).toBe("SERVING");
    } else {
      const { code, said } = await refused(scene, "[::1]:0");
      expect(code).not.toBe(0);
      expectOneSentence(said);
    }
  });

  test("that is a unix socket serves there, and removes the file with its end", { timeout: 120_000 }, async ({ scene }) => {
    const path = join(scene.folder, "leasehold.sock");
    const server = await scene.server({ listen: `unix:${path}` });
    expect(server.address).toBe(`unix:${path}`);
    expect(await healthOf(server.address)).toBe("SERVING");
    expect(await server.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  test("that is in use is refused in one sentence", { timeout: 120_000 }, async ({ scene }) => {
    const occupied = await startTcpProxy({ port: 1 });
    scene.undo(() => occupied.close());
    const { code, said } = await refused(scene, occupied.address);
    expect(code).toBe(4);
    expectOneSentence(said);
    expect(said).toContain(occupied.address);
    expect(said).toContain("another process listens there");
  });
});
