// How does a test submit tasks and see what becomes of them, over the wire and without our SDK? Through the generated stubs, as promises.
import { Client, credentials, Metadata, status, type MethodDefinition, type ServiceError } from "@grpc/grpc-js";
import { TaskState, type Task } from "@leasehold/proto/leasehold/v1/task";
import {
  CancelTaskRequest,
  GetTaskRequest,
  ProceedTaskRequest,
  SubmitTaskRequest,
  TaskServiceService,
  WaitTarget,
  WaitTaskRequest,
  type ProceedTaskResponse,
} from "@leasehold/proto/leasehold/v1/task_service";

/** What a submission may say; what is left out is the server's to choose. */
export type TaskSubmission = NonNullable<Parameters<typeof SubmitTaskRequest.create>[0]>["task"];

/** What a proceed may say beside which task. */
export type TaskProceed = NonNullable<Parameters<typeof ProceedTaskRequest.create>[0]>;

/** Promises over TaskService. Calls wait for a server that is not there yet, and reads outlive one that goes. */
export interface TaskClient {
  /** Stores a task; answers it in BASIC view. */
  submit(task: TaskSubmission): Promise<Task>;
  /** Reads it in FULL view. */
  get(taskId: string): Promise<Task>;
  /** Waits until a task is as the test wants it, by default finished. Rejects with the task as it is then when `patienceMs`, by default 20 s, have passed. */
  wait(taskId: string, wanted?: (task: Task) => boolean, patienceMs?: number): Promise<Task>;
  /** Lets it go on. */
  proceed(taskId: string, proceed?: TaskProceed): Promise<ProceedTaskResponse>;
  /** Cancels it, with the server's default grace. */
  cancel(taskId: string, reason?: string): Promise<Task>;
  /** Closes the connection. */
  close(): void;
}

type Unary<Request, Response> = Pick<MethodDefinition<Request, Response>, "path" | "requestSerialize" | "responseDeserialize">;

const PATIENCE_MS = 20_000;
const FINISHED: readonly TaskState[] = [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED];

/** A JSON payload. */
export function jsonPayload(value: unknown): { data: Buffer } {
  return { data: Buffer.from(JSON.stringify(value)) };
}

/** The value of a JSON payload; undefined if there is none. */
export function jsonOf(payload: { readonly data: Uint8Array } | undefined): unknown {
  return payload === undefined ? undefined : JSON.parse(Buffer.from(payload.data).toString("utf8"));
}

/** Connects to `host:port` when the first call is made. */
export function createTaskClient(address: string): TaskClient {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
  });
  const call = <Request, Response>(method: Unary<Request, Response>, request: Request): Promise<Response> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const options = { deadline: Date.now() + PATIENCE_MS };
      const metadata = new Metadata({ waitForReady: true });
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, options, (error, response) => {
        if (error === null && response !== undefined) resolve(response);
        else reject(error ?? new Error(`${path} answered nothing`));
      });
    });
  const get = (taskId: string): Promise<Task> => read(() => call(TaskServiceService.getTask, GetTaskRequest.create({ task: { taskId } })));
  const change = async (task: Task): Promise<Task> => {
    const { taskId, etag } = task;
    const request = WaitTaskRequest.create({ task: { taskId }, target: WaitTarget.CHANGED, etag, timeout: { seconds: 1n } });
    return (await read(() => call(TaskServiceService.waitTask, request))).task ?? task;
  };
  return {
    submit: async (task) => (await call(TaskServiceService.submitTask, SubmitTaskRequest.create({ task }))).task!,
    get,
    wait: async (taskId, wanted = isFinished, patienceMs = PATIENCE_MS) => {
      const end = performance.now() + patienceMs;
      for (let task = await get(taskId); ; task = await change(task)) {
        if (wanted(task)) return task;
        if (performance.now() > end) throw new Error(`waited ${patienceMs} ms in vain; the task is\n${JSON.stringify(shown(task))}`);
      }
    },
    proceed: (taskId, proceed = {}) => call(TaskServiceService.proceedTask, ProceedTaskRequest.create({ ...proceed, task: { taskId } })),
    cancel: (taskId, reason = "") => call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { taskId }, reason })),
    close: () => client.close(),
  };
}

function isFinished(task: Task): boolean {
  return FINISHED.includes(task.state);
}

/** Reads again when the server went away in the middle. */
async function read<Response>(attempt: () => Promise<Response>): Promise<Response> {
  for (let left = 5; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if ((error as ServiceError).code !== status.UNAVAILABLE || left === 0) throw error;
    }
  }
}

function shown(task: Task): Record<string, unknown> {
  const { taskId, name, attempt, lostLeases, workerName, error, lastError } = task;
  return {
    taskId,
    name,
    state: TaskState[task.state],
    attempt,
    lostLeases,
    workerName,
    error: error?.message,
    lastError: lastError?.message,
  };
}
