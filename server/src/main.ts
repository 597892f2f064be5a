// How do the parts become a server? Wires them, starts them in order, stops them in reverse. The only file that knows all others.

import { randomUUID } from "node:crypto";

import type { WrappedService } from "./api/call.js";
import { grpcServer } from "./api/grpc-server.js";
import { taskService } from "./api/task-service.js";
import { workerService } from "./api/worker-service.js";
import type { Clock, Timer } from "./clock.js";
import { systemClock } from "./clock.js";
import type { Config } from "./config.js";
import { Announcements } from "./dispatch/announcements.js";
import { Batcher } from "./dispatch/batch.js";
import { Dispatcher } from "./dispatch/dispatcher.js";
import { LostClaims } from "./dispatch/lost-claims.js";
import { ProgressBoard } from "./dispatch/progress-board.js";
import { Reports } from "./dispatch/reports.js";
import { SlotReservations } from "./dispatch/reserved-slots.js";
import { LeaseCalls } from "./dispatch/unary-workers.js";
import { OwnerCommands } from "./dispatch/task-commands.js";
import { AwaitedTasks } from "./dispatch/task-watch.js";
import type { WorkerSession } from "./dispatch/worker-session.js";
import { ConnectedWorkers } from "./dispatch/worker-sessions.js";
import type { Durability, Standing } from "./storage/conditions.js";
import { ConditionsError, judge, notDurable, readConditions } from "./storage/conditions.js";
import { gatedStorage } from "./storage/gated-storage.js";
import { migrate, readMigrations } from "./storage/migrate.js";
import type { ConnectedStorage } from "./storage/postgres-storage.js";
import { openStorage } from "./storage/postgres-storage.js";
import { newestVersion, schemaProblems } from "./storage/schema-version.js";
import type { Decision, Hint, LeasedTask, Storage } from "./storage/storage.js";
import { createLog, type Log } from "./telemetry/log.js";
import { inTheirTraces, observing, type Observing } from "./telemetry/observing.js";
import { quietly } from "./telemetry/quiet-failures.js";
import { startTelemetry } from "./telemetry/sdk.js";
import { taskLog } from "./telemetry/task-log.js";
import { CONDITIONS_INTERVAL_MS, ConditionsWatch } from "./upkeep/conditions-watch.js";
import { Upkeep } from "./upkeep/upkeep.js";

/** Version told to workers and to other servers. */
export const SERVER_VERSION = "0.1.0";

/** A server that runs. */
export interface RunningServer {
  /** Where it really listens, as `127.0.0.1:7410`. */
  readonly address: string;
  /** The port of that address; 0 for a unix socket. */
  readonly port: number;
  /** Drains and stops: streams end with UNAVAILABLE, calls finish or are cut off at the drain time-out. Resolves when all is closed. */
  stop(): Promise<void>;
}

/** How long Postgres may be silent before health says NOT_SERVING. */
const HEALTH_LIMIT_MS = 5000;
const HEALTH_LOOK_MS = 500;
/** Batches of reports under way at once, and how many reports may wait for them. */
const REPORT_LANES = 2;
const MOST_WAITING_REPORTS = 100_000;
const MOST_BATCH_BYTES = 4 * 1024 * 1024;
const RECONNECT_AFTER_US = 0;
/** How long a statement may be on its way to Postgres after nobody waits for it any more. */
const LATE_MS = 20_000;
/** What an answer of LeaseTasks needs beside the payloads of its leases, at the most. */
const ANSWER_ROOM_BYTES = 256 * 1024;

/**
 * Checks Postgres, migrates the schema, starts every part and listens. Throws a `ConditionsError`, `MigrationError`, `ListenError` or
 * `DatabaseFault` whose message says in a sentence what is wrong; nothing is left running then. `conditionsIntervalMs`: how often Postgres is
 * looked at again.
 */
export async function startServer(
  config: Config,
  log: Log = createLog(config.log),
  conditionsIntervalMs = CONDITIONS_INTERVAL_MS,
): Promise<RunningServer> {
  const clock = systemClock();
  const telemetry = await startTelemetry(SERVER_VERSION, clock, log);
  const observed = observing(telemetry, SERVER_VERSION, config.telemetry.names, clock);
  const standing = await checkConditions(config, log);
  const { applied, version } = await migrate(config.database.url, { schema: config.database.schemaName });
  if (applied.length > 0) log.info({ applied, version }, "schema migrated");
  const serverId = randomUUID();
  const connected = await openStorage(storageSettings(config, serverId), clock);
  const conditions = await watchConditions(config, conditionsIntervalMs, clock, connected, standing, log);
  const gated = gatedStorage(connected, () => conditions.now.problems);
  const storage = observed?.storage(gated) ?? gated;
  const parts = wire(config, clock, storage, serverId, log, observed);
  const services = servicesOf(parts, { config, clock, storage, log, observed, durability: () => conditions.now.durability });
  const server = grpcServer({ services, config, clock, log });
  let addresses: string[];
  try {
    addresses = await server.listen();
  } catch (error) {
    await storage.close();
    throw error;
  }
  parts.start();
  server.setServing(true);
  conditions.start();
  const untold = observed?.gauges({
    storage,
    streams: () => parts.workers.connected,
    durability: () => conditions.now.durability,
    fit: () => conditions.now.problems.length === 0,
    schemaVersion: newestVersion(await readMigrations()),
    failed: quietly(clock, log),
  });
  const health = watchHealth(clock, storage, conditions, log, (serving) => {
    server.setServing(serving);
  });
  const [address = ""] = addresses;
  log.info({ address, serverId, version: SERVER_VERSION, durability: conditions.now.durability }, "listening");

  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    log.info({}, "draining");
    health.stop();
    conditions.stop();
    untold?.();
    server.setServing(false);
    parts.dispatcher.stop();
    parts.unary.drain();
    await parts.workers.drain();
    await server.shutdown(config.drainTimeoutMs);
    await parts.upkeep.stop();
    await storage.close();
    await telemetry.stop();
    log.info({}, "stopped");
  };
  return { address, port: Number(/:(\d+)$/.exec(address)?.[1] ?? 0), stop: () => (stopping ??= stop()) };
}

// Refuses a Postgres that would forget what it acknowledged, unless the settings say that somebody else vouches for it or nobody does.
async function checkConditions({ database }: Config, log: Log): Promise<Standing> {
  const conditions = await readConditions(database.url);
  const standing = judge(conditions, database.durability);
  if (standing.problems.length > 0) throw new ConditionsError(standing.problems);
  const forgetful = notDurable(conditions);
  if (database.durability === "unsafe" && forgetful.length > 0)
    log.warn({ problems: forgetful }, "Postgres may forget what was acknowledged");
  return standing;
}

// What was true at the start is looked at again, through a new connection: where that is of another Postgres, or its commits are kept otherwise,
// the old connections go.
async function watchConditions(
  { database }: Config,
  intervalMs: number,
  clock: Clock,
  storage: ConnectedStorage,
  standing: Standing,
  log: Log,
): Promise<ConditionsWatch> {
  const known = await readMigrations();
  const read = async (): Promise<Standing> => {
    const conditions = await readConditions(database.url);
    if (await storage.renewUnless(conditions.traits))
      log.info({}, "connections replaced: new ones are of another Postgres, or commit otherwise");
    const { durability, problems } = judge(conditions, database.durability);
    return { durability, problems: [...problems, ...(await schemaProblems(database.url, database.schemaName, known))] };
  };
  const changed = (before: Standing, { durability, problems }: Standing): void => {
    if (problems.length > 0)
      log.error({ problems, durability }, "Postgres must not be used as it is; calls are refused until that changes");
    else if (before.problems.length > 0) log.info({ durability }, "Postgres may be used again");
    else log.warn({ before: before.durability, durability }, "Postgres keeps what is acknowledged otherwise than before");
  };
  return new ConditionsWatch({ clock, intervalMs, read, changed, failed: quietly(clock, log) }, standing);
}

/** What the services of a server work with. */
export interface ServiceSurroundings {
  readonly config: Config;
  readonly clock: Clock;
  readonly storage: Storage;
  readonly log: Log;
  /** What makes spans of the calls; null without tracing. */
  readonly observed: Observing | null;
  /** Told in each welcome. */
  readonly durability: () => Durability;
}

/** The services over wired parts. */
export function servicesOf(parts: Parts, { config, clock, storage, log, observed, durability }: ServiceSurroundings): WrappedService[] {
  const commands = observed?.commands(parts.commands, storage) ?? parts.commands;
  const observer = observed === null ? {} : { observer: observed.calls };
  return [
    taskService({ storage, commands, watch: parts.watch, clock, config, log, ...observer }),
    workerService({
      ...observer,
      ...{ sessions: parts.workers, unary: parts.unary, clock, config, log, serverVersion: SERVER_VERSION, durability },
    }),
  ];
}

/** The rooms of a server, wired to each other. */
export interface Parts {
  readonly commands: OwnerCommands;
  readonly watch: AwaitedTasks;
  readonly workers: ConnectedWorkers;
  readonly unary: LeaseCalls;
  readonly dispatcher: Dispatcher;
  readonly upkeep: Upkeep;
  /** Begins to lease, to tick and to listen to other servers. */
  start(): void;
}

/** Wires the rooms of a server over a storage; nothing runs before `start`. */
export function wire(config: Config, clock: Clock, storage: Storage, serverId: string, log: Log, observed: Observing | null = null): Parts {
  const handOver = (session: WorkerSession, tasks: readonly LeasedTask[]): Promise<void> =>
    workers.deliver(session, observed?.given(tasks) ?? inTheirTraces(tasks, clock.nowUs()));
  const failed = quietly(clock, log);
  const logged = taskLog(log);
  const watch = new AwaitedTasks(clock, storage);
  // Dispatcher and sessions hear of changes, and make some: what they are told is looked up when it happens.
  const announcements: Announcements = new Announcements(clock, storage, {
    work: (group) => {
      dispatcher.note(group);
    },
    changed: (taskId) => {
      watch.changed(taskId);
    },
    lease: (sessionId, task, revoked) => workers.tell(sessionId, task, revoked),
    committed: (before, answer) => {
      observed?.committed(before, answer);
      logged(before, answer);
    },
  });
  // Made before the dispatcher and the sessions that it asks and delivers to.
  const reservations = new SlotReservations(
    { idle: (namespace) => dispatcher.idle(namespace) },
    {
      deliver: handOver,
      giveBack: (tasks) => workers.giveBack(tasks.map(({ live }) => live)),
      lost: (sessions) => {
        lostClaims.add(sessions);
      },
      failed,
    },
  );
  const commands = new OwnerCommands(clock, storage, announcements, reservations, {
    maxItems: config.scheduling.batchSize,
    maxBytes: MOST_BATCH_BYTES,
    maxWaiting: config.limits.queuedSubmissions,
    maxWaitMs: config.limits.queueWaitMs,
  });
  const writeLimits = {
    maxItems: config.scheduling.batchSize,
    maxBytes: MOST_BATCH_BYTES,
    lanes: REPORT_LANES,
    maxWaiting: MOST_WAITING_REPORTS,
  };
  const writes = new Batcher<Decision, boolean>(clock, writeLimits, (decisions) => storage.applyDecisions(decisions));
  const desk = new Reports(clock, storage, writes, announcements, config.limits.payloadBytes, failed);
  const reports = observed?.reports(desk) ?? desk;
  const progress = new ProgressBoard(clock, storage, (taskIds) => {
    for (const taskId of taskIds) watch.progressed(taskId);
  });
  const sessionSettings = { defaultTtlUs: config.session.ttlDefaultUs, reconnectAfterUs: RECONNECT_AFTER_US };
  const workers: ConnectedWorkers = new ConnectedWorkers(clock, storage, sessionSettings, reports, announcements, progress, failed);
  const lostClaims = new LostClaims(clock, storage, (tasks) => workers.giveBack(tasks), config.database.statementTimeoutMs + LATE_MS);
  const dispatcher: Dispatcher = new Dispatcher(
    clock,
    storage,
    config.scheduling,
    handOver,
    (tasks) => workers.giveBack(tasks.map(({ live }) => live)),
    (sessions) => {
      lostClaims.add(sessions);
    },
    failed,
  );
  const leaseBytes = config.limits.messageBytes - ANSWER_ROOM_BYTES;
  const unary = new LeaseCalls(clock, storage, { defaultTtlUs: config.session.ttlDefaultUs, leaseBytes }, workers, dispatcher, failed);
  const upkeep = new Upkeep({
    clock,
    storage,
    serverId,
    retentionUs: config.retentionUs,
    committed: (before, answer) => {
      announcements.committed(before, answer);
    },
    alone: (alone) => {
      observed?.upkeepTicked();
      announcements.alone = alone;
    },
    removed: (count) => {
      observed?.removed(count);
      log.info({ count }, "finished tasks removed by retention");
    },
    failed,
  });
  const start = (): void => {
    workers.start(dispatcher);
    storage.onHint((hint) => {
      observed?.hinted(hint);
      heed(hint, dispatcher, watch, workers, failed);
    });
    upkeep.start();
  };
  return { commands, watch, workers, unary, dispatcher, upkeep, start };
}

// What another server says; null after a gap, in which anything may have been said.
function heed(
  hint: Hint | null,
  dispatcher: Dispatcher,
  watch: AwaitedTasks,
  workers: ConnectedWorkers,
  failed: (error: unknown) => void,
): void {
  if (hint === null) {
    dispatcher.rescan();
    watch.lookNow();
    workers.reconcile().catch(failed);
    return;
  }
  for (const group of hint.groups) dispatcher.note(group);
  if (hint.taskIds === null) watch.lookNow();
  else for (const taskId of hint.taskIds) watch.changed(taskId);
  for (const { sessionId, taskId, revoked } of hint.leases) workers.hinted(sessionId, taskId, revoked).catch(failed);
}

function storageSettings({ database, limits, listen }: Config, serverId: string): Parameters<typeof openStorage>[0] {
  return {
    url: database.url,
    listenUrl: database.listenUrl,
    prepared: database.preparedStatements,
    poolSize: database.poolSize,
    statementTimeoutMs: database.statementTimeoutMs,
    queueWaitMs: limits.queueWaitMs,
    schema: database.schemaName,
    maxPayloadBytes: limits.payloadBytes,
    serverId,
    serverAddress: listen.kind === "unix" ? listen.path : `${listen.host}:${String(listen.port)}`,
    serverVersion: SERVER_VERSION,
  };
}

// Health follows Postgres: upkeep reaches it twice a second, so silence means that it is away. What must not be used counts as away.
function watchHealth(
  clock: Clock,
  storage: Storage,
  conditions: ConditionsWatch,
  log: Log,
  setServing: (serving: boolean) => void,
): { stop(): void } {
  let serving = true;
  let answering = true;
  let unfitMs = Number.NEGATIVE_INFINITY;
  let timer: Timer;
  const look = (): void => {
    const fit = conditions.now.problems.length === 0;
    if (!fit) unfitMs = clock.monotonicMs();
    // Nothing is sent to one that is unfit, so its silence says nothing.
    const silent = (storage.health.unavailableSinceMs ?? 0) > HEALTH_LIMIT_MS;
    const answers = !silent || clock.monotonicMs() - unfitMs <= HEALTH_LIMIT_MS;
    if (answers !== answering) {
      answering = answers;
      if (answers) log.info({}, "Postgres answers again");
      else log.error({}, "Postgres does not answer");
    }
    if ((fit && answers) !== serving) {
      serving = fit && answers;
      setServing(serving);
    }
    timer = clock.after(HEALTH_LOOK_MS, look);
  };
  timer = clock.after(HEALTH_LOOK_MS, look);
  return {
    stop: () => {
      timer.cancel();
    },
  };
}
