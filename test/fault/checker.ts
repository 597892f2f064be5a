// Does a history keep what Leasehold promises? Every check of every guarantee that a history can decide, in one list.
import { answers, dueTimes, durability, endings, identity, liveness, proceeds, reads, timelines } from "./checks-of-calls.js";
import { authority, checkpoints, expiry, finality, repetitions, waits } from "./checks-of-leases.js";
import type { History, Violation } from "./history.js";
import { type Ledger, ledgerOf } from "./ledger.js";

const CHECKS: readonly ((ledger: Ledger) => Violation[])[] = [
  ...[durability, authority, finality, checkpoints, expiry, identity, repetitions, proceeds],
  ...[waits, dueTimes, answers, reads, timelines, endings, liveness],
];

/** Everything that is wrong, the most telling first: lost and doubled work before what only never ended. */
export function checkHistory(history: History): Violation[] {
  const ledger = ledgerOf(history);
  return [
    ...CHECKS.flatMap((check) => check(ledger)),
    ...history.findings.map(({ finding, id }) => ({ guarantee: "audit", finding, task: id })),
    ...history.complaints.map((finding) => ({ guarantee: "alive", finding })),
  ];
}
