// Do the examples work as their READMEs say? Each is started by its command, against a server of its own kind of process, and must say what is written there.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { environment, startProcess, type StartedProcess } from "../support/child-process.js";
import { freePort } from "../support/free-port.js";
import { eventually, openScene } from "../support/scene.js";

const ROOT = join(import.meta.dirname, "../..");
let scene: Awaited<ReturnType<typeof openScene>>;
let address = "";
const processes: StartedProcess[] = [];

beforeAll(async () => {
  scene = await openScene("examples");
  address = (await scene.server()).address;
}, 60_000);
afterAll(async () => {
  for (const { child } of processes) child.kill("SIGKILL");
  try {
    scene.check();
  } finally {
    await scene.close();
  }
});

/** Types the start command of an example's README. */
async function start(name: string, env: Record<string, string> = {}): Promise<StartedProcess & { readonly readme: string }> {
  const readme = await readFile(join(ROOT, "examples", name, "README.md"), "utf8");
  const [, command = ""] = /^npx (tsx \S+)/m.exec(readme) ?? [];
  expect(command).toBe(`tsx examples/${name}/main.ts`);
  const [, program = ""] = command.split(" ");
  const tsx = join(ROOT, "node_modules/tsx/dist/cli.mjs");
  const started = startProcess(process.execPath, [tsx, program], { cwd: ROOT, env: environment({ LEASEHOLD_ADDRESS: address, ...env }) });
  processes.push(started);
  return { ...started, readme };
}

/** The block of a README that shows what the program says, as a pattern: `…` stands for anything, a number for any number. */
function saidIn(readme: string): RegExp {
  const blocks = [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)];
  const [, , block = ""] = blocks.find(([, language]) => language === "") ?? [];
  const quoted = block.trim().replace(/[$()*+.?[\\\]^{|}]/g, "\\$&");
  return new RegExp(`^${quoted.replaceAll("…", "\\S*").replace(/\b\d+\b/g, "\\d+")}$`, "m");
}

describe.concurrent("an example", { timeout: 90_000 }, () => {
  it.each(["quickstart", "checkpointed-import", "order-machine", "encrypted-payloads"])(
    "%s does and says what its README shows",
    async (name) => {
      const example = await start(name);
      expect(await example.ended, example.said()).toBe(0);
      expect(example.said()).toMatch(saidIn(example.readme));
      if (name === "checkpointed-import") expect(example.said()).toContain("imported 5000 lines, 5000 different ones");
    },
  );

  it("approval answers the commands of its README, and loses nothing when it is stopped between them", async () => {
    const port = String(await freePort());
    const commands = async (readme: string): Promise<{ path: string; body: string | undefined }[]> =>
      [...readme.matchAll(/^curl localhost:8080(\S+)(?: -d '(.*?)')?/gm)].map(([, path = "", body]) => ({ path, body }));
    const type = async ({ path, body }: { path: string; body: string | undefined }): Promise<{ status: number; text: string }> => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, body === undefined ? {} : { method: "POST", body });
      return { status: answer.status, text: await answer.text() };
    };
    const first = await start("approval", { PORT: port });
    await first.waitFor(/listening on/);
    const [submit, read, approve, refuse] = await commands(first.readme);
    expect((await type(submit!)).status).toBe(201);
    // Not expect.poll, which loses its test where several run at a time.
    await eventually(
      async () => (await type(read!)).text,
      (text) => text.includes('{"state":"suspended"'),
      "the expense waits for its approval",
    );
    first.child.kill("SIGTERM");
    expect(await first.ended, first.said()).toBe(0);

    const second = await start("approval", { PORT: port });
    await second.waitFor(/listening on/);
    expect(await type(approve!)).toEqual({ status: 200, text: '{"paid":true,"by":"bob"}\n' });
    expect((await type(refuse!)).status).toBe(409);
    expect((await type(submit!)).status).toBe(200);
    second.child.kill("SIGTERM");
    expect(await second.ended, second.said()).toBe(0);
  });
});
