// What do faults break, run by hand? Prints what it does, and at the end one line of figures.
//
//   npm run fault                                                        all faults that are permitted here, for two minutes
//   npm run fault -- --seed 7 --minutes 5 --nemesis kill-postgres,black-hole
//   npm run fault -- --saboteur synchronous-commit-off --nemesis kill-postgres --minutes 0.5
//
// Ends with 1 if a promise was broken; with a saboteur, if none was.
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { NEMESES, runFaults, type Saboteur } from "./run-faults.js";

const USAGE = `npm run fault -- [--seed N] [--minutes N] [--per-second N] [--nemesis NAME,NAME…] [--saboteur synchronous-commit-off]
faults: ${NEMESES.join(", ")}`;

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "2" },
    "per-second": { type: "string", default: "30" },
    nemesis: { type: "string" },
    saboteur: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw new Error(`--${name} must be a number\n${USAGE}`);
  return value;
}

function saboteurOf(name: string): Saboteur {
  if (name !== "synchronous-commit-off") throw new Error(`there is no saboteur ${name}\n${USAGE}`);
  return name;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<number> {
  const seed = values.seed === undefined ? randomInt(2 ** 31) : numberOf("seed", values.seed);
  const { saboteur } = values;
  print(`seed ${seed}`);
  const startMs = performance.now();
  const { summary, violations, report, folder } = await runFaults({
    seed,
    minutes: numberOf("minutes", values.minutes),
    perSecond: numberOf("per-second", values["per-second"]),
    say: (line) => print(`${((performance.now() - startMs) / 1000).toFixed(1).padStart(7)} ${line}`),
    ...(values.nemesis === undefined ? {} : { nemeses: values.nemesis.split(",") }),
    ...(saboteur === undefined ? {} : { saboteur: saboteurOf(saboteur) }),
  });
  if (report !== "") print(`\n${report}\n\njournals and logs: ${folder}`);
  print(`\n${summary}`);
  const lost = violations.some(({ guarantee }) => guarantee === "G1");
  if (saboteur !== undefined) print(lost ? "the saboteur was found" : "THE SABOTEUR WAS NOT FOUND");
  return (saboteur === undefined ? violations.length === 0 : lost) ? 0 : 1;
}

if (values.help) print(USAGE);
else {
  const code = await main().catch((error: unknown) => {
    print(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return 1;
  });
  // A connection that was being made when its other end died may be waited for much longer than anybody here wants to.
  process.exit(code);
}
