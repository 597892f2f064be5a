// What is the smallest server over real sockets? It keeps tasks in memory, leases each to any worker, and believes what is reported.
import { defineTask, type } from "@leasehold/client";
import { Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { type SubmitTaskRequest, TaskServiceService, WatchTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { ServerMessage, VerdictCode, type WorkerMessage, WorkerServiceService } from "@leasehold/proto/leasehold/v1/worker_service";
import {
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
} from "@grpc/grpc-js";

/** A task for it. */
export const double = defineTask({
  name: "double",
  metadata: type<{ n: number }>(),
  result: type<{ n: number }>(),
  errors: { odd: type<{ n: number }>() },
});

const servers: Server[] = [];
/** Ends every server of a test; for `afterEach`. */
export function stopServers(): void {
  for (const server of servers.splice(0)) server.forceShutdown();
}

/** A server of the given methods, on a free port unless told; everything else is UNIMPLEMENTED. Answers its address. */
export async function serve(
  methods: { task?: Record<string, unknown>; worker?: Record<string, unknown> },
  { host = "127.0.0.1", port: wanted = 0, security = ServerCredentials.createInsecure() } = {},
): Promise<string> {
  const server = new Server();
  servers.push(server);
  if (methods.task) server.addService(TaskServiceService, methods.task as never);
  if (methods.worker) server.addService(WorkerServiceService, methods.worker as never);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${String(wanted)}`, security, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  return `${host}:${String(port)}`;
}

/** One task at a time, kept in memory: enough for a submission, its run, and its result. */
export function tinyServer(): {
  task: Record<string, unknown>;
  worker: Record<string, unknown>;
  seen: { hellos: number; metadata: Metadata | undefined };
} {
  const tasks = new Map<string, Task>();
  const watchers = new Set<ServerWritableStream<{ taskIds: string[] }, WatchTasksResponse>>();
  const seen: { hellos: number; metadata: Metadata | undefined } = { hellos: 0, metadata: undefined };
  const workers = new Set<ServerDuplexStream<WorkerMessage, ServerMessage>>();
  const tell = (task: Task): void => {
    for (const watcher of watchers) {
      if (watcher.request.taskIds.includes(task.taskId))
        watcher.write(WatchTasksResponse.create({ updates: [{ taskId: task.taskId, task }] }));
    }
  };
  const lease = (task: Task): void => {
    const [worker] = workers;
    if (worker === undefined || task.state !== TaskState.PENDING) return;
    task.state = TaskState.RUNNING;
    const { taskId, name, metadata } = task;
    worker.write(ServerMessage.create({ leases: [{ leaseToken: taskId, taskId, name, metadata: metadata!, attempt: 1, maxAttempts: 5 }] }));
  };
  const finish = (task: Task, report: WorkerMessage["reports"][number]): void => {
    if (report.complete) Object.assign(task, { state: TaskState.COMPLETED, result: report.complete.result });
    if (report.fail) Object.assign(task, { state: TaskState.FAILED, error: report.fail.error });
    tell(task);
  };
  return {
    seen,
    task: {
      submitTask: ((call, answer) => {
        seen.metadata = call.metadata;
        const { taskId, name, metadata } = call.request.task!;
        const task = Task.create({ taskId, name, state: TaskState.PENDING, metadata: metadata! });
        tasks.set(taskId, task);
        answer(null, { task, created: true });
        lease(task);
      }) satisfies handleUnaryCall<SubmitTaskRequest, unknown>,
      getTask: ((call, answer) => answer(null, tasks.get(call.request.task.taskId))) satisfies handleUnaryCall<
        { task: { taskId: string } },
        Task
      >,
      watchTasks: (call: ServerWritableStream<{ taskIds: string[] }, WatchTasksResponse>) => {
        watchers.add(call);
        call.on("cancelled", () => watchers.delete(call));
        for (const id of call.request.taskIds) tell(tasks.get(id)!);
      },
    },
    worker: {
      executeTasks: (call: ServerDuplexStream<WorkerMessage, ServerMessage>) => {
        call.on("data", (message: WorkerMessage) => {
          if (message.hello) {
            seen.hellos += 1;
            workers.add(call);
            const seconds = (n: number) => ({ seconds: BigInt(n), nanos: 0 });
            call.write(ServerMessage.create({ welcome: { sessionId: "s1", heartbeatInterval: seconds(5), sessionTtl: seconds(20) } }));
            for (const task of tasks.values()) lease(task);
          }
          if (message.heartbeat) call.write(ServerMessage.create({ heartbeatAnswer: { number: message.heartbeat.number } }));
          for (const report of message.reports) {
            finish(tasks.get(report.leaseToken)!, report);
            const { leaseToken, reportSeq } = report;
            call.write(ServerMessage.create({ verdicts: [{ leaseToken, reportSeq, code: VerdictCode.RECORDED }] }));
          }
          if (message.drain) call.end();
        });
        call.on("end", () => {
          workers.delete(call);
          call.end();
        });
        call.on("cancelled", () => workers.delete(call));
      },
    },
  };
}
