// Are settings read, bounded and refused as documented?
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Config } from "@leasehold/server/config";
import { ConfigError, loadConfig, settings } from "@leasehold/server/config";
import { isLoopback, parseListen } from "@leasehold/server/config/listen";
import { DEFAULT_RETRY_POLICY } from "@leasehold/server/domain/retry";

const URL_ = { LEASEHOLD_DATABASE_URL: "postgres://user:secret@localhost/x" };

function load(env: Record<string, string>): Config {
  return loadConfig({ ...URL_, ...env });
}

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    load(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe("defaults", () => {
  it("are the documented ones, and the retry policy is the domain's", () => {
    const config = load({});
    expect(config.retryPolicy).toEqual(DEFAULT_RETRY_POLICY);
    expect(config.listen).toEqual({ kind: "tcp", host: "127.0.0.1", port: 7410 });
    expect(config.limits).toMatchObject({ payloadBytes: 1024 ** 2, errorBytes: 64 * 1024, messageBytes: 4 * 1024 ** 2 });
    expect(config.session.ttlDefaultUs).toBe(20_000_000);
    expect(config.scheduling).toEqual({ batchSize: 500, pollingDelayMs: 1000 });
    expect(config.database.listenUrl).toBe(config.database.url);
    expect(config.tls).toBeNull();
  });

  it("lie within their own bounds", () => {
    for (const { default: value, parse } of settings) if (value !== null && value !== "") expect(() => parse(value)).not.toThrow();
  });

  it("are all in docs/configuration.md, with bounds, and nothing else is", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/configuration.md"), "utf8");
    const rows = [...page.matchAll(/^\| `(LEASEHOLD_[A-Z_]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \| (.*) \|$/gm)];
    expect(rows.map(([, name]) => name)).toEqual(settings.map(({ name }) => name));
    for (const [, name, kind, fallback, bounds, why] of rows) {
      const setting = settings.find((one) => one.name === name)!;
      const shown = setting.default === null ? "required" : setting.default === "" ? "none" : `\`${setting.default}\``;
      expect({ kind, fallback, bounds, why }).toEqual({ kind: setting.kind, fallback: shown, bounds: setting.bounds, why: setting.why });
    }
  });
});

describe("refusals", () => {
  it("names everything that is wrong in one error, and repeats no value", () => {
    const problems = problemsOf({
      LEASEHOLD_DATABASE_POOL_SIZE: "1",
      LEASEHOLD_DRAIN_TIMEOUT: "5",
      LEASEHOLD_DATABASE_URL: "mysql://user:secret@localhost",
      LEASEHOLD_LOG_LEVEL: "loud",
      LEASEHOLD_SESION_TTL_DEFAULT: "5s",
    });
    expect(problems).toHaveLength(5);
    expect(problems).toContain("LEASEHOLD_SESION_TTL_DEFAULT is no setting; did you mean LEASEHOLD_SESSION_TTL_DEFAULT?");
    expect(problems.join()).toContain(
      "LEASEHOLD_DRAIN_TIMEOUT is not a duration such as 250ms, 20s, 5m, 1h or 7d; a bare number has no unit: write 5s for seconds",
    );
    expect(problems.join()).not.toContain("secret");
  });

  it("requires the database", () => {
    expect(() => loadConfig({})).toThrow(/LEASEHOLD_DATABASE_URL is required/);
  });

  it.each([
    ["LEASEHOLD_RETENTION_COMPLETED", "59m"],
    ["LEASEHOLD_SESSION_TTL_DEFAULT", "1s"],
    ["LEASEHOLD_SESSION_TTL_DEFAULT", "-2s"],
    ["LEASEHOLD_SESSION_TTL_DEFAULT", "20 s"],
    ["LEASEHOLD_EXECUTION_RETRY_FACTOR", "NaN"],
    ["LEASEHOLD_EXECUTION_RETRY_JITTER", "1.5"],
    ["LEASEHOLD_SCHEDULING_BATCH_SIZE", "1e3"],
    ["LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_DELAYS", "0s,,10s"],
    ["LEASEHOLD_SCHEDULING_SCHEDULER_RETRY_DELAYS", "0,10,60"],
    ["LEASEHOLD_PERSISTENCE_SCHEMA_NAME", "pg_tasks"],
    ["LEASEHOLD_PERSISTENCE_SCHEMA_NAME", "ü".repeat(32)],
    ["LEASEHOLD_PERSISTENCE_SCHEMA_NAME", "a\0b"],
    ["LEASEHOLD_DATABASE_PREPARED_STATEMENTS", "yes"],
    ["LEASEHOLD_LIMIT_PAYLOAD_BYTES", "2MiB"],
    ["LEASEHOLD_TLS_CERT_FILE", "/x.pem"],
  ])("refuses %s=%s", (name, value) => {
    expect(problemsOf({ [name]: value })).toHaveLength(1);
    expect(problemsOf({ [name]: value })[0]).toContain(name.startsWith("LEASEHOLD_LIMIT") ? "LEASEHOLD_LIMIT" : name);
  });

  it("takes any other schema name, because it is quoted", () => {
    expect(load({ LEASEHOLD_PERSISTENCE_SCHEMA_NAME: 'Ta sks"; --' }).database.schemaName).toBe('Ta sks"; --');
  });
});

describe("addresses", () => {
  it.each([
    ["127.0.0.1:7410", "127.0.0.1", 7410, true],
    ["127.0.0.1", "127.0.0.1", 7410, true],
    ["[::1]:7410", "::1", 7410, true],
    ["::1", "::1", 7410, true],
    ["0:0:0:0:0:0:0:1", "0:0:0:0:0:0:0:1", 7410, true],
    ["localhost:0", "localhost", 0, true],
    ["::", "::", 7410, false],
    ["[::]:80", "::", 80, false],
    ["0.0.0.0", "0.0.0.0", 7410, false],
    ["tasks.internal:443", "tasks.internal", 443, false],
    ["::ffff:10.0.0.1", "::ffff:10.0.0.1", 7410, false],
  ])("reads %s", (text, host, port, loopback) => {
    const address = parseListen(text);
    expect(address).toEqual({ kind: "tcp", host, port });
    expect(isLoopback(address)).toBe(loopback);
  });

  it("reads unix sockets, which are no network", () => {
    expect(parseListen("unix:/run/l.sock")).toEqual({ kind: "unix", path: "/run/l.sock" });
    expect(parseListen("unix:///run/l.sock")).toEqual({ kind: "unix", path: "/run/l.sock" });
    expect(isLoopback(parseListen("unix:/run/l.sock"))).toBe(true);
  });

  it.each([
    "",
    ":7410",
    "7410",
    "1.2.3",
    "[::1",
    "[1.2.3.4]:1",
    "host:70000",
    "host:",
    "a b:1",
    "unix:relative",
    `unix:/${"x".repeat(120)}`,
    "http://x:1",
  ])("refuses %j", (text) => {
    expect(() => parseListen(text)).toThrow();
  });

  it("refuses to listen beyond loopback without TLS unless told so", () => {
    expect(problemsOf({ LEASEHOLD_LISTEN: "::" })[0]).toContain("reachable from other machines without TLS");
    expect(load({ LEASEHOLD_LISTEN: "0.0.0.0:1", LEASEHOLD_INSECURE_BIND: "true" }).listen).toMatchObject({ host: "0.0.0.0" });
    expect(load({ LEASEHOLD_LISTEN: "::", LEASEHOLD_TLS_CERT_FILE: "/c", LEASEHOLD_TLS_KEY_FILE: "/k" }).tls).toEqual({
      certFile: "/c",
      keyFile: "/k",
    });
  });
});
