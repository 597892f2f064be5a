// Is a contract compared with the last release? Repositories with a contract of one message, with and without tags, and the real script.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { environment, startProcess } from "../support/child-process.js";

const SCRIPT = join(import.meta.dirname, "../../.ci/contract-breaking.mjs");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "leasehold-contract-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function git(...args: string[]): void {
  const identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"];
  execFileSync("git", [...identity, ...args], { cwd: folder, stdio: "pipe" });
}

/** Writes the contract, with these fields, and commits it. */
function commit(fields: string, ...tags: string[]): void {
  mkdirSync(join(folder, "proto"), { recursive: true });
  writeFileSync(join(folder, "buf.yaml"), "version: v2\nmodules:\n  - path: proto\n");
  writeFileSync(join(folder, "proto/task.proto"), `syntax = "proto3";\npackage test;\nmessage Task {\n${fields}\n}\n`);
  git("init", "--quiet");
  git("add", "-A");
  git("commit", "--quiet", "--message", "a contract");
  for (const tag of tags) git("tag", tag);
}

async function check(): Promise<{ ended: number | string; said: string }> {
  const script = startProcess(process.execPath, [SCRIPT, folder], { env: environment({ GIT_DIR: undefined }) });
  return { ended: await script.ended, said: script.said() };
}

describe("the contract and the last release", () => {
  it("are loudly not compared where there is no repository, and where there is no tag", async () => {
    expect(await check()).toEqual({
      ended: 0,
      said: expect.stringMatching(/^NOT COMPARED with a release: this is no git repository/) as string,
    });
    commit("string id = 1;", "vintage", "nightly-2026");
    expect(await check()).toEqual({ ended: 0, said: expect.stringMatching(/^NOT COMPARED with a release: there is no tag v\*/) as string });
  });

  it("agree where a field was added, and disagree where one was removed, by the newest version and not the newest text", async () => {
    commit("string id = 1;", "v0.9.0");
    commit("string id = 1;\nstring name = 2;", "v0.10.0-rc.1", "v0.10.0");
    commit("string id = 1;\nstring name = 2;\nstring key = 3;");
    expect(await check()).toEqual({ ended: 0, said: "The contract breaks nobody who uses v0.10.0.\n" });
    commit("string id = 1;");
    const broken = await check();
    expect(broken).toEqual({ ended: 1, said: expect.stringContaining("Compared with v0.10.0:") as string });
    expect(broken.said).toContain('field "2" with name "name"');
  });

  it("are compared along the line of this commit: a later release beside it does not count", async () => {
    commit("string id = 1;", "v1.0.0");
    git("branch", "patches");
    commit("string id = 1;\nstring name = 2;", "v1.1.0");
    git("checkout", "--quiet", "patches");
    expect((await check()).said).toBe("The contract breaks nobody who uses v1.0.0.\n");
  });
});
