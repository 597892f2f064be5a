// Does a value satisfy a schema, and if not, where?
//
// Speaks Standard Schema only, so zod, valibot, arktype and others all fit. A schema that throws or rejects counts as refusing.
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { describeThrown, type Violation } from "./errors.js";
import { joinPath } from "./json.js";

/** A schema of any library that speaks Standard Schema. */
export type Schema<Input = unknown, Output = Input> = StandardSchemaV1<Input, Output>;

/** The answer of `parseWithSchema`: the parsed value, or what is wrong. */
export type Parsed<Output> = { readonly value: Output; readonly violations?: undefined } | { readonly violations: readonly Violation[] };

/** Parses a value; never throws. Paths begin with `path`. */
export async function parseWithSchema<Output>(schema: Schema<unknown, Output>, value: unknown, path: string): Promise<Parsed<Output>> {
  try {
    return settle(await validate(schema, value), path);
  } catch (error) {
    return { violations: [{ path, message: `its schema threw: ${describeThrown(error).message}` }] };
  }
}

/** As `parseWithSchema`, at once; `undefined` if the schema is asynchronous. */
export function parseAtOnce<Output>(schema: Schema<unknown, Output>, value: unknown, path: string): Parsed<Output> | undefined {
  try {
    if (isZod(schema) && !answersAtOnce(schema, value)) return undefined;
    const result = schema["~standard"].validate(value);
    if (!isPromise(result)) return settle(result, path);
    // The value is parsed again where it can be awaited; this answer is not needed.
    result.then(undefined, () => undefined);
    return undefined;
  } catch (error) {
    return { violations: [{ path, message: `its schema threw: ${describeThrown(error).message}` }] };
  }
}

/**
 * The bare answer of a schema, for schemas that are made of others.
 *
 * Zod's own `validate` tries at once first, and drops the promise of an asynchronous refinement: when that rejects, Node would end the
 * process. Its asynchronous entry keeps it.
 */
export function validate<Output>(
  schema: Schema<unknown, Output>,
  value: unknown,
): StandardSchemaV1.Result<Output> | Promise<StandardSchemaV1.Result<Output>> {
  return isZod(schema) ? schema.safeParseAsync(value).then(fromZod) : schema["~standard"].validate(value);
}

/** Whether an answer is still to come. Not by `instanceof`: a schema may live in another realm. */
export function isPromise<T extends object>(answer: T | Promise<T>): answer is Promise<T> {
  return "then" in answer && typeof answer.then === "function";
}

type ZodResult<Output> =
  { readonly success: true; readonly data: Output } | { readonly success: false; readonly error: StandardSchemaV1.FailureResult };
interface ZodLike<Output> {
  readonly safeParseAsync: (value: unknown) => Promise<ZodResult<Output>>;
}

function isZod<Output>(schema: Schema<unknown, Output>): schema is Schema<unknown, Output> & ZodLike<Output> {
  return schema["~standard"].vendor === "zod" && "safeParseAsync" in schema && typeof schema.safeParseAsync === "function";
}

interface ZodCore {
  readonly _zod: { run(payload: { value: unknown; issues: unknown[] }, context: { async: boolean }): unknown };
}

/**
 * Whether a schema of zod has no asynchronous part for this value. Asked before its `validate`, for the reason that `validate` here has: run as an
 * asynchronous one it gives the promise instead of dropping it. A zod that cannot be asked so (before 4) counts as asynchronous.
 */
function answersAtOnce(schema: object, value: unknown): boolean {
  if (!isZodCore(schema)) return false;
  const answer = schema._zod.run({ value, issues: [] }, { async: true });
  if (typeof answer !== "object" || answer === null || !("then" in answer)) return true;
  Promise.resolve(answer).then(undefined, () => undefined);
  return false;
}

function isZodCore(schema: object): schema is ZodCore {
  if (!("_zod" in schema) || typeof schema._zod !== "object" || schema._zod === null) return false;
  return "run" in schema._zod && typeof schema._zod.run === "function";
}

function fromZod<Output>(result: ZodResult<Output>): StandardSchemaV1.Result<Output> {
  return result.success ? { value: result.data } : { issues: result.error.issues };
}

function settle<Output>(result: StandardSchemaV1.Result<Output>, path: string): Parsed<Output> {
  if (result.issues === undefined) return { value: result.value };
  return { violations: result.issues.map((issue) => ({ path: issuePath(path, issue), message: issue.message })) };
}

function issuePath(path: string, issue: StandardSchemaV1.Issue): string {
  let full = path;
  for (const segment of issue.path ?? []) {
    const key = typeof segment === "object" ? segment.key : segment;
    full = typeof key === "number" ? `${full}[${String(key)}]` : joinPath(full, String(key));
  }
  return full;
}
