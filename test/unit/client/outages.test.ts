// How do many workers bear a server that is away? They try spread out, say little, tell why they are not ready, and are back soon after it is.
import { handle, defineTask } from "@leasehold/client";
import { ServerMessage } from "@leasehold/proto/leasehold/v1/worker_service";
import { afterEach, describe, expect, it } from "vitest";
import { failure } from "./fake-transport.js";
import { FakeWorkerServer, stopWorkers } from "./fake-worker-server.js";

const handler = handle(defineTask({ name: "t" }), () => undefined);

afterEach(stopWorkers);

/** Chance that is the same in each run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

const STEP_MS = 250;

/** A crowd of workers whose server is away for so long. Times count from when it went. */
async function outage(
  workers: number,
  awayMs: number,
): Promise<{ tries: number[]; backMs: number[]; linesEach: number; states: Set<string> }> {
  const chance = seeded(7);
  const crowd = await Promise.all(Array.from({ length: workers }, () => FakeWorkerServer.start([handler], {}, { random: chance })));
  const tries: number[] = [];
  let away = true;
  let passedMs = 0;
  for (const server of crowd) {
    server.lines.length = 0;
    server.transport.onStream = (stream) => {
      tries.push(passedMs);
      setImmediate(() => {
        if (away) stream.close(failure({ code: "UNAVAILABLE" }));
        else stream.send(ServerMessage.create({ welcome: server.welcome }) as never);
      });
    };
    server.stream.close(failure({ code: "UNAVAILABLE" }));
  }
  const step = async (): Promise<void> => {
    passedMs += STEP_MS;
    await Promise.all(crowd.map(({ clock }) => clock.advance(STEP_MS)));
  };
  while (passedMs < awayMs) await step();
  const states = new Set(crowd.map(({ worker }) => `${worker.state.status} ${worker.state.notReady ?? ""}`));
  const linesEach = Math.max(...crowd.map(({ lines }) => lines.length));
  away = false;
  const backMs = new Map<FakeWorkerServer, number>();
  while (backMs.size < workers && passedMs < awayMs + 60_000) {
    await step();
    for (const server of crowd) if (server.worker.state.status === "ready" && !backMs.has(server)) backMs.set(server, passedMs - awayMs);
  }
  return { tries, backMs: [...backMs.values()], linesEach, states };
}

describe("two hundred workers whose server is away", { timeout: 120_000 }, () => {
  it("for ten seconds are all back within five, never many in one second, and log a line each", async () => {
    const { tries, backMs, linesEach, states } = await outage(200, 10_000);
    expect(backMs).toHaveLength(200);
    expect(Math.max(...backMs)).toBeLessThanOrEqual(5_000 + STEP_MS);
    const perSecond = new Map<number, number>();
    for (const ms of tries) perSecond.set(Math.floor(ms / 1_000), (perSecond.get(Math.floor(ms / 1_000)) ?? 0) + 1);
    // A fifth of them come in each second on the average, and no scheme that is back in five can do better; chance adds to it.
    expect(Math.max(...perSecond.values())).toBeLessThan(200 * 0.3);
    expect(linesEach).toBeLessThanOrEqual(2);
    expect([...states]).toEqual([expect.stringMatching(/^disconnected disconnected: .*UNAVAILABLE/)]);
  });
});

describe("a few workers whose server is away", { timeout: 120_000 }, () => {
  it.each([90_000, 600_000])("for %i ms are all back within twenty seconds, with less than a line in ten", async (awayMs) => {
    const { tries, backMs, linesEach } = await outage(8, awayMs);
    expect(backMs).toHaveLength(8);
    expect(Math.max(...backMs)).toBeLessThanOrEqual(20_000 + STEP_MS);
    expect(linesEach).toBeLessThanOrEqual(awayMs / 10_000);
    expect(tries.length / 8).toBeLessThan(10 + awayMs / 5_000);
  });
});
