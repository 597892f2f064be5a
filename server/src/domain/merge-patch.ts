// How does a JSON Merge Patch (RFC 7396) change a document without touching a digit of what it leaves alone?
// Both texts were checked at the door, so this reads only objects apart and keeps every other value as the text it was.

/** An object's members in order; any other value as its own text. */
type Node = string | Member[];

interface Member {
  /** The key as it is spelled, with quotes. */
  readonly spelled: string;
  readonly key: string;
  readonly value: Node;
}

/**
 * Applies an RFC 7396 patch. Numbers, strings and arrays that stay keep their exact spelling.
 * @param target well-formed JSON text, or null for no document
 * @param patch well-formed JSON text
 */
export function mergePatch(target: string | null, patch: string): string {
  return write(merge(target === null ? "null" : read(target), read(patch)));
}

function merge(target: Node, patch: Node): Node {
  if (typeof patch === "string") return patch;
  // A Map, not an object: `__proto__` is a key like any other. Of a key given twice the last one counts, as JSON.parse has it.
  const members = new Map<string, Member>(typeof target === "string" ? [] : target.map((member) => [member.key, member]));
  for (const change of patch) {
    if (change.value === "null") {
      members.delete(change.key);
      continue;
    }
    const before = members.get(change.key);
    members.set(change.key, {
      spelled: before?.spelled ?? change.spelled,
      key: change.key,
      value: merge(before?.value ?? "null", change.value),
    });
  }
  return [...members.values()];
}

function write(node: Node): string {
  return typeof node === "string" ? node : `{${node.map((member) => `${member.spelled}:${write(member.value)}`).join(",")}}`;
}

function read(text: string): Node {
  return readValue(text, skipSpace(text, 0)).node;
}

function readValue(text: string, start: number): { node: Node; end: number } {
  if (text[start] === "{") return readObject(text, start);
  const end = endOfValue(text, start);
  return { node: text.slice(start, end), end };
}

function readObject(text: string, start: number): { node: Member[]; end: number } {
  const members: Member[] = [];
  let at = skipSpace(text, start + 1);
  while (text[at] !== "}") {
    const keyEnd = endOfString(text, at);
    const spelled = text.slice(at, keyEnd);
    const { node, end } = readValue(text, skipSpace(text, skipSpace(text, keyEnd) + 1));
    members.push({ spelled, key: JSON.parse(spelled) as string, value: node });
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { node: members, end: at + 1 };
}

function endOfValue(text: string, start: number): number {
  if (text[start] === '"') return endOfString(text, start);
  if (text[start] === "[") return endOfArray(text, start);
  let at = start;
  while (at < text.length && !/[\s,\]}]/.test(text.charAt(at))) at++;
  return at;
}

// By searching, because strings may be a mebibyte: a quote is the end unless an odd number of backslashes stands before it.
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let first = at;
    while (text[first - 1] === "\\") first--;
    if ((at - first) % 2 === 0) return at + 1;
  }
  throw new SyntaxError("a string of well-formed JSON does not end");
}

function endOfArray(text: string, start: number): number {
  let depth = 0;
  let at = start;
  do {
    const char = text[at];
    if (char === '"') {
      at = endOfString(text, at);
      continue;
    }
    if (char === "[" || char === "{") depth++;
    if (char === "]" || char === "}") depth--;
    at++;
  } while (depth > 0);
  return at;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (text[at] === " " || text[at] === "\t" || text[at] === "\n" || text[at] === "\r") at++;
  return at;
}
