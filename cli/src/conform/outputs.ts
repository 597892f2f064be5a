// How are results written? For people with what was expected and seen, for programs as TAP 14 and as JUnit XML.
import type { Screen } from "../output/screen.js";
import type { Result } from "./run.js";

/** Lines of a transcript that are shown to people; the files have all. */
const SHOWN_LINES = 60;

/** One line for a result, and for a failure what was expected, what was seen and what led there. */
export function printResult({ print, paint }: Screen, result: Result): void {
  const { scenario, failure } = result;
  const seconds = `(${(result.durationMs / 1_000).toFixed(1)} s)`;
  const mark = failure === undefined ? paint("good", "ok    ") : paint("bad", "FAILED");
  print(`${mark} ${scenario.name}: ${scenario.title} ${paint("quiet", seconds)}`);
  if (failure === undefined) return;
  for (const line of failureLines(result, SHOWN_LINES)) print(`       ${line}`);
}

/** What is told of a failure. */
function failureLines({ scenario, failure }: Result, mostLines = Infinity): string[] {
  if (failure === undefined) return [];
  const { expected, saw, step, transcript, said } = failure;
  const left = Math.max(0, transcript.length - mostLines);
  const written = said.trim() === "" ? [] : said.trim().split("\n").slice(-20);
  return [
    `the rule:  ${scenario.rule}`,
    `expected:  ${expected}${step === 0 ? "" : ` (step ${step})`}`,
    `saw:       ${saw}`,
    `transcript, ← from the worker, → to it, seconds since its start:`,
    ...(left > 0 ? [`  … ${left} lines before`] : []),
    ...transcript.slice(left).map((line) => `  ${line}`),
    ...(written.length === 0 ? [] : ["the program wrote:", ...written.map((line) => `  ${line}`)]),
  ];
}

/** The last line: the score. */
export function scoreLine(results: readonly Result[]): string {
  const passed = results.filter(({ failure }) => failure === undefined).length;
  const full = passed === results.length ? ", full marks" : "";
  return `${passed} of ${results.length} scenarios passed${full}`;
}

/** Results as TAP 14. */
export function tapText(results: readonly Result[]): string {
  const lines = results.flatMap((result, index) => {
    const { scenario, failure, durationMs } = result;
    const head = `${failure === undefined ? "ok" : "not ok"} ${index + 1} - ${tapEscape(`${scenario.name}: ${scenario.title}`)}`;
    const facts = failure && { rule: scenario.rule, expected: failure.expected, actual: failure.saw, step: failure.step };
    const detail = { duration_ms: Math.round(durationMs), ...facts, ...(failure && { transcript: failure.transcript }) };
    // JSON is YAML.
    return [head, "  ---", ...Object.entries(detail).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`), "  ..."];
  });
  return ["TAP version 14", `1..${results.length}`, ...lines, ""].join("\n");
}

function tapEscape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("#", "\\#");
}

/** Results as JUnit XML. */
export function junitText(results: readonly Result[]): string {
  const seconds = (ms: number): string => (ms / 1_000).toFixed(3);
  const failures = results.filter(({ failure }) => failure !== undefined).length;
  const total = seconds(results.reduce((sum, { durationMs }) => sum + durationMs, 0));
  const cases = results.map((result) => {
    const { scenario, failure, durationMs } = result;
    const head = `    <testcase classname="leasehold.worker" name="${xml(`${scenario.name}: ${scenario.title}`)}" time="${seconds(durationMs)}"`;
    if (failure === undefined) return `${head}/>`;
    const message = xml(`expected ${failure.expected}, saw ${failure.saw}`);
    return `${head}>\n      <failure message="${message}">${xml(failureLines(result).join("\n"))}</failure>\n    </testcase>`;
  });
  const counts = `tests="${results.length}" failures="${failures}" errors="0" skipped="0" time="${total}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `  <testsuite name="worker conformance" ${counts}>`,
    ...cases,
    "  </testsuite>",
    "</testsuites>",
    "",
  ].join("\n");
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;" };

/** Text for XML, without the characters that it cannot hold. */
function xml(text: string): string {
  const allowed = text.replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "");
  return allowed.replace(/[&<>"\n]/g, (character) => ENTITIES[character] ?? character);
}
