// What is one step of a history? A few drawn numbers that find their task, session or lease when the step is taken, so that any step can
// be left out when fast-check looks for the shortest history that fails.
import fc from "fast-check";
import type { Model } from "./model.js";
import { expectAgreement, type System } from "./system.js";

/** One second in microseconds. */
export const SECOND = 1_000_000;

/** A step, as fast-check runs it. */
export type Step = fc.AsyncCommand<Model, System>;

/** Which of the two servers takes the step. */
export const on = fc.constantFrom<0 | 1>(0, 1);

/** One of a list, or undefined where there is none; the newest come first, so that small numbers find what is going on. */
export function pick<T>(list: readonly T[], at: number): T | undefined {
  return list.length === 0 ? undefined : list[list.length - 1 - (at % list.length)];
}

/** Makes steps of a name; after each, everything stored is compared with the model. */
export function step<Given>(
  name: string,
  arbitrary: fc.Arbitrary<Given>,
  act: (given: Given, model: Model, system: System) => Promise<void>,
): fc.Arbitrary<Step> {
  return arbitrary.map((given) => ({
    check: () => true,
    run: async (model, system) => {
      await act(given, model, system);
      await expectAgreement(model, system);
    },
    toString: () => `${name} ${fc.stringify(given)}`,
  }));
}
