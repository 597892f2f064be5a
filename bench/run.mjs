// How fast is Leasehold, beside what Postgres and gRPC can do and beside its peers? Starts every system, measures every case of all of them
// in turn, round after round, prints medians and ratios and writes bench/out/latest.json. `npm run bench -- --help` tells the options.
import { CASES } from "./cases.mjs";
import { measureGrowth } from "./growth.mjs";
import { measureMemory } from "./memory.mjs";
import { forgetStatements, tellStatements } from "./hot-statements.mjs";
import { isPicked, readOptions, USAGE } from "./options.mjs";
import { printResults, printTargets, writeMarkdown, writeResults } from "./report.mjs";
import { install, openEnvironment, startScene, stopScenes } from "./stage.mjs";
import { Results } from "./statistics.mjs";
import bullmq from "./systems/bullmq.mjs";
import graphileWorker from "./systems/graphile-worker.mjs";
import grpcEcho from "./systems/grpc-echo.mjs";
import leaseholdSdk from "./systems/leasehold-sdk.mjs";
import leasehold from "./systems/leasehold.mjs";
import limit3 from "./systems/limit-3.mjs";
import limit from "./systems/limit.mjs";
import pgBoss from "./systems/pg-boss.mjs";
import { TARGETS } from "./targets.mjs";

const SYSTEMS = [limit, limit3, grpcEcho, leasehold, leaseholdSdk, pgBoss, graphileWorker, bullmq];
const TITLES = Object.fromEntries(CASES.map(({ key, title }) => [key, title]));

let options;
try {
  options = readOptions(process.argv.slice(2));
  const unknown = options.systems?.filter((name) => !SYSTEMS.some((system) => system.name === name)) ?? [];
  if (unknown.length > 0) throw new Error(`no such system: ${unknown.join(", ")}`);
} catch (error) {
  console.error(`${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (options.help) console.log(USAGE);
else await main();

async function main() {
  if (options.install) install();
  const environment = await openEnvironment(options);
  try {
    const measured = { ...options, postgresPid: environment.postgres.pid };
    if (options.growth) await measureGrowth(environment, measured);
    else if (options.memory) await measureMemory(environment, measured);
    else await compare(environment, measured);
  } catch (error) {
    // What is measured fails when all is taken down.
    if (!environment.interrupted) throw error;
  } finally {
    await environment.stop();
  }
}

/** All systems, all cases. */
async function compare(environment, measured) {
  const wanted = SYSTEMS.filter(({ name }) => options.systems?.includes(name) ?? true);
  const absent = wanted.flatMap((system) => (system.absent() === undefined ? [] : [`${system.name} is absent: ${system.absent()}`]));
  const systems = wanted.filter((system) => system.absent() === undefined);
  const cases = CASES.filter((one) => isPicked(options, one));
  const results = new Results();
  for (const line of absent) console.log(line);
  for (let round = 0; round < options.runs; round++) {
    await measureRound({ environment, measured, systems, cases, results, round });
    writeResults(options.out, "latest.json", results);
  }
  printResults(results, TITLES);
  for (const line of absent) console.log(`\n${line}`);
  printTargets(results, TARGETS);
  writeMarkdown(options.out, "latest.md", { results, titles: TITLES, targets: TARGETS });
}

/** Every case once for every system that has it. Each round begins with another system, so that none is always first. */
async function measureRound({ environment, measured, systems, cases, results, round }) {
  const scenes = new Map();
  const order = systems.map((_, index) => systems[(index + round) % systems.length]);
  for (const one of cases) {
    for (const system of order.filter(({ cases: has }) => has.includes(one.key))) {
      if (!scenes.has(system)) scenes.set(system, await startScene(environment, system));
      // Or pages that the system before left dirty are written while this one is measured.
      await environment.admin.query("CHECKPOINT");
      if (options.profile) await forgetStatements(environment);
      const values = await one.run({ scene: scenes.get(system), options: measured });
      if (options.profile) await tellStatements(environment);
      for (const [unit, value] of Object.entries(values)) results.add(system.name, one.key, unit, value);
      const [[unit, value]] = Object.entries(values);
      console.log(`round ${round + 1}/${measured.runs}  ${one.key.padEnd(18)} ${system.name.padEnd(16)} ${value.toPrecision(4)} ${unit}`);
    }
  }
  await stopScenes(environment);
}
