// How does a machine go from state to state?
//
// One function for each state, which returns where to go. A state is persisted before its function is called, so a run that ends anywhere
// goes on from there. What would never end is ended: the same state with the same data twice in one run, or too many steps.
import { createHash } from "node:crypto";
import {
  isMachineDefinition,
  type MachineDefinition,
  type MachineState,
  sourceOf,
  type StateData,
  type StateInput,
  type StateOf,
} from "./define-machine.js";
import type { ErrorCodeOf, ErrorInput, MetadataOf, ResultInput } from "./define-task.js";
import { isTaskDefinition } from "./define-task.js";
import { invalid, type Violation } from "./errors.js";
import { handle, type HandleOptions, type HandlerContext, type TaskHandler, type UntypedHandlerContext } from "./handler-context.js";
import { canonicalJsonText } from "./json.js";
import { type FailOptions, type HandlerOutcome, isHandlerOutcome, systemFailure, type WaitOptions } from "./outcome.js";
import type { TaskFailure } from "./task-failure.js";
import { wholeNumber } from "./task-options.js";

/** What `ctx.goto` and `ctx.finish` return. */
export interface MachineMove {
  /** Marks a move, also one of another copy of this package. */
  readonly "~leasehold": "move";
  /** The state to go to, or the end. */
  readonly to: MachineState | "end";
  /** At the end: the result. */
  readonly result?: unknown;
}

/** What the function of a state returns: `ctx.goto`, `ctx.park`, `ctx.finish`, `ctx.fail` or `ctx.cancel` made it. */
export type MachineStep = MachineMove | HandlerOutcome;

/** What the function of a state gets, typed by its machine and state. */
export interface MachineContext<
  Machine extends MachineDefinition = MachineDefinition,
  State extends StateOf<Machine> = StateOf<Machine>,
> extends UntypedHandlerContext {
  /** Name of the machine. */
  readonly name: Machine["name"];
  /** What the submitter gave, parsed. */
  readonly metadata: MetadataOf<Machine>;
  /** How the attempt before failed, if it did. */
  readonly previousFailure: TaskFailure<Machine> | undefined;
  /** The state that runs. */
  readonly state: State;
  /** Saves data within the state: what it begins with if this run ends here. Resolves and rejects as a handler's checkpoint. */
  checkpoint(data: StateInput<Machine, State>): Promise<void>;
  /** Return it to go on in another state at once, after it is persisted. */
  goto<Next extends StateOf<Machine>>(state: Next, data: StateInput<Machine, Next>): MachineStep;
  /** Return it to wait without holding a slot, and to go on in that state. Throws INVALID_ARGUMENT. */
  park<Next extends StateOf<Machine>>(state: Next, data: StateInput<Machine, Next>, options: WaitOptions): MachineStep;
  /** Return it to complete the task. */
  finish(result: ResultInput<Machine>): MachineStep;
  /** Return it to fail this attempt with a declared error. The next attempt begins in the state that failed. Throws INVALID_ARGUMENT. */
  fail<Code extends ErrorCodeOf<Machine>>(code: Code, data: ErrorInput<Machine, Code>, options?: FailOptions): HandlerOutcome;
}

/** One function for each state. A missing or unknown state does not compile. */
export type MachineHandlers<Machine extends MachineDefinition> = {
  readonly [State in StateOf<Machine>]: (
    data: StateData<Machine, State>,
    context: MachineContext<Machine, State>,
  ) => MachineStep | Promise<MachineStep>;
};

/** Options of a machine's handler. */
export interface MachineOptions extends HandleOptions {
  /** States that one run may enter, 1 to 100,000; more fail the task for good. A park begins a new run. Default 1,000. */
  readonly maxSteps?: number;
}

type AnyState = (data: unknown, context: MachineContext) => MachineStep | Promise<MachineStep>;

/** So many states are shown of a path. */
const SHOWN_STATES = 20;

/**
 * Ties functions to the states of a machine, for `createWorker`.
 *
 * A task in a state that this worker does not know is tried again after 15 s (METADATA_INVALID), so that a newer worker may take it.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the paths of missing and unknown states, or for an option.
 */
export function handleMachine<Machine extends MachineDefinition>(
  machine: Machine,
  states: MachineHandlers<Machine>,
  options: MachineOptions = {},
): TaskHandler {
  const violations: Violation[] = [];
  const given = new Map(Object.entries<unknown>(states));
  if (!isTaskDefinition(machine) || !isMachineDefinition(machine))
    violations.push({ path: "machine", message: "must be a value of defineMachine" });
  else {
    for (const state of Object.keys(machine.states))
      if (typeof given.get(state) !== "function") violations.push({ path: `states.${state}`, message: "must be a function" });
    for (const state of given.keys())
      if (!Object.hasOwn(machine.states, state)) violations.push({ path: `states.${state}`, message: `is no state of ${machine.name}` });
  }
  const maxSteps = options.maxSteps ?? 1_000;
  wholeNumber(maxSteps, "maxSteps", 1, 100_000, violations);
  if (violations.length > 0) throw invalid(violations);
  // Each function takes the data of its own state, which no loop over states can name.
  const functions = { ...states } as unknown as Readonly<Record<string, AnyState>>;
  return handle<MachineDefinition>(machine, (context) => runMachine(functions, maxSteps, context), options);
}

async function runMachine(
  functions: Readonly<Record<string, AnyState>>,
  maxSteps: number,
  context: HandlerContext<MachineDefinition>,
): Promise<unknown> {
  const path: string[] = [];
  const seen = new Set<string>();
  for (;;) {
    const { state, data } = context.executionMetadata.current;
    const mark = markOf(context.executionMetadata.current);
    path.push(state);
    if (seen.has(mark)) return systemFailure("MACHINE_CYCLE", `the same state with the same data twice in one run: ${shown(path)}`);
    if (path.length > maxSteps)
      return systemFailure("MACHINE_STEP_LIMIT", `more than ${String(maxSteps)} steps in one run: ${shown(path)}`);
    seen.add(mark);
    const step: unknown = await functions[state]?.(data, contextOf(context, state));
    if (isHandlerOutcome(step)) return step;
    if (!isMove(step)) throw invalid([{ path: state, message: "must return what ctx.goto, park, finish, fail or cancel gave" }]);
    if (step.to === "end") return step.result;
    await context.executionMetadata.checkpoint(step.to);
    // Told to stop between two states: the next one is not begun.
    if (context.signal.aborted) throw context.signal.reason;
  }
}

function contextOf(context: HandlerContext<MachineDefinition>, state: string): MachineContext {
  return {
    ...context,
    get draining() {
      return context.draining;
    },
    state,
    checkpoint: (data) => context.executionMetadata.checkpoint({ state, data }),
    goto: (next, data) => move({ state: next, data }),
    park: (next, data, options) => context.suspend({ ...options, executionMetadata: { state: next, data } }),
    finish: (result) => move("end", result),
  };
}

function move(to: MachineMove["to"], result?: unknown): MachineMove {
  return Object.freeze({ "~leasehold": "move", to, result });
}

function isMove(value: unknown): value is MachineMove {
  return typeof value === "object" && value !== null && "~leasehold" in value && value["~leasehold"] === "move";
}

/** A state and its data in 32 bytes: a run may pass a thousand states of a megabyte each. */
function markOf(current: MachineState): string {
  const { state, data } = sourceOf(current);
  return createHash("sha256").update(`${state}\0`).update(canonicalJsonText(data)).digest("base64");
}

function shown(path: readonly string[]): string {
  const last = path.slice(-SHOWN_STATES).join(" → ");
  return path.length > SHOWN_STATES ? `… → ${last}` : last;
}
