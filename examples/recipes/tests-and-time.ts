// How do you test what takes a week? The real server in the test's process, and a clock that the test moves.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTestEnv } from "@leasehold/testing";
import { decide, expense, expenseHandler } from "./human-approval.js";

test("an expense that nobody decides on in a week is refused", async () => {
  const asked: string[] = [];
  const handler = expenseHandler((taskId) => {
    asked.push(taskId);
    return Promise.resolve();
  });
  await using env = await createTestEnv({ handlers: [handler] });
  const task = await env.client.submit(expense, { employee: "eve", amount: 120 }, { key: "E-17" });
  await env.clock.advance("6d");
  assert.equal((await task.snapshot()).state, "suspended");
  await env.clock.advance("1d");
  assert.deepEqual(await task.result(), { approved: false, by: "nobody" });
  assert.deepEqual(asked, [task.id]);
});

test("a decision counts once, though the network eats the answers", async () => {
  await using env = await createTestEnv({ handlers: [expenseHandler(() => Promise.resolve())] });
  const task = await env.client.submit(expense, { employee: "eve", amount: 120 }, { key: "E-17" });
  await env.settled(); // it has asked, and waits
  env.faults.failCalls({ count: 2, lostAnswer: true });
  const counts = decide(env.client, "E-17", { approved: true, by: "bob" });
  await env.clock.advance("1m"); // the client tries again, after a while
  assert.equal(await counts, true);
  assert.deepEqual(await task.result(), { approved: true, by: "bob" });
  assert.equal(await decide(env.client, "E-17", { approved: false, by: "ann" }), false);
});
