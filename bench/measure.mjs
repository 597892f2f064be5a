// What does a task cost beside time? Processor time of server and Postgres from /proc, bytes of the write-ahead log, memory.
import { readdirSync, readFileSync } from "node:fs";

const TICK_MS = 10;
const SAMPLE_MS = 250;

/** Memory of a process, in MB; 0 for one that has ended. */
export function residentMb(pid) {
  let text;
  try {
    text = readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return 0;
  }
  return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024;
}

/** Begins to measure a scene. What it returns ends that and answers the costs of so many tasks, by unit. */
export async function startMeter(scene, postgresPid) {
  let peakMb = 0;
  const sample = () => {
    for (const pid of scene.pids()) peakMb = Math.max(peakMb, residentMb(pid));
  };
  sample();
  const timer = setInterval(sample, SAMPLE_MS).unref();
  const read = async () => ({
    serverMs: scene.pids().reduce((sum, pid) => sum + cpuMs(pid), 0),
    postgresMs: scene.database === undefined ? 0 : postgresCpuMs(postgresPid),
    walBytes: (await scene.database?.walBytes()) ?? 0,
  });
  const before = await read();
  return async (tasks) => {
    clearInterval(timer);
    sample();
    const after = await read();
    return {
      ...(scene.pids().length > 0 && {
        "server CPU µs/task": ((after.serverMs - before.serverMs) * 1000) / tasks,
        "server memory MB": peakMb,
      }),
      ...(scene.database !== undefined && {
        "Postgres CPU µs/task": ((after.postgresMs - before.postgresMs) * 1000) / tasks,
        "WAL bytes/task": (after.walBytes - before.walBytes) / tasks,
      }),
    };
  };
}

/** Processor time of a process, in milliseconds. */
function cpuMs(pid) {
  const { user, system } = statOf(pid);
  return user + system;
}

/** That of the postmaster and all its children, those that ended included. */
function postgresCpuMs(postmaster) {
  const { user, system, endedChildren } = statOf(postmaster);
  const children = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return children.reduce(
    (sum, pid) => {
      const stat = statOf(pid);
      return stat?.parent === postmaster ? sum + stat.user + stat.system : sum;
    },
    user + system + endedChildren,
  );
}

/** Undefined for a process that has ended. */
function statOf(pid) {
  let text;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The name in brackets may hold anything, blanks included.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const ms = (index) => Number(fields[index]) * TICK_MS;
  return { parent: Number(fields[1]), user: ms(11), system: ms(12), endedChildren: ms(13) + ms(14) };
}
