// What does a scripted server look like to the SDK? A transport whose answers the test gives.
import {
  type Client,
  type ClientOptions,
  createClient,
  LeaseholdError,
  type LeaseholdErrorFields,
  type OutgoingStream,
  type StreamEvents,
  type StreamMethod,
  type StreamOptions,
  type Transport,
  type UnaryMethod,
  type UnaryOptions,
} from "@leasehold/client";
import { Task, TaskState } from "@leasehold/proto/leasehold/v1/task";
import { FakeClock } from "./fake-clock.js";

/** One stream, seen from the server. */
export class FakeStream<Request, Response> implements OutgoingStream<Request> {
  readonly received: Request[] = [];
  ended = false;
  cancelled = false;
  closed = false;
  /** What `write` answers. */
  accepts = true;

  constructor(
    readonly path: string,
    private readonly events: StreamEvents<Response>,
    readonly headers?: Readonly<Record<string, string>>,
  ) {}

  write(request: Request): boolean {
    if (!this.closed) this.received.push(request);
    return this.accepts;
  }

  end(): void {
    this.ended = true;
  }

  cancel(): void {
    if (this.closed) return;
    this.cancelled = true;
    this.close(failure({ code: "CANCELLED" }));
  }

  /** The server sends. */
  send(response: Response): void {
    if (!this.closed) this.events.message(response);
  }

  /** The server reads again. */
  accept(): void {
    this.accepts = true;
    this.events.writable();
  }

  /** The server ends the stream. */
  close(error?: LeaseholdError): void {
    if (this.closed) return;
    this.closed = true;
    this.events.closed(error);
  }
}

/** A unary call that the server saw. */
export interface SeenCall {
  readonly method: string;
  readonly request: unknown;
  readonly deadlineMs: number | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;
}

/** A transport whose unary answers come from `answer`, and whose streams the test drives. */
export class FakeTransport implements Transport {
  readonly calls: SeenCall[] = [];
  readonly streams: FakeStream<unknown, unknown>[] = [];
  onStream: (stream: FakeStream<never, never>) => void = () => undefined;
  closed = false;

  /** Answers a unary call: a value, a promise, or a thrown error. */
  answer: (method: string, request: never, tries: number) => unknown = (method) => {
    throw failure({ code: "UNIMPLEMENTED", message: method });
  };

  async unary<Request, Response>(method: UnaryMethod<Request, Response>, request: Request, options: UnaryOptions): Promise<Response> {
    const name = method.path.slice(method.path.lastIndexOf("/") + 1);
    // Encoding finds what the generated code would refuse.
    method.requestSerialize(request);
    this.calls.push({ method: name, request, deadlineMs: options.deadlineMs, headers: options.headers });
    const tries = this.calls.filter((call) => call.method === name).length;
    return (await this.answer(name, request as never, tries)) as Response;
  }

  stream<Request, Response>(
    method: StreamMethod<Request, Response>,
    events: StreamEvents<Response>,
    options: StreamOptions = {},
  ): OutgoingStream<Request> {
    const stream = new FakeStream<Request, Response>(method.path, events, options.headers);
    this.streams.push(stream);
    this.onStream(stream as unknown as FakeStream<never, never>);
    return stream;
  }

  close(): void {
    this.closed = true;
  }

  /** The requests of one method, as they were sent. */
  requests<Request>(method: string): Request[] {
    return this.calls.filter((call) => call.method === method).map((call) => call.request as Request);
  }
}

/** An error as a server's answer. */
export function failure(fields: Partial<LeaseholdErrorFields> & Pick<LeaseholdErrorFields, "code">): LeaseholdError {
  return new LeaseholdError({ message: fields.code, ...fields });
}

/** A task message as a server would send it. */
export function taskMessage(fields: Parameters<typeof Task.create>[0] = {}): Task {
  return Task.create({
    taskId: "11111111-1111-7111-8111-111111111111",
    name: "t",
    queue: "default",
    state: TaskState.PENDING,
    attempt: 1,
    ...fields,
  });
}

/** JSON as a payload. */
export function json(value: unknown): { data: Buffer; contentType: string } {
  return { data: Buffer.from(JSON.stringify(value)), contentType: "" };
}

/** The value of a payload. */
export function parsed(payload: { data: Uint8Array } | undefined): unknown {
  return payload === undefined ? undefined : JSON.parse(Buffer.from(payload.data).toString("utf8"));
}

/** A client on a scripted transport and a fake clock; chance is a half. */
export function fakeClient(options: ClientOptions = {}): { client: Client; transport: FakeTransport; clock: FakeClock; lines: string[] } {
  const transport = new FakeTransport();
  const clock = new FakeClock();
  const lines: string[] = [];
  const note = (message: string): void => void lines.push(message);
  const logger = { debug: note, info: note, warn: note, error: note };
  return { client: createClient({ transport, clock, random: () => 0.5, logger, ...options }), transport, clock, lines };
}

/** What a promise rejects with, as a LeaseholdError; fails if it does not reject. */
export async function rejection(promise: Promise<unknown>): Promise<LeaseholdError> {
  try {
    await promise;
  } catch (error) {
    return LeaseholdError.from(error);
  }
  throw new Error("the promise did not reject");
}
