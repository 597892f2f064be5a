// Which texts may a setting be? Sentences that go on after the setting's name.

/** What a schema's name must be. */
export const SCHEMA_RULE = "1 to 63 bytes without U+0000, not beginning with pg_";

/** What is wrong with the name of a schema, or null. */
export function schemaFault(name: string): string | null {
  const fits = name !== "" && Buffer.byteLength(name) <= 63 && !name.includes("\0") && !/\p{Surrogate}/u.test(name) && !/^pg_/i.test(name);
  return fits ? null : `must be ${SCHEMA_RULE}; any other character is allowed, because the name is always quoted`;
}

/** What is wrong with a connection string, or null. Never repeats it: it holds a password. */
export function urlFault(url: string): string | null {
  return /^postgres(?:ql)?:\/\/./.test(url) ? null : "must be a connection string that begins with postgres:// or postgresql://";
}
