// Where do a verb's lines go, and in which colours? Answers to standard output, remarks to standard error; colours only for eyes.

/** The colours in use, by what they say. */
export type Colour = "good" | "bad" | "busy" | "waiting" | "quiet" | "strong";

const CODES: Readonly<Record<Colour, string>> = { good: "32", bad: "31", busy: "36", waiting: "33", quiet: "2", strong: "1" };

/** What a verb writes to. */
export interface Screen {
  /** One line of the answer. */
  readonly print: (line: string) => void;
  /** Bytes of the answer, exactly. */
  readonly write: (bytes: Uint8Array) => void;
  /** One line beside the answer. */
  readonly remark: (line: string) => void;
  /** The text in a colour, or as it is where there are none. */
  readonly paint: (colour: Colour, text: string) => string;
}

/** A stream to write to; `isTTY` is true for terminals. */
export interface Sink {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean;
}

/** Makes a screen. Colours are on when the answer goes to a terminal and NO_COLOR is not set (or empty) and TERM is not `dumb`. */
export function createScreen(out: Sink, err: Sink, env: Readonly<Record<string, string | undefined>>): Screen {
  const coloured = out.isTTY === true && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  return {
    print: (line) => void out.write(`${line}\n`),
    write: (bytes) => void out.write(bytes),
    remark: (line) => void err.write(`${line}\n`),
    paint: (colour, text) => (coloured ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text),
  };
}
