// Does everybody who waits for a task hear of each change, and of progress only those who want it?
import { describe, expect, it } from "vitest";
import { systemClock } from "@leasehold/server/clock";
import { AwaitedTasks } from "@leasehold/server/dispatch/task-watch";
import type { KnownTask } from "@leasehold/server/storage/storage";

/** A watch whose look finds what the test says. */
function watching(changes: { id: string; revision: number | null }[] = []) {
  const asked: (readonly KnownTask[])[] = [];
  let look = (): void => undefined;
  const clock = { ...systemClock(), after: (_: number, callback: () => void) => ((look = callback), { cancel: () => undefined }) };
  const watch = new AwaitedTasks(clock, {
    readChanged: (known) => {
      asked.push(known);
      return Promise.resolve(changes);
    },
  });
  return { watch, asked, look: () => look() };
}

describe("a waiter", () => {
  it("that knows an older revision is told when another one learns a newer", () => {
    const { watch } = watching();
    const told: string[] = [];
    const slow = watch.subscribe(["t"], () => void told.push("slow"));
    slow.known("t", 4);
    const quick = watch.subscribe(["t"], () => void told.push("quick"));
    quick.known("t", 4);
    expect(told).toEqual([]);
    quick.known("t", 5);
    expect(told).toEqual(["slow"]);
  });

  it("hears of changes and not of progress, unless it wants to", () => {
    const { watch } = watching();
    const told: string[] = [];
    watch.subscribe(["t"], () => void told.push("waiter"));
    const watcher = watch.subscribe(["t"], () => void told.push("watcher"), true);
    watch.progressed("t");
    expect(told).toEqual(["watcher"]);
    watch.changed("t");
    expect(told).toEqual(["watcher", "waiter", "watcher"]);
    watcher.end();
    watch.progressed("t");
    expect(told).toHaveLength(3);
  });

  it("costs the once-a-second look one row for each task, with its progress only where somebody wants it", async () => {
    const { watch, asked, look } = watching([
      { id: "b", revision: 2 },
      { id: "a", revision: 8 },
    ]);
    const told: string[] = [];
    for (let waiter = 0; waiter < 1000; waiter++) watch.subscribe(["a"], (id) => void told.push(id)).known("a", 7);
    watch.subscribe(["b", "unread"], (id) => void told.push(id), true).known("b", 2, 30);
    expect(watch.size).toBe(1002);
    look();
    await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toEqual([
      [
        { id: "a", revision: 7, progressUs: null },
        { id: "b", revision: 2, progressUs: 30 },
      ],
    ]);
    expect(told.filter((id) => id === "b")).toHaveLength(1);
    expect(told.filter((id) => id === "a")).toHaveLength(1000);
  });
});
