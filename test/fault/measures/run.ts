// What are the figures? Each command puts one fault on real processes and prints what it came to.
//
//   npm run fault:measure -- postgres-killed 180      Postgres away for 180 s
import { type DEAD_SOCKETS, deadSockets } from "./dead-sockets.js";
import { type DeadlineFault, deadlines } from "./deadlines.js";
import { deadWorkers } from "./dead-workers.js";
import { print } from "./figures.js";
import { pausedServers } from "./paused-servers.js";
import { postgresKilled } from "./postgres-killed.js";
import { reconnectingWorkers } from "./reconnecting-workers.js";
import { rollingRestart } from "./rolling-restart.js";
import { openStage, type Stage } from "./stage.js";

interface Command {
  /** What its one number means. */
  readonly what: string;
  readonly usual: number;
  readonly run: (amount: number) => Promise<object>;
}

/** Runs a measurement on a stage of its own. */
function staged(measure: (stage: Stage, amount: number) => Promise<object>): Command["run"] {
  return async (amount) => {
    await using stage = await openStage();
    return await measure(stage, amount);
  };
}

function socketCommand(variant: keyof typeof DEAD_SOCKETS): Command {
  return { what: "seconds without a network", usual: 20, run: staged((stage, seconds) => deadSockets(stage, variant, seconds * 1_000)) };
}

function deadlineCommand(fault: DeadlineFault): Command {
  return { what: "runs", usual: 1, run: (runs) => repeated(runs, () => deadlines(fault)) };
}

/** One run after the other; numbers are gathered. */
async function repeated(runs: number, measure: () => Promise<object>): Promise<object> {
  const gathered: Record<string, unknown[]> = {};
  for (let run = 0; run < runs; run++) for (const [name, value] of Object.entries(await measure())) (gathered[name] ??= []).push(value);
  return gathered;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  "dead-workers": { what: "kills", usual: 100, run: staged(deadWorkers) },
  "postgres-killed": { what: "seconds without Postgres", usual: 60, run: (seconds) => postgresKilled(seconds * 1_000) },
  "dead-sockets-everything": socketCommand("everything"),
  "dead-sockets-established": socketCommand("established"),
  "dead-sockets-answers": socketCommand("answers"),
  "dead-sockets-connect": socketCommand("connect"),
  "deadlines-servers": deadlineCommand("servers"),
  "deadlines-postgres": deadlineCommand("postgres"),
  "deadlines-restarts": deadlineCommand("restarts"),
  "paused-servers": { what: "loops", usual: 40, run: staged(pausedServers) },
  "reconnecting-workers": { what: "workers", usual: 200, run: staged((stage, workers) => reconnectingWorkers(stage, workers)) },
  "rolling-restart": { what: "rounds", usual: 5, run: staged(rollingRestart) },
};

const [name = "", amount] = process.argv.slice(2);
const command = COMMANDS[name];
if (command === undefined) {
  const lines = Object.entries(COMMANDS).map(([known, { what, usual }]) => `  ${known} [${what}, ${usual} if left out]`);
  process.stderr.write(`Commands:\n${lines.join("\n")}\n`);
  process.exitCode = 2;
} else {
  const given = amount === undefined ? command.usual : Number(amount);
  print(`${name}: ${given} ${command.what}`, await command.run(given));
}
