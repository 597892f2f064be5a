// Which three tasks does the demo run? Their definitions alone: the submitter and the worker processes import the same ones.
import { defineTask, type } from "@leasehold/client";

/** Copies the rows of a CSV file into chunks of an output folder; resumes after the last chunk that it checkpointed. */
export const importReadings = defineTask({
  name: "readings.import",
  metadata: type<{ csv: string; output: string }>(),
  executionMetadata: type<{ offset?: number; rows?: number }>(),
  result: type<{ rows: number }>(),
});

/** Waits for somebody to decide. */
export const approveInvoice = defineTask({
  name: "invoice.approve",
  metadata: type<{ invoice: string; amount: string }>(),
  executionMetadata: type<{ decision?: string }>(),
  result: type<{ decision: string }>(),
});

/** Fails on its first two attempts. */
export const sendMail = defineTask({
  name: "mail.send",
  metadata: type<{ to: string }>(),
  result: type<{ attempts: number }>(),
});

/** What a worker process tells its parent, over Node's channel between the two. */
export type WorkerMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "took"; readonly task: string; readonly attempt: number; readonly resumedBy: string; readonly fromRow: number }
  | { readonly kind: "wrote"; readonly rows: number; readonly again: boolean };
