// How does a verb talk to a server? Through the transport of the SDK, with the generated messages as they are: nothing is parsed or defaulted on the way.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  createClient,
  LeaseholdError,
  type OutgoingStream,
  type StreamEvents,
  type StreamMethod,
  type UnaryMethod,
} from "@leasehold/client";
import { Option, type Command } from "commander";
import { parseDurationMs } from "./arguments.js";
import { CommandError } from "./command-error.js";
import { exitCodes } from "./exit-codes.js";

/** The options that every client verb has. */
export interface ServerOptions {
  readonly address: string;
  readonly namespace?: string;
  /** Longest time of one call, in milliseconds. */
  readonly timeout: number;
  readonly tls?: boolean;
  readonly tlsCa?: string;
}

/** A server as the verbs see it. */
export interface ServerConnection {
  /** As it was given, for sentences. */
  readonly address: string;
  /** Longest time of one call, for sentences. */
  readonly callLimitMs: number;
  /** One request, one answer. Tried again within the time limit when the server itself asks for that; every request of the verbs may be repeated. */
  call<Request, Response>(method: UnaryMethod<Request, Response>, request: Request): Promise<Response>;
  /** A stream of answers, without a time limit. */
  stream<Request, Response>(method: StreamMethod<Request, Response>, events: StreamEvents<Response>): OutgoingStream<Request>;
  /** Ends every call and connection. */
  close(): void;
}

const DEFAULT_CALL_MS = 10_000;
const SHORTEST_RETRY_MS = 100;

/** Adds `--address`, `--namespace`, `--timeout` and the options of TLS to a verb. */
export function withServerOptions(command: Command): Command {
  return command
    .optionsGroup("Server:")
    .addOption(new Option("--address <host:port>", "the server").env("LEASEHOLD_ADDRESS").default("127.0.0.1:7410"))
    .addOption(new Option("--namespace <name>", "the namespace; default: what the credential says").env("LEASEHOLD_NAMESPACE"))
    .addOption(new Option("--timeout <duration>", "longest time of one call").argParser(parseDurationMs).default(DEFAULT_CALL_MS, "10s"))
    .addOption(new Option("--tls", "use TLS with the authorities of this machine"))
    .addOption(new Option("--tls-ca <file>", "use TLS and trust the authorities in this PEM file"));
}

/** Makes the connection; nothing is sent before the first call. @throws LeaseholdError INVALID_ARGUMENT for a malformed address. */
export function connect(options: ServerOptions): ServerConnection {
  const { address, timeout: callLimitMs } = options;
  const namespace = options.namespace === "" ? undefined : options.namespace;
  const client = createClient({ address, ...(namespace === undefined ? {} : { namespace }), ...tlsOf(options) });
  const { transport } = client["~connection"];
  return {
    address,
    callLimitMs,
    async call(method, request) {
      const deadlineMs = performance.now() + callLimitMs;
      for (;;) {
        const remainingMs = Math.max(1, deadlineMs - performance.now());
        try {
          return await transport.unary(method, request, { deadlineMs: remainingMs });
        } catch (thrown) {
          const delayMs = retryDelayMs(LeaseholdError.from(thrown));
          if (delayMs === undefined || performance.now() + delayMs >= deadlineMs) throw thrown;
          await sleep(delayMs);
        }
      }
    },
    stream: (method, events) => transport.stream(method, events),
    close: () => client.close(),
  };
}

/** Only a server that answered may ask for patience: one that is not there is told to the person at once. */
function retryDelayMs({ reason, retryable, retryAfterMs }: LeaseholdError): number | undefined {
  return reason === undefined || !retryable || retryAfterMs === undefined ? undefined : Math.max(retryAfterMs, SHORTEST_RETRY_MS);
}

function tlsOf({ tls, tlsCa }: ServerOptions): { tls?: true | { ca: Buffer } } {
  if (tlsCa === undefined) return tls === true ? { tls: true } : {};
  try {
    return { tls: { ca: readFileSync(tlsCa) } };
  } catch (error) {
    throw new CommandError(exitCodes.usage, `Cannot read the file of --tls-ca: ${(error as Error).message}.`);
  }
}
