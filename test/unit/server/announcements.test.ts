// What are other servers told of what was committed here? Little as it is, and of very many tasks only that there are many.
import { systemClock } from "@leasehold/server/clock";
import { Announcements } from "@leasehold/server/dispatch/announcements";
import type { Hint } from "@leasehold/server/storage/storage";
import { beforeEach, describe, expect, it } from "vitest";
import { newTask } from "@leasehold/server/domain/new-task";
import { eventually } from "../../support/scene.js";
import { START, submissionOf } from "../../support/storage.js";

let hints: Hint[];
let announcements: Announcements;
beforeEach(() => {
  hints = [];
  const storage = { notify: async (hint: Hint) => void hints.push(hint) };
  announcements = new Announcements(systemClock(), storage, { work: () => undefined, changed: () => undefined, lease: () => false });
});

const remove = (count: number): void => {
  for (let task = 0; task < count; task++) announcements.removed(`task-${String(task)}`);
};
const told = (): Promise<Hint[]> =>
  eventually(
    () => hints,
    ({ length }) => length > 0,
    "other servers are told",
  );

describe("changes of one turn", () => {
  it("are told together", async () => {
    announcements.stored([newTask(submissionOf({ name: "a" }), START)]);
    remove(2);
    expect(await told()).toMatchObject([{ groups: [{ name: "a" }], leases: [], taskIds: ["task-0", "task-1"] }]);
  });

  it("of very many tasks are told as such, beside the groups with work", async () => {
    remove(1_000);
    announcements.stored([newTask(submissionOf({ name: "a" }), START)]);
    expect(await told()).toMatchObject([{ groups: [{ name: "a" }], taskIds: null }]);
  });

  it("are told to nobody where there is no other server", async () => {
    announcements.alone = true;
    remove(1_000);
    announcements.alone = false;
    announcements.removed("later");
    expect(await told()).toMatchObject([{ groups: [], taskIds: ["later"] }]);
  });
});
