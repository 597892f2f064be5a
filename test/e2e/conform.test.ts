// Does the conformance kit pass who keeps the contract, and fail who does not for the right reason? The command as a user runs it, with real workers.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BROKEN } from "../../cli/src/conform/fixtures/broken.js";
import { runScenario } from "../../cli/src/conform/run.js";
import { readScenarios, type Scenario } from "../../cli/src/conform/scenario.js";
import { environment, startProcess } from "../support/child-process.js";
import { missingTool, type RawLanguage, rawLanguages, type WorkerCommand } from "../support/raw-languages.js";
import { parseTap, parseXml } from "../support/test-reports.js";

const CLI = join(import.meta.dirname, "../../cli");
const PROGRAM = join(CLI, "bin/leasehold.js");
const FIXTURES = join(CLI, "dist/conform/fixtures");
const rawWorker = ["node", join(FIXTURES, "raw-worker.js")];
/** Scenarios at once. Programs mostly wait, but a JVM keeps a core busy for a second when it starts. */
const JOBS = 10;
const JVM_JOBS = 6;

let scenarios: Scenario[];
let folder: string;
beforeAll(async () => {
  scenarios = await readScenarios();
  folder = await mkdtemp(join(tmpdir(), "leasehold-conform-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function conform(args: readonly string[], env: Record<string, string> = {}) {
  return startProcess(process.execPath, [PROGRAM, "worker", "conform", ...args], { env: environment({ NO_COLOR: "1", ...env }) });
}

/** Lets the kit examine a program. */
async function examine({ program, args, env }: WorkerCommand, ...options: string[]): Promise<string> {
  const kit = conform(["--timeout", "90s", ...options, "--", program, ...args], env);
  const ended = await kit.ended;
  expect(ended, kit.said()).toBe(0);
  return kit.said();
}

// Two kits at a time: one on the JVM, one on the others.
describe.concurrent("full marks", { timeout: 900_000 }, () => {
  describe("on the JVM", () => rawLanguages.filter(isOnJvm).forEach(testLanguage));
  describe("elsewhere", () => {
    testSdk();
    rawLanguages.filter((language) => !isOnJvm(language)).forEach(testLanguage);
  });
});

function isOnJvm({ name }: RawLanguage): boolean {
  return name === "Java";
}

function testSdk(): void {
  it("go to the worker of the SDK, with results that TAP and JUnit readers understand", { concurrent: false }, async () => {
    const [tap, junit] = [join(folder, "results.tap"), join(folder, "results.xml")];
    const sdk = { program: "node", args: [join(FIXTURES, "sdk-worker.js")], env: {} };
    const said = await examine(sdk, "--jobs", String(JOBS), "--tap", tap, "--junit", junit);
    expect(said).toContain(`${scenarios.length} of ${scenarios.length} scenarios passed, full marks`);
    const titles = scenarios.map(({ name, title }) => `${name}: ${title}`);
    const tests = parseTap(await readFile(tap, "utf8"));
    expect(tests.map(({ ok, title }) => [ok, title])).toEqual(titles.map((title) => [true, title]));
    const suite = parseXml(await readFile(junit, "utf8")).children[0];
    expect(suite?.children.map(({ attributes, children }) => [attributes["name"], children.length])).toEqual(
      titles.map((title) => [title, 0]),
    );
  });
}

function testLanguage(language: RawLanguage): void {
  const missing = missingTool(language);
  if (missing === undefined)
    it(`go to the raw worker in ${language.name}`, { concurrent: false }, async () => {
      const jobs = isOnJvm(language) ? JVM_JOBS : JOBS;
      expect(await examine(await language.build(), "--jobs", String(jobs))).toContain("full marks");
    });
  else {
    const untested = `THE CONFORMANCE OF THE WORKER IN ${language.name.toUpperCase()} IS NOT TESTED`;
    process.stderr.write(`\n*** ${untested}: there is no ${missing} ***\n\n`);
    it(`have no ${missing} here: ${untested}`, () => expect(missing).toBeDefined());
  }
}

describe("a broken worker", () => {
  const failed = new Map<string, string[]>();

  beforeAll(async () => {
    // The last of the list takes longest to fail.
    const names = Object.keys(BROKEN).reverse();
    const waiting = names.flatMap((name) => sampleOf(name).map((scenario) => ({ name, scenario })));
    const lane = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { name, scenario } = next;
        const { failure } = await runScenario(scenario, { command: [...rawWorker, `--broken=${name}`], jobs: 1, limitMs: 90_000 });
        const before = failed.get(name) ?? [];
        failed.set(name, failure === undefined ? before : [...before, scenario.name]);
      }
    };
    await Promise.all(Array.from({ length: JOBS }, lane));
  }, 480_000);

  it.each(Object.entries(BROKEN))("with %s fails where it is wrong, and only there", (name, { fails }) => {
    const expected = sampleOf(name).filter((scenario) => fails.includes(scenario.name));
    expect(expected.length).toBe(Math.min(2, fails.length));
    expect(failed.get(name)?.sort()).toEqual(expected.map((scenario) => scenario.name));
  });

  /** The first two scenarios that it fails and one that it passes, in the order of their names: all of them would take minutes. */
  function sampleOf(name: string): Scenario[] {
    const fails = Object.entries(BROKEN).find(([broken]) => broken === name)?.[1].fails ?? [];
    const passes = ["delivery-echo", "delivery-failure", "unknown-empty-messages"].filter((one) => !fails.includes(one));
    const picked = [...fails.slice(0, 2), ...passes.slice(0, 1)];
    return scenarios.filter((scenario) => picked.includes(scenario.name));
  }
});

describe("the command", () => {
  it("tells of a failure what was expected, what was seen and what was said, and ends with 1", async () => {
    const kit = conform(["--only", "^cancel-push$", "--", ...rawWorker, "--broken=ignores-cancels"]);
    expect(await kit.ended).toBe(1);
    expect(kit.said()).toMatch(/^FAILED cancel-push: stops a handler that is cancelled/m);
    expect(kit.said()).toMatch(/expected: {2}report 2 of a \(cancel\) within 3000 ms \(step 5\)\n\s+saw: {7}nothing of the kind/);
    expect(kit.said()).toMatch(/← hello "raw-\d+" connection 1[^]*→ welcome[^]*→ lease a of conform\.sleep[^]*→ cancel of a/);
    expect(kit.said()).toContain("0 of 1 scenarios passed");
  });

  it("says so when the program does not start, or ends, and shows what it wrote", async () => {
    const absent = conform(["--only", "^drain-idle$", "--", "/no/such/program"]);
    expect(await absent.ended).toBe(1);
    expect(absent.said()).toContain("the program ended with it did not start: spawn /no/such/program ENOENT");
    const ending = conform(["--only", "^drain-idle$", "--", "node", "-e", "console.log('no such option'); process.exitCode = 3"]);
    expect(await ending.ended).toBe(1);
    expect(ending.said()).toMatch(/saw: +the program ended with 3[^]*the program wrote:\n\s+no such option/);
  });

  it("gives up on a scenario after --timeout, and leaves no process behind", async () => {
    const forever = "process.on('SIGTERM', () => {}); console.log('pid', process.pid); setInterval(() => {}, 1000)";
    const kit = conform(["--only", "^delivery-echo$", "--timeout", "1500ms", "--", "node", "-e", forever]);
    expect(await kit.ended).toBe(1);
    expect(kit.said()).toContain("the scenario to end within 1500 ms");
    const pid = Number(/pid (\d+)/.exec(kit.said())?.[1]);
    expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
  });

  it("lists, and refuses what it cannot run", async () => {
    const listed = conform(["--list", "--only", "drain"]);
    expect(await listed.ended).toBe(0);
    expect(listed.said().trim().split("\n")).toEqual(
      scenarios.filter(({ name }) => name.includes("drain")).map(({ name, title }) => `${name}: ${title}`),
    );
    const [nothing, unknown] = [conform(["--only", "no-such-scenario", "--", "true"]), conform([])];
    expect([await nothing.ended, await unknown.ended]).toEqual([2, 2]);
    expect(unknown.said()).toContain("Which program? Say it after --");
  });
});
