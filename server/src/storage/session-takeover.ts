// What happens when a worker comes back? Its newer stream takes the session over; what it listed is kept, the rest goes back.

import type { Event } from "../domain/event.js";
import type { LiveTask } from "../domain/task.js";
import { transition } from "../domain/transition.js";
import type { ApplyStatements } from "./apply-decisions.js";
import { applyDecisions } from "./apply-decisions.js";
import type { DecideStatements } from "./decide.js";
import type { SessionStatements } from "./sessions.js";
import { isAlive, lockHeld, lockListed, openSession, raiseEpoch } from "./sessions.js";
import type { Connection } from "./statement.js";
import { instant } from "./statement.js";
import type { Decision, OpenSession, SessionHello, TakeOver } from "./storage.js";

/** A lease that the worker says it holds. */
export interface HeldLease {
  readonly taskId: string;
  readonly nonce: string;
}

/** What the takeover needs from outside. */
export interface TakeOverContext {
  readonly shard: number;
  readonly serverId: string;
  /** Id for a session that must be opened anew. */
  readonly freshId: string;
  readonly chance: number;
  readonly observe: (nowUs: number) => void;
}

type Statements = SessionStatements & ApplyStatements & DecideStatements;

/** Takes a session over; to be called within a transaction. */
export async function takeOverSession(
  connection: Connection,
  statements: Statements,
  sessionId: string,
  hello: SessionHello,
  held: readonly HeldLease[],
  context: TakeOverContext,
): Promise<TakeOver> {
  const { shard, serverId } = context;
  const taken = await raiseEpoch(connection, statements, shard, sessionId, serverId, hello);
  if (taken !== null) return settleTaken(connection, statements, taken, held, context);
  if (await isAlive(connection, statements, shard, hello.namespace, sessionId)) return { kind: "stale" };
  const session = await openSession(connection, statements, shard, context.freshId, serverId, hello);
  const kept = await keepFromEnded(connection, statements, sessionId, session, hello.namespace, held, context);
  return { kind: "renewed", session, kept };
}

// The session lives: each of its running leases is either listed, and attested with the new epoch, or given back at once.
async function settleTaken(
  connection: Connection,
  statements: Statements,
  session: OpenSession,
  held: readonly HeldLease[],
  context: TakeOverContext,
): Promise<TakeOver> {
  const running = await lockHeld(connection, statements, context.shard, session.id);
  const isListed = isOneOf(held);
  const event = (task: LiveTask): Event => (isListed(task) ? attested(task, session) : { kind: "lease-returned" });
  const decided = await applyEvents(connection, statements, running, event, context);
  const kept = decided.filter(({ before }) => isListed(before)).map(({ answer }) => answer.task);
  return { kind: "taken", session, kept, returned: decided.filter(({ before }) => !isListed(before)) };
}

// The session had ended: what still carries the listed token, running or lost, goes on under a new session.
async function keepFromEnded(
  connection: Connection,
  statements: Statements,
  endedId: string,
  session: OpenSession,
  namespace: string,
  held: readonly HeldLease[],
  context: TakeOverContext,
): Promise<LiveTask[]> {
  if (held.length === 0) return [];
  const isListed = isOneOf(held);
  const locked = await lockListed(connection, statements, context.shard, [...new Set(held.map(({ taskId }) => taskId))]);
  const own = locked.filter((task) => task.identity.namespace === namespace && task.lease?.sessionId === endedId && isListed(task));
  const decided = await applyEvents(connection, statements, own, (task) => attested(task, session), context);
  return decided.map(({ answer }) => answer.task);
}

// A worker may hold two leases of one task: an old one whose outcome nobody acknowledged yet, and the present one.
function isOneOf(held: readonly HeldLease[]): (task: LiveTask) => boolean {
  const listed = new Set(held.map(({ taskId, nonce }) => `${taskId} ${nonce}`));
  return ({ identity, lease }) => lease !== null && listed.has(`${identity.id} ${lease.nonce}`);
}

function attested(task: LiveTask, session: OpenSession): Event {
  return { kind: "reattested", nonce: task.lease?.nonce ?? "", sessionId: session.id, epoch: session.epoch };
}

async function applyEvents(
  connection: Connection,
  statements: Statements,
  tasks: readonly LiveTask[],
  event: (task: LiveTask) => Event,
  context: TakeOverContext,
): Promise<Decision[]> {
  if (tasks.length === 0) return [];
  const [row] = await connection.run(statements.now, [context.shard, tasks[0]?.identity.id, false]);
  const nowUs = row === undefined ? 0 : instant(row, 0);
  context.observe(nowUs);
  const decisions: Decision[] = [];
  for (const before of tasks) {
    const answer = transition(before, event(before), { nowUs, chance: context.chance, executionMetadata: null, maxPayloadBytes: 0 });
    if (answer.kind === "changed" || answer.kind === "finished") decisions.push({ before, answer, notBeforeUs: null });
  }
  const written = await applyDecisions(connection, statements, context.shard, decisions, context.observe);
  if (written.includes(false)) throw new Error("a locked task changed during a takeover");
  return decisions;
}
