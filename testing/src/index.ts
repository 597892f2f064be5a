// The public page of @leasehold/testing: everything a test can name, and nothing else.
//
// `createTestEnv` is a whole Leasehold in the test's process, with a clock that the test moves. `runHandler` runs one handler with no server at all.
export { createTestEnv, type TestClientOptions, type TestEnv, type TestEnvOptions, type TestWorkerOptions } from "./environment.js";
export type { TestClock } from "./clock.js";
export type { Faults } from "./faults.js";
export type { ServerSettings } from "./server.js";
export { type HandlerRun, runHandler } from "./run-handler.js";
export type { RunOptions, RunStop, RunSurroundings } from "./run-options.js";
export type { RunOutcome } from "./run-outcome.js";
