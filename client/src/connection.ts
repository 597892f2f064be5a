// What do the parts of one client share?
//
// Plain values, made once by `createClient` and handed to whoever needs them: the handles, the lists, the worker, a test kit.
import type { Caller } from "./call.js";
import type { Logger } from "./log.js";
import type { Payloads } from "./payload.js";
import type { ServerLimits } from "./server-limits.js";
import type { SharedWatch } from "./shared-watch.js";
import type { SubmissionBatch } from "./submission-batch.js";

/** The inside of a client: for this package and its test kit, not for users. */
export interface Connection extends Caller {
  /** Encodes and decodes every payload. */
  readonly payloads: Payloads;
  /** Follows tasks. */
  readonly watch: SharedWatch;
  /** Gathers submissions. */
  readonly submissions: SubmissionBatch;
  /** What the server takes, as far as it is known. */
  readonly limits: ServerLimits;
  /** Where warnings go. */
  readonly log: Logger;
}
