// How are scenarios run against a program? Each with a process and a port of its own, several at once, the longest first, results in the order of
// the files.
import { Play } from "./play.js";
import { ProgramUnderTest } from "./program-under-test.js";
import type { Scenario } from "./scenario.js";
import { ScriptedServer } from "./scripted-server.js";
import { Transcript } from "./transcript.js";

/** What became of a scenario. */
export interface Result {
  readonly scenario: Scenario;
  readonly durationMs: number;
  /** What went another way; absent if nothing did. */
  readonly failure?: {
    /** Number of the step, from 1. */
    readonly step: number;
    readonly expected: string;
    readonly saw: string;
    readonly transcript: readonly string[];
    /** The end of what the program wrote. */
    readonly said: string;
  };
}

/** How scenarios are run. */
export interface RunOptions {
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** How many at once. */
  readonly jobs: number;
  /** Longest time of one scenario, in milliseconds. */
  readonly limitMs: number;
  /** Told of each result as it comes. */
  readonly done?: (result: Result) => void;
}

/** Runs all. @returns results in the order of the scenarios. */
export async function runScenarios(scenarios: readonly Scenario[], options: RunOptions): Promise<Result[]> {
  const results: Result[] = [];
  // One that waits for long and begins last would be waited for alone.
  const waiting = [...scenarios.entries()].sort(([, one], [, other]) => patienceMs(other) - patienceMs(one));
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, scenario] = next;
      const result = await runScenario(scenario, options);
      results[index] = result;
      options.done?.(result);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, options.jobs) }, lane));
  return results;
}

/** How long a scenario may wait, as far as its steps say; in milliseconds. */
function patienceMs({ steps }: Scenario): number {
  const waits = steps.flatMap((step) => ["forMs" in step ? step.forMs : 0, "withinMs" in step ? step.withinMs : 0]);
  return waits.reduce((sum, ms) => sum + ms, 0);
}

/** Runs one. */
export async function runScenario(scenario: Scenario, { command, limitMs }: RunOptions): Promise<Result> {
  const transcript = new Transcript();
  const server = new ScriptedServer(transcript);
  const address = await server.start();
  const program = new ProgramUnderTest(command, address);
  void program.ended.then((how) => {
    transcript.say("·", `the program ended: ${how}`);
    transcript.add({ kind: "exit", how });
  });
  try {
    const failure = await withinLimit(new Play({ server, program, transcript }).run(scenario.steps), limitMs);
    const durationMs = transcript.nowMs;
    if (failure === undefined) return { scenario, durationMs };
    return { scenario, durationMs, failure: { ...failure, transcript: transcript.lines, said: program.said } };
  } finally {
    program.kill();
    server.stop();
  }
}

type Failure = Awaited<ReturnType<Play["run"]>>;

async function withinLimit(playing: Promise<Failure>, limitMs: number): Promise<Failure> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Failure>((resolve) => {
    timer = setTimeout(() => resolve({ step: 0, expected: `the scenario to end within ${limitMs} ms`, saw: "it did not" }), limitMs);
  });
  try {
    return await Promise.race([playing, late]);
  } finally {
    clearTimeout(timer);
  }
}
