// How does a test speak HTTP/2 as no client would? Frame by frame over a socket, or request by request with whatever headers and bytes it wants.
import http2 from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { ErrorInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";

/** Types of frames. */
export const FRAME = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;
/** Flags of frames; ACK is of PING and SETTINGS. */
export const FLAG = { NONE: 0, ACK: 1, END_STREAM: 1, END_HEADERS: 4 } as const;

/** What a client sends first. */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** One frame. `length` claims another length than the payload has. */
export function frame(type: number, flags: number, streamId: number, payload: Buffer = Buffer.alloc(0), length = payload.length): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** A header block in which nothing is indexed or compressed. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

/** Headers of a gRPC call. */
export function callHeaders(path: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "test",
    "content-type": "application/grpc",
    te: "trailers",
    ...more,
  };
}

/** A gRPC message as it goes over the wire. */
export function grpcFrame(message: Uint8Array, flag = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flag, 0);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

/** A socket to a server that speaks what it is told. */
export interface RawConnection {
  readonly socket: Socket;
  /** Writes and waits until the socket takes more, or the server wants no more. */
  write(bytes: Buffer): Promise<void>;
  /** Frames that came: type, stream and payload. */
  readonly frames: () => readonly { type: number; flags: number; streamId: number; payload: Buffer }[];
  /** Whether the server has closed it. */
  readonly isClosed: () => boolean;
  /** Resolves when the server has closed it. */
  readonly closed: Promise<void>;
  /** Resolves when the server has closed it or said that it will. */
  readonly dismissed: Promise<void>;
  readonly isDismissed: () => boolean;
}

/** Connects to `host:port` without a word. With `greet`, preface and empty settings are sent. */
export async function openRawConnection(address: string, greet = true): Promise<RawConnection> {
  const { hostname, port } = new URL(`tcp://${address}`);
  const socket = connectSocket(Number(port), hostname);
  let came = Buffer.alloc(0);
  let isDismissed = false;
  let dismiss = (): void => undefined;
  const dismissed = new Promise<void>((resolve) => {
    dismiss = () => {
      isDismissed = true;
      resolve();
    };
  });
  const frames: { type: number; flags: number; streamId: number; payload: Buffer }[] = [];
  socket.on("data", (bytes) => {
    came = Buffer.concat([came, bytes]);
    while (came.length >= 9 && came.length >= 9 + came.readUIntBE(0, 3)) {
      const end = 9 + came.readUIntBE(0, 3);
      const [type, flags, streamId] = [came.readUInt8(3), came.readUInt8(4), came.readUInt32BE(5)];
      if (type === FRAME.GOAWAY) dismiss();
      // A flood of answers is not kept.
      if (frames.length < 10_000) frames.push({ type, flags, streamId, payload: came.subarray(9, end) });
      came = came.subarray(end);
    }
  });
  socket.on("error", () => undefined);
  let isClosed = false;
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      isClosed = true;
      dismiss();
      resolve();
    });
  });
  await Promise.race([new Promise<void>((resolve) => socket.once("connect", () => resolve())), closed]);
  if (greet) socket.write(Buffer.concat([PREFACE, frame(FRAME.SETTINGS, FLAG.NONE, 0)]));
  const write = async (bytes: Buffer): Promise<void> => {
    if (isClosed || socket.destroyed || !socket.writable || socket.write(bytes)) return;
    await Promise.race([new Promise<void>((resolve) => socket.once("drain", () => resolve())), dismissed]);
  };
  return { socket, write, frames: () => frames, isClosed: () => isClosed, closed, dismissed, isDismissed: () => isDismissed };
}

/** How a request ended. */
export interface Answered {
  /** HTTP status; 0 if none came. */
  readonly http: number;
  /** gRPC status code; null if none came. */
  readonly code: number | null;
  readonly message: string;
  /** The ErrorInfo reason; empty without. */
  readonly reason: string;
  /** The code of RST_STREAM, 0 for none. */
  readonly reset: number;
  readonly body: Buffer;
}

/** A connection of Node's HTTP/2 client; errors of it are nobody's bug. */
export function openSession(address: string, options: http2.ClientSessionOptions = {}): http2.ClientHttp2Session {
  const session = http2.connect(`http://${address}`, options);
  session.on("error", () => undefined);
  return session;
}

/** One request with these headers and bytes; `chunks` are written one after the other. Never rejects. */
export function request(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  chunks: readonly Buffer[],
  end = true,
): Promise<Answered> & { readonly stream: http2.ClientHttp2Stream } {
  const stream = session.request(headers, { endStream: chunks.length === 0 && end });
  const answered = new Promise<Answered>((resolve) => {
    let http = 0;
    let trailers: http2.IncomingHttpHeaders = {};
    const body: Buffer[] = [];
    stream.on("response", (came) => {
      http = came[":status"] ?? 0;
      trailers = { ...trailers, ...came };
    });
    stream.on("trailers", (came: http2.IncomingHttpHeaders) => {
      trailers = { ...trailers, ...came };
    });
    stream.on("data", (chunk: Buffer) => body.push(chunk));
    stream.on("error", () => undefined);
    stream.once("close", () => {
      const code = trailers["grpc-status"];
      const details = trailers["grpc-status-details-bin"];
      resolve({
        http,
        code: code === undefined ? null : Number(code),
        message: decodeURIComponent(String(trailers["grpc-message"] ?? "")),
        reason: details === undefined ? "" : reasonIn(Buffer.from(String(details), "base64")),
        reset: stream.rstCode,
        body: Buffer.concat(body),
      });
    });
  });
  for (const chunk of chunks) stream.write(chunk);
  if (end && chunks.length > 0) stream.end();
  return Object.assign(answered, { stream });
}

function reasonIn(details: Buffer): string {
  const found = Status.decode(details).details.find(({ typeUrl }) => typeUrl.endsWith("google.rpc.ErrorInfo"));
  return found === undefined ? "" : ErrorInfo.decode(found.value).reason;
}
