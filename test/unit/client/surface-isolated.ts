// Can definitions be exported where every exported type has to be written down? Compiled by types.test.ts with isolatedDeclarations, never run.
import { defineTask, type Flow, handle, type TaskHandler, type TaskOf } from "@leasehold/client";
import { z } from "zod";

type Probe<A> = <T>(value: T) => T extends A ? T : A;
type Same<A, B> = Probe<A> extends Probe<B> ? true : never;
declare function same<A, B>(yes: Same<A, B>): void;

interface Written {
  metadata: { text: string };
  executionMetadata: Flow<{ sent?: number | undefined }, { sent: number }>;
  result: { sent: boolean };
  errors: { bounced: { address: string } };
}

const inferred = defineTask({
  name: "remind",
  metadata: z.object({ text: z.string() }),
  executionMetadata: z.object({ sent: z.number().default(0) }),
  result: z.object({ sent: z.boolean() }),
  errors: { bounced: z.object({ address: z.string() }) },
});
export const remind: TaskOf<"remind", Written> = inferred;
export const bare: TaskOf<"bare"> = defineTask({ name: "bare" });
export const handlers: TaskHandler[] = [
  handle(bare, () => undefined),
  handle(remind, async (ctx) => {
    same<typeof ctx.executionMetadata.current, { sent: number }>(true);
    await ctx.executionMetadata.checkpoint({});
    return ctx.metadata.text === "" ? ctx.fail("bounced", { address: "x" }) : { sent: true };
  }),
  // @ts-expect-error an error that is not declared
  handle(remind, (ctx) => ctx.fail("lost", {})),
];
same<(typeof remind)["~types"]["failure"], (typeof inferred)["~types"]["failure"]>(true);

// @ts-expect-error another name
export const named: TaskOf<"other"> = defineTask({ name: "bare" });
// @ts-expect-error metadata of another type
export const typed: TaskOf<"remind", { metadata: { text: number } }> = defineTask({
  name: "remind",
  metadata: z.object({ text: z.string() }),
});
// @ts-expect-error an error that is not written down
export const erring: TaskOf<"bare"> = defineTask({ name: "bare", errors: { odd: z.string() } });
