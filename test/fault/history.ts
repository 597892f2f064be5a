// What is written down of a run with faults? One line of JSON for each thing that was asked, answered, leased, reported or broken, with the
// machine's monotonic time, which all processes share and no skew of their clocks touches.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

/** What an owner may ask for. */
export type Operation = "submit" | "proceed" | "cancel" | "retry" | "get";

/** How a call ended: answered, refused so that nothing can have happened, without saying what happened, or not yet. */
export type CallOutcome = "ok" | "refused" | "unknown" | "open";

/** A call of an owner, from its begin to its end. */
export interface Call {
  readonly what: "call";
  readonly atUs: number;
  readonly who: string;
  readonly server: string;
  readonly operation: Operation;
  readonly task: string;
  /** Of a proceed. */
  readonly requestId?: string;
  /** Of a proceed: the member that its patch sets. */
  readonly member?: string;
  endUs: number | null;
  outcome: CallOutcome;
  /** Of what failed: name of the gRPC status, reason of the server if it gave one, and the message. */
  code?: string;
  reason?: string;
  message?: string;
  /** What an answer said of the task. */
  state?: string;
  fencing?: number;
  version?: number;
  /** Of a submission: whether this call stored it; else which task has its key. */
  created?: boolean;
  answered?: string;
  /** Of a proceed: APPLIED or REMEMBERED. */
  result?: string;
}

interface OfWorker {
  readonly atUs: number;
  /** The worker's process: its name and which start of it. */
  readonly who: string;
}

/** A lease arrived at a worker. */
export interface Leased extends OfWorker {
  readonly what: "leased";
  readonly session: string;
  readonly token: string;
  readonly task: string;
  readonly name: string;
  readonly fencing: number;
  readonly attempt: number;
  readonly version: number;
  /** Execution metadata as JSON text; empty if there is none. */
  readonly saved: string;
  readonly reason: string;
}

/** A worker is about to send a report. */
export interface Reported extends OfWorker {
  readonly what: "reported";
  readonly token: string;
  readonly seq: number;
  readonly kind: string;
  /** Execution metadata that it saves; empty if none. */
  readonly saved: string;
  /** Of a suspension: how long it waits at least. */
  readonly afterMs?: number;
}

/** A verdict arrived. */
export interface Judged extends OfWorker {
  readonly what: "judged";
  readonly token: string;
  readonly seq: number;
  readonly code: string;
  readonly version: number;
  readonly state: string;
}

/** A heartbeat is about to be sent, or its storing was answered. */
export interface Beat extends OfWorker {
  readonly what: "beat" | "beat-stored";
  readonly session: string;
  readonly number: number;
}

/** A worker introduces itself. */
export interface Greeted extends OfWorker {
  readonly what: "greeted";
  readonly session: string;
  readonly connection: number;
  readonly held: readonly string[];
}

/** A stream begins. */
export interface Welcomed extends OfWorker {
  readonly what: "welcomed";
  readonly session: string;
  readonly ttlMs: number;
  readonly dropped: readonly string[];
}

/** A worker hears that it should stop with a lease. */
export interface Told extends OfWorker {
  readonly what: "told";
  readonly token: string;
  readonly why: string;
}

/** A stream of a worker ended. */
export interface Closed extends OfWorker {
  readonly what: "closed";
  readonly why: string;
}

/** A process of the run began or ended; or a fault did. */
export interface Happened extends OfWorker {
  readonly what: "started" | "ended" | "fault" | "healed";
  readonly note: string;
}

/** Anything that is written down. */
export type Entry = Call | Leased | Reported | Judged | Beat | Greeted | Welcomed | Told | Closed | Happened;

/** Monotonic time in microseconds, the same in every process of the machine. */
export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** A file that entries are added to. Each is with the kernel when `write` returns, so a kill loses none. */
export interface Journal {
  write(entry: Entry): void;
  close(): void;
}

/** Opens a journal; what it holds already stays. */
export function openJournal(path: string): Journal {
  const file = openSync(path, "a");
  return { write: (entry) => void writeSync(file, `${JSON.stringify(entry)}\n`), close: () => closeSync(file) };
}

/** Everything in a journal. A line that a kill cut short is left out. */
export function readJournal(path: string): Entry[] {
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.flatMap((line, index) => {
    if (line === "") return [];
    try {
      return [JSON.parse(line) as Entry];
    } catch (error) {
      if (index < lines.length - 2) throw error;
      return [];
    }
  });
}

/** One entry of the server's own timeline of a task. */
export interface FinalEvent {
  /** On the monotonic scale of the entries. */
  readonly atUs: number;
  readonly type: string;
  readonly state: string;
  readonly fencing: number;
  readonly attempt: number;
  readonly worker: string;
  readonly message: string;
  /** When the task is due or wakes after it; null if that is not said. */
  readonly dueUs: number | null;
}

/** What is stored of a task at the end. Times are on the monotonic scale of the entries. */
export interface FinalTask {
  readonly id: string;
  readonly name: string;
  readonly key: string;
  readonly state: string;
  readonly finishReason: string;
  readonly fencing: number;
  readonly version: number;
  readonly attempt: number;
  readonly lostLeases: number;
  /** JSON text; empty if there is none. */
  readonly metadata: string;
  readonly saved: string;
  readonly result: string;
  readonly createUs: number;
  readonly finishUs: number | null;
  readonly events: readonly FinalEvent[];
}

/** All that the checker gets to see. */
export interface History {
  /** In the order of their times. */
  readonly entries: readonly Entry[];
  /** Every stored task by id. */
  readonly tasks: ReadonlyMap<string, FinalTask>;
  /** What the audit of the tables found. */
  readonly findings: readonly { readonly finding: string; readonly id: string }[];
  /** What is wrong with processes and logs: ended by themselves, unhandled errors, too many lines. */
  readonly complaints: readonly string[];
}

/** A broken promise: which one, how, and of which task. */
export interface Violation {
  /** `G1` to `G19`, or `alive`, `audit`, `liveness`. */
  readonly guarantee: string;
  readonly finding: string;
  readonly task?: string;
}
