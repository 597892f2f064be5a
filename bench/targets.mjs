// What must Leasehold reach? Ratios of medians from one run, because times by themselves mean little on a shared machine.

const E2E = "e";

/** All targets: `measured` answers undefined where something it needs was not measured. Those without a bound are only told. */
export const TARGETS = [
  share("(e) of the limit's life, batches of 500", 0.7, ["leasehold", "e"], ["limit", "life-500"]),
  share("(c) of the limit's lease and complete", 0.6, ["leasehold", "c"], ["limit", "lease-complete-500"]),
  share("(b) of the limit's insert", 0.55, ["leasehold", "b"], ["limit", "insert-500"]),
  share("raw (a) of the bare echo, 64 in flight", 0.55, ["leasehold", "a-64"], ["grpc-echo", "unary-64"]),
  share("raw (d) of the bare echo, 64 in flight", 0.4, ["leasehold", "d-64"], ["grpc-echo", "unary-64"]),
  share("raw (a) of the bare echo, 256 in flight", undefined, ["leasehold", "a-256"], ["grpc-echo", "unary-256"]),
  share("raw (d) of the bare echo, 256 in flight", undefined, ["leasehold", "d-256"], ["grpc-echo", "unary-256"]),
  share("(e) of the limit's life on three connections", undefined, ["leasehold", "e"], ["limit-3", "life-500"]),
  share("SDK (d) of pg-boss", 5, ["leasehold-sdk", "d-64"], ["pg-boss", "d-64"]),
  share("SDK (d) of graphile-worker", 5, ["leasehold-sdk", "d-64"], ["graphile-worker", "d-64"]),
  share("SDK (d) of BullMQ", 1, ["leasehold-sdk", "d-64"], ["bullmq", "d-64"]),
  best("SDK (e) of the best peer", 3, E2E),
  best("SDK (c) of the best peer", 2, "c"),
  share("(e) on two servers of that on one", 0.95, ["leasehold", "e-two-servers"], ["leasehold", E2E]),
  most("(f) p50 in ms", 2, (results) => results.of("leasehold", "f", "ms p50")),
  most("(f) p50 of the best Postgres peer's", 1 / 3, (results) => {
    const peers = ["pg-boss", "graphile-worker"].map((peer) => results.of(peer, "f", "ms p50")).filter(isNumber);
    return ratio(results.of("leasehold", "f", "ms p50"), peers.length === 0 ? undefined : Math.min(...peers));
  }),
  most("(f) p99 of three commits' p99", 3, (results) =>
    ratio(results.of("leasehold", "f", "ms p99"), results.of("leasehold", "f", "ms p99, 3 commits")),
  ),
  most("server memory at (e) in MB", 250, (results) => results.of("leasehold", E2E, "server memory MB")),
];

/** A ratio that must be at least this, if anything. */
function share(title, least, [system, key], [reference, referenceKey]) {
  return { title, least, measured: (results) => ratio(results.of(system, key), results.of(reference, referenceKey)) };
}

/** The SDK against the fastest of the peers that were measured. */
function best(title, least, key) {
  const measured = (results) => {
    const peers = ["pg-boss", "graphile-worker", "bullmq"].map((peer) => results.of(peer, key)).filter(isNumber);
    return ratio(results.of("leasehold-sdk", key), peers.length === 0 ? undefined : Math.max(...peers));
  };
  return { title, least, measured };
}

function most(title, limit, measured) {
  return { title, most: limit, measured };
}

/** One number of another; undefined if either was not measured. */
export function ratio(one, other) {
  return isNumber(one) && isNumber(other) ? one / other : undefined;
}

function isNumber(value) {
  return value !== undefined;
}
