// Does the command line lead to the right verb, and does the help teach? Against no server: nothing listens where these look.
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { createScreen } from "../../../cli/src/output/screen.js";
import { runCommandLine } from "../../../cli/src/program.js";

async function run(...args: string[]): Promise<{ exitCode: number; out: string; err: string }> {
  const said = { out: "", err: "" };
  const into = (name: "out" | "err") => ({ write: (text: string | Uint8Array) => (said[name] += String(text)) });
  const exitCode = await runCommandLine(args, { screen: createScreen(into("out"), into("err"), {}), env: {}, stdin: Readable.from([]) });
  return { exitCode, ...said };
}

describe("the help", () => {
  it("names every verb, a first walk and the exit codes, on standard output", async () => {
    const { exitCode, out, err } = await run("--help");
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" });
    for (const verb of ["dev", "demo", "submit", "get", "list", "watch", "proceed", "cancel", "serve", "migrate"])
      expect(out).toMatch(new RegExp(`^  ${verb}\\b`, "m"));
    expect(out).toMatch(/A first walk[^]*Exit codes:/);
  });

  it.each(["submit", "get", "list", "watch", "proceed", "cancel", "serve", "dev", "demo", "migrate"])(
    "of %s has an example",
    async (verb) => {
      const { exitCode, out } = await run(verb, "--help");
      expect(exitCode).toBe(0);
      expect(out).toMatch(new RegExp(`Examples:\\n.*leasehold ${verb}`));
    },
  );

  it("prints the version", async () => {
    expect((await run("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("a command line that is not valid", () => {
  it.each([
    [["sbmit"], /unknown command 'sbmit'[^]*Did you mean submit/],
    [["submit"], /missing required argument 'name'/],
    [["submit", "a", "b"], /too many arguments/],
    [["submit", "a", "--priority", "10"], /from 0 to 9/],
    [["submit", "a", "--schedule-time", "noon"], /time with its zone/],
    [["list", "--state", "done"], /pending, running, suspended, completed, failed, cancelled/],
    [["list", "-o", "xml"], /Allowed choices are text, json/],
    [["proceed", "id", "--patch", "{}", "--replace", "{}"], /cannot be used with option/],
    [["cancel", "id", "--grace", "30"], /number with its unit/],
    [["get", "id", "--address", "nowhere"], /address: must be host:port/],
  ])("%j is told so, with exit code 2 and nothing on standard output", async (args, sentence) => {
    const { exitCode, out, err } = await run(...args);
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: "" });
    expect(err).toMatch(sentence);
    expect(err).toMatch(/^leasehold: /);
  });

  it("shows the help where there is no verb", async () => {
    const { exitCode, err } = await run();
    expect(exitCode).toBe(2);
    expect(err).toContain("Usage: leasehold");
  });
});

describe("a server that is not there", () => {
  it.each([["submit", "a"], ["get", "id"], ["list"], ["watch", "id"], ["proceed", "id"], ["cancel", "id"]])(
    "is told in one sentence with the remedy: %s",
    async (...args) => {
      const { exitCode, out, err } = await run(...args, "--address", "127.0.0.1:1");
      expect({ exitCode, out }).toEqual({ exitCode: 5, out: "" });
      expect(err).toBe(
        "leasehold: Cannot reach a Leasehold server at 127.0.0.1:1 (connection refused). Start one with `leasehold dev`, or name another with --address or LEASEHOLD_ADDRESS.\n",
      );
    },
  );
});
