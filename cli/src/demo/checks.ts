// Was everything that the demo claims true? Pure: what was seen goes in, what was not as claimed comes out.
import { rowsOf } from "./chunks.js";

/** What was seen during the demo. */
export interface Evidence {
  /** The text that was to be imported, with its header. */
  readonly csv: string;
  /** All rows that arrived, in order. */
  readonly arrived: readonly string[];
  /** How the first worker ended. */
  readonly killedBy: string;
  /** Rows that were checkpointed when the second worker went on; undefined if it never did. */
  readonly resumedFromRow: number | undefined;
  /** Why the second worker got the task. */
  readonly resumedBy: string | undefined;
  /** Whether the approval was seen suspended. */
  readonly suspended: boolean;
  /** What each task came to. */
  readonly outcomes: Readonly<Record<"import" | "approval" | "mail", unknown>>;
  /** Attempts of the mail that failed. */
  readonly mailFailures: number;
}

/** What was not as claimed, a sentence each; empty if all was. */
export function falsehoods(seen: Evidence): string[] {
  const rows = rowsOf(seen.csv).slice(1);
  const [half, resumed] = [rows.length / 4, seen.resumedFromRow ?? 0];
  const claims: readonly (readonly [boolean, string])[] = [
    [seen.killedBy === "SIGKILL", `the first worker was to die of SIGKILL, and ended with ${seen.killedBy}`],
    [
      seen.resumedBy === "lease_lost",
      `the second worker was to get the import because a lease was lost, and got it for ${seen.resumedBy ?? "no reason"}`,
    ],
    [resumed > half && resumed < rows.length, `the import was to go on from a checkpoint half way, and went on from row ${resumed}`],
    [
      same(seen.outcomes.import, { state: "completed", result: { rows: rows.length } }),
      `the import was to complete with ${rows.length} rows, and came to ${told(seen.outcomes.import)}`,
    ],
    [seen.suspended, "the approval was to be suspended, and never was"],
    [
      same(seen.outcomes.approval, { state: "completed", result: { decision: "approve" } }),
      `the approval was to complete with the decision, and came to ${told(seen.outcomes.approval)}`,
    ],
    [seen.mailFailures === 2, `the mail was to fail twice, and failed ${seen.mailFailures} times`],
    [
      same(seen.outcomes.mail, { state: "completed", result: { attempts: 3 } }),
      `the mail was to succeed at the third attempt, and came to ${told(seen.outcomes.mail)}`,
    ],
  ];
  return [...claims.filter(([holds]) => !holds).map(([, sentence]) => sentence), ...rowFalsehoods(rows, seen.arrived)];
}

/** Rows that are missing, came more than once, were never sent, or are out of order. */
export function rowFalsehoods(sent: readonly string[], arrived: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const row of arrived) counts.set(row, (counts.get(row) ?? 0) + 1);
  const wanted = new Set(sent);
  const missing = sent.filter((row) => !counts.has(row)).length;
  const repeated = [...counts.values()].filter((count) => count > 1).length;
  const strange = [...counts.keys()].filter((row) => !wanted.has(row)).length;
  const ordered = missing + repeated + strange > 0 || sent.every((row, at) => row === arrived[at]);
  return [
    ...(missing > 0 ? [`${missing} of ${sent.length} rows are missing`] : []),
    ...(repeated > 0 ? [`${repeated} rows arrived more than once`] : []),
    ...(strange > 0 ? [`${strange} rows arrived that nobody sent`] : []),
    ...(ordered ? [] : ["the rows arrived in another order"]),
  ];
}

function same(seen: unknown, wanted: unknown): boolean {
  return told(seen) === told(wanted);
}

function told(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
