// What is a machine, to whoever submits it and to whoever runs it?
//
// A task whose execution metadata is one of several named states, each with data of its own. Like every definition it is a pure value: it
// is submitted, listed and proceeded as any task; `handleMachine` runs it.
import type { StandardSchemaV1 } from "@standard-schema/spec";
import {
  type DefinitionDraft,
  draftViolations,
  type FailureOf,
  type Flow,
  type FlowOf,
  type In,
  type MustBeSchema,
  type NoResult,
  type Nothing,
  type Out,
  type TaskDefinition,
  type TaskTypes,
} from "./define-task.js";
import { invalid } from "./errors.js";
import { isPromise, type Schema, validate } from "./schema.js";

/** A state and its data. */
export interface MachineState<State extends string = string, Data = unknown> {
  /** The name of the state. */
  readonly state: State;
  /** What the state knows. */
  readonly data: Data;
}

/** All types of a machine, in one bundle. */
export interface MachineTypes extends TaskTypes {
  /** One of the states. */
  readonly executionMetadata: Flow<MachineState>;
  /** What each state knows, by its name. */
  readonly states: { readonly [state: string]: Flow };
}

/** A machine's definition. Made by `defineMachine`; the bare type stands for any of them. */
export interface MachineDefinition<Types extends MachineTypes = MachineTypes> extends TaskDefinition<Types> {
  /** Schemas of the states' data, by name. */
  readonly states: { readonly [State in keyof Types["states"]]: Schema<Types["states"][State]["input"], Types["states"][State]["output"]> };
  /** Where it begins. */
  readonly initial: Types["executionMetadata"]["input"];
}

/** The names of a machine's states. */
export type StateOf<Machine extends MachineDefinition> = keyof Machine["~types"]["states"] & string;
/** What `ctx.goto` and `ctx.park` take for a state. */
export type StateInput<Machine extends MachineDefinition, State extends StateOf<Machine>> = Machine["~types"]["states"][State]["input"];
/** What the function of a state gets. */
export type StateData<Machine extends MachineDefinition, State extends StateOf<Machine>> = Machine["~types"]["states"][State]["output"];

/** Each state with what its schema takes. */
type StateInputs<States> = { [State in keyof States & string]: MachineState<State, FlowOf<States[State]>["input"]> }[keyof States & string];
/** Each state with what its schema makes of it. */
type StateOutputs<States> = {
  [State in keyof States & string]: MachineState<State, FlowOf<States[State]>["output"]>;
}[keyof States & string];

/** What `defineMachine` takes. */
export interface MachineDraft<
  Name extends string,
  M extends Schema,
  States extends object,
  R extends Schema,
  Errors extends object,
> extends DefinitionDraft<Name, M, R, Errors> {
  /** Schemas of the states' data, by name. A state is stored by its name: renaming one strands the tasks that are in it. */
  readonly states: States & { readonly [State in keyof States]: MustBeSchema<States[State]> };
  /** Where it begins. */
  readonly initial: StateInputs<NoInfer<States>>;
}

/**
 * Defines a machine: a task that goes from state to state, each persisted before it is entered.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the path of what is wrong in the name, a state, an error code or the options.
 */
export function defineMachine<
  const Name extends string,
  States extends object,
  M extends Schema = Nothing,
  R extends Schema = NoResult,
  Errors extends object = object,
>(
  draft: MachineDraft<Name, M, States, R, Errors>,
): MachineDefinition<{
  readonly name: Name;
  readonly metadata: Flow<In<M>, Out<M>>;
  readonly executionMetadata: Flow<StateInputs<States>, StateOutputs<States>>;
  readonly result: Flow<In<R>, Out<R>>;
  readonly errors: { readonly [Code in keyof Errors & string]: FlowOf<Errors[Code]> };
  readonly failure: FailureOf<Errors>;
  readonly states: { readonly [State in keyof States & string]: FlowOf<States[State]> };
}> {
  const violations = draftViolations(draft);
  const states: Readonly<Record<string, Schema>> = Object.freeze({ ...(draft.states as Record<string, Schema>) });
  const names = Object.keys(states);
  if (names.length === 0) violations.push({ path: "states", message: "must be at least one" });
  for (const name of names) {
    if (!/^[A-Za-z0-9][\w.-]{0,127}$/.test(name)) violations.push({ path: `states.${name}`, message: STATE_RULE });
  }
  const initial = draft.initial as MachineState;
  if (!Object.hasOwn(states, initial.state)) violations.push({ path: "initial.state", message: `must be one of ${names.join(", ")}` });
  if (violations.length > 0) throw invalid(violations, { taskName: draft.name });
  const definition = {
    name: draft.name,
    metadata: draft.metadata,
    executionMetadata: stateSchema(draft.name, states),
    result: draft.result,
    errors: Object.freeze({ ...draft.errors }),
    options: Object.freeze({ ...draft.options }),
    states,
    initial: Object.freeze({ state: initial.state, data: initial.data }),
    "~leasehold": "task",
  } as const;
  // `~types` exists for the compiler alone, and schemas are known by their inferred ends only: inference ends here.
  return Object.freeze(definition) as unknown as ReturnType<typeof defineMachine<Name, States, M, R, Errors>>;
}

const STATE_RULE = "must be 1 to 128 letters, digits, _ . -, beginning with a letter or digit";

/** Whether a definition is a machine's, of this copy of the package or of another. */
export function isMachineDefinition(task: TaskDefinition): task is MachineDefinition {
  return "states" in task && "initial" in task;
}

/** Which JSON each parsed state came from: what a machine compares, because parsed data may be anything. */
const sources = new WeakMap<object, MachineState>();

/** The JSON that a parsed state came from. */
export function sourceOf(state: MachineState): MachineState {
  return sources.get(state) ?? state;
}

/** One schema of all states: what is stored names its state, and the state's own schema reads the data. */
function stateSchema(machine: string, states: Readonly<Record<string, Schema>>): Schema<MachineState> {
  const parse = (value: unknown): StandardSchemaV1.Result<MachineState> | Promise<StandardSchemaV1.Result<MachineState>> => {
    if (typeof value !== "object" || value === null || !("state" in value) || typeof value.state !== "string")
      return { issues: [{ path: ["state"], message: "must name a state" }] };
    const { state } = value;
    const schema = Object.hasOwn(states, state) ? states[state] : undefined;
    if (schema === undefined) {
      const known = Object.keys(states).join(", ");
      return { issues: [{ path: ["state"], message: `${JSON.stringify(state)} is no state of ${machine} that is known here (${known})` }] };
    }
    const data: unknown = "data" in value ? value.data : undefined;
    const settle = (result: StandardSchemaV1.Result<unknown>): StandardSchemaV1.Result<MachineState> => {
      if (result.issues !== undefined)
        return { issues: result.issues.map(({ path, message }) => ({ path: ["data", ...(path ?? [])], message })) };
      const parsed = { state, data: result.value };
      sources.set(parsed, { state, data });
      return { value: parsed };
    };
    const result = validate(schema, data);
    return isPromise(result) ? result.then(settle) : settle(result);
  };
  return { "~standard": { version: 1, vendor: "leasehold", validate: parse } };
}
