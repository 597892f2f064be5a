// What does the server itself say at the end of a run with faults? Every stored task with its timeline, through its own calls, on the time scale of
// the history.
import { setTimeout as pause } from "node:timers/promises";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import type { Timestamp } from "@leasehold/proto/google/protobuf/timestamp";
import { FinishReason, type Payload, type Task, TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import {
  type ListTaskEventsResponse,
  ListTaskEventsRequest,
  ListTasksRequest,
  type ListTasksResponse,
  TaskEventType,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import type { UnaryMethod } from "../support/owner-calls.js";
import { type FinalEvent, type FinalTask, nowUs } from "./history.js";

const LANES = 8;
const DEADLINE_MS = 30_000;
const TRIES = 60;
const AGAIN_MS = 500;

/** Reads everything through one server. */
export async function collectTasks(address: string): Promise<Map<string, FinalTask>> {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  // The database's clock and this process's are the machine's.
  const offsetUs = Date.now() * 1000 - nowUs();
  const once = <Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const options = { deadline: Date.now() + DEADLINE_MS };
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, options, (error, response) => {
        if (error === null && response !== undefined) resolve(response);
        else reject(error ?? new Error(`${path} answered nothing`));
      });
    });
  // Just after the faults many ask at once: who is refused as too many asks again, as everybody should.
  const call = async <Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response> => {
    for (let triesLeft = TRIES; ; triesLeft--) {
      try {
        return await once(method, request);
      } catch (error) {
        if (triesLeft === 0 || (error as ServiceError).code !== status.RESOURCE_EXHAUSTED) throw error;
        await pause(AGAIN_MS);
      }
    }
  };
  const onScale = (time: Timestamp | undefined): number | null => (time === undefined ? null : wallUs(time) - offsetUs);
  try {
    const tasks: Task[] = [];
    for (let pageToken = ""; ;) {
      const request = ListTasksRequest.create({ pageSize: 500, pageToken, view: TaskView.FULL });
      const page: ListTasksResponse = await call(TaskServiceService.listTasks, request);
      tasks.push(...page.tasks);
      if ((pageToken = page.nextPageToken) === "") break;
    }
    const found = new Map<string, FinalTask>();
    const left = [...tasks];
    const lane = async (): Promise<void> => {
      for (let task = left.pop(); task !== undefined; task = left.pop()) {
        const request = ListTaskEventsRequest.create({ task: { taskId: task.taskId }, pageSize: 1000 });
        const { events }: ListTaskEventsResponse = await call(TaskServiceService.listTaskEvents, request);
        found.set(task.taskId, finalOf(task, eventsOf(events, onScale), onScale));
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    return found;
  } finally {
    client.close();
  }
}

type Scale = (time: Timestamp | undefined) => number | null;

function wallUs({ seconds, nanos }: Timestamp): number {
  return Number(seconds) * 1e6 + Math.floor(nanos / 1000);
}

function eventsOf(events: ListTaskEventsResponse["events"], onScale: Scale): FinalEvent[] {
  return events.map(({ eventTime, type, state, fencingToken, attempt, workerName, message, runTime }) => ({
    atUs: onScale(eventTime) ?? 0,
    type: TaskEventType[type],
    state: TaskState[state],
    fencing: Number(fencingToken),
    attempt,
    worker: workerName,
    message,
    dueUs: onScale(runTime),
  }));
}

function finalOf(task: Task, events: readonly FinalEvent[], onScale: Scale): FinalTask {
  const { taskId: id, name, key, state, finishReason, fencingToken, executionMetadataVersion, attempt, lostLeases } = task;
  return {
    ...{ id, name, key, attempt, lostLeases, events },
    state: TaskState[state],
    finishReason: FinishReason[finishReason],
    fencing: Number(fencingToken),
    version: Number(executionMetadataVersion),
    metadata: textOf(task.metadata),
    saved: textOf(task.executionMetadata),
    result: textOf(task.result),
    createUs: onScale(task.createTime) ?? 0,
    finishUs: onScale(task.finishTime),
  };
}

function textOf(payload: Payload | undefined): string {
  return payload === undefined ? "" : Buffer.from(payload.data).toString("utf8");
}
