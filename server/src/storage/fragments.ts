// Of which pieces are reading statements composed? Only slonik's fragments: values travel as parameters, never as text.

import type { FragmentSqlToken, IdentifierSqlToken } from "slonik";
import { sql } from "slonik";

/** A piece of a statement with its parameters. */
export type Fragment = FragmentSqlToken;

const SECOND_US = 1_000_000;

/** A table of the schema. */
export function table(schema: string, name: string): IdentifierSqlToken {
  return sql.identifier([schema, name]);
}

/** A constant of this room as SQL: slonik has no other way to take text that is not a literal template. */
export function constant(text: string): Fragment {
  return { ...sql.fragment``, sql: text, values: [] };
}

/** A timestamp from whole microseconds, exact: intervals are counted in whole microseconds by Postgres. */
export function micros(us: number): Fragment {
  const seconds = Math.floor(us / SECOND_US);
  return sql.fragment`(timestamptz '1970-01-01 00:00:00+00' + ${seconds}::float8 * interval '1 second'
    + ${us - seconds * SECOND_US}::float8 * interval '1 microsecond')`;
}

/** Conditions that must all hold. */
export function all(conditions: readonly Fragment[]): Fragment {
  return conditions.length === 0 ? sql.fragment`true` : joined(conditions, " AND ");
}

/** Pieces one after the other, with a constant between them. */
export function joined(pieces: readonly Fragment[], between: string): Fragment {
  return sql.fragment`${sql.join([...pieces], constant(between))}`;
}
