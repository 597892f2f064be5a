// What are the attributes of spans and metrics called? Messaging conventions of OpenTelemetry where they fit, `leasehold.` otherwise; docs/telemetry.md
// says what each means.

/** Names of attributes. */
export const ATTRIBUTES = {
  system: "messaging.system",
  queue: "messaging.destination.name",
  operation: "messaging.operation.name",
  operationType: "messaging.operation.type",
  messageId: "messaging.message.id",
  batchCount: "messaging.batch.message_count",
  rpcSystem: "rpc.system.name",
  rpcMethod: "rpc.method",
  rpcStatus: "rpc.response.status_code",
  dbSystem: "db.system.name",
  dbOperation: "db.operation.name",
  errorType: "error.type",
  taskName: "leasehold.task.name",
  attempt: "leasehold.task.attempt",
  pendingReason: "leasehold.task.pending_reason",
  state: "leasehold.task.state",
  checkpoints: "leasehold.task.checkpoints",
  worker: "leasehold.worker.name",
  outcome: "leasehold.outcome",
  verdict: "leasehold.verdict",
} as const;

/** Value of `messaging.system`. */
export const SYSTEM = "leasehold";

/** Events of spans. */
export const EVENTS = { suspended: "leasehold.suspended" } as const;

/** Codes of gRPC by number, as `rpc.response.status_code` has them. */
export const STATUS_NAMES: readonly string[] = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"],
  ...["RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"],
  ...["DATA_LOSS", "UNAUTHENTICATED"],
];
