// What does a test kit need of the SDK beside its public page?
//
// The entry `@leasehold/client/kit`, for @leasehold/testing of the same version and nobody else: it changes without notice.
export { captured } from "./clock.js";
export { durationFromMs, msFromDuration, requireDurationMs, timestampFromMs, dateFromTimestamp } from "./duration.js";
export { readExecutionMetadata } from "./execution-metadata.js";
export type { Payloads } from "./payload.js";
export { parseWithSchema } from "./schema.js";
export { DETAILS_TRAILER, errorFromCall } from "./status.js";
export { readFailure } from "./task-failure.js";
export { refusedStream } from "./transport.js";
