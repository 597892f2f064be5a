// Where do the SDK's lines go?
//
// To a logger that the user gives (pino fits as it is turned around by one line, console fits as it is), else warnings and errors go to
// standard error as one line each.

/** What a logger must do. `fields` are for machines. */
export interface Logger {
  /** For whoever looks for a fault. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What goes as it should. */
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What somebody should look at when it happens often. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What somebody should look at. */
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** Warnings and errors on standard error; the rest is dropped. */
export const standardErrorLog: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message, fields) => writeLine("warn", message, fields),
  error: (message, fields) => writeLine("error", message, fields),
};

/** A logger that adds fields to each line. It never throws: a broken logger must not end a task. */
export function withFields(log: Logger, added: Readonly<Record<string, unknown>>): Logger {
  const at = (level: keyof Logger) => (message: string, fields?: Readonly<Record<string, unknown>>) => {
    try {
      log[level](message, { ...added, ...fields });
    } catch {
      // Nowhere left to say it.
    }
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function writeLine(level: string, message: string, fields: Readonly<Record<string, unknown>> | undefined): void {
  const shown = Object.entries(fields ?? {}).map(
    ([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value, bigintAsText)}`,
  );
  process.stderr.write(`leasehold ${level}: ${message}${shown.join("")}\n`);
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
