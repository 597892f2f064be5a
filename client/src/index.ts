// The public page of @leasehold/client: everything a user can name, and nothing else.
//
// Define tasks with `defineTask`, submit them with a client from `createClient`, run them with `handle` and `createWorker`.
export { aesGcmCodec, type AesGcmOptions, type AesKey } from "./aes-gcm-codec.js";
export { type Client, type ClientOptions, createClient, type SubmitOptions, type TaskWithoutMetadata } from "./client.js";
export {
  defineMachine,
  type MachineDefinition,
  type MachineDraft,
  type MachineState,
  type MachineTypes,
  type StateData,
  type StateInput,
  type StateOf,
} from "./define-machine.js";
export {
  type DefinitionDraft,
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
  type TaskOf,
  type TaskTypes,
  type,
  type WrittenTypes,
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
export type { Clock, Timer, TimerOptions } from "./clock.js";
export type { Connection } from "./connection.js";
export type { DurationInput, DurationUnit, TimeInput } from "./duration.js";
export { gzipCodec, type GzipOptions } from "./gzip-codec.js";
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
export {
  handleMachine,
  type MachineContext,
  type MachineHandlers,
  type MachineMove,
  type MachineOptions,
  type MachineStep,
} from "./handle-machine.js";
export type { ClientInterceptor, InterceptedCall, InterceptedStream } from "./interceptor.js";
export type { Bigints, Json } from "./json.js";
export type { MustBeJson } from "./json-type.js";
export type { Logger } from "./log.js";
export type { Middleware, MiddlewareContext } from "./middleware.js";
export type { NewTaskOptions, SubmitItem } from "./new-task.js";
export type { FailOptions, HandlerOutcome, SuspendOptions, WaitOptions } from "./outcome.js";
export type { EncodeContext, EncodedPayload, PayloadCodec } from "./payload-codec.js";
export type { MergePatch, Proceeded, ProceedOptions } from "./proceed.js";
export type { LimitOptions } from "./server-limits.js";
export type { Schema } from "./schema.js";
export type { SimulatedAttempt, SimulatedFailure, SimulatedRetry } from "./retry-simulation.js";
export type { SubmittedItem } from "./submission-stream.js";
export type {
  CancelOptions,
  DeleteTaskOptions,
  ExplainedTask,
  Explanation,
  ExplanationCodeName,
  RetryTaskOptions,
  UpdateTaskOptions,
} from "./task-changes.js";
export type { EventOptions, TaskEvent, TaskEventList, TaskEventName, TaskEventPage } from "./task-events.js";
export type { SubmittedTask, TaskHandle } from "./task-handle.js";
export type { ListOptions, PartOf, TaskCount, TaskFilterOptions, TaskList, TaskPage, TaskReferenceInput } from "./task-list.js";
export type { BackoffOptions, DeadlineOptions, RetryOptions, RetryRuleOptions, TaskOptions } from "./task-options.js";
export type { TaskOutcome } from "./task-outcome.js";
export type { FullTaskSnapshot, ProgressSnapshot, TaskSnapshot, TaskStateName } from "./task-snapshot.js";
export type { OutgoingStream, StreamEvents, StreamMethod, StreamOptions, Transport, UnaryMethod, UnaryOptions } from "./transport.js";
export { createWorker, type Worker } from "./worker.js";
export type { WorkerOptions } from "./worker-options.js";
export type { RunningTask, WorkerState, WorkerStatus } from "./worker-state.js";
