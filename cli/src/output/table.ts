// How do rows become a table? Columns as wide as their widest cell, two spaces between them, nothing after the last.
import { stripVTControlCharacters } from "node:util";

/** How many characters a cell takes on the terminal. */
function width(cell: string): number {
  return Array.from(stripVTControlCharacters(cell)).length;
}

/** The lines of a table, the header first. Cells may carry colours. */
export function tableLines(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => width(row[column] ?? ""))));
  return all.map((row) =>
    header
      .map((_, column) => {
        const cell = row[column] ?? "";
        return cell + " ".repeat((widths[column] ?? 0) - width(cell));
      })
      .join("  ")
      .trimEnd(),
  );
}

/** Lines of `name  value` pairs; pairs without a value are left out. */
export function pairLines(pairs: readonly (readonly [name: string, value: string | undefined])[]): string[] {
  const present = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== undefined && pair[1] !== "");
  const widest = Math.max(0, ...present.map(([name]) => width(name)));
  return present.map(([name, value]) => `${name}${" ".repeat(widest - width(name))}  ${value}`);
}
