// What was asked for on the command line?
import path from "node:path";
import { parseArgs } from "node:util";

const FULL = { runs: 5, warmUpSeconds: 5, seconds: 10, backlog: 50_000 };
const QUICK = { runs: 1, warmUpSeconds: 0.3, seconds: 0.5, backlog: 2_000 };

/** The text of --help. */
export const USAGE = `npm run bench -- [options]

  --runs 5            how often everything is measured, interleaved; medians are compared
  --cases a,life,f    only these: a key of the table, or what stands before its first dash
  --systems limit,…   only these
  --seconds 10        how long each case is measured
  --warm-up 5         how long each case runs before that, in seconds
  --backlog 50000     tasks of the drain
  --quick             a smoke: everything short and once; the figures mean nothing
  --out bench/out     folder of latest.json, growth.json and memory.json
  --profile           servers leave CPU profiles in its folder profiles, and the statements that took longest are told
  --install           first installs the peers (npm ci --prefix bench) and Redis (apt-get)
  --growth            instead: drain and latency of Leasehold with much stored; --scale 0.1 stores a tenth; --cases picks by key
  --memory            instead: server memory over --minutes 10 at 2,000 tasks/s`;

/** Reads the arguments. Throws an error with one sentence where they make no sense. */
export function readOptions(args) {
  const text = { type: "string" };
  const flag = { type: "boolean", default: false };
  const { values } = parseArgs({
    args,
    options: {
      runs: text,
      cases: text,
      systems: text,
      seconds: text,
      "warm-up": text,
      backlog: text,
      scale: text,
      minutes: text,
      out: text,
      quick: flag,
      profile: flag,
      install: flag,
      growth: flag,
      memory: flag,
      help: flag,
    },
  });
  const base = values.quick ? QUICK : FULL;
  return {
    runs: number("runs", values.runs, base.runs),
    seconds: number("seconds", values.seconds, base.seconds),
    warmUpSeconds: number("warm-up", values["warm-up"], base.warmUpSeconds),
    backlog: number("backlog", values.backlog, base.backlog),
    scale: number("scale", values.scale, values.quick ? 0.001 : 1),
    minutes: number("minutes", values.minutes, values.quick ? 0.1 : 10),
    out: path.resolve(values.out ?? path.join(import.meta.dirname, "out")),
    cases: values.cases?.split(","),
    systems: values.systems?.split(","),
    quick: values.quick,
    profile: values.profile,
    install: values.install,
    growth: values.growth,
    memory: values.memory,
    help: values.help,
  };
}

/** Whether a case was picked: by its key, or by what stands before its first dash. Without a pick all are, in a smoke the marked ones. */
export function isPicked({ cases, quick }, { key, quick: inSmoke }) {
  if (cases === undefined) return !quick || inSmoke === true;
  return cases.includes(key) || cases.includes(key.split("-")[0]);
}

function number(name, given, otherwise) {
  const value = given === undefined ? otherwise : Number(given);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`--${name} must be a number above 0`);
}
