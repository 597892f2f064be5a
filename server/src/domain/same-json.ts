// Do two JSON texts mean the same? White space and the order of members do not count, digits do: 1 and 1.0 are two spellings that a
// double could not tell apart from others. Both texts were checked at the door, so this only reads them.

/** A scalar as its text (a string decoded, behind a quote, so that it never equals a number), an array, or the members of an object. */
type Node = string | Node[] | Map<string, Node>;

const decoder = new TextDecoder();

/** Whether two well-formed JSON texts in UTF-8 hold the same value. Of a key given twice the last one counts. */
export function sameJson(one: Uint8Array, other: Uint8Array): boolean {
  // Nearly always a submission is repeated as the bytes it was.
  if (Buffer.compare(one, other) === 0) return true;
  return same(read(decoder.decode(one)), read(decoder.decode(other)));
}

function same(one: Node, other: Node): boolean {
  if (typeof one === "string" || typeof other === "string") return one === other;
  if (Array.isArray(one)) {
    if (!Array.isArray(other) || one.length !== other.length) return false;
    return one.every((item, index) => isSame(item, other[index]));
  }
  if (Array.isArray(other) || one.size !== other.size) return false;
  for (const [key, value] of one) if (!isSame(value, other.get(key))) return false;
  return true;
}

function isSame(one: Node, other: Node | undefined): boolean {
  return other !== undefined && same(one, other);
}

function read(text: string): Node {
  return readValue(text, skipSpace(text, 0)).node;
}

interface Read {
  readonly node: Node;
  /** Where the value ended. */
  readonly end: number;
}

// Nesting is bounded at the door, so recursion is as well.
function readValue(text: string, start: number): Read {
  switch (text[start]) {
    case "{":
      return readObject(text, start);
    case "[":
      return readArray(text, start);
    case '"': {
      const end = endOfString(text, start);
      return { node: `"${decodeString(text, start, end)}`, end };
    }
    default: {
      const end = endOfWord(text, start);
      return { node: text.slice(start, end), end };
    }
  }
}

function readObject(text: string, start: number): Read {
  // A Map, not an object: `__proto__` is a key like any other.
  const members = new Map<string, Node>();
  let at = skipSpace(text, start + 1);
  while (text[at] !== "}") {
    const keyEnd = endOfString(text, at);
    const key = decodeString(text, at, keyEnd);
    const { node, end } = readValue(text, skipSpace(text, skipSpace(text, keyEnd) + 1));
    members.set(key, node);
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { node: members, end: at + 1 };
}

function readArray(text: string, start: number): Read {
  const items: Node[] = [];
  let at = skipSpace(text, start + 1);
  while (text[at] !== "]") {
    const { node, end } = readValue(text, at);
    items.push(node);
    at = skipSpace(text, end);
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { node: items, end: at + 1 };
}

function decodeString(text: string, start: number, end: number): string {
  const inside = text.slice(start + 1, end - 1);
  return inside.includes("\\") ? (JSON.parse(text.slice(start, end)) as string) : inside;
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

function endOfWord(text: string, start: number): number {
  let at = start;
  while (at < text.length && !",]} \t\n\r".includes(text[at] ?? "")) at++;
  return at;
}

function skipSpace(text: string, start: number): number {
  let at = start;
  while (text[at] === " " || text[at] === "\t" || text[at] === "\n" || text[at] === "\r") at++;
  return at;
}
