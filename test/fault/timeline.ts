// What happened to one task, told in the order of time? What owners asked, what went over the workers' streams, what the server says, and the faults.
import type { Entry, History } from "./history.js";

/** The merged timeline of a task, a line for each thing; of a run without a task only faults and processes. */
export function timelineOf({ entries, tasks }: History, task: string | undefined): string {
  const tokens = new Set<string>();
  const workers = new Set<string>();
  for (const entry of entries)
    if (entry.what === "leased" && entry.task === task) {
      tokens.add(entry.token);
      workers.add(entry.who);
    }
  const beganUs = entries[0]?.atUs ?? 0;
  const lines: { atUs: number; line: string }[] = entries.flatMap((entry) => {
    const line = lineOf(entry, task, tokens, workers);
    return line === undefined ? [] : [{ atUs: entry.atUs, line: `${entry.who.padEnd(12)} ${line}` }];
  });
  for (const { atUs, type, state, fencing, worker, message } of tasks.get(task ?? "")?.events ?? [])
    lines.push({ atUs, line: `${"(database)".padEnd(12)} ${type} ${state} lease=${fencing} ${worker} ${message}` });
  return folded(lines.sort((a, b) => a.atUs - b.atUs))
    .map(({ atUs, line }) => `${((atUs - beganUs) / 1e6).toFixed(3).padStart(9)}  ${line}`)
    .join("\n");
}

/** The same without what only says once more that nothing was answered, or that somebody lives. */
function folded(lines: readonly { atUs: number; line: string }[]): { atUs: number; line: string }[] {
  const kindOf = (line: string): string => /^\S+ +(?:beat|\w+ through \S+: unknown \w*)/.exec(line)?.[0] ?? "";
  const seen = new Set<string>();
  return lines.filter(({ line }) => {
    const kind = kindOf(line).replace(/ through \S+/, "");
    if (kind === "") seen.clear();
    else if (seen.has(kind)) return false;
    else seen.add(kind);
    return true;
  });
}

function lineOf(entry: Entry, task: string | undefined, tokens: ReadonlySet<string>, workers: ReadonlySet<string>): string | undefined {
  switch (entry.what) {
    case "call": {
      if (entry.task !== task) return undefined;
      const {
        operation,
        server,
        endUs,
        atUs,
        outcome,
        code = "",
        reason = "",
        state = "",
        fencing = "",
        version = "",
        result = "",
      } = entry;
      const took = endUs === null ? "never answered" : `${((endUs - atUs) / 1000).toFixed(0)} ms`;
      return `${operation} through ${server}: ${outcome} ${code} ${reason} ${state} ${result} lease=${fencing} version=${version} (${took}) ${entry.message ?? ""}`;
    }
    case "leased":
      return entry.task === task
        ? `leased lease=${entry.fencing} version=${entry.version} attempt=${entry.attempt} ${entry.reason} ${entry.saved}`
        : undefined;
    case "reported":
      return tokens.has(entry.token) ? `reports ${entry.seq} ${entry.kind} ${entry.saved}` : undefined;
    case "judged":
      return tokens.has(entry.token) ? `verdict ${entry.seq} ${entry.code} ${entry.state} version=${entry.version}` : undefined;
    case "told":
      return tokens.has(entry.token) ? `told ${entry.why}` : undefined;
    case "fault":
    case "healed":
      return `${entry.what.toUpperCase()} ${entry.note}`;
    case "started":
    case "ended":
      return `${entry.what} ${entry.note}`;
    case "beat-stored":
    case "beat":
      return workers.has(entry.who) ? `${entry.what} ${entry.number}` : undefined;
    case "greeted":
      return workers.has(entry.who) ? `hello ${entry.connection} with ${entry.held.length} held` : undefined;
    case "welcomed":
      return workers.has(entry.who) ? `welcome ${entry.session} dropped=${entry.dropped.length}` : undefined;
    case "closed":
      return workers.has(entry.who) ? `stream over: ${entry.why}` : undefined;
  }
}
