// How does a browser see how far a task is? Over server-sent events from `watch`: all browsers of one process share a few streams.
import { type Client, defineTask, handle, LeaseholdError, type TaskHandler } from "@leasehold/client";
import { createServer, type Server, type ServerResponse } from "node:http";
import { z } from "zod";

/** A video that is encoded frame by frame. */
export const encodeVideo = defineTask({ name: "encode-video", metadata: z.object({ frames: z.number() }) });

/** Encodes, and tells how far it is. */
export function encodeHandler(encode: (frame: number, signal: AbortSignal) => Promise<void>): TaskHandler {
  return handle(encodeVideo, async (ctx) => {
    const { frames } = ctx.metadata;
    for (let frame = 1; frame <= frames; frame += 1) {
      await encode(frame, ctx.signal);
      ctx.progress({ done: frame, total: frames }); // cheap: call it as often as you like, about one a second is delivered
    }
  });
}

async function stream(client: Client, id: string, response: ServerResponse): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  try {
    for await (const { state, progress } of client.handle(encodeVideo, { id }).watch({ signal: left.signal })) {
      response.write(`data: ${JSON.stringify({ state, done: progress?.done ?? 0, total: progress?.total })}\n\n`);
    }
    response.end("event: end\ndata:\n\n"); // without it EventSource connects again for ever
  } catch (error) {
    if (!left.signal.aborted) response.end(`event: failed\ndata: ${LeaseholdError.from(error).code}\n\n`);
  }
}

/** `GET /<task id>` for `new EventSource(…)`. */
export function progressServer(client: Client): Server {
  return createServer((request, response) => void stream(client, request.url?.slice(1) ?? "", response));
}
