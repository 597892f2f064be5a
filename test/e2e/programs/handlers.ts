// What do the handlers of the worker programs do, and what do they say about it? One line on stdout for each thing that a test waits for.
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { handle, LeaseholdError, type TaskHandler, type UntypedHandlerContext } from "@leasehold/client";
import { count, deaf, ending, mark, phases, quick } from "./tasks.js";

const GATE_LOOK_MS = 20;

/** Writes a line to stdout at once. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

let running = 0;

/** Says that a handler began, what fires its signal, and how many run at once. */
function begin(ctx: UntypedHandlerContext, detail = ""): void {
  running += 1;
  say(`began ${ctx.id} by=${ctx.resumed.by} attempt=${ctx.attempt} fencing=${ctx.fencingToken} running=${running} ${detail}`);
  ctx.signal.addEventListener("abort", () => {
    say(`signal ${ctx.id} ${LeaseholdError.from(ctx.signal.reason).stop?.kind ?? "unknown"}`);
  });
}

function end(ctx: UntypedHandlerContext): void {
  running -= 1;
  say(`ended ${ctx.id} stops=${ctx.stops.map(({ kind }) => kind).join(",")}`);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function counting(worker: string): TaskHandler {
  return handle(count, async (ctx) => {
    let { offset = 0 } = ctx.executionMetadata.current;
    begin(ctx, `from=${offset}`);
    try {
      while (offset < ctx.metadata.to) {
        await sleep(ctx.metadata.stepMs, undefined, { signal: ctx.signal });
        offset += 1;
        await ctx.executionMetadata.checkpoint({ offset });
        say(`checkpointed ${ctx.id} ${offset}`);
      }
      return { counted: offset, worker };
    } finally {
      end(ctx);
    }
  });
}

function marking(worker: string): TaskHandler {
  return handle(mark, async (ctx) => {
    const { folder, forMs = 0, gate } = ctx.metadata;
    begin(ctx);
    try {
      if (gate === undefined) await sleep(forMs);
      else while (!existsSync(gate)) await sleep(GATE_LOOK_MS);
      appendFileSync(join(folder, ctx.id), `${worker}\n`);
      return { worker, fencingToken: ctx.fencingToken.toString() };
    } finally {
      end(ctx);
    }
  });
}

function ignoring(worker: string): TaskHandler {
  return handle(deaf, async (ctx) => {
    begin(ctx);
    const { forMs, blockMs = 0 } = ctx.metadata;
    // Nothing else of this process runs meanwhile: no heartbeat, no signal.
    if (blockMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs);
    await sleep(forMs);
    end(ctx);
    return { worker };
  });
}

const endingInItsWay = handle(ending, async (ctx) => {
  begin(ctx);
  try {
    switch (ctx.metadata.how) {
      case "abort":
        await sleep(120_000, undefined, { signal: ctx.signal });
        return { finished: false };
      case "own_error":
        await aborted(ctx.signal);
        throw new Error("told to stop, and says so in its own words");
      case "result":
        await aborted(ctx.signal);
        return { finished: true };
      case "suspend":
        await aborted(ctx.signal);
        return ctx.suspend({ untilProceeded: true });
      case "fail_for_good":
        await aborted(ctx.signal);
        return ctx.fail("given_up", { why: "it cannot be undone" }, { retry: false });
      case "fail":
        await aborted(ctx.signal);
        return ctx.fail("given_up", { why: "for now" });
      case "cancel":
        await aborted(ctx.signal);
        return ctx.cancel("by itself");
      case "never":
        await sleep(120_000);
        return { finished: false };
    }
  } finally {
    end(ctx);
  }
});

const inPhases = handle(phases, async (ctx) => {
  let { done = 0, sum = 0 } = ctx.executionMetadata.current;
  begin(ctx, `from=${done}`);
  try {
    while (done < 12) {
      await sleep(ctx.metadata.phaseMs, undefined, { signal: ctx.signal });
      done += 1;
      sum += done;
      await ctx.executionMetadata.checkpoint({ done, sum });
      say(`phase ${ctx.id} ${done}`);
      if (done % 3 === 0 && done < 12) return ctx.suspend({ untilProceeded: true });
    }
    return { sum };
  } finally {
    end(ctx);
  }
});

function quickly(worker: string): TaskHandler {
  return handle(quick, (ctx) => {
    begin(ctx);
    end(ctx);
    return { n: ctx.metadata.n, worker };
  });
}

/** The handlers for some of the tasks of tasks.ts, by task name; of all of them by default. */
export function handlersFor(worker: string, names?: readonly string[]): TaskHandler[] {
  const all = [counting(worker), marking(worker), ignoring(worker), endingInItsWay, inPhases, quickly(worker)];
  return names === undefined ? all : all.filter(({ task }) => names.includes(task.name));
}
