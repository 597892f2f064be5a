// How are measured figures told? As count, least, middle and most, in milliseconds unless they say otherwise.

/** What many measurements come to. */
export interface Figures {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Sums measurements up; all zero where there are none. */
export function figuresOf(values: readonly number[]): Figures {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => Math.round(sorted[index] ?? 0);
  return { count: sorted.length, min: at(0), median: at(Math.floor(sorted.length / 2)), max: at(sorted.length - 1) };
}

/** Writes what was measured to stdout: figures of each list of numbers, anything else as it is. */
export function print(title: string, measured: object): void {
  const lines = Object.entries(measured).map(([name, value]) => {
    const { count, min, median, max } = figuresOf(isNumbers(value) ? value : []);
    const shown = count > 0 ? `median ${median}, min ${min}, max ${max}, count ${count}` : JSON.stringify(value);
    return `  ${name.padEnd(24)} ${shown}`;
  });
  process.stdout.write(`${title}\n${lines.join("\n")}\n`);
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "number");
}

/** How often each value occurs. */
export function tally(values: Iterable<string>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
