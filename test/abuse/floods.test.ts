// Does a flood of frames that ask for nothing cost more than its own connection? It is cut, and the neighbours go on.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNeighbour, type Neighbour } from "../support/neighbour.js";
import { callHeaders, FLAG, FRAME, frame, headerBlock, openRawConnection, PREFACE, type RawConnection } from "../support/raw-http2.js";
import { openScene } from "../support/scene.js";
import type { ServerProcess } from "../support/server-process.js";

const GET_TASK = "/leasehold.v1.TaskService/GetTask";
const FLOOD_MS = 3_000;

let scene: Awaited<ReturnType<typeof openScene>>;
let server: ServerProcess;
let neighbour: Neighbour;
beforeAll(async () => {
  scene = await openScene("floods");
  server = await scene.server();
  neighbour = await startNeighbour(server);
});
afterAll(async () => {
  try {
    scene.check();
  } finally {
    neighbour.close();
    await scene.close();
  }
});

/** Writes parts turn by turn until the server dismisses the connection or the time is over; answers whether it did. */
async function flood(connection: RawConnection, parts: (turn: number) => Buffer, forMs = FLOOD_MS): Promise<boolean> {
  const endMs = performance.now() + forMs;
  for (let turn = 0; !connection.isDismissed() && performance.now() < endMs; turn++) {
    await connection.write(parts(turn));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  // What was written last is still on its way.
  await Promise.race([connection.dismissed, new Promise((resolve) => setTimeout(resolve, 2_000))]);
  connection.socket.destroy();
  return connection.isDismissed();
}

function repeated(part: Buffer, times = 200): () => Buffer {
  const all = Buffer.concat(Array.from({ length: times }, () => part));
  return () => all;
}

const block = headerBlock(callHeaders(GET_TASK));
const headers = (streamId: number, flags: number = FLAG.END_HEADERS): Buffer => frame(FRAME.HEADERS, flags, streamId, block);
const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

describe("a flood", () => {
  it.each<[string, (turn: number) => Buffer]>([
    ["PING", repeated(frame(FRAME.PING, FLAG.NONE, 0, Buffer.alloc(8)), 100)],
    ["SETTINGS", repeated(frame(FRAME.SETTINGS, FLAG.NONE, 0), 100)],
    ["PRIORITY", repeated(frame(FRAME.PRIORITY, FLAG.NONE, 1, Buffer.alloc(5)))],
    ["WINDOW_UPDATE", repeated(frame(FRAME.WINDOW_UPDATE, FLAG.NONE, 0, number(1)))],
    ["frames of an unknown type", repeated(frame(0xee, FLAG.NONE, 0, Buffer.alloc(8)))],
    ["acknowledgements of nothing", repeated(frame(FRAME.PING, FLAG.ACK, 0, Buffer.alloc(8)))],
  ])("of %s is cut, and no neighbour notices", { timeout: 60_000 }, async (_what, parts) => {
    expect(await neighbour.during(async () => flood(await openRawConnection(server.address), parts))).toBe(true);
  });

  it("of empty DATA is cut", { timeout: 60_000 }, async () => {
    const connection = await openRawConnection(server.address);
    await connection.write(headers(1));
    expect(await neighbour.during(() => flood(connection, repeated(frame(FRAME.DATA, FLAG.NONE, 1))))).toBe(true);
  });

  it("of CONTINUATION without an end is cut", { timeout: 60_000 }, async () => {
    const connection = await openRawConnection(server.address);
    await connection.write(headers(1, FLAG.NONE));
    const more = frame(FRAME.CONTINUATION, FLAG.NONE, 1, headerBlock({ x: "y".repeat(100) }));
    expect(await neighbour.during(() => flood(connection, repeated(more)))).toBe(true);
  });

  it("of calls that are reset at once is cut", { timeout: 60_000 }, async () => {
    const cut = await neighbour.during(async () =>
      flood(await openRawConnection(server.address), (turn) =>
        Buffer.concat(
          Array.from({ length: 50 }, (_, index) => {
            const id = 1 + 2 * (turn * 50 + index);
            return Buffer.concat([headers(id), frame(FRAME.RST_STREAM, FLAG.NONE, id, number(8))]);
          }),
        ),
      ),
    );
    expect(cut).toBe(true);
  });

  it("of calls that never end is cut beyond the streams of a connection", { timeout: 60_000 }, async () => {
    const cut = await neighbour.during(async () =>
      flood(await openRawConnection(server.address), (turn) =>
        Buffer.concat(Array.from({ length: 50 }, (_, index) => headers(1 + 2 * (turn * 50 + index)))),
      ),
    );
    expect(cut).toBe(true);
  });

  it("of calls without a message is answered", { timeout: 60_000 }, async () => {
    const connection = await openRawConnection(server.address);
    let calls = 0;
    await neighbour.during(() =>
      flood(
        connection,
        () => Buffer.concat(Array.from({ length: 20 }, () => headers(1 + 2 * calls++, FLAG.END_HEADERS | FLAG.END_STREAM))),
        1_500,
      ),
    );
    const answers = connection.frames().filter(({ type }) => type === FRAME.HEADERS).length;
    expect(answers).toBeGreaterThan(0);
  });
});

describe("a connection that speaks no HTTP/2", () => {
  it.each<[string, Buffer]>([
    ["garbage", Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 151) % 256))],
    ["HTTP/1.1", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["garbage frames after the preface", Buffer.concat([PREFACE, Buffer.alloc(4096, 0xa5)])],
    ["a frame larger than allowed", Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.DATA, 0, 1, Buffer.alloc(1 << 20))])],
    [
      "HEADERS that do not decode",
      Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.HEADERS, 4, 1, Buffer.alloc(64, 0xff))]),
    ],
    ["DATA of a stream that is not open", Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.DATA, 0, 99, Buffer.alloc(9))])],
    ["SETTINGS of a wrong length", Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0, Buffer.alloc(5))])],
    ["a window beyond 2^31", Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.WINDOW_UPDATE, 0, 0, number(0x7fffffff))])],
  ])("but %s is dismissed at once", { timeout: 60_000 }, async (_what, bytes) => {
    await neighbour.during(async () => {
      const connection = await openRawConnection(server.address, false);
      await connection.write(bytes);
      await connection.dismissed;
      connection.socket.destroy();
    });
  });
});
