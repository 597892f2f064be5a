// How does a measurement ask a server, and how long does the answer take? Single calls with a deadline that never reject, and a follower of health.
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { SubmitTaskRequest, type SubmitTaskResponse, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { Submission, UnaryMethod } from "../../support/owner-calls.js";
import { endingOf } from "../../support/raw-worker.js";
import { healthOf } from "../../support/service-calls.js";

/** What came of a call. */
export interface Answered<Response> {
  readonly method: string;
  /** Name of the status code; OK with a response. */
  readonly code: string;
  readonly reason: string;
  /** Whether it says when to try again, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  readonly tookMs: number;
  /** When it was answered, by `performance.now()`. */
  readonly atMs: number;
  readonly response: Response | undefined;
}

/** Calls of one server. */
export interface Probe {
  readonly address: string;
  readonly call: <Request, Response>(
    method: UnaryMethod<Request, Response>,
    request: Request,
    deadlineMs?: number,
  ) => Promise<Answered<Response>>;
  readonly submit: (task: Submission, deadlineMs?: number) => Promise<Answered<SubmitTaskResponse>>;
  readonly close: () => void;
}

const DEADLINE_MS = 5_000;

/** Opens a probe. */
export function openProbe(address: string): Probe {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
  });
  const call: Probe["call"] = (method, request, deadlineMs = DEADLINE_MS) =>
    new Promise((resolve) => {
      const startMs = performance.now();
      const { path, requestSerialize, responseDeserialize } = method;
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        { deadline: Date.now() + deadlineMs },
        (error, response) => {
          const atMs = performance.now();
          const seen = { method: path.slice(path.lastIndexOf("/") + 1), tookMs: atMs - startMs, atMs, response };
          if (error === null) resolve({ ...seen, code: "OK", reason: "", retryAfterMs: undefined });
          else resolve({ ...seen, code: status[error.code], reason: endingOf(error).reason, retryAfterMs: retryAfterMs(error) });
        },
      );
    });
  return {
    address,
    call,
    submit: (task, deadlineMs) => call(TaskServiceService.submitTask, SubmitTaskRequest.create({ task }), deadlineMs),
    close: () => client.close(),
  };
}

function retryAfterMs(error: ServiceError): number | undefined {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  const details = trailer instanceof Buffer ? Status.decode(trailer).details : [];
  const found = details.find(({ typeUrl }) => typeUrl.endsWith("google.rpc.RetryInfo"));
  if (found === undefined) return undefined;
  const { seconds = 0n, nanos = 0 } = RetryInfo.decode(found.value).retryDelay ?? {};
  return Number(seconds) * 1_000 + nanos / 1e6;
}

/** When a server's health changed, by `performance.now()`, looked at several times a second. */
export interface HealthDiary {
  readonly changes: readonly { readonly serving: boolean; readonly atMs: number }[];
  stop(): Promise<void>;
}

/** Follows the health of a server. */
export function followHealth(address: string): HealthDiary {
  const changes: { serving: boolean; atMs: number }[] = [];
  const over = new AbortController();
  const following = (async () => {
    while (!over.signal.aborted) {
      const serving = (await healthOf(address)) === "SERVING";
      if (changes.at(-1)?.serving !== serving) changes.push({ serving, atMs: performance.now() });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  return {
    changes,
    stop: () => {
      over.abort();
      return following;
    },
  };
}
