// How does a verb say that it cannot go on? By throwing this, with a sentence for a person and the exit code for scripts.
import type { ExitCode } from "./exit-codes.js";

/** A reason to end the command. The message is a sentence that says what is wrong and, where there is one, the remedy. */
export class CommandError extends Error {
  override readonly name = "CommandError";

  /** `details` are lines that follow the sentence, one for each thing that is wrong. */
  constructor(
    readonly exitCode: ExitCode,
    message: string,
    readonly details: readonly string[] = [],
  ) {
    super(message);
  }
}
