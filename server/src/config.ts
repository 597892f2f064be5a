// Which settings does the server have? All of them on one page: name, unit, default, bounds and why.
// docs/configuration.md shows the same table; how single values are read is in config/setting.ts.

import type { ListenAddress } from "./config/listen.js";
import { formatListen, isLoopback, parseListen } from "./config/listen.js";
import { unknownNames } from "./config/unknown-names.js";
import type { Setting } from "./config/setting.js";
import { bytes, decimal, durationListUs, durationMs, durationUs, flag, integer, SettingFault, text, word } from "./config/setting.js";
import { SCHEMA_RULE, schemaFault, urlFault } from "./config/text-rules.js";
import type { FinalState, RetryPolicy } from "./domain/task.js";

const PREFIX = "LEASEHOLD_";
/** What a task takes in a message beside its payloads and errors: labels, retry rules, trace context, reasons. */
const TASK_OVERHEAD_BYTES = 256 * 1024;

const TELEMETRY_NAMES_WHY = "Queues, and task names, that become labels of metrics; the rest is counted as other.";

/** Every setting. The key is its name inside this file only. */
const SETTINGS = {
  databaseUrl: text(
    "LEASEHOLD_DATABASE_URL",
    null,
    "postgres://…",
    "Where tasks are stored: Postgres 14 or newer. Never logged.",
    urlFault,
  ),
  databaseListenUrl: text(
    "LEASEHOLD_DATABASE_LISTEN_URL",
    "",
    "postgres://…",
    "Direct connection for LISTEN, where the other one goes through a pooler in transaction mode. Default: the same connection string. Never logged.",
    urlFault,
  ),
  preparedStatements: flag(
    "LEASEHOLD_DATABASE_PREPARED_STATEMENTS",
    true,
    "Whether statements are prepared by name; false for poolers that cannot.",
  ),
  poolSize: integer(
    "LEASEHOLD_DATABASE_POOL_SIZE",
    8,
    2,
    100,
    "Connections to Postgres. More than a few a core of the database make it slower, not faster.",
  ),
  statementTimeout: durationMs(
    "LEASEHOLD_DATABASE_STATEMENT_TIMEOUT",
    "10s",
    "100ms",
    "10m",
    "Longest a statement may take before it is given up.",
  ),
  durability: word(
    "LEASEHOLD_DURABILITY",
    "checked",
    ["checked", "provider", "unsafe"],
    "Whether Postgres is checked to keep what it acknowledges: checked refuses to start if not, provider trusts the platform below, unsafe is for development.",
  ),
  schemaName: text(
    "LEASEHOLD_PERSISTENCE_SCHEMA_NAME",
    "leasehold",
    SCHEMA_RULE,
    "Postgres schema that holds every table and function.",
    schemaFault,
  ),
  listen: {
    ...text(
      "LEASEHOLD_LISTEN",
      "127.0.0.1:7410",
      "host:port, [IPv6]:port, unix:/path",
      "Where gRPC is served. Port 0 lets the system choose.",
    ),
    parse: parseListen,
  },
  insecureBind: flag(
    "LEASEHOLD_INSECURE_BIND",
    false,
    "Allows to listen beyond loopback without TLS: anybody who reaches the port may read and change every task.",
  ),
  tlsCertFile: text("LEASEHOLD_TLS_CERT_FILE", "", "path of a PEM file", "Certificate chain for TLS. Needs the key file; default: no TLS."),
  tlsKeyFile: text("LEASEHOLD_TLS_KEY_FILE", "", "path of a PEM file", "Private key for TLS. Needs the certificate file."),
  batchSize: integer(
    "LEASEHOLD_SCHEDULING_BATCH_SIZE",
    500,
    1,
    10_000,
    "Most tasks that one statement leases, stores or judges: larger ones hold their locks longer.",
  ),
  pollingDelay: durationMs(
    "LEASEHOLD_SCHEDULING_POLLING_DELAY",
    "1s",
    "10ms",
    "1h",
    "How often to look for work that no notification told of. Wake-ups are pushed; this is the fallback.",
  ),
  schedulerRetryCount: integer(
    "LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_COUNT",
    3,
    0,
    1_000,
    "Lost leases in a row that are forgiven; one more and the task is FAILED as POISONED.",
  ),
  schedulerRetryDelays: durationListUs(
    "LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_DELAYS",
    "0s,10s,60s",
    "3650d",
    "Delays after a lost lease, in order; the last one repeats.",
  ),
  maxRetryCount: integer(
    "LEASEHOLD_EXECUTION_MAX_RETRY_COUNT",
    4,
    0,
    999,
    "Attempts in a row after the first failed one: 4 means 5 attempts in all.",
  ),
  retryInitial: durationUs("LEASEHOLD_EXECUTION_RETRY_INITIAL", "1s", "0s", "3650d", "Delay before the second attempt."),
  retryFactor: decimal("LEASEHOLD_EXECUTION_RETRY_FACTOR", 2, 1, 100, "Growth of the delay with each further attempt."),
  retryMax: durationUs("LEASEHOLD_EXECUTION_RETRY_MAX", "5m", "0s", "3650d", "Upper bound of the delay."),
  retryJitter: decimal(
    "LEASEHOLD_EXECUTION_RETRY_JITTER",
    0.5,
    0,
    1,
    "Share of the delay that chance may take off, so that failures of one moment do not come back as one.",
  ),
  sessionTtl: durationUs(
    "LEASEHOLD_SESSION_TTL_DEFAULT",
    "20s",
    "2s",
    "1h",
    "Silence after which a worker's leases are lost, unless the worker wishes another one.",
  ),
  retentionCompleted: durationUs(
    "LEASEHOLD_RETENTION_COMPLETED",
    "7d",
    "1h",
    "3650d",
    "How long COMPLETED tasks are kept. Never below an hour: until then a repeated submission is recognized.",
  ),
  retentionFailed: durationUs("LEASEHOLD_RETENTION_FAILED", "30d", "1h", "3650d", "How long FAILED tasks are kept."),
  retentionCancelled: durationUs("LEASEHOLD_RETENTION_CANCELLED", "7d", "1h", "3650d", "How long CANCELLED tasks are kept."),
  payloadBytes: bytes("LEASEHOLD_LIMIT_PAYLOAD_BYTES", "1MiB", "1KiB", "16MiB", "Largest metadata, execution metadata or result, each."),
  errorBytes: bytes("LEASEHOLD_LIMIT_ERROR_BYTES", "64KiB", "4KiB", "1MiB", "Largest error of a task in all; a longer one is cut."),
  messageBytes: bytes(
    "LEASEHOLD_LIMIT_MESSAGE_BYTES",
    "4MiB",
    "64KiB",
    "64MiB",
    "Largest gRPC message in either direction; must hold a task with three payloads and two errors.",
  ),
  streamsPerConnection: integer(
    "LEASEHOLD_LIMIT_STREAMS_PER_CONNECTION",
    1_000,
    10,
    100_000,
    "Calls and streams at once on one connection; more wait in the client.",
  ),
  connectionBytes: bytes(
    "LEASEHOLD_LIMIT_CONNECTION_BYTES",
    "32MiB",
    "8MiB",
    "1GiB",
    "Memory that HTTP/2 may use for one connection, and bytes of requests and answers that it may hold; one that needs more gets no further streams.",
  ),
  connections: integer(
    "LEASEHOLD_LIMIT_CONNECTIONS",
    10_000,
    10,
    1_000_000,
    "Connections at once at one address; more are closed as they come. Keep it below the files that the process may open.",
  ),
  heldBytes: bytes(
    "LEASEHOLD_LIMIT_HELD_BYTES",
    "512MiB",
    "64MiB",
    "64GiB",
    "Unanswered requests and unread answers of all connections together; beyond it those that hold the most are ended.",
  ),
  controlBytes: bytes(
    "LEASEHOLD_LIMIT_CONTROL_BYTES",
    "64KiB",
    "8KiB",
    "64MiB",
    "What one connection may send in a second that is no call, no message and no reaction to what it was sent, as pings; one that sends more is ended.",
  ),
  metadataBytes: bytes(
    "LEASEHOLD_LIMIT_METADATA_BYTES",
    "16KiB",
    "8KiB",
    "64KiB",
    "gRPC metadata of one call, 32 bytes an entry included; a call with more is refused before its message is read.",
  ),
  handshakeTime: durationMs(
    "LEASEHOLD_LIMIT_HANDSHAKE_TIME",
    "10s",
    "1s",
    "2m",
    "How long a connection may take until it has introduced itself as HTTP/2; then it is ended.",
  ),
  requestTime: durationMs(
    "LEASEHOLD_LIMIT_REQUEST_TIME",
    "30s",
    "1s",
    "1h",
    "How long the request of a call may take to arrive, for the slowest line that shall be served; streams of workers last as long as they like.",
  ),
  queuedSubmissions: integer(
    "LEASEHOLD_LIMIT_QUEUED_SUBMISSIONS",
    5_000,
    1,
    1_000_000,
    "Submissions that may wait for Postgres; more are refused at once with RESOURCE_EXHAUSTED and a delay.",
  ),
  queueWait: durationMs(
    "LEASEHOLD_LIMIT_QUEUE_WAIT",
    "500ms",
    "10ms",
    "1m",
    "How long a submission may be expected to wait for Postgres; one that would wait longer is refused at once. Reads get half of it, changes of tasks twice.",
  ),
  waiters: integer(
    "LEASEHOLD_LIMIT_WAITERS",
    10_000,
    1,
    1_000_000,
    "Tasks waited for and watched at once; more are refused with RESOURCE_EXHAUSTED and a delay.",
  ),
  drainTimeout: durationMs(
    "LEASEHOLD_DRAIN_TIMEOUT",
    "5s",
    "0s",
    "10m",
    "How long a stopping server lets calls finish before it ends them.",
  ),
  logLevel: word(
    "LEASEHOLD_LOG_LEVEL",
    "info",
    ["trace", "debug", "info", "warn", "error", "fatal", "silent"],
    "Least important lines that are written.",
  ),
  telemetryNames: integer("LEASEHOLD_TELEMETRY_NAMES", 100, 1, 10_000, TELEMETRY_NAMES_WHY),
  logFormat: word("LEASEHOLD_LOG_FORMAT", "json", ["json", "text"], "One JSON object a line for machines, or one line of text for people."),
} satisfies Record<string, Setting<unknown>>;

type Values = { readonly [K in keyof typeof SETTINGS]: ReturnType<(typeof SETTINGS)[K]["parse"]> };

/** The settings with name, kind, default, bounds and reason, in the order of the documentation. */
export const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);

/** Every setting, checked; names carry units. */
export interface Config {
  /** The connection strings are secrets: never logged. */
  readonly database: {
    readonly url: string;
    readonly listenUrl: string;
    readonly preparedStatements: boolean;
    readonly poolSize: number;
    readonly statementTimeoutMs: number;
    readonly schemaName: string;
    readonly durability: "checked" | "provider" | "unsafe";
  };
  readonly listen: ListenAddress;
  /** Null: no TLS. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
  readonly scheduling: { readonly batchSize: number; readonly pollingDelayMs: number };
  /** What a submission's retry policy leaves out. */
  readonly retryPolicy: RetryPolicy;
  readonly session: { readonly ttlDefaultUs: number };
  readonly retentionUs: Readonly<Record<FinalState, number>>;
  readonly limits: {
    readonly payloadBytes: number;
    readonly errorBytes: number;
    readonly messageBytes: number;
    readonly streamsPerConnection: number;
    readonly connectionBytes: number;
    /** At one address. */
    readonly connections: number;
    /** Of all connections together. */
    readonly heldBytes: number;
    /** In a second. */
    readonly controlBytes: number;
    readonly metadataBytes: number;
    readonly handshakeMs: number;
    readonly requestMs: number;
    readonly queuedSubmissions: number;
    readonly queueWaitMs: number;
    readonly waiters: number;
  };
  readonly drainTimeoutMs: number;
  readonly telemetry: { readonly names: number };
  readonly log: { readonly level: Values["logLevel"]; readonly format: Values["logFormat"] };
}

/** What is wrong with the settings: one sentence each, all of them at once. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  constructor(readonly problems: readonly string[]) {
    super(problems.join("\n"));
  }
}

/** Reads the settings from environment variables. Throws a `ConfigError` that names everything that is wrong. Values are never repeated in it: one may be a secret. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems = unknownNames(
    env,
    PREFIX,
    settings.map(({ name }) => name),
  );
  const values: Partial<Record<string, unknown>> = {};
  for (const [key, setting] of Object.entries<Setting<unknown>>(SETTINGS)) values[key] = read(setting, env[setting.name] ?? "", problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const config = assemble(values as Values);
  const contradictions = contradictionsOf(values as Values, config);
  if (contradictions.length > 0) throw new ConfigError(contradictions);
  return config;
}

function read(setting: Setting<unknown>, given: string, problems: string[]): unknown {
  const value = given === "" ? setting.default : given;
  if (value === null) problems.push(`${setting.name} is required: ${setting.why}`);
  if (value === null || (value === "" && given === "")) return "";
  try {
    return setting.parse(value);
  } catch (fault) {
    if (!(fault instanceof SettingFault)) throw fault;
    problems.push(`${setting.name} ${fault.message}.`);
    return "";
  }
}

function assemble(values: Values): Config {
  return {
    database: {
      url: values.databaseUrl,
      listenUrl: values.databaseListenUrl === "" ? values.databaseUrl : values.databaseListenUrl,
      preparedStatements: values.preparedStatements,
      poolSize: values.poolSize,
      statementTimeoutMs: values.statementTimeout,
      schemaName: values.schemaName,
      durability: values.durability,
    },
    listen: values.listen,
    tls: values.tlsCertFile === "" ? null : { certFile: values.tlsCertFile, keyFile: values.tlsKeyFile },
    scheduling: { batchSize: values.batchSize, pollingDelayMs: values.pollingDelay },
    retryPolicy: {
      maxAttempts: values.maxRetryCount + 1,
      initialUs: values.retryInitial,
      factor: values.retryFactor,
      maxUs: values.retryMax,
      jitter: values.retryJitter,
      delaysUs: [],
      rules: [],
      maxLostLeases: values.schedulerRetryCount,
      lostLeaseDelaysUs: values.schedulerRetryDelays,
    },
    session: { ttlDefaultUs: values.sessionTtl },
    retentionUs: { COMPLETED: values.retentionCompleted, FAILED: values.retentionFailed, CANCELLED: values.retentionCancelled },
    limits: {
      payloadBytes: values.payloadBytes,
      errorBytes: values.errorBytes,
      messageBytes: values.messageBytes,
      streamsPerConnection: values.streamsPerConnection,
      connectionBytes: values.connectionBytes,
      connections: values.connections,
      heldBytes: values.heldBytes,
      controlBytes: values.controlBytes,
      metadataBytes: values.metadataBytes,
      handshakeMs: values.handshakeTime,
      requestMs: values.requestTime,
      queuedSubmissions: values.queuedSubmissions,
      queueWaitMs: values.queueWait,
      waiters: values.waiters,
    },
    drainTimeoutMs: values.drainTimeout,
    telemetry: { names: values.telemetryNames },
    log: { level: values.logLevel, format: values.logFormat },
  };
}

/** What is wrong between settings that are each right. */
function contradictionsOf(values: Values, { listen, tls, limits }: Config): string[] {
  const problems: string[] = [];
  if ((values.tlsCertFile === "") !== (values.tlsKeyFile === ""))
    problems.push("LEASEHOLD_TLS_CERT_FILE and LEASEHOLD_TLS_KEY_FILE belong together: set both or none.");
  else if (tls === null && !values.insecureBind && !isLoopback(listen)) {
    problems.push(
      `LEASEHOLD_LISTEN ${formatListen(listen)} is reachable from other machines without TLS: set LEASEHOLD_TLS_CERT_FILE and LEASEHOLD_TLS_KEY_FILE, listen on 127.0.0.1, or set LEASEHOLD_INSECURE_BIND=true.`,
    );
  }
  const largestTask = 3 * limits.payloadBytes + 2 * limits.errorBytes + TASK_OVERHEAD_BYTES;
  if (limits.messageBytes < largestTask) {
    problems.push(
      `LEASEHOLD_LIMIT_MESSAGE_BYTES must be at least ${largestTask}: a task with three payloads of LEASEHOLD_LIMIT_PAYLOAD_BYTES and two errors of LEASEHOLD_LIMIT_ERROR_BYTES must fit a message.`,
    );
  }
  return problems;
}
