// What is a statement? Whole SQL text with a name to prepare it by; the schema is written in once when it is built.

/** One cell as Postgres sends it in text form. */
export type Cell = string | null;

/** One row, by position. */
export type Row = readonly Cell[];

/** A statement, ready to run. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** Anything that runs statements: a lane, a pooled connection, a transaction, the test kit's database. */
export interface Connection {
  run(statement: Statement, values: readonly unknown[]): Promise<Row[]>;
}

/** Quotes an identifier. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * Makes the function that builds statements for one schema. In the text `$schema` stands for the quoted schema, and
 * `#name` of another text may be spliced in by the caller as a plain template value.
 */
export function statementsFor(schema: string): (name: string, text: string) => Statement {
  const quoted = quoteIdentifier(schema);
  // A function as the replacement: a `$` in a schema's name must not be read as a pattern.
  return (name, text) => ({ name: `leasehold_${name}`, text: text.replaceAll("$schema", () => quoted) });
}

/** The cell of a row that the statement never leaves null. */
export function text(row: Row, index: number): string {
  const cell = row[index];
  if (cell === null || cell === undefined) throw new TypeError(`column ${String(index)} is null`);
  return cell;
}

/** A whole number that the statement never leaves null. */
export function integer(row: Row, index: number): number {
  return Number(text(row, index));
}

/** A whole number or null. */
export function optionalInteger(row: Row, index: number): number | null {
  const cell = row[index] ?? null;
  return cell === null ? null : Number(cell);
}

/** A bytea cell as bytes, or null. */
export function bytes(row: Row, index: number): Buffer | null {
  const cell = row[index] ?? null;
  return cell === null ? null : Buffer.from(cell.slice(2), "hex");
}

/** A bytea cell as hex digits, or null. */
export function hexDigits(row: Row, index: number): string | null {
  const cell = row[index] ?? null;
  return cell === null ? null : cell.slice(2);
}

/** An instant that the statement never leaves null, in microseconds since 1970. */
export function instant(row: Row, index: number): number {
  return parseInstant(text(row, index));
}

/** An instant or null, in microseconds since 1970. */
export function optionalInstant(row: Row, index: number): number | null {
  const cell = row[index] ?? null;
  return cell === null ? null : parseInstant(cell);
}

/**
 * Reads `2026-11-25 02:32:38.123456+00` without losing the microseconds, which a Date would.
 * Connections run in UTC, so the offset is always `+00`.
 */
export function parseInstant(cell: string): number {
  const seconds = Date.UTC(
    Number(cell.slice(0, 4)),
    Number(cell.slice(5, 7)) - 1,
    Number(cell.slice(8, 10)),
    Number(cell.slice(11, 13)),
    Number(cell.slice(14, 16)),
    Number(cell.slice(17, 19)),
  );
  const end = cell.length - 3;
  const fraction = cell[19] === "." ? Number(cell.slice(20, end).padEnd(6, "0")) : 0;
  return seconds * 1000 + fraction;
}
