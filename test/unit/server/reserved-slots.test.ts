// Are slots that wait for tasks about to be stored counted, shared out and given back, whatever becomes of the insert?
import { describe, expect, it } from "vitest";
import { newTask } from "@leasehold/server/domain/new-task";
import type { NewTask, Submission } from "@leasehold/server/domain/new-task";
import { SlotReservations, type Delivery } from "@leasehold/server/dispatch/reserved-slots";
import type { WorkerSession } from "@leasehold/server/dispatch/worker-session";
import type { Inserted, LeasedTask } from "@leasehold/server/storage/storage";
import { START, submissionOf } from "../../support/storage.js";

interface FakeSession {
  readonly id: string;
  readonly free: number;
  readonly names?: readonly string[];
  readonly queues?: readonly string[];
}

/** As much of a session as reserving asks for, with the slots that are reserved at the moment. */
class Session {
  readonly epoch = 1;
  readonly workerName = "worker";
  readonly id: string;
  readonly reserved: string[] = [];
  constructor(private readonly fake: FakeSession) {
    this.id = fake.id;
  }
  free = (): number => this.fake.free - this.reserved.length;
  freeFor = (name: string): number => (this.fake.names?.includes(name) === false ? 0 : this.free());
  takesFrom = (queue: string): boolean => this.fake.queues?.includes(queue) ?? true;
  reserve = (name: string): void => void this.reserved.push(name);
  unreserve = (name: string): void => void this.reserved.splice(this.reserved.indexOf(name), 1);
}

interface Room {
  readonly reservations: SlotReservations;
  readonly sessions: readonly Session[];
  /** What was handed to whom, in order. */
  readonly said: string[];
}

function room(sessions: readonly FakeSession[]): Room {
  const all = sessions.map((fake) => new Session(fake));
  const said: string[] = [];
  const idsOf = (tasks: readonly LeasedTask[]): string => tasks.map(({ live }) => live.identity.name).join(" ");
  const delivery: Delivery = {
    deliver: async (session, tasks) => void said.push(`${session.id} gets ${idsOf(tasks)}`),
    giveBack: async (tasks) => void said.push(`back goes ${idsOf(tasks)}`),
    lost: (claiming) => void said.push(`lost for ${claiming.map(({ id }) => id).join(" ")}`),
    failed: (error) => void said.push(String(error)),
  };
  const idle = { idle: () => all as unknown as WorkerSession[] };
  return { reservations: new SlotReservations(idle, delivery), sessions: all, said };
}

const tasksOf = (...submissions: readonly Partial<Submission>[]): NewTask[] =>
  submissions.map((fields, at) => newTask(submissionOf({ name: `t${String(at)}`, ...fields }), START));

const leased = (task: NewTask, isCurrent: boolean | null = true): Inserted => ({
  kind: "created",
  createTimeUs: START,
  leased: { task: task.live, isCurrent },
});
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("slots for tasks about to be stored", () => {
  it("are shared out among the sessions, as many as there are", () => {
    const { reservations, sessions } = room([
      { id: "a", free: 2 },
      { id: "b", free: 2 },
    ]);
    const reservation = reservations.reserve(tasksOf({}, {}, {}, {}, {}));
    expect(sessions.map(({ reserved }) => reserved.length)).toEqual([2, 2]);
    expect(reservation?.slots.sessionOf.size).toBe(4);
    expect(reservations.reserve(tasksOf({}))).toBeNull();
  });

  it("are of a session that takes the queue and handles the name, for tasks that are due", () => {
    const { reservations } = room([{ id: "a", free: 9, names: ["t0", "t1"], queues: ["q"] }]);
    const tasks = tasksOf({ queue: "q" }, { queue: "other" }, { queue: "q" }, { queue: "q", name: "t1", scheduleUs: START + 1 });
    expect([...(reservations.reserve(tasks)?.slots.sessionOf.keys() ?? [])]).toEqual([tasks[0]!.submission.id]);
  });

  it("are taken by what was leased and free again for the rest", async () => {
    const { reservations, sessions, said } = room([{ id: "a", free: 3 }]);
    const tasks = tasksOf({}, {}, {});
    const inserted: Inserted[] = [leased(tasks[0]!), { kind: "created", createTimeUs: START }, { kind: "id-exists", sameContent: true }];
    reservations.reserve(tasks)?.settle(tasks, inserted);
    expect(sessions[0]?.reserved).toHaveLength(3);
    await settled();
    expect([said, sessions[0]?.reserved]).toEqual([["a gets t0"], []]);
  });

  it("of a session that was taken over bring their tasks back", async () => {
    const { reservations, said } = room([
      { id: "a", free: 1 },
      { id: "b", free: 1 },
    ]);
    const tasks = tasksOf({}, {});
    const slots = reservations.reserve(tasks)!;
    const sessionIdOf = (task: NewTask): string => slots.slots.sessions[slots.slots.sessionOf.get(task.submission.id)!]!.id;
    slots.settle(
      tasks,
      tasks.map((task) => leased(task, sessionIdOf(task) === "b")),
    );
    await settled();
    expect(said.toSorted()).toEqual(["b gets t0", "back goes t1"].toSorted());
  });

  it("are free again after an insert that failed, whose leases are looked for where nobody knows what it did", () => {
    const { reservations, sessions, said } = room([{ id: "a", free: 1 }]);
    reservations.reserve(tasksOf({}))?.cancel(false);
    expect([said, sessions[0]?.reserved]).toEqual([[], []]);
    reservations.reserve(tasksOf({}))?.cancel(true);
    expect([said, sessions[0]?.reserved]).toEqual([["lost for a"], []]);
  });

  it("are free again when the sessions cannot be read after the commit", async () => {
    const { reservations, sessions, said } = room([{ id: "a", free: 1 }]);
    const tasks = tasksOf({});
    reservations.reserve(tasks)?.settle(
      tasks,
      tasks.map((task) => leased(task, null)),
    );
    await settled();
    expect([said, sessions[0]?.reserved]).toEqual([["lost for a"], []]);
  });
});
