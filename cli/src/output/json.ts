// How is `-o json` written so that payloads stay the JSON that came? A writer that lets texts in as they are, digits and spaces included.

/** A JSON text that is written as it is. */
export class RawJson {
  constructor(readonly text: string) {}
}

/** What can be written. Fields that are undefined are left out. */
export type Writable = string | number | boolean | null | RawJson | readonly Writable[] | { readonly [name: string]: Writable | undefined };

/** The JSON text over several lines, indented by two spaces. Raw texts keep their own layout. */
export function jsonText(value: Writable): string {
  return write(value, "\n");
}

/** The JSON text on one line: line breaks of raw texts, which can only stand between tokens, are taken out. */
export function jsonLine(value: Writable): string {
  return write(value, "").replace(/[\r\n]+/g, "");
}

function write(value: Writable, gap: string): string {
  if (value instanceof RawJson) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = gap === "" ? "" : `${gap}  `;
  const [open, close, parts] = isList(value)
    ? (["[", "]", value.map((item) => write(item, inner))] as const)
    : (["{", "}", fieldsOf(value).map(([name, item]) => `${JSON.stringify(name)}:${gap === "" ? "" : " "}${write(item, inner)}`)] as const);
  return parts.length === 0 ? open + close : open + inner + parts.join(`,${inner}`) + gap + close;
}

function isList(value: readonly Writable[] | { readonly [name: string]: Writable | undefined }): value is readonly Writable[] {
  return Array.isArray(value);
}

function fieldsOf(value: { readonly [name: string]: Writable | undefined }): [string, Writable][] {
  return Object.entries(value).filter((field): field is [string, Writable] => field[1] !== undefined);
}
