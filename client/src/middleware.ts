// How does code run around every handler of a worker: traces, timing, a database session, a tenant check?
//
// Middleware is called in order, the first one outermost, and calls the next one by `next()`. It sees what the handler returned and what it
// threw, may change both, and may end the run without the handler.
import type { TaskDefinition } from "./define-task.js";
import { LeaseholdError } from "./errors.js";
import type { HandlerContext, UntypedHandlerContext } from "./handler-context.js";

/** What middleware gets of the run. */
export interface MiddlewareContext extends UntypedHandlerContext {
  /** The definition that the handler was tied to. */
  readonly task: TaskDefinition;
  /** What the submitter gave, parsed by that definition. */
  readonly metadata: unknown;
}

/**
 * Runs around a handler. Returns what `next()` resolved with (the handler's result or outcome), or something else in its place: a result, or
 * what `context.cancel` gave. What it throws counts as thrown by the handler. `next` may be called once.
 */
export type Middleware = (context: MiddlewareContext, next: () => Promise<unknown>) => unknown;

/** Runs a handler with middleware around it. */
export async function runWithMiddleware(
  middleware: readonly Middleware[],
  task: TaskDefinition,
  context: HandlerContext,
  handler: () => unknown,
): Promise<unknown> {
  const shown: MiddlewareContext = {
    ...context,
    get draining() {
      return context.draining;
    },
    task,
  };
  const from = async (index: number): Promise<unknown> => {
    const layer = middleware[index];
    if (layer === undefined) return handler();
    let called = false;
    return layer(shown, async () => {
      // A handler that runs twice does its work twice.
      if (called) throw new LeaseholdError({ code: "FAILED_PRECONDITION", message: "middleware called next() twice", taskId: context.id });
      called = true;
      return from(index + 1);
    });
  };
  return from(0);
}
