// Is what one server acknowledged there for every other, at once? Each change at one, each read at another the moment after.
import { randomUUID } from "node:crypto";
import { TaskState, TaskView } from "@leasehold/proto/leasehold/v1/task";
import {
  CancelTaskRequest,
  CountTasksRequest,
  ListTaskEventsRequest,
  ListTasksRequest,
  TaskServiceService,
} from "@leasehold/proto/leasehold/v1/task_service";
import { VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type InProcessServer, startInProcess } from "../../support/in-process-server.js";
import { type OwnerCalls, ownerCalls } from "../../support/owner-calls.js";
import { keepAlive, openRawWorker } from "../../support/raw-worker.js";
import { jsonOf, jsonPayload } from "../../support/task-client.js";

const servers: InProcessServer[] = [];
const owners: OwnerCalls[] = [];
beforeAll(async () => {
  for (let n = 0; n < 3; n++) servers.push(await startInProcess({}, servers[0]?.databaseUrl));
  owners.push(...servers.map(({ address }) => ownerCalls(address)));
});
afterAll(async () => {
  for (const owner of owners) owner.close();
  for (const server of servers.toReversed()) await server[Symbol.asyncDispose]();
});

interface Seen {
  readonly byId: TaskState;
  readonly byKey: TaskState;
  readonly listed: TaskState[];
  readonly counted: number;
  readonly events: number;
}

/** What a server says of a task in every way to ask. */
async function seenAt(owner: OwnerCalls, taskId: string, name: string, key: string): Promise<Seen> {
  const filter = { names: [name] };
  const [byId, byKey, listed, counted, events] = await Promise.all([
    owner.get({ taskId }),
    owner.get({ name, key }),
    owner.call(TaskServiceService.listTasks, ListTasksRequest.create({ filter, view: TaskView.BASIC })),
    owner.call(TaskServiceService.countTasks, CountTasksRequest.create({ filter })),
    owner.call(TaskServiceService.listTaskEvents, ListTaskEventsRequest.create({ task: { taskId } })),
  ]);
  return {
    byId: byId.state,
    byKey: byKey.state,
    listed: listed.tasks.map(({ state }) => state),
    counted: counted.count,
    events: events.events.length,
  };
}

describe("what one server acknowledged", () => {
  it("is what every other server reads the moment after, by id, by key, in lists, counts and timelines", async () => {
    const [here, ...elsewhere] = owners as [OwnerCalls, ...OwnerCalls[]];
    for (let round = 0; round < 20; round++) {
      const [taskId, name, key] = [randomUUID(), `seen.${round}`, `key ${round}`];
      const expectSeen = async (state: TaskState, events: number): Promise<void> => {
        for (const seen of await Promise.all(elsewhere.map((owner) => seenAt(owner, taskId, name, key))))
          expect(seen).toEqual({ byId: state, byKey: state, listed: [state], counted: 1, events });
      };
      await here.submit({ taskId, name, key });
      await expectSeen(TaskState.PENDING, 1);
      await here.call(TaskServiceService.cancelTask, CancelTaskRequest.create({ task: { taskId } }));
      await expectSeen(TaskState.CANCELLED, 2);
      await here.retry({ task: { taskId } });
      await expectSeen(TaskState.PENDING, 3);
    }
  });

  it("of a report as well: checkpoint and result are read elsewhere as soon as the verdict is there", async () => {
    const [here, there] = owners as [OwnerCalls, OwnerCalls];
    const worker = openRawWorker(servers[2]!.address, ["reported"], { slots: 20 });
    try {
      keepAlive(worker, 1_000);
      for (let round = 0; round < 20; round++) {
        const { task } = await here.submit({ taskId: randomUUID(), name: "reported" });
        const lease = await worker.lease(round);
        worker.report(lease, 1, { checkpoint: { executionMetadata: { ...jsonPayload({ round }), contentType: "" } } });
        expect((await worker.verdict(lease, 1)).code).toBe(VerdictCode.RECORDED);
        expect(jsonOf((await there.get({ taskId: task.taskId })).executionMetadata)).toEqual({ round });
        worker.report(lease, 2, { complete: { result: { ...jsonPayload({ round }), contentType: "" }, executionMetadata: undefined } });
        expect((await worker.verdict(lease, 2)).code).toBe(VerdictCode.RECORDED);
        const done = await there.get({ taskId: task.taskId });
        expect([done.state, jsonOf(done.result)]).toEqual([TaskState.COMPLETED, { round }]);
      }
    } finally {
      worker.close();
    }
  });
});
