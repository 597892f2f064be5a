// What does every verb get from the command that it belongs to? Its screen, its environment, and a way to say how it ended.
import type { Readable } from "node:stream";
import { Option, type Command } from "commander";
import type { ExitCode } from "./exit-codes.js";
import type { Screen } from "./output/screen.js";
import { connect, type ServerConnection, type ServerOptions } from "./server-connection.js";

/** The surroundings of a verb. */
export interface VerbContext {
  readonly screen: Screen;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable;
  /** Says how the verb ended; without it the command ends with 0. */
  readonly end: (exitCode: ExitCode) => void;
  /** Remembers which server the verb talks to, for sentences about it. */
  readonly talksTo: (address: string) => void;
}

/** What is printed: for people, or for programs. */
export type OutputForm = "text" | "json";

/** `-o, --output`. */
export function outputOption(json: string): Option {
  return new Option("-o, --output <form>", `text for people, or ${json}`).choices(["text", "json"]).default("text");
}

/** Runs the body of a client verb with a connection that is closed afterwards. */
export async function withServer(
  context: VerbContext,
  options: ServerOptions,
  body: (server: ServerConnection) => Promise<ExitCode>,
): Promise<void> {
  context.talksTo(options.address);
  const server = connect(options);
  try {
    context.end(await body(server));
  } finally {
    server.close();
  }
}

/** Adds examples below the help of a verb. */
export function withExamples(command: Command, ...examples: readonly string[]): Command {
  return command.addHelpText("after", ["", "Examples:", ...examples.map((example) => `  ${example}`)].join("\n"));
}
