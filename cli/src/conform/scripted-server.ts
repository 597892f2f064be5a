// How does a server behave that does only what a scenario says? It speaks the contract on a real port, with nothing behind it.
//
// By itself it does what every server does all the time: answers heartbeats, says something once an interval, answers reports, ends the older
// stream when a newer one was welcome, ends the stream of a drained worker that holds nothing. Each of these can be switched off.
import { createServer, connect, type Server as NetServer, type Socket } from "node:net";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import {
  type Report,
  ServerMessage,
  type Verdict,
  VerdictCode,
  type WorkerMessage,
  WorkerServiceService,
} from "@leasehold/proto/leasehold/v1/worker_service";
import { LeaseBook } from "./lease-book.js";
import { DEFAULT_HEARTBEAT_MS, DEFAULT_TTL_MS, durationFromMs, endingOf, welcomeOf } from "./messages.js";
import type { Transcript } from "./transcript.js";
import { serverLines, workerLines } from "./wording.js";

/** A message, or bytes that a newer server would send. */
type Outgoing = ServerMessage | Buffer;

/** A stream of the worker. */
interface Stream {
  readonly number: number;
  readonly call: ServerDuplexStream<WorkerMessage, Outgoing>;
  open: boolean;
  welcome: boolean;
  introduced: boolean;
  delivered: number;
  beat: number;
  received: number;
  draining: boolean;
}

const execute = WorkerServiceService.executeTasks;
/** The real service, but for what it sends: bytes are sent as they are. */
const SERVICE = {
  executeTasks: {
    ...execute,
    responseSerialize: (value: Outgoing): Buffer => (Buffer.isBuffer(value) ? value : execute.responseSerialize(value)),
  },
};

/** How long a stream lives after its server said that it is going away, in milliseconds. */
const DRAIN_MS = 500;

/** A server that follows a script. */
export class ScriptedServer {
  readonly book = new LeaseBook();
  readonly #grpc = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
  /** Connections of the worker, each with the one to the server behind it. */
  readonly #sockets = new Map<Socket, Socket>();
  #front: NetServer | undefined;
  #streams: Stream[] = [];
  #ticker: NodeJS.Timeout | undefined;
  #ttlMs = DEFAULT_TTL_MS;
  /** Session of the last welcome, and the connection of its last hello. */
  #session = { id: "", connection: 0, heartbeat: 0 };
  #held = new Set<string>();
  #givenLeases = 0;
  #withNextAnswer: Partial<ServerMessage> | undefined;
  /** How reports are answered by themselves. */
  answersReports: "record" | "later" | "hold" = "record";
  answersHeartbeats = true;
  /** A heartbeat is answered when the next one has come, as by a server far away. */
  answersLate = false;
  silent = false;
  away = false;

  constructor(private readonly transcript: Transcript) {}

  /** Listens on a free port of the loopback. @returns host:port. */
  async start(): Promise<string> {
    this.#grpc.addService(SERVICE, { executeTasks: (call: Stream["call"]) => this.#open(call) });
    const port = await new Promise<number>((resolve, reject) => {
      this.#grpc.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    // Bytes go through a door of ours, because connections of grpc-js cannot be reset one by one.
    const front = createServer({ noDelay: true }, (outside) => this.#join(outside, connect({ host: "127.0.0.1", port, noDelay: true })));
    this.#front = front;
    await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
    const address = front.address();
    if (address === null || typeof address === "string") throw new Error("the scripted server has no port");
    return `127.0.0.1:${address.port}`;
  }

  /** Ends everything at once. */
  stop(): void {
    clearInterval(this.#ticker);
    for (const socket of this.#sockets.keys()) socket.destroy();
    this.#front?.close();
    this.#grpc.forceShutdown();
  }

  /** The stream that was welcome last, or that waits for its welcome. */
  get #current(): Stream | undefined {
    return this.#streams.findLast(({ open }) => open);
  }

  /** How many streams were opened so far. */
  get streams(): number {
    return this.#streams.length;
  }

  /** A fencing token above all before. */
  nextFencingToken(): number {
    return (this.#givenLeases += 1);
  }

  /** Resets every connection. */
  cut(): void {
    for (const socket of this.#sockets.keys()) {
      // Node 20 never finishes closing a socket that is reset while it shuts down, and hangs at the end of the process.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  /** Passes nothing on any more, in either direction, on the connections that are open: they look alive and are dead. */
  freeze(): void {
    this.transcript.say("·", "every open connection is dead from here on");
    for (const [outside, inside] of this.#sockets) {
      outside.unpipe(inside).pause();
      inside.unpipe(outside).pause();
    }
  }

  /** Answers the hello of the newest stream; the older ones end. */
  welcome(
    session: string,
    drop: readonly string[],
    intervalMs = DEFAULT_HEARTBEAT_MS,
    ttlMs = DEFAULT_TTL_MS,
    extra = Buffer.alloc(0),
  ): void {
    const stream = this.#current;
    if (stream === undefined) return;
    for (const older of this.#streams) if (older !== stream && older.open) this.#end(older, "SESSION_TAKEN");
    if (session !== this.#session.id) this.#session = { id: session, connection: this.#session.connection, heartbeat: 0 };
    this.#ttlMs = ttlMs;
    for (const token of drop) this.#held.delete(token);
    stream.welcome = true;
    const welcome = welcomeOf(session, intervalMs, ttlMs, [...this.#held], [...drop]);
    this.send({ welcome }, extra);
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#tick(), intervalMs);
  }

  /** Sends a message on the newest stream. Bytes behind it are fields that it does not have. */
  send(parts: Partial<ServerMessage>, extra = Buffer.alloc(0)): void {
    const stream = this.#current;
    if (stream === undefined || this.silent) return;
    const message = ServerMessage.create(parts);
    for (const line of serverLines(message, (token) => this.#name(token))) this.transcript.say("→", line);
    for (const { leaseToken } of message.leases) this.#held.add(leaseToken);
    for (const { leaseToken } of message.revoked) this.#held.delete(leaseToken);
    stream.delivered += message.leases.length;
    stream.call.write(extra.length === 0 ? message : Buffer.concat([execute.responseSerialize(message), extra]));
    for (const verdict of message.verdicts) this.#settled(verdict);
    this.#releaseDrained(stream);
  }

  /** Sends bytes on the newest stream. */
  sendBytes(bytes: Buffer): void {
    this.transcript.say("→", `bytes ${bytes.toString("hex") || "(an empty message)"}`);
    if (!this.silent) this.#current?.call.write(bytes);
  }

  /** Sends parts of a message together with the next heartbeat answer. */
  withNextAnswer(parts: Partial<ServerMessage>): void {
    this.#withNextAnswer = parts;
  }

  /** Ends the newest stream with a reason, or with OK. */
  end(reason?: string): void {
    if (this.#current !== undefined) this.#end(this.#current, reason);
  }

  /** Says that the server is going away, and ends this very stream a little later. */
  drain(reconnectAfterMs: number): void {
    const stream = this.#current;
    this.send({ drain: { reconnectAfter: durationFromMs(reconnectAfterMs) } });
    setTimeout(() => stream?.open === true && this.#end(stream, "SERVER_DRAINING"), DRAIN_MS).unref();
  }

  #end(stream: Stream, reason?: string): void {
    stream.open = false;
    this.transcript.say("→", `stream ${stream.number} ends: ${reason ?? "OK"}`);
    if (reason === undefined) stream.call.end();
    else stream.call.emit("error", endingOf(reason));
  }

  #join(outside: Socket, inside: Socket): void {
    outside.pipe(inside).pipe(outside);
    this.#sockets.set(outside, inside);
    outside.on("error", () => inside.destroy());
    inside.on("error", () => outside.destroy());
    outside.on("close", () => {
      this.#sockets.delete(outside);
      inside.destroy();
    });
    inside.on("close", () => outside.destroy());
  }

  #open(call: Stream["call"]): void {
    const number = this.#streams.length + 1;
    const stream: Stream = {
      number,
      call,
      open: true,
      welcome: false,
      introduced: false,
      delivered: 0,
      beat: 0,
      received: 0,
      draining: false,
    };
    this.#streams.push(stream);
    call.on("data", (message: WorkerMessage) => this.#read(stream, message));
    const over = (how: string) => (): void => {
      if (stream.open) this.transcript.say("←", `stream ${number} ${how}`);
      stream.open = false;
    };
    call.on("cancelled", over("was ended by the worker, or its connection broke"));
    call.on("error", over("broke"));
    if (this.away) this.#end(stream, "AWAY");
  }

  #read(stream: Stream, message: WorkerMessage): void {
    const { hello, heartbeat, reports, drain } = message;
    for (const line of workerLines(message, (token) => this.#name(token))) this.transcript.say("←", line);
    if (!stream.open) return;
    if (hello !== undefined) {
      this.#judgeHello(stream, hello.sessionId, hello.connection);
      this.transcript.add({ kind: "hello", hello, stream: stream.number });
    } else if (!stream.introduced) this.transcript.fault("the first message of a stream was no hello");
    stream.introduced = true;
    if (heartbeat !== undefined) {
      this.#judgeHeartbeat(stream, heartbeat.number, heartbeat.leasesReceived);
      this.transcript.add({ kind: "heartbeat", heartbeat, stream: stream.number });
      const number = this.answersLate ? stream.beat : heartbeat.number;
      stream.beat = heartbeat.number;
      if (this.answersHeartbeats && stream.welcome && number > 0) this.#answerHeartbeat(number);
    }
    this.#readReports(stream, reports);
    if (drain === undefined) return;
    stream.draining = true;
    this.transcript.add({ kind: "drain", stream: stream.number });
    this.#releaseDrained(stream);
  }

  #judgeHello(stream: Stream, sessionId: string, connection: number): void {
    if (stream.introduced) this.transcript.fault("a second hello on one stream");
    const { id, connection: before } = this.#session;
    if (sessionId !== id) this.transcript.fault(`a hello with session "${sessionId}" where the last welcome said "${id}"`);
    if (id !== "" && connection <= before) this.transcript.fault(`a hello with connection ${connection} after one with ${before}`);
    if (connection < 1) this.transcript.fault(`a hello with connection ${connection}`);
    this.#session.connection = connection;
  }

  #judgeHeartbeat(stream: Stream, number: number, received: number): void {
    const { heartbeat: before } = this.#session;
    if (stream.welcome && number <= before) this.transcript.fault(`heartbeat ${number} after heartbeat ${before} of the same session`);
    if (received > stream.delivered)
      this.transcript.fault(`a heartbeat counts ${received} leases of a stream that delivered ${stream.delivered}`);
    if (stream.welcome) this.#session.heartbeat = number;
  }

  #answerHeartbeat(number: number): void {
    const heartbeatAnswer = { number, expiresIn: durationFromMs(this.#ttlMs) };
    const parts = this.#withNextAnswer ?? {};
    this.#withNextAnswer = undefined;
    this.send({ ...parts, heartbeatAnswer });
  }

  #readReports(stream: Stream, reports: readonly Report[]): void {
    const verdicts: Verdict[] = [];
    for (const report of reports) {
      const { label, kind, resent, fault } = this.book.read(report, stream.number);
      if (fault !== undefined) this.transcript.fault(fault);
      if (label !== undefined) this.transcript.add({ kind: "report", report, label, says: kind, resent, stream: stream.number });
      if (this.answersReports === "record") verdicts.push(this.book.answer(report));
      if (this.answersReports === "later") verdicts.push(this.book.verdict(report.leaseToken, report.reportSeq, VerdictCode.RETRY_LATER));
    }
    if (verdicts.length > 0) this.send({ verdicts });
  }

  #settled({ leaseToken, reportSeq }: Verdict): void {
    if (!this.book.endsLease(leaseToken, reportSeq)) return;
    this.#held.delete(leaseToken);
    this.transcript.add({ kind: "settled", label: this.book.labelOf(leaseToken) ?? "" });
  }

  #releaseDrained(stream: Stream): void {
    if (stream.draining && stream.open && stream.welcome && this.#held.size === 0) this.#end(stream);
  }

  #tick(): void {
    const stream = this.#current;
    if (stream !== undefined && stream.welcome && !this.silent) stream.call.write(ServerMessage.create());
  }

  #name(token: string): string {
    return this.book.labelOf(token) ?? `a lease that was never given (${JSON.stringify(token)})`;
  }
}
