// The public page of @leasehold/client: everything a user can name, and nothing else.
//
// Define tasks with `defineTask`, submit them with a client from `createClient`, run them with `handle` and `createWorker`.
export { type Client, type ClientOptions, createClient, type SubmitItem, type SubmitOptions, type TaskWithoutMetadata } from "./client.js";
export {
  defineTask,
  type ErrorCodeOf,
  type ErrorDataOf,
  type ErrorInput,
  type ExecutionMetadataInput,
  type ExecutionMetadataOf,
  type Flow,
  type MetadataInput,
  type MetadataOf,
  type ResultInput,
  type ResultOf,
  type TaskDefinition,
  type TaskDraft,
  type TaskTypes,
  type,
} from "./define-task.js";
export {
  ERROR_CODES,
  type ErrorCode,
  type FailureFields,
  LeaseholdError,
  type LeaseholdErrorFields,
  type StopReason,
  type Violation,
} from "./errors.js";
export {
  type DeclaredFailure,
  isTaskFailed,
  SYSTEM_FAILURE_CODES,
  type SystemFailure,
  type SystemFailureCode,
  type TaskFailedError,
  type TaskFailure,
} from "./task-failure.js";
export type { CallOptions } from "./call.js";
export type { Clock, Timer } from "./clock.js";
export type { Connection } from "./connection.js";
export type { DurationInput, DurationUnit, TimeInput } from "./duration.js";
export type { TlsOptions } from "./grpc-transport.js";
export {
  type ExecutionMetadata,
  handle,
  type HandleOptions,
  type HandlerContext,
  type HandlerFunction,
  type ProgressInput,
  type Resumed,
  type TaskHandler,
  type UntypedHandlerContext,
} from "./handler-context.js";
export type { Bigints, Json } from "./json.js";
export type { MustBeJson } from "./json-type.js";
export type { Logger } from "./log.js";
export type { NewTaskOptions } from "./new-task.js";
export type { FailOptions, HandlerOutcome, SuspendOptions } from "./outcome.js";
export type { PayloadCodec } from "./payload.js";
export type { MergePatch, Proceeded, ProceedOptions } from "./proceed.js";
export type { Schema } from "./schema.js";
export type { CancelOptions, RetryTaskOptions, SubmittedTask, TaskHandle } from "./task-handle.js";
export type { ListOptions, PartOf, TaskFilterOptions, TaskList, TaskPage, TaskReferenceInput } from "./task-list.js";
export type { BackoffOptions, DeadlineOptions, RetryOptions, RetryRuleOptions, TaskOptions } from "./task-options.js";
export type { TaskOutcome } from "./task-outcome.js";
export type { FullTaskSnapshot, ProgressSnapshot, TaskSnapshot, TaskStateName } from "./task-snapshot.js";
export type { OutgoingStream, StreamEvents, StreamMethod, Transport, UnaryMethod, UnaryOptions } from "./transport.js";
export { createWorker, type Worker } from "./worker.js";
export type { WorkerOptions } from "./worker-options.js";
export type { RunningTask, WorkerState, WorkerStatus } from "./worker-state.js";
