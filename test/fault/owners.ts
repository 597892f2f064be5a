// What do owners do during a run with faults? They submit work of every kind through any server, ask for it again where they were not answered,
// proceed, cancel and retry it, and read it; each call is written down with what it was answered.
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { type Task, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import {
  CancelTaskRequest,
  GetTaskRequest,
  ProceedResult,
  ProceedTaskRequest,
  RetryTaskRequest,
  SubmitTaskRequest,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { readRefusal, type Submission, type UnaryMethod } from "../support/owner-calls.js";
import { jsonPayload } from "../support/task-client.js";
import type { Call, Journal } from "./history.js";
import { nowUs } from "./history.js";
import { type Kind, nameOf, RETRY_DELAY_MS, type Work } from "./kinds.js";
import type { Chance } from "./chance.js";

/** A server as owners know it. */
export interface Address {
  readonly name: string;
  readonly address: string;
}

/** What owners know of a task that they submitted. */
export interface Known {
  readonly id: string;
  readonly name: string;
  readonly kind: Kind | "python";
  /** How many proceeds it wants, and how many were acknowledged. */
  readonly wants: number;
  proceeded: number;
  finished: boolean;
}

/** Owners at work. */
export interface Owners {
  readonly known: ReadonlyMap<string, Known>;
  /** Submits a task of one kind, as often as it takes. */
  submit(kind: Kind): Promise<void>;
  /** No more new tasks; resolves when every call that was begun is settled. */
  quiet(): Promise<void>;
  /** Proceeds, until each task that waits for it goes on; resolves when none is left. */
  proceedAll(): Promise<void>;
  close(): void;
}

const DEADLINE_MS = 5_000;
const AGAIN_MS = 150;
/** After this long an owner gives a call up; what it did stays unknown. */
const GIVE_UP_MS = 600_000;
/** Most unfinished tasks that owners know of; beyond it they wait. */
const MOST_UNFINISHED = 500;
const UNKNOWN: readonly number[] = [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED];
/** Refused, and worth another try. */
const LATER: readonly number[] = [status.RESOURCE_EXHAUSTED, status.ABORTED];

interface Parts {
  readonly servers: readonly Address[];
  readonly clients: readonly Client[];
  readonly journal: Journal;
  readonly chance: Chance;
  readonly known: Map<string, Known>;
  readonly over: () => boolean;
  readonly python: boolean;
}

/** Starts owners on these servers: `perSecond` new tasks a second, as long as they are worked off. */
export function startOwners(
  servers: readonly Address[],
  journal: Journal,
  chance: Chance,
  { perSecond, python }: { perSecond: number; python: boolean },
): Owners {
  const clients = servers.map(
    ({ address }) =>
      new Client(address, credentials.createInsecure(), {
        ...{ "grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 500, "grpc.use_local_subchannel_pool": 1 },
      }),
  );
  let quiet = false;
  const known = new Map<string, Known>();
  const parts: Parts = { servers, clients, journal, chance, known, python, over: () => quiet };
  const lives = new Set<Promise<void>>();
  const live = (life: Promise<void>): void => {
    lives.add(life);
    void life.finally(() => lives.delete(life));
  };
  let made = 0;
  const submitting = (async () => {
    while (!parts.over()) {
      await pause(1000 / perSecond);
      const unfinished = [...known.values()].filter(({ finished }) => !finished).length;
      if (unfinished < MOST_UNFINISHED && lives.size < MOST_UNFINISHED) live(own(parts, ++made));
    }
  })();
  const reading = readAround(parts);
  return {
    known,
    submit: (kind) => own(parts, ++made, kind),
    quiet: async () => {
      quiet = true;
      await Promise.all([submitting, reading]);
      while (lives.size > 0) await Promise.all(lives);
    },
    proceedAll: async () => {
      const waiting = [...known.values()].filter(({ wants, proceeded, finished }) => !finished && proceeded < wants);
      for (const one of waiting) await proceedOnce(parts, one);
    },
    close: () => {
      for (const client of clients) client.close();
    },
  };
}

/** What became of one call; `retry` says that the same call is worth another try. */
interface Made<Response> {
  readonly call: Call;
  readonly response: Response | undefined;
  readonly again: boolean;
}

function once<Request, Response>(
  { servers, clients, journal, chance }: Parts,
  method: UnaryMethod<Request, Response>,
  request: Request,
  about: Pick<Call, "operation" | "task" | "requestId" | "member">,
  read: (response: Response) => Partial<Call>,
): Promise<Made<Response>> {
  const index = chance.below(clients.length);
  const call: Call = {
    what: "call",
    who: "owner",
    atUs: nowUs(),
    server: servers[index]?.name ?? "",
    ...about,
    endUs: null,
    outcome: "open",
  };
  const { path, requestSerialize, responseDeserialize } = method;
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + DEADLINE_MS };
    clients[index]!.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error, response) => {
      call.endUs = nowUs();
      if (error === null && response !== undefined) Object.assign(call, { outcome: "ok", ...read(response) });
      else Object.assign(call, failureOf(error));
      journal.write(call);
      const code = error?.code ?? status.OK;
      resolve({ call, response, again: error !== null && (call.outcome === "unknown" || LATER.includes(code)) });
    });
  });
}

function failureOf(error: ServiceError | null): Partial<Call> {
  if (error === null) return { outcome: "unknown", code: "NOTHING" };
  const { reason } = readRefusal(error);
  // What says that nothing is known, and what the client made up itself when the connection broke in the middle.
  const broken = error.code === status.INTERNAL && reason === "" && /RST_STREAM|stream/i.test(error.details);
  const outcome = UNKNOWN.includes(error.code) || broken ? "unknown" : "refused";
  return { outcome, code: broken ? "UNAVAILABLE" : status[error.code], reason, message: error.details };
}

async function persist<Request, Response>(parts: Parts, ...parameters: ParametersOf<Request, Response>): Promise<Made<Response>> {
  const endMs = performance.now() + GIVE_UP_MS;
  for (;;) {
    const made = await once(parts, ...parameters);
    if (!made.again || performance.now() > endMs) return made;
    await pause(AGAIN_MS * (1 + parts.chance.next()));
  }
}

type ParametersOf<Request, Response> = [
  method: UnaryMethod<Request, Response>,
  request: Request,
  about: Pick<Call, "operation" | "task" | "requestId" | "member">,
  read: (response: Response) => Partial<Call>,
];

function stateOf({ state, fencingToken, executionMetadataVersion, taskId }: Task): Partial<Call> {
  return { state: TaskState[state], fencing: Number(fencingToken), version: Number(executionMetadataVersion), answered: taskId };
}

/** How often each kind is submitted, of 100. */
const SHARES: readonly (readonly [number, Kind | "keyed" | "delayed" | "python"])[] = [
  [24, "plain"],
  [20, "steps"],
  [12, "approval"],
  [8, "timer"],
  [8, "flaky"],
  [6, "hopeless"],
  [6, "patient"],
  [8, "keyed"],
  [4, "delayed"],
  [4, "python"],
];

/** The whole life of one task as its owner sees it. */
async function own(parts: Parts, n: number, only?: Kind): Promise<void> {
  const { chance, known } = parts;
  const shape = only ?? pick(chance);
  const id = randomUUID();
  const kind = shape === "keyed" || shape === "delayed" ? "plain" : shape;
  const wants = kind === "approval" ? 1 + chance.below(2) : 0;
  const submission = submissionOf(parts, id, shape, n, wants);
  const one: Known = { id, name: submission.name, kind, wants, proceeded: 0, finished: false };
  const request = SubmitTaskRequest.create({ task: submission });
  const parameters: Parameters<typeof submitWith> = [parts, id, request];
  const first = submitWith(...parameters);
  // The same at the same time, perhaps on another server: one of them stores it.
  const [made] = chance.oneIn(12) ? await Promise.all([first, submitWith(...parameters)]) : [await first];
  if (made.call.outcome !== "ok" || made.call.answered !== id) return;
  known.set(id, one);
  if (chance.oneIn(15)) await submitWith(...parameters);
  if (kind === "approval") while (one.proceeded < wants && !parts.over()) await proceedOnce(parts, one);
  if (kind === "patient") await cancel(parts, one);
  if (kind === "hopeless") await retryWhenFailed(parts, one);
}

function submitWith(parts: Parts, id: string, request: SubmitTaskRequest): Promise<Made<{ task?: Task | undefined; created: boolean }>> {
  return persist(parts, TaskServiceService.submitTask, request, { operation: "submit", task: id }, ({ task, created }) => ({
    ...(task === undefined ? {} : stateOf(task)),
    created,
  }));
}

function pick(chance: Chance): (typeof SHARES)[number][1] {
  let left = chance.below(100);
  for (const [share, kind] of SHARES) if ((left -= share) < 0) return kind;
  return "plain";
}

const KEYS = 12;

function submissionOf(
  { chance, python }: Parts,
  taskId: string,
  shape: (typeof SHARES)[number][1],
  n: number,
  wants: number,
): NonNullable<Submission> & { name: string } {
  // Losses are what this is about: they must never be why a task fails, except where that is the point.
  const retryPolicy = { maxLostLeases: shape === "poison" ? 2 : 1000, lostLeaseDelays: [{ seconds: 0n }], maxAttempts: 10 };
  const delays = [{ seconds: 0n, nanos: RETRY_DELAY_MS * 1e6 }];
  if (shape === "python" && python) {
    const to = 3 + chance.below(5);
    return { taskId, name: "py.count", metadata: jsonPayload({ to, delay_ms: 50 }), retryPolicy: { ...retryPolicy, delays } };
  }
  const kind: Kind = shape === "keyed" || shape === "delayed" || shape === "python" ? "plain" : shape;
  const steps = { steps: 2 + chance.below(8), approval: wants, flaky: 1 + chance.below(2), patient: 80 }[kind as string] ?? 1;
  const work: Work = { kind, n, steps, stepMs: 20 + chance.below(180), ...(kind === "patient" && chance.oneIn(4) ? { deaf: true } : {}) };
  const due = BigInt(Date.now() + 1_000 + chance.below(3_000));
  const key = `k${chance.below(KEYS)}`;
  return {
    ...{ taskId, name: nameOf(kind), retryPolicy: { ...retryPolicy, delays }, priority: chance.below(3) },
    // One key, one content: whoever finds it taken gets the task that has it.
    metadata: jsonPayload(shape === "keyed" ? { kind, n: 0, steps: 1, stepMs: 100 } : work),
    ...(shape === "keyed" ? { key, ...(chance.oneIn(3) ? { keyHold: { seconds: 3n } } : {}) } : {}),
    ...(shape === "delayed" ? { scheduleTime: { seconds: due / 1000n, nanos: Number(due % 1000n) * 1e6 } } : {}),
  };
}

async function proceedOnce(parts: Parts, one: Known): Promise<void> {
  const { chance } = parts;
  await pause(parts.over() ? 0 : chance.below(1_500));
  const member = `p${one.proceeded}`;
  const requestId = `${one.id} ${member}`;
  const request = ProceedTaskRequest.create({
    ...{ task: { taskId: one.id }, requestId, note: member },
    update: { mergePatch: jsonPayload({ [member]: true }) },
  });
  const about = { operation: "proceed" as const, task: one.id, requestId, member };
  const read = ({ task, result }: { task?: Task | undefined; result: ProceedResult }): Partial<Call> => ({
    ...(task === undefined ? {} : stateOf(task)),
    result: ProceedResult[result],
  });
  const { call } = await persist(parts, TaskServiceService.proceedTask, request, about, read);
  if (call.outcome !== "ok") one.proceeded = one.wants;
  else one.proceeded += 1;
  if (call.outcome === "ok" && chance.oneIn(8)) await persist(parts, TaskServiceService.proceedTask, request, about, read);
}

async function cancel(parts: Parts, one: Known): Promise<void> {
  await pause(parts.over() ? 0 : 300 + parts.chance.below(2_500));
  const request = CancelTaskRequest.create({ task: { taskId: one.id }, reason: "not needed", grace: { seconds: 1n } });
  await persist(parts, TaskServiceService.cancelTask, request, { operation: "cancel", task: one.id }, stateOf);
}

async function retryWhenFailed(parts: Parts, one: Known): Promise<void> {
  const { chance } = parts;
  for (let left = 60; left > 0 && !parts.over(); left--) {
    await pause(500 + chance.below(500));
    const { call } = await get(parts, one.id);
    if (call.outcome === "ok" && call.state === "FAILED") break;
  }
  const request = RetryTaskRequest.create({ task: { taskId: one.id } });
  await persist(parts, TaskServiceService.retryTask, request, { operation: "retry", task: one.id }, stateOf);
}

function get(parts: Parts, taskId: string): Promise<Made<Task>> {
  const request = GetTaskRequest.create({ task: { taskId }, view: TaskView.BASIC });
  return once(parts, TaskServiceService.getTask, request, { operation: "get", task: taskId }, stateOf);
}

const FINISHED = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

/** Reads known tasks, each until it is finished, through whichever server. */
async function readAround(parts: Parts): Promise<void> {
  const { known, chance } = parts;
  while (!parts.over()) {
    const open = [...known.values()].filter(({ finished }) => !finished).slice(0, 40);
    await Promise.all(
      open.map(async (one) => {
        await pause(chance.below(1_500));
        const { call } = await get(parts, one.id);
        if (call.state !== undefined && FINISHED.has(call.state)) one.finished = true;
      }),
    );
    await pause(100);
  }
}
