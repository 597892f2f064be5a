// What may a test say about a run of one handler?

import type {
  ExecutionMetadataInput,
  ExecutionMetadataOf,
  Logger,
  MetadataInput,
  Middleware,
  PayloadCodec,
  Resumed,
  TaskDefinition,
} from "@leasehold/client";

/** Why a run is to stop: as the server or the worker would say it. */
export type RunStop = "cancelled" | "lease_lost" | "attempt_deadline" | "shutdown";

/** What the handler finds, and what a test wants to see. */
export type RunOptions<Task extends TaskDefinition> = RunSurroundings<Task> &
  (undefined extends MetadataInput<Task>
    ? { readonly metadata?: MetadataInput<Task> }
    : {
        /** What the submitter gave. */
        readonly metadata: MetadataInput<Task>;
      });

/** Options of a run beside what the submitter gave. */
export interface RunSurroundings<Task extends TaskDefinition> {
  /** What was saved before this run. Default: nothing. */
  readonly executionMetadata?: ExecutionMetadataInput<Task>;
  /** Default 1. */
  readonly attempt?: number;
  /** Default 10. */
  readonly maxAttempts?: number;
  /** Why it runs now. Default `new`. */
  readonly resumedBy?: Resumed["by"];
  /** Notes of proceeds since the run before. */
  readonly notes?: readonly string[];
  /** Default: a random one. */
  readonly id?: string;
  /** Default: none. */
  readonly key?: string;
  /** Default: that of the definition, else `default`. */
  readonly queue?: string;
  /** Default: none. */
  readonly labels?: Readonly<Record<string, string>>;
  /** When this signal fires the handler is told to stop; `why` defaults to `cancelled`. */
  readonly stop?: { readonly when: AbortSignal; readonly why?: RunStop };
  /** Called with each checkpoint as it is recorded, parsed. */
  readonly checkpointed?: (saved: ExecutionMetadataOf<Task>) => void;
  /** Those of the client of the worker. Default: none. */
  readonly codecs?: readonly PayloadCodec[];
  /** Those of the worker. Default: none. */
  readonly middleware?: readonly Middleware[];
  /** Default: nothing is logged. */
  readonly logger?: Logger;
}
