// Which work do the workers of a run with faults get, and how is each done? As steps that anybody may play, with the SDK or without, and that
// go on from what was saved, wherever the worker before was lost.

/** What a task asks for; its metadata. */
export interface Work {
  readonly kind: Kind;
  /** Number of the task in its run. */
  readonly n: number;
  /** How long one step takes. */
  readonly stepMs: number;
  /** How many: steps of a counter, proceeds that are waited for. */
  readonly steps: number;
  /** Whether it goes on although it was told to stop. */
  readonly deaf?: boolean;
}

/** What a task has saved; its execution metadata. Members `p0`, `p1` … are set by proceeds. */
export interface Saved {
  readonly done?: number;
  /** 1 + 2 + … + done. */
  readonly sum?: number;
  readonly slept?: boolean;
  readonly failed?: boolean;
  readonly [proceed: `p${number}`]: boolean | undefined;
}

/** How one run of a task ends. */
export type Ending =
  | { readonly end: "complete" }
  | { readonly end: "fail"; readonly retryable: boolean; readonly saved?: Saved }
  | { readonly end: "suspend"; readonly afterMs?: number; readonly saved: Saved };

/** What a run does on its way. */
export type Step =
  { readonly step: "wait"; readonly ms: number } | { readonly step: "save"; readonly saved: Saved } | { readonly step: "die" };

/** How long a `timer` is suspended, and how long after a failure a `flaky` task may run again. */
export const TIMER_MS = 1_500;
/** See above. */
export const RETRY_DELAY_MS = 700;

const PLAYS = {
  *plain({ stepMs }: Work): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    return { end: "complete" };
  },
  *steps({ steps, stepMs }: Work, start: Saved): Generator<Step, Ending> {
    for (let saved = start; (saved.done ?? 0) < steps;) {
      yield { step: "wait", ms: stepMs };
      const done = (saved.done ?? 0) + 1;
      saved = { ...saved, done, sum: (saved.sum ?? 0) + done };
      yield { step: "save", saved };
    }
    return { end: "complete" };
  },
  *approval({ steps, stepMs }: Work, saved: Saved): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    for (let index = 0; index < steps; index++) if (saved[`p${index}`] !== true) return { end: "suspend", saved };
    return { end: "complete" };
  },
  *timer({ stepMs }: Work, saved: Saved): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    return saved.slept === true ? { end: "complete" } : { end: "suspend", afterMs: TIMER_MS, saved: { ...saved, slept: true } };
  },
  *flaky({ steps, stepMs }: Work, _saved: Saved, attempt: number): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    return attempt <= steps ? { end: "fail", retryable: true } : { end: "complete" };
  },
  *hopeless({ stepMs }: Work, saved: Saved): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    return saved.failed === true ? { end: "complete" } : { end: "fail", retryable: false, saved: { ...saved, failed: true } };
  },
  *patient({ steps, stepMs }: Work): Generator<Step, Ending> {
    for (let index = 0; index < steps; index++) yield { step: "wait", ms: stepMs };
    return { end: "complete" };
  },
  *poison({ stepMs }: Work): Generator<Step, Ending> {
    yield { step: "wait", ms: stepMs };
    yield { step: "die" };
    return { end: "complete" };
  },
};

/** The sorts of work. */
export type Kind = keyof typeof PLAYS;

/** All of them. */
export const KINDS = Object.keys(PLAYS) as readonly Kind[];

/** The task name of a kind. */
export function nameOf(kind: Kind): string {
  return `fault.${kind}`;
}

/** The kind of a task name; undefined if it is none of them. */
export function kindOf(name: string): Kind | undefined {
  return KINDS.find((kind) => nameOf(kind) === name);
}

/** Plays a task from what it saved. */
export function play(work: Work, saved: Saved, attempt: number): Generator<Step, Ending> {
  return PLAYS[work.kind](work, saved, attempt);
}
