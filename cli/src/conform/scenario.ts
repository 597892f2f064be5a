// What is a scenario? A data file: which rule of the contract it is about, and steps that the scripted server does or expects, in order.
//
// Leases have labels in the file ("a"); `count` gives one lease to each label "a1", "a2" …, and "a*" means all of them. Times are in
// milliseconds. An unknown verb or field is refused when the file is read, so that a typo never makes a scenario pass.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Kinds of a report, by the names of its fields. */
export const REPORT_KINDS = ["checkpoint", "complete", "fail", "suspend", "cancel", "release"] as const;
/** A kind of report. */
export type ReportKind = (typeof REPORT_KINDS)[number];

/** What the steps of a scenario may say, verb by verb. */
export type Step =
  /** Expects the first hello and welcomes it. */
  | { readonly do: "connect"; readonly heartbeatMs?: number; readonly ttlMs?: number }
  /** Expects a hello. `again`: with the session of the last welcome and a higher connection. `holds`: exactly these leases are listed. */
  | {
      readonly do: "hello";
      readonly again?: boolean;
      readonly holds?: readonly string[];
      readonly withinMs?: number;
      readonly notBeforeMs?: number;
    }
  /** Answers the hello. `session`: another label than before is a session that began anew. What is not in `drop` is kept. */
  | {
      readonly do: "welcome";
      readonly session?: string;
      readonly drop?: readonly string[];
      readonly heartbeatMs?: number;
      readonly ttlMs?: number;
      readonly hex?: string;
    }
  /** Gives leases, all in one message. `count`: so many, or one for each slot of the hello, or one more. `bytes`: size of a metadata text. */
  | {
      readonly do: "lease";
      readonly lease: string;
      readonly task: string;
      readonly count?: number | "slots" | "slots+1";
      readonly metadata?: unknown;
      readonly bytes?: number;
      readonly executionMetadata?: unknown;
      readonly attempt?: number;
      readonly deadlineMs?: number;
      readonly resumed?: "PROCEEDED" | "WOKEN";
      readonly note?: string;
      readonly failedBefore?: string;
      readonly cancelled?: string;
      readonly hex?: string;
    }
  /**
   * Expects the next report of a lease that was not sent before, or with `resent` the next that was; `kinds` where several are right; `past` are
   * passed over. Of "a*" one of each, in any order.
   */
  | {
      readonly do: "report";
      readonly lease: string;
      readonly kind?: ReportKind;
      readonly kinds?: readonly ReportKind[];
      readonly past?: ReportKind;
      readonly seq?: number;
      readonly resent?: boolean;
      readonly result?: unknown;
      readonly resultBytes?: number;
      readonly executionMetadata?: unknown;
      readonly errorCode?: string;
      readonly retryable?: boolean;
      readonly untilProceeded?: boolean;
      readonly untilAfterMs?: number;
      readonly withinMs?: number;
      readonly notBeforeMs?: number;
    }
  /** Expects that nothing more is said about a lease for so long, or with `resent` that nothing is said again. */
  | { readonly do: "no-report"; readonly lease: string; readonly forMs: number; readonly resent?: boolean }
  /** Expects that an outcome was reported and answered. */
  | { readonly do: "settled"; readonly lease: string; readonly withinMs?: number }
  /** Answers from here on: reports each as a server would (`record`), with RETRY_LATER, or not at all; heartbeats or not, `late`: when the next has come. */
  | { readonly do: "answer"; readonly reports?: "record" | "later" | "hold"; readonly heartbeats?: boolean; readonly late?: boolean }
  /** Answers one report, or all of a lease that have no verdict. */
  | {
      readonly do: "verdict";
      readonly lease: string;
      readonly seq?: number;
      readonly code: "RECORDED" | "ALREADY_RECORDED" | "LEASE_LOST" | "INVALID" | "RETRY_LATER";
      readonly retryAfterMs?: number;
      readonly times?: number;
    }
  /** Tells that a task was cancelled, at once or together with the next heartbeat answer. */
  | { readonly do: "cancel"; readonly lease: string; readonly reason?: string; readonly withHeartbeat?: boolean; readonly times?: number }
  /** Takes leases away. */
  | {
      readonly do: "revoke";
      readonly lease: string;
      readonly reason: "ATTEMPT_DEADLINE" | "SILENCE_DEADLINE" | "CANCEL_GRACE_ENDED" | "LEASE_LOST";
    }
  /** Expects heartbeats: so many, no two further apart than `maxGapMs`; with `leasesReceived` waits for one that says so. */
  | {
      readonly do: "heartbeats";
      readonly count?: number;
      readonly maxGapMs?: number;
      readonly leasesReceived?: number;
      readonly withinMs?: number;
    }
  /** Says nothing at all from here on, or speaks again. */
  | { readonly do: "silence"; readonly on: boolean }
  /** Sends bytes that are a message with fields of the future. */
  | { readonly do: "bytes"; readonly hex: string }
  /** Sends empty messages. */
  | { readonly do: "empty"; readonly times: number }
  /** Says that this server is going away, and ends the stream half a second later. */
  | { readonly do: "server-drain"; readonly reconnectAfterMs: number }
  /** Ends the stream with a status, or with OK. */
  | {
      readonly do: "end";
      readonly reason?: "SERVER_DRAINING" | "SESSION_TAKEN" | "SESSION_EXPIRED" | "DATABASE_UNAVAILABLE" | "WORKER_SILENT";
    }
  /** Resets every connection. */
  | { readonly do: "cut" }
  /** Lets every connection that is open die without a word: nothing passes on it from here on, in either direction. Others may be opened. */
  | { readonly do: "freeze" }
  /** Ends every new stream with UNAVAILABLE, until `on` is false. */
  | { readonly do: "away"; readonly on: boolean }
  /** Asks the program to stop. */
  | { readonly do: "sigterm" }
  /** Expects a drain on the stream. */
  | { readonly do: "drain"; readonly withinMs?: number }
  /** Expects that the program ends. */
  | { readonly do: "exit"; readonly code: number; readonly withinMs?: number }
  /** Expects that the stream goes on for so long: no new hello. */
  | { readonly do: "stays"; readonly forMs: number }
  /** Counts the streams that are opened in so long, and expects at least one and at most so many. */
  | { readonly do: "streams"; readonly atMost: number; readonly forMs: number };

/** A scenario as its file says. */
export interface Scenario {
  /** Name of its file without `.json`; its first word is the subject. */
  readonly name: string;
  readonly title: string;
  /** The rule of the contract that it is about. */
  readonly rule: string;
  readonly steps: readonly Step[];
}

/** Fields of each verb; those with `!` must be there. */
const FIELDS: Readonly<Record<Step["do"], string>> = {
  connect: "heartbeatMs ttlMs",
  hello: "again holds withinMs notBeforeMs",
  welcome: "session drop heartbeatMs ttlMs hex",
  lease: "lease! task! count metadata bytes executionMetadata attempt deadlineMs resumed note failedBefore cancelled hex",
  report:
    "lease! kind kinds past seq resent result resultBytes executionMetadata errorCode retryable untilProceeded untilAfterMs withinMs notBeforeMs",
  "no-report": "lease! forMs! resent",
  settled: "lease! withinMs",
  answer: "reports heartbeats late",
  verdict: "lease! seq code! retryAfterMs times",
  cancel: "lease! reason withHeartbeat times",
  revoke: "lease! reason!",
  heartbeats: "count maxGapMs leasesReceived withinMs",
  silence: "on!",
  bytes: "hex!",
  empty: "times!",
  "server-drain": "reconnectAfterMs!",
  end: "reason",
  cut: "",
  freeze: "",
  away: "on!",
  sigterm: "",
  drain: "withinMs",
  exit: "code! withinMs",
  stays: "forMs!",
  streams: "atMost! forMs!",
};

/** Types of fields that are not just any text, by field or by verb and field. */
const NUMBERS = /(?:Ms|^seq|^times|^bytes|^resultBytes|^attempt|^leasesReceived|^atMost)$/;
const FLAGS = new Set(["again", "resent", "retryable", "untilProceeded", "withHeartbeat", "heartbeats", "late", "on"]);
const LISTS = new Set(["holds", "drop"]);
const ANY = new Set(["metadata", "executionMetadata", "result"]);
const CHOICES: Readonly<Record<string, readonly string[]>> = {
  "report kind": REPORT_KINDS,
  "report past": REPORT_KINDS,
  "lease resumed": ["PROCEEDED", "WOKEN"],
  "answer reports": ["record", "later", "hold"],
  "verdict code": ["RECORDED", "ALREADY_RECORDED", "LEASE_LOST", "INVALID", "RETRY_LATER"],
  "revoke reason": ["ATTEMPT_DEADLINE", "SILENCE_DEADLINE", "CANCEL_GRACE_ENDED", "LEASE_LOST"],
  "end reason": ["SERVER_DRAINING", "SESSION_TAKEN", "SESSION_EXPIRED", "DATABASE_UNAVAILABLE", "WORKER_SILENT"],
};

/** The folder of the scenarios that are shipped. */
export const scenarioFolder = join(import.meta.dirname, "../../scenarios");

/** Reads all scenarios of a folder, in the order of their names. Throws with file and place of what is not understood. */
export async function readScenarios(folder = scenarioFolder): Promise<Scenario[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith(".json"));
  const names = files.map((file) => file.replace(/\.json$/, "")).sort();
  return Promise.all(
    names.map(async (name) => {
      const value: unknown = JSON.parse(await readFile(join(folder, `${name}.json`), "utf8"));
      return parseScenario(name, value);
    }),
  );
}

/** Checks what a file holds. Throws an Error that names the place. */
export function parseScenario(name: string, value: unknown): Scenario {
  const { title, rule, steps, ...rest } = record(name, value);
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new Error(`${name}: there is no field "${unknown}"`);
  if (typeof title !== "string" || typeof rule !== "string") throw new Error(`${name}: title and rule must be texts`);
  if (!Array.isArray(steps) || steps.length === 0) throw new Error(`${name}: steps must be a list that is not empty`);
  return { name, title, rule, steps: steps.map((step: unknown, index) => parseStep(`${name}: steps[${index}]`, step)) };
}

function parseStep(place: string, value: unknown): Step {
  const step = record(place, value);
  assertStep(place, step);
  return step;
}

function assertStep(place: string, step: Record<string, unknown>): asserts step is Step & Record<string, unknown> {
  const verb = step["do"];
  if (typeof verb !== "string" || !isVerb(verb)) throw new Error(`${place}: there is no verb ${JSON.stringify(verb)}`);
  const fields = FIELDS[verb].split(" ");
  for (const [field, value] of Object.entries(step)) {
    if (field === "do") continue;
    if (!fields.includes(field) && !fields.includes(`${field}!`)) throw new Error(`${place}: "${verb}" has no field "${field}"`);
    if (!rightType(verb, field, value)) throw new Error(`${place}: ${field} is ${JSON.stringify(value)}, which is not of its type`);
  }
  const missing = fields.find((field) => field.endsWith("!") && step[field.slice(0, -1)] === undefined);
  if (missing !== undefined) throw new Error(`${place}: "${verb}" needs the field "${missing.slice(0, -1)}"`);
}

function rightType(verb: Step["do"], field: string, value: unknown): boolean {
  if (ANY.has(field)) return true;
  if (field === "count" && verb === "lease" && (value === "slots" || value === "slots+1")) return true;
  if (field === "count" || NUMBERS.test(field) || (verb === "exit" && field === "code")) return typeof value === "number";
  if (FLAGS.has(field)) return typeof value === "boolean";
  if (LISTS.has(field)) return Array.isArray(value) && value.every((item) => typeof item === "string");
  if (field === "kinds") return Array.isArray(value) && value.every((item) => REPORT_KINDS.some((kind) => kind === item));
  return typeof value === "string" && (CHOICES[`${verb} ${field}`]?.includes(value) ?? true);
}

function isVerb(verb: string): verb is Step["do"] {
  return Object.hasOwn(FIELDS, verb);
}

function record(place: string, value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${place} must be an object`);
  return { ...value };
}
