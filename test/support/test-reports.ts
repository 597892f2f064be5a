// How does a test read TAP and JUnit XML? Small strict readers of what our outputs use; anything else throws.

/** One test of a TAP text. */
export interface TapTest {
  readonly ok: boolean;
  readonly number: number;
  readonly title: string;
  readonly diagnostics: Readonly<Record<string, unknown>>;
}

/** Reads TAP 14: a version, a plan, tests in order, each with diagnostics whose values are JSON. Throws when the plan does not hold. */
export function parseTap(text: string): TapTest[] {
  const [version, plan, ...lines] = text.trimEnd().split("\n");
  if (version !== "TAP version 14") throw new Error(`no version: ${String(version)}`);
  const planned = Number(/^1\.\.(\d+)$/.exec(plan ?? "")?.[1]);
  const tests: TapTest[] = [];
  while (lines.length > 0) {
    const head = /^(not ok|ok) (\d+) - (.*)$/.exec(lines.shift() ?? "");
    if (head === null) throw new Error("no test line");
    const [, word, number, title = ""] = head;
    if (/(?<!\\)#/.test(title)) throw new Error(`a directive in ${title}`);
    if (lines.shift() !== "  ---") throw new Error("no diagnostics");
    const diagnostics: Record<string, unknown> = {};
    for (let line = lines.shift(); line !== "  .."; line = lines.shift()) {
      if (line === "  ...") break;
      const [, key = "", value = ""] = /^ {2}([a-z_]+): (.*)$/.exec(line ?? "") ?? [];
      diagnostics[key] = JSON.parse(value);
    }
    tests.push({ ok: word === "ok", number: Number(number), title: title.replace(/\\([\\#])/g, "$1"), diagnostics });
  }
  if (tests.length !== planned || tests.some(({ number }, index) => number !== index + 1)) throw new Error("the plan does not hold");
  return tests;
}

/** An element of XML. */
export interface XmlElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlElement[];
  readonly text: string;
}

const TOKEN = /<(\/?)([a-z]+)((?: [a-z]+="[^"<&]*(?:&(?:amp|lt|gt|quot|#10);[^"<&]*)*")*)(\/?)>|([^<]+)/y;
const FORBIDDEN = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

/** Reads XML without comments, CDATA and name spaces. Throws when it is not well formed. */
export function parseXml(text: string): XmlElement {
  if (FORBIDDEN.test(text)) throw new Error("a character that XML cannot hold");
  const body = text.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, "").trim();
  const top = { name: "", attributes: {}, children: [] as XmlElement[], text: "" };
  const open = [top];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < body.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(body);
    if (match === null) throw new Error(`not well formed at ${body.slice(at, at + 60)}`);
    const [, closing, name = "", attributes = "", empty, words] = match;
    const parent = open.at(-1)!;
    if (words !== undefined) parent.text += unescape(words);
    else if (closing === "/") {
      if (open.pop()?.name !== name) throw new Error(`</${name}> closes another element`);
    } else {
      const element = { name, attributes: attributesOf(attributes), children: [], text: "" };
      parent.children.push(element);
      if (empty === "") open.push(element);
    }
  }
  if (open.length !== 1 || top.children.length !== 1) throw new Error("not one whole element");
  return top.children[0]!;
}

function attributesOf(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/ ([a-z]+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name, unescape(value)]));
}

function unescape(text: string): string {
  if (/&(?!(?:amp|lt|gt|quot|#10);)/.test(text)) throw new Error(`a bare & in ${text}`);
  const characters: Readonly<Record<string, string>> = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#10;": "\n" };
  return text.replace(/&(?:amp|lt|gt|quot|#10);/g, (entity) => characters[entity]!);
}
