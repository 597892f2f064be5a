// How is Leasehold measured as its users use it? Through the TypeScript SDK.
import { startLeasehold } from "./leasehold-scene.mjs";

/** The system. */
export default {
  name: "leasehold-sdk",
  cases: ["a-64", "a-256", "b", "c", "d-64", "d-256", "e", "f", "h"],
  absent: () => undefined,
  start: (environment) => startLeasehold("leasehold-sdk", environment),
};
