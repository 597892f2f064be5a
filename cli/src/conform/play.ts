// How is a scenario played against a running program? Its steps one after the other; the first that goes another way ends it.
import { randomBytes } from "node:crypto";
import { type Lease, RevocationReason, VerdictCode } from "@leasehold/proto/leasehold/v1/worker_service";
import { expectedReport, judgeHello, judgeReport, type Mismatch } from "./expectations.js";
import { DEFAULT_TTL_MS, durationFromMs, leaseOf } from "./messages.js";
import type { ProgramUnderTest } from "./program-under-test.js";
import type { Step } from "./scenario.js";
import type { ScriptedServer } from "./scripted-server.js";
import type { Event, EventOf, Transcript, Waited } from "./transcript.js";

/** How long an expectation waits unless its step says otherwise, in milliseconds. A busy machine is slow, and that is no fault of the worker. */
const PATIENCE_MS = 5_000;
/** How long a program may take to start and to say hello. */
const START_MS = 20_000;
/** A program that took longer than this to say hello may have done so long before the hello arrived. */
const SLOW_START_MS = 1_000;
/** How long a worker may take to be back: three intervals, the longest jitter, and time to spare. */
const RETURN_MS = 8_000;

/** A step of this verb. */
type Of<Verb extends Step["do"]> = Extract<Step, { do: Verb }>;

/** What a scenario is played with. */
export interface Stage {
  readonly server: ScriptedServer;
  readonly program: ProgramUnderTest;
  readonly transcript: Transcript;
}

/** Plays steps. */
export class Play {
  #slots = 0;
  #sessions = new Map<string, string>();
  #session = "s";
  #lastConnection = 0;

  constructor(private readonly stage: Stage) {}

  /** Plays all steps. @returns what went another way, with the number of its step from 1. */
  async run(steps: readonly Step[]): Promise<(Mismatch & { readonly step: number }) | undefined> {
    const { transcript } = this.stage;
    for (const [index, step] of steps.entries()) {
      transcript.say("·", `step ${index + 1}: ${stepText(step)}`);
      const mismatch = (await this.#play(step)) ?? this.#broken();
      if (mismatch !== undefined) return { ...mismatch, step: index + 1 };
    }
    return undefined;
  }

  #broken(): Mismatch | undefined {
    const [fault] = this.stage.transcript.faults;
    return fault === undefined ? undefined : { expected: "a worker that keeps the rules of the contract", saw: fault };
  }

  async #play(step: Step): Promise<Mismatch | undefined> {
    const { server, program } = this.stage;
    switch (step.do) {
      case "connect":
        return this.#connect(step);
      case "hello":
        return this.#hello(step);
      case "report":
        return this.#reports(step);
      case "no-report":
        return this.#noReport(step);
      case "heartbeats":
        return this.#heartbeats(step);
      case "drain":
        return this.#drain(step);
      case "exit":
        return this.#exit(step);
      case "stays":
        return this.#stays(step);
      case "settled":
        return this.#settled(step);
      case "streams":
        return this.#streams(step);
      case "welcome":
        this.#welcome(step);
        break;
      case "lease":
        this.#lease(step);
        break;
      case "answer":
        server.answersReports = step.reports ?? server.answersReports;
        server.answersHeartbeats = step.heartbeats ?? server.answersHeartbeats;
        server.answersLate = step.late ?? server.answersLate;
        break;
      case "verdict":
        this.#verdict(step);
        break;
      case "cancel":
        this.#cancel(step);
        break;
      case "revoke":
        server.send({ revoked: this.#tokens(step.lease).map((leaseToken) => ({ leaseToken, reason: RevocationReason[step.reason] })) });
        break;
      case "silence":
        server.silent = step.on;
        break;
      case "bytes":
        server.sendBytes(Buffer.from(step.hex, "hex"));
        break;
      case "empty":
        for (let count = 0; count < step.times; count += 1) server.sendBytes(Buffer.alloc(0));
        break;
      case "server-drain":
        server.drain(step.reconnectAfterMs);
        break;
      case "end":
        server.end(step.reason);
        break;
      case "cut":
        server.cut();
        break;
      case "freeze":
        server.freeze();
        break;
      case "away":
        server.away = step.on;
        break;
      case "sigterm":
        program.terminate();
        break;
    }
    return undefined;
  }

  async #connect(step: Of<"connect">): Promise<Mismatch | undefined> {
    const waited = await this.#next("hello", () => true, START_MS);
    if (!("event" in waited)) return this.#missing("a hello", waited);
    const { hello } = waited.event;
    const mismatch = judgeHello(hello, false);
    if (mismatch !== undefined) return mismatch;
    if (hello.heldLeaseTokens.length > 0) return { expected: "a first hello that holds nothing", saw: hello.heldLeaseTokens.join(", ") };
    this.#slots = hello.slots;
    this.#lastConnection = hello.connection;
    this.#welcome({ do: "welcome", ...(step.heartbeatMs && { heartbeatMs: step.heartbeatMs }), ...(step.ttlMs && { ttlMs: step.ttlMs }) });
    // The TTL counts from when the hello was sent; a heartbeat that is answered lets it begin anew.
    const { ttlMs = DEFAULT_TTL_MS } = step;
    if (waited.atMs > SLOW_START_MS && ttlMs <= DEFAULT_TTL_MS) await this.#next("heartbeat", () => true, ttlMs);
    return undefined;
  }

  async #hello(step: Of<"hello">): Promise<Mismatch | undefined> {
    const { server, transcript } = this.stage;
    const { again = false, holds, withinMs = again ? RETURN_MS : START_MS, notBeforeMs = 0 } = step;
    const fromMs = transcript.nowMs;
    const waited = await this.#next("hello", () => true, withinMs);
    if (!("event" in waited)) return this.#missing(again ? `a hello again within ${withinMs} ms` : "a hello", waited);
    const { hello } = waited.event;
    const { atMs } = waited;
    if (atMs - fromMs < notBeforeMs)
      return { expected: `a hello not before ${notBeforeMs} ms`, saw: `one after ${Math.round(atMs - fromMs)} ms` };
    const mismatch = judgeHello(hello, again);
    if (mismatch !== undefined) return mismatch;
    if (again && hello.connection <= this.#lastConnection)
      return { expected: `a connection above ${this.#lastConnection}`, saw: `connection ${hello.connection}` };
    this.#slots = hello.slots;
    this.#lastConnection = hello.connection;
    if (holds === undefined) return undefined;
    const expected = holds.flatMap((pattern) => server.book.labels(pattern)).sort();
    const listed = hello.heldLeaseTokens.map((token) => server.book.labelOf(token) ?? token).sort();
    if (expected.join() === listed.join()) return undefined;
    return { expected: `a hello that holds [${expected.join(", ")}]`, saw: `one that holds [${listed.join(", ")}]` };
  }

  #welcome({ session = this.#session, drop = [], heartbeatMs, ttlMs, hex = "" }: Of<"welcome">): void {
    this.#session = session;
    const id = this.#sessions.get(session) ?? `${session}:${randomBytes(12).toString("base64url")}`;
    this.#sessions.set(session, id);
    const dropped = drop.flatMap((pattern) => this.#tokens(pattern));
    this.stage.server.welcome(id, dropped, heartbeatMs, ttlMs, Buffer.from(hex, "hex"));
  }

  #lease(step: Of<"lease">): void {
    const { server } = this.stage;
    const leases: Lease[] = [];
    for (const label of this.#labels(step)) leases.push(leaseOf(step, server.book.give(label), server.nextFencingToken()));
    const cancels = step.cancelled === undefined ? [] : leases.map(({ leaseToken }) => cancelOf(leaseToken, step.cancelled ?? ""));
    server.send({ leases, cancels }, Buffer.from(step.hex ?? "", "hex"));
  }

  #labels({ lease, count }: Of<"lease">): string[] {
    if (count === undefined) return [lease];
    const many = typeof count === "number" ? count : this.#slots + (count === "slots" ? 0 : 1);
    return Array.from({ length: many }, (_, index) => `${lease}${index + 1}`);
  }

  async #reports(step: Of<"report">): Promise<Mismatch | undefined> {
    const fromMs = this.stage.transcript.nowMs;
    const untilMs = fromMs + (step.withinMs ?? PATIENCE_MS);
    for (const label of this.stage.server.book.labels(step.lease)) {
      const fits = ({ label: of, resent, says }: EventOf<"report">): boolean =>
        of === label && resent === (step.resent ?? false) && (says === undefined || says !== step.past);
      const waited = await this.#next("report", fits, untilMs - this.stage.transcript.nowMs);
      if (!("event" in waited)) return this.#missing(`${expectedReport(step, label)} within ${step.withinMs ?? PATIENCE_MS} ms`, waited);
      const afterMs = Math.round(waited.atMs - fromMs);
      const { notBeforeMs } = step;
      if (notBeforeMs !== undefined && afterMs < notBeforeMs)
        return { expected: `${expectedReport(step, label)} not before ${notBeforeMs} ms`, saw: `it came after ${afterMs} ms` };
      const mismatch = judgeReport(step, label, waited.event);
      if (mismatch !== undefined) return mismatch;
    }
    return undefined;
  }

  async #noReport(step: Of<"no-report">): Promise<Mismatch | undefined> {
    const labels = this.stage.server.book.labels(step.lease);
    const fits = ({ label, resent }: EventOf<"report">): boolean => labels.includes(label) && resent === (step.resent ?? false);
    const waited = await this.#next("report", fits, step.forMs);
    if ("event" in waited) {
      const { label, report } = waited.event;
      return { expected: `no report of ${step.lease} for ${step.forMs} ms`, saw: `report ${report.reportSeq} of ${label}` };
    }
    return waited.gaveUp === "ended" ? this.#missing("a program that goes on", waited) : undefined;
  }

  #verdict({ lease, seq, code, retryAfterMs, times = 1 }: Of<"verdict">): void {
    const { server } = this.stage;
    const verdicts = server.book.labels(lease).flatMap((label) => {
      const numbers = seq === undefined ? server.book.unanswered(label) : [seq];
      return numbers.map((number) => server.book.verdict(server.book.token(label), number, VerdictCode[code], retryAfterMs));
    });
    for (let count = 0; count < times; count += 1) server.send({ verdicts });
  }

  #cancel({ lease, reason = "not needed any more", withHeartbeat = false, times = 1 }: Of<"cancel">): void {
    const cancels = this.#tokens(lease).map((token) => cancelOf(token, reason));
    if (withHeartbeat) this.stage.server.withNextAnswer({ cancels });
    else for (let count = 0; count < times; count += 1) this.stage.server.send({ cancels });
  }

  async #heartbeats({ count = 1, maxGapMs, leasesReceived, withinMs = RETURN_MS }: Of<"heartbeats">): Promise<Mismatch | undefined> {
    const { transcript } = this.stage;
    transcript.use((event) => event.kind === "heartbeat");
    const untilMs = transcript.nowMs + withinMs;
    let lastMs = transcript.nowMs;
    for (let seen = 0; seen < count; seen += 1) {
      const fits = (event: EventOf<"heartbeat">): boolean =>
        leasesReceived === undefined || event.heartbeat.leasesReceived === leasesReceived;
      const waited = await this.#next("heartbeat", fits, Math.min(untilMs - transcript.nowMs, maxGapMs ?? withinMs));
      const said = leasesReceived === undefined ? "" : ` that counts ${leasesReceived} leases`;
      if (!("event" in waited)) return this.#missing(`a heartbeat${said} within ${maxGapMs ?? withinMs} ms`, waited);
      const gapMs = Math.round(waited.atMs - lastMs);
      if (maxGapMs !== undefined && gapMs > maxGapMs)
        return { expected: `a heartbeat each ${maxGapMs} ms at least`, saw: `none for ${gapMs} ms` };
      lastMs = waited.atMs;
    }
    return undefined;
  }

  async #drain({ withinMs = PATIENCE_MS }: Of<"drain">): Promise<Mismatch | undefined> {
    const waited = await this.#next("drain", () => true, withinMs);
    return "event" in waited ? undefined : this.#missing(`a drain within ${withinMs} ms`, waited);
  }

  async #exit({ code, withinMs = RETURN_MS }: Of<"exit">): Promise<Mismatch | undefined> {
    const waited = await this.#next("exit", () => true, withinMs);
    if (!("event" in waited)) return this.#missing(`the program to end within ${withinMs} ms`, waited);
    return waited.event.how === code
      ? undefined
      : { expected: `the program to end with ${code}`, saw: `it ended with ${waited.event.how}` };
  }

  async #stays({ forMs }: Of<"stays">): Promise<Mismatch | undefined> {
    const waited = await this.#next("hello", () => true, forMs);
    if ("event" in waited) return { expected: `a stream that goes on for ${forMs} ms`, saw: "a new hello" };
    return waited.gaveUp === "ended" ? this.#missing("a program that goes on", waited) : undefined;
  }

  async #settled({ lease, withinMs = RETURN_MS }: Of<"settled">): Promise<Mismatch | undefined> {
    const untilMs = this.stage.transcript.nowMs + withinMs;
    for (const label of this.stage.server.book.labels(lease)) {
      const waited = await this.#next("settled", (event) => event.label === label, untilMs - this.stage.transcript.nowMs);
      if (!("event" in waited)) return this.#missing(`an outcome of ${label} that is recorded within ${withinMs} ms`, waited);
    }
    return undefined;
  }

  async #streams({ atMost, forMs }: Of<"streams">): Promise<Mismatch | undefined> {
    const before = this.stage.server.streams;
    const waited = await this.#next("exit", () => true, forMs);
    if ("event" in waited) return { expected: "a program that goes on", saw: `it ended with ${waited.event.how}` };
    const opened = this.stage.server.streams - before;
    if (opened >= 1 && opened <= atMost) return undefined;
    return { expected: `1 to ${atMost} streams in ${forMs} ms`, saw: `${opened}` };
  }

  #tokens(pattern: string): string[] {
    return this.stage.server.book.labels(pattern).map((label) => this.stage.server.book.token(label));
  }

  #next<Kind extends Event["kind"]>(kind: Kind, fits: (event: EventOf<Kind>) => boolean, withinMs: number): Promise<Waited<EventOf<Kind>>> {
    const fitting = (event: Event): event is EventOf<Kind> => isOf(event, kind) && fits(event);
    return this.stage.transcript.next(fitting, withinMs);
  }

  #missing(expected: string, { gaveUp }: { readonly gaveUp: "late" | "ended" }): Mismatch {
    const broken = this.#broken();
    if (broken !== undefined) return { expected, saw: broken.saw };
    const [exit] = this.stage.transcript.all((event) => isOf(event, "exit"));
    return { expected, saw: gaveUp === "late" || exit === undefined ? "nothing of the kind" : `the program ended with ${exit.event.how}` };
  }
}

function isOf<Kind extends Event["kind"]>(event: Event, kind: Kind): event is EventOf<Kind> {
  return event.kind === kind;
}

function cancelOf(
  leaseToken: string,
  reason: string,
): { leaseToken: string; reason: string; remainingGrace: ReturnType<typeof durationFromMs> } {
  return { leaseToken, reason, remainingGrace: durationFromMs(10_000) };
}

function stepText({ do: verb, ...rest }: Step): string {
  const text = Object.entries(rest).map(([field, value]) => `${field} ${JSON.stringify(value)}`);
  return [verb, ...text].join(" ");
}
