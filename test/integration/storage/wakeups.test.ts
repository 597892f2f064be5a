// Do servers hear each other's hints, only those of their schema, and learn of every gap in hearing?
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Hint, Storage } from "@leasehold/server/storage/storage";
import { channelOf, readHint, writeHint } from "@leasehold/server/storage/wakeups";
import { openTestStorage, START, type TestStorage } from "../../support/storage.js";

const group = (name = "a") => ({ namespace: "default", queue: "q", name, priority: 3, suspect: false, earliestUs: START + 1 });
const none: Hint = { groups: [], leases: [], taskIds: [] };
const full: Hint = {
  groups: [group(), { ...group("b"), suspect: true }],
  leases: [
    { sessionId: randomUUID(), taskId: randomUUID(), revoked: null },
    { sessionId: randomUUID(), taskId: randomUUID(), revoked: "TOTAL_DEADLINE" },
  ],
  taskIds: [randomUUID()],
};

function merged(hints: readonly (Hint | null | undefined)[]): Hint {
  const heard = hints.map((hint) => hint ?? none);
  return { groups: heard.flatMap((h) => h.groups), leases: heard.flatMap((h) => h.leases), taskIds: heard.flatMap((h) => h.taskIds ?? []) };
}

describe("a hint", () => {
  it("is read as it was written", () => {
    const payloads = writeHint("one", full);
    expect(payloads).toHaveLength(1);
    expect(readHint(payloads[0]!, "two")).toEqual(full);
  });

  it("is not heard by its own server", () => {
    expect(readHint(writeHint("one", full)[0]!, "one")).toBeUndefined();
  });

  it("about nothing is not written", () => {
    expect(writeHint("one", none)).toEqual([]);
  });

  it("that is larger than Postgres takes is several, and none is lost", () => {
    const large: Hint = {
      groups: Array.from({ length: 60 }, (_, at) => group(`${"ü".repeat(100)}${String(at)}`)),
      leases: full.leases,
      taskIds: full.taskIds,
    };
    const payloads = writeHint("one", large);
    expect(payloads.length).toBeGreaterThan(1);
    for (const payload of payloads) expect(Buffer.byteLength(payload)).toBeLessThan(8000);
    expect(merged(payloads.map((payload) => readHint(payload, "two")))).toEqual(large);
  });

  it("about more tasks than are told says that any of them may have changed, and all the rest as it is", () => {
    const rest = { groups: full.groups, leases: full.leases };
    for (const taskIds of [null, Array.from({ length: 1500 }, () => randomUUID())]) {
      const heard = writeHint("one", { ...rest, taskIds }).map((payload) => readHint(payload, "two"));
      expect(heard).toEqual([
        { ...rest, taskIds: [] },
        { ...none, taskIds: null },
      ]);
    }
  });

  it("about too many groups or leases says that anything may have changed", () => {
    const groups = Array.from({ length: 1001 }, (_, at) => group(String(at)));
    const leases = Array.from({ length: 999 }, () => full.leases[0]!);
    for (const parts of [{ groups }, { leases }]) {
      const payloads = writeHint("one", { ...none, ...parts });
      expect(payloads.map((payload) => readHint(payload, "two"))).toEqual([null]);
      expect(readHint(payloads[0]!, "one")).toBeUndefined();
    }
  });

  it("that cannot be read says that anything may have changed", () => {
    expect(readHint("", "two")).toBeNull();
    expect(readHint("{", "two")).toBeNull();
  });
});

describe("a channel", () => {
  it("is a plain name of its own for each schema, however odd or long", () => {
    const schemas = ["leasehold", "Leasehold", 'a"b', "ünï", "x".repeat(63), "x".repeat(62)];
    const channels = schemas.map(channelOf);
    expect(new Set(channels).size).toBe(schemas.length);
    for (const channel of channels) expect(channel).toMatch(/^[a-z0-9_]{1,63}$/);
  });
});

describe("two servers", () => {
  let test: TestStorage;
  beforeEach(async () => {
    test = await openTestStorage();
  });
  afterEach(() => test[Symbol.asyncDispose]());

  /** Everything that a storage hears, and a wait for the next of it. */
  function listenTo(storage: Storage): { next(): Promise<Hint | null> } {
    const heard: (Hint | null)[] = [];
    let wake: (() => void) | null = null;
    storage.onHint((hint) => {
      heard.push(hint);
      wake?.();
    });
    return {
      next: async () => {
        while (heard.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        return heard.shift() ?? null;
      },
    };
  }

  it("hear each other and not themselves", async () => {
    const other = await test.another();
    const [one, two] = [listenTo(test.storage), listenTo(other)];
    expect([await one.next(), await two.next()]).toEqual([null, null]);
    await test.storage.notify(full);
    expect(await two.next()).toEqual(full);
    await other.notify({ ...none, taskIds: ["answer"] });
    expect(await one.next()).toEqual({ ...none, taskIds: ["answer"] });
  });

  it("learn that they may have missed something when their connection was cut, and hear again", async () => {
    const other = await test.another();
    const two = listenTo(other);
    expect(await two.next()).toBeNull();
    await test.rows(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leasehold wakeups' AND datname = current_database()",
    );
    expect(await two.next()).toBeNull();
    await test.storage.notify(full);
    expect(await two.next()).toEqual(full);
  });
});
