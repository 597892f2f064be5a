// How are results told? As tables for people, and as a file for programs.
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Writes the rows as a list of `{system, case, unit, median, min, max, runs}` into the folder. */
export function writeResults(folder, file, results) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, file), `${JSON.stringify(results.rows(), null, 2)}\n`);
}

/** Prints every row, grouped by case: median, and the least and most of all runs. */
export function printResults(results, titles) {
  const rows = results.rows();
  for (const key of new Set(rows.map((row) => row.case))) {
    console.log(`\n${key}: ${titles[key] ?? ""}`);
    const lines = rows
      .filter((row) => row.case === key)
      .map(({ system, unit, median, min, max }) => [system, figure(median), `${figure(min)} … ${figure(max)}`, unit]);
    printTable(lines);
  }
}

/** Prints each target with what was measured, and whether it was reached. */
export function printTargets(results, targets) {
  console.log("\nWhat it must reach");
  printTable(targetLines(results, targets));
}

/** Writes the same as tables of Markdown: for each unit the medians of every case by system, then the targets. */
export function writeMarkdown(folder, file, { results, titles, targets }) {
  const rows = results.rows();
  const tables = [...new Set(rows.map(({ unit }) => unit))].map((unit) => {
    const those = rows.filter((row) => row.unit === unit);
    const systems = [...new Set(those.map(({ system }) => system))];
    const lines = [...new Set(those.map((row) => row.case))].map((key) => {
      const medians = systems.map((system) => those.find((row) => row.case === key && row.system === system)?.median);
      return [key, titles[key] ?? "", ...medians.map((median) => (median === undefined ? "" : figure(median)))];
    });
    return markdownTable(["case", unit, ...systems], lines);
  });
  const reached = markdownTable(["target", "measured", "bound", ""], targetLines(results, targets));
  writeFileSync(path.join(folder, file), [...tables, reached].join("\n"));
}

function targetLines(results, targets) {
  return targets.map(({ title, least, most, measured }) => {
    const value = measured(results);
    const bound = least === undefined ? (most === undefined ? "" : `≤ ${figure(most)}`) : `≥ ${figure(least)}`;
    if (value === undefined) return [title, "–", bound, "not measured"];
    if (bound === "") return [title, figure(value), bound, "told only"];
    return [title, figure(value), bound, (least === undefined ? value <= most : value >= least) ? "pass" : "miss"];
  });
}

function markdownTable(head, lines) {
  const row = (cells) => `| ${cells.join(" | ")} |\n`;
  return [row(head), `|${"---|".repeat(head.length)}\n`, ...lines.map(row)].join("");
}

function printTable(lines) {
  const widths = lines.reduce((most, line) => line.map((cell, index) => Math.max(most[index] ?? 0, cell.length)), []);
  for (const line of lines) {
    const cells = line.map((cell, index) =>
      index === 0 || index === line.length - 1 ? cell.padEnd(widths[index]) : cell.padStart(widths[index]),
    );
    console.log(`  ${cells.join("  ").trimEnd()}`);
  }
}

function figure(number) {
  if (number >= 1000) return Math.round(number).toLocaleString("en");
  return String(Number(number.toPrecision(3)));
}
