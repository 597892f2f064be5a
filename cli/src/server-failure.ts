// Why does a server not start, and what can a person do about it? Settings, migrations, Postgres and the port, in one sentence each.
import { ConfigError } from "@leasehold/server/config";
import { MigrationError } from "@leasehold/server/migrate";
import { CommandError } from "./command-error.js";
import { exitCodes } from "./exit-codes.js";

/** What the driver says of a connection that does not come about, by code. */
const NETWORK: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOENT: "there is no such socket",
  ENOTFOUND: "the name cannot be resolved",
  EAI_AGAIN: "the name cannot be resolved",
  ETIMEDOUT: "that machine does not answer",
  EHOSTUNREACH: "that machine does not answer",
  ECONNRESET: "the connection was cut",
};

/** Turns what `loadConfig`, `migrate` and `startServer` throw into a CommandError; returns anything else as it is. */
export function serverFailure(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  if (thrown instanceof ConfigError) return configFailure(thrown.problems);
  if (thrown instanceof MigrationError) return new CommandError(exitCodes.refused, thrown.message);
  if (thrown.name === "ConditionsError")
    return new CommandError(
      exitCodes.refused,
      `The server does not use this Postgres. ${thrown.message} LEASEHOLD_DURABILITY=provider trusts the platform below, unsafe is for development.`,
    );
  if (thrown.name === "ListenError")
    return new CommandError(exitCodes.refused, `The server ${thrown.message}; choose another address with LEASEHOLD_LISTEN.`);
  const database = databaseReason(thrown);
  if (database === undefined) return thrown;
  return new CommandError(exitCodes.unavailable, `Cannot use the database of LEASEHOLD_DATABASE_URL: ${database}.`);
}

function configFailure(problems: readonly string[]): CommandError {
  const [only] = problems;
  if (problems.length === 1 && only !== undefined) return new CommandError(exitCodes.usage, only);
  return new CommandError(exitCodes.usage, "These settings are not valid:", problems);
}

/** Why Postgres does not serve; undefined if the error is about something else. The connection string is never repeated. */
function databaseReason(error: Error): string | undefined {
  const code = codeOf(error);
  if (code !== undefined && Object.hasOwn(NETWORK, code)) return NETWORK[code];
  if (code !== undefined && /^[0-9A-Z]{5}$/.test(code)) return `Postgres says "${error.message}" (${code})`;
  if (/timeout expired|Connection terminated/i.test(error.message)) return "it does not answer";
  if (error.name === "DatabaseFault") return error.message;
  return error.cause instanceof Error ? databaseReason(error.cause) : undefined;
}

/** A name with several addresses fails with one error for each. */
function codeOf(error: Error): string | undefined {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  return typeof first === "object" && first !== null && "code" in first && typeof first.code === "string" ? first.code : undefined;
}
