// What is a task, to whoever submits it and to whoever runs it?
//
// A definition is a pure value: a name and schemas. It is bound to no client and no worker, so both sides import the same one, and every
// type flows from it by inference. The wire carries a schema's *input* type as JSON; whoever reads gets its *output* type.
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { invalid, type Violation } from "./errors.js";
import type { MustBeJson } from "./json-type.js";
import type { Schema } from "./schema.js";
import { checkTaskOptions, isName, type TaskOptions } from "./task-options.js";

/** What a schema makes of a value: what goes in, as JSON, and what comes out. */
export interface Flow<Input = unknown, Output = Input> {
  /** As it is submitted and travels. */
  readonly input: Input;
  /** As it is read. */
  readonly output: Output;
}

/** All types of a task, in one bundle. */
export interface TaskTypes {
  /** The task name. */
  readonly name: string;
  /** What the submitter gives. */
  readonly metadata: Flow;
  /** What a handler saves to resume from. */
  readonly executionMetadata: Flow;
  /** How it ends well. */
  readonly result: Flow;
  /** Details of each declared error, by code. */
  readonly errors: { readonly [code: string]: Flow };
  /** Each declared error's code with its data, as it is read. */
  readonly failure: { readonly code: string; readonly data: unknown };
}

/** A task definition. Made by `defineTask`; the bare type stands for any of them. */
export interface TaskDefinition<Types extends TaskTypes = TaskTypes> {
  /** The stable string that says which handler runs it. */
  readonly name: Types["name"];
  /** Schema of the metadata, if declared. */
  readonly metadata: Schema<Types["metadata"]["input"], Types["metadata"]["output"]> | undefined;
  /** Schema of the execution metadata, if declared. */
  readonly executionMetadata: Schema<Types["executionMetadata"]["input"], Types["executionMetadata"]["output"]> | undefined;
  /** Schema of the result, if declared. */
  readonly result: Schema<Types["result"]["input"], Types["result"]["output"]> | undefined;
  /** Schemas of the declared errors' data, by code. */
  readonly errors: { readonly [Code in keyof Types["errors"]]: Schema<Types["errors"][Code]["input"], Types["errors"][Code]["output"]> };
  /** Options that a submission may override. */
  readonly options: TaskOptions;
  /** Marks a definition, also one of another copy of this package. */
  readonly "~leasehold": "task";
  /** The types alone; absent at run time. */
  readonly "~types": Types;
}

/** What a submitter gives. */
export type MetadataInput<Task extends TaskDefinition> = Task["~types"]["metadata"]["input"];
/** What a handler gets of it. */
export type MetadataOf<Task extends TaskDefinition> = Task["~types"]["metadata"]["output"];
/** What a checkpoint takes. */
export type ExecutionMetadataInput<Task extends TaskDefinition> = Task["~types"]["executionMetadata"]["input"];
/** What a handler resumes from. */
export type ExecutionMetadataOf<Task extends TaskDefinition> = Task["~types"]["executionMetadata"]["output"];
/** What a handler returns. */
export type ResultInput<Task extends TaskDefinition> = Task["~types"]["result"]["input"];
/** What a caller gets of it. */
export type ResultOf<Task extends TaskDefinition> = Task["~types"]["result"]["output"];
/** The declared error codes. */
export type ErrorCodeOf<Task extends TaskDefinition> = keyof Task["~types"]["errors"] & string;
/** What `ctx.fail` takes for a code. */
export type ErrorInput<Task extends TaskDefinition, Code extends ErrorCodeOf<Task>> = Task["~types"]["errors"][Code]["input"];
/** What a caller gets of it. */
export type ErrorDataOf<Task extends TaskDefinition, Code extends ErrorCodeOf<Task>> = Task["~types"]["errors"][Code]["output"];

/** Stands where no schema was given: the value is null. */
export type Nothing = Schema<null | undefined, null>;
/** Stands where no result schema was given: a handler returns nothing. */
export type NoResult = Schema<null | undefined | void, null>;
/** What a schema takes. */
export type In<S extends Schema> = StandardSchemaV1.InferInput<S>;
/** What a schema makes of it. */
export type Out<S extends Schema> = StandardSchemaV1.InferOutput<S>;
/** What a map of schemas (of errors, of states) may have under one name. */
export type MustBeSchema<S> = S extends Schema ? MustBeJson<In<S>> : Schema;
/** What one entry of such a map makes of a value. */
export type FlowOf<S> = S extends Schema ? Flow<In<S>, Out<S>> : never;

/** A map of error schemas as the union of what is read. */
export type FailureOf<Errors> = {
  readonly [Code in keyof Errors & string]: { readonly code: Code; readonly data: FlowOf<Errors[Code]>["output"] };
}[keyof Errors & string];

/** The types of a task where they are written down: each as it is, or a `Flow` where it travels as something else. */
export interface WrittenTypes {
  /** What the submitter gives. Left out: null. */
  readonly metadata?: unknown;
  /** What a handler saves. Left out: nothing is saved. */
  readonly executionMetadata?: unknown;
  /** How it ends well. Left out: a handler returns nothing. */
  readonly result?: unknown;
  /** Details of each declared error, by code. */
  readonly errors?: object;
}
type FlowFrom<T> = T extends Flow<infer Input, infer Output> ? Flow<Input, Output> : Flow<T>;
type FlowAt<Types, Part, Absent extends Schema> = Part extends keyof Types ? FlowFrom<Types[Part]> : Flow<In<Absent>, Out<Absent>>;
type WrittenErrors<Types> = Types extends { readonly errors: infer Errors } ? Errors : object;

/**
 * The type of a definition, written down where it may not be inferred, as with `isolatedDeclarations`:
 * `export const greet: TaskOf<"greet", { metadata: { who: string } }> = defineTask(…)`. The schemas must fit it.
 */
export type TaskOf<Name extends string, Types extends WrittenTypes = object> = TaskDefinition<{
  readonly name: Name;
  readonly metadata: FlowAt<Types, "metadata", Nothing>;
  readonly executionMetadata: FlowAt<Types, "executionMetadata", Nothing>;
  readonly result: FlowAt<Types, "result", NoResult>;
  readonly errors: { readonly [Code in keyof WrittenErrors<Types> & string]: FlowFrom<WrittenErrors<Types>[Code]> };
  readonly failure: {
    readonly [Code in keyof WrittenErrors<Types> & string]: {
      readonly code: Code;
      readonly data: FlowFrom<WrittenErrors<Types>[Code]>["output"];
    };
  }[keyof WrittenErrors<Types> & string];
}>;

/** What every definition says, of a task or of a machine. */
export interface DefinitionDraft<Name extends string, M extends Schema, R extends Schema, Errors extends object> {
  /** 1 to 128 of `A-Z a-z 0-9 . _ - : /`, beginning with a letter or digit. Stable: it is stored with every task. */
  readonly name: Name;
  /** Schema of what the submitter gives. Left out: null. */
  readonly metadata?: M & MustBeJson<In<M>>;
  /** Schema of the result. Left out: a handler returns nothing. */
  readonly result?: R & MustBeJson<In<R>>;
  /** Schemas of the errors' data, by code. Upper-case codes are the system's. */
  readonly errors?: Errors & { readonly [Code in keyof Errors]: MustBeSchema<Errors[Code]> };
  /** Defaults of each submission. */
  readonly options?: TaskOptions;
}

/** What `defineTask` takes. */
export interface TaskDraft<
  Name extends string,
  M extends Schema,
  E extends Schema,
  R extends Schema,
  Errors extends object,
> extends DefinitionDraft<Name, M, R, Errors> {
  /** Schema of what a handler saves. It begins as `{}`, or as undefined if the schema refuses that. Left out: nothing is saved. */
  readonly executionMetadata?: E & MustBeJson<Exclude<In<E>, undefined>>;
}

/**
 * Defines a task: a pure value that the submitter and the worker import.
 *
 * @throws LeaseholdError INVALID_ARGUMENT with the path of what is wrong in the name, an error code or the options.
 */
export function defineTask<
  const Name extends string,
  M extends Schema = Nothing,
  E extends Schema = Nothing,
  R extends Schema = NoResult,
  // `object` has no keys: no errors declared.
  Errors extends object = object,
>(
  draft: TaskDraft<Name, M, E, R, Errors>,
): TaskDefinition<{
  readonly name: Name;
  readonly metadata: Flow<In<M>, Out<M>>;
  readonly executionMetadata: Flow<In<E>, Out<E>>;
  readonly result: Flow<In<R>, Out<R>>;
  // Not keyed by `keyof Errors` alone: the map of `object` would be `object` again.
  readonly errors: { readonly [Code in keyof Errors & string]: FlowOf<Errors[Code]> };
  readonly failure: FailureOf<Errors>;
}> {
  const violations = draftViolations(draft);
  if (violations.length > 0) throw invalid(violations, { taskName: draft.name });
  const definition = {
    name: draft.name,
    metadata: draft.metadata,
    executionMetadata: draft.executionMetadata,
    result: draft.result,
    errors: Object.freeze({ ...draft.errors }),
    options: Object.freeze({ ...draft.options }),
    "~leasehold": "task",
  } as const;
  // `~types` exists for the compiler alone, and schemas are known by their inferred ends only: inference ends here.
  return Object.freeze(definition) as unknown as ReturnType<typeof defineTask<Name, M, E, R, Errors>>;
}

/** What is wrong with the parts of a draft that every definition has. */
export function draftViolations(draft: DefinitionDraft<string, Schema, Schema, object>): Violation[] {
  const violations: Violation[] = [];
  if (!isName(draft.name)) violations.push({ path: "name", message: NAME_RULE });
  for (const code of Object.keys(draft.errors ?? {})) {
    if (!/^(?=.*[a-z])[\w.-]{1,128}$/.test(code)) violations.push({ path: `errors.${code}`, message: ERROR_CODE_RULE });
  }
  checkTaskOptions(draft.options ?? {}, "options", violations);
  return violations;
}

const NAME_RULE = "must be 1 to 128 of A-Z a-z 0-9 . _ - : /, beginning with a letter or digit";
const ERROR_CODE_RULE = "must be at most 128 letters, digits, _ . -, with a lower-case letter: upper case is the system's";

/** Whether a value is a task definition, of this copy of the package or of another. */
export function isTaskDefinition(value: unknown): value is TaskDefinition {
  return typeof value === "object" && value !== null && "~leasehold" in value && value["~leasehold"] === "task";
}

/**
 * A schema that checks nothing and only carries a type, for values that are validated elsewhere:
 * `metadata: type<{ url: string }>()`. The type itself must be JSON.
 */
export function type<T>(): Schema<T, T> {
  return { "~standard": { version: 1, vendor: "leasehold", validate: (value) => ({ value: value as T }) } };
}
