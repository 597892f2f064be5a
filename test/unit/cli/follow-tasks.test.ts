// Does following tasks survive what breaks a stream, and does it end when it should? Against a server that is played.
import { LeaseholdError, type StreamEvents } from "@leasehold/client";
import { Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import type { WatchTasksRequest, WatchTasksResponse } from "@leasehold/proto/leasehold/v1/task_service";
import { describe, expect, it } from "vitest";
import { followTasks } from "../../../cli/src/follow-tasks.js";
import type { ServerConnection } from "../../../cli/src/server-connection.js";

type Play = (events: StreamEvents<WatchTasksResponse>, request: WatchTasksRequest) => void;

const patience = { silenceMs: 30, reopenMs: 1, outageMs: 500 };
const down = new LeaseholdError({ code: "UNAVAILABLE", message: "draining", retryable: true });

function update(taskId: string, state: TaskState): WatchTasksResponse {
  return { updates: [{ taskId, task: Task.create({ taskId, state }), removed: false }] };
}

/** A server whose streams are played one after another; the last one is played again and again. */
function played(...streams: Play[]): { server: ServerConnection; asked: string[][] } {
  const asked: string[][] = [];
  const server: ServerConnection = {
    address: "played:1",
    callLimitMs: 1_000,
    call: () => Promise.reject(new Error("nothing is called")),
    close: () => {},
    stream: (_method, events) => ({
      write: (request) => {
        const { taskIds } = request as WatchTasksRequest;
        const play = streams[Math.min(asked.length, streams.length - 1)];
        asked.push(taskIds);
        setImmediate(() => play?.(events as unknown as StreamEvents<WatchTasksResponse>, request as WatchTasksRequest));
        return true;
      },
      end: () => {},
      cancel: () => setImmediate(() => events.closed(new LeaseholdError({ code: "CANCELLED", message: "cancelled" }))),
    }),
  };
  return { server, asked };
}

async function follow(server: ServerConnection, ...ids: string[]): Promise<string[]> {
  const heard: string[] = [];
  await followTasks(
    server,
    ids,
    {
      changed: ({ taskId, state }) => heard.push(`${taskId} ${TaskState[state]}`),
      removed: (taskId) => heard.push(`${taskId} removed`),
      interrupted: ({ code }) => heard.push(code),
    },
    patience,
  );
  return heard;
}

describe("following tasks", () => {
  it("ends when all are finished or removed, though the server would go on", async () => {
    const { server } = played((events) => {
      events.message(update("a", TaskState.RUNNING));
      events.message({ updates: [{ taskId: "b", task: undefined, removed: true }] });
      events.message({ updates: [] });
      events.message(update("a", TaskState.COMPLETED));
    });
    expect(await follow(server, "a", "b")).toEqual(["a RUNNING", "b removed", "a COMPLETED"]);
  });

  it("goes on after a restart of the server, with what is not finished", async () => {
    const { server, asked } = played(
      (events) => {
        events.message(update("a", TaskState.COMPLETED));
        events.message(update("b", TaskState.RUNNING));
        events.closed(down);
      },
      (events) => events.closed(down),
      (events) => events.message(update("b", TaskState.FAILED)),
    );
    expect(await follow(server, "a", "b")).toEqual(["a COMPLETED", "b RUNNING", "UNAVAILABLE", "UNAVAILABLE", "b FAILED"]);
    expect(asked).toEqual([["a", "b"], ["b"], ["b"]]);
  });

  it("opens a stream again that has fallen silent", async () => {
    const { server } = played(
      (events) => events.message(update("a", TaskState.RUNNING)),
      (events) => events.message(update("a", TaskState.CANCELLED)),
    );
    expect(await follow(server, "a")).toEqual(["a RUNNING", "CANCELLED", "a CANCELLED"]);
  });

  it("tells at once that nobody is there, and in the end that nobody comes back", async () => {
    const absent = played((events) => events.closed(down));
    await expect(follow(absent.server, "a")).rejects.toBe(down);
    expect(absent.asked).toHaveLength(1);
    const gone = played(
      (events) => {
        events.message(update("a", TaskState.RUNNING));
        events.closed(down);
      },
      (events) => events.closed(down),
    );
    await expect(follow(gone.server, "a")).rejects.toBe(down);
    expect(gone.asked.length).toBeGreaterThan(2);
  });

  it("does not try again what will not change", async () => {
    const denied = new LeaseholdError({ code: "PERMISSION_DENIED", message: "no" });
    const { server, asked } = played((events) => {
      events.message(update("a", TaskState.RUNNING));
      events.closed(denied);
    });
    await expect(follow(server, "a")).rejects.toBe(denied);
    expect(asked).toHaveLength(1);
  });
});
