// How does a test call TaskService as any client may, and read everything that a refusal says? Generated stubs as promises, and the
// details of an error from the bytes of `grpc-status-details-bin`.
import { Client, credentials, type MethodDefinition, type ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import type { Task } from "@leasehold/proto/leasehold/v1/task";
import {
  DeleteTaskRequest,
  GetTaskRequest,
  ProceedTaskRequest,
  type ProceedTaskResponse,
  RetryTaskRequest,
  SubmitTaskRequest,
  type SubmitTaskResponse,
  SubmitTasksRequest,
  type SubmitTasksResult,
  TaskServiceService,
  UpdateTaskRequest,
} from "@leasehold/proto/leasehold/v1/task_service";

/** A method with one request and one answer. */
export type UnaryMethod<Request, Response> = Pick<MethodDefinition<Request, Response>, "path" | "requestSerialize" | "responseDeserialize">;

type Fields<Codec extends { create(base?: never): unknown }> = Parameters<Codec["create"]>[0];

/** What a submission may say. */
export type Submission = NonNullable<Fields<typeof SubmitTaskRequest>>["task"];

/** Promises over TaskService; what fails rejects with the ServiceError. */
export interface OwnerCalls {
  readonly client: Client;
  call<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response>;
  submit(task: Submission): Promise<Required<SubmitTaskResponse> & { task: Task }>;
  submitMany(tasks: readonly Submission[], atomic?: boolean): Promise<SubmitTasksResult[]>;
  get(task: NonNullable<Fields<typeof GetTaskRequest>>["task"]): Promise<Task>;
  proceed(request: Fields<typeof ProceedTaskRequest>): Promise<ProceedTaskResponse>;
  retry(request: Fields<typeof RetryTaskRequest>): Promise<Task>;
  update(request: Fields<typeof UpdateTaskRequest>): Promise<Task>;
  remove(request: Fields<typeof DeleteTaskRequest>): Promise<unknown>;
  close(): void;
}

/** Connects when the first call is made. */
export function ownerCalls(address: string): OwnerCalls {
  const client = new Client(address, credentials.createInsecure(), { "grpc.max_receive_message_length": 4 * 1024 * 1024 });
  const call: OwnerCalls["call"] = (method, request) =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, response) => {
        if (error === null && response !== undefined) resolve(response);
        else reject(error ?? new Error(`${path} answered nothing`));
      });
    });
  const service = TaskServiceService;
  return {
    client,
    call,
    submit: async (task) => {
      const answer = await call(service.submitTask, SubmitTaskRequest.create({ task }));
      if (answer.task === undefined) throw new Error("a submission was answered without a task");
      return { ...answer, task: answer.task };
    },
    submitMany: async (tasks, atomic) =>
      (
        await call(
          service.submitTasks,
          SubmitTasksRequest.create({ tasks: tasks.map((task) => task ?? {}), ...(atomic === undefined ? {} : { atomic }) }),
        )
      ).results,
    get: (task) => call(service.getTask, GetTaskRequest.create({ task })),
    proceed: (request) => call(service.proceedTask, ProceedTaskRequest.create(request)),
    retry: (request) => call(service.retryTask, RetryTaskRequest.create(request)),
    update: (request) => call(service.updateTask, UpdateTaskRequest.create(request)),
    remove: (request) => call(service.deleteTask, DeleteTaskRequest.create(request)),
    close: () => client.close(),
  };
}

/** Everything that a refusal says. */
export interface Refused {
  /** Name of the gRPC status code. */
  readonly code: string;
  readonly reason: string;
  readonly domain: string;
  readonly fields: readonly string[];
  readonly resource: string | undefined;
  readonly precondition: string | undefined;
  readonly retries: boolean;
  readonly message: string;
}

/** How a call was refused; rejects if it was not. */
export async function refused(call: Promise<unknown>): Promise<Refused> {
  const outcome = await call.then(
    () => null,
    (error: unknown) => error as ServiceError,
  );
  if (outcome === null) throw new Error("the call succeeded");
  return readRefusal(outcome);
}

/** Reads the details of an error from its trailer. */
export function readRefusal(error: ServiceError): Refused {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  if (!(trailer instanceof Buffer)) return { ...readStatus({ code: error.code, message: error.details, details: [] }) };
  const message = Status.decode(trailer);
  const code: number = error.code;
  if (message.code !== code || message.message !== error.details) throw new Error("the details say something else than the status");
  return readStatus(message);
}

/** Reads the details of a google.rpc.Status. */
export function readStatus({ code, message, details }: Status): Refused {
  const find = <T>(type: string, codec: { decode(bytes: Uint8Array): T }): T | undefined => {
    const found = details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`);
    return found === undefined ? undefined : codec.decode(found.value);
  };
  const info = find("ErrorInfo", ErrorInfo);
  return {
    code: status[code] ?? String(code),
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    fields: find("BadRequest", BadRequest)?.fieldViolations.map(({ field }) => field) ?? [],
    resource: find("ResourceInfo", ResourceInfo)?.resourceName,
    precondition: find("PreconditionFailure", PreconditionFailure)?.violations[0]?.type,
    retries: find("RetryInfo", RetryInfo) !== undefined,
    message,
  };
}
