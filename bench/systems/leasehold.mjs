// How is Leasehold measured without an SDK? By raw calls of the generated stubs.
import { startLeasehold } from "./leasehold-scene.mjs";

/** The system. */
export default {
  name: "leasehold",
  cases: ["a-64", "a-256", "b", "c", "d-64", "d-256", "e", "e-two-servers", "f", "g", "h"],
  absent: () => undefined,
  start: (environment) => startLeasehold("leasehold", environment),
};
