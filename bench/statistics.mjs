// How do many numbers become one that can be believed? Medians, percentiles, and a line through points.

/** The middle of the numbers; of an even count the mean of the two in the middle. */
export function median(numbers) {
  const sorted = ascending(numbers);
  const middle = sorted.length / 2;
  return Number.isInteger(middle) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[Math.floor(middle)];
}

/** The number that a share (0 to 1) of all numbers does not exceed; NaN of none. */
export function percentile(numbers, share) {
  const sorted = ascending(numbers);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** Slope of the least-squares line through points [x, y]. */
export function slope(points) {
  const meanX = mean(points.map(([x]) => x));
  const meanY = mean(points.map(([, y]) => y));
  const along = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / along;
}

/** Every measurement of all runs, gathered into one row for each system, case and unit. */
export class Results {
  #values = new Map();

  /** Notes what one run measured. A number that is none is an error: nothing was measured. */
  add(system, key, unit, value) {
    if (!Number.isFinite(value)) throw new Error(`${system}, case ${key}: no number of ${unit} was measured`);
    const name = JSON.stringify([system, key, unit]);
    this.#values.set(name, [...(this.#values.get(name) ?? []), value]);
  }

  /** The rows, in the order in which they were first measured. */
  rows() {
    return [...this.#values].map(([name, values]) => {
      const [system, key, unit] = JSON.parse(name);
      const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map(rounded);
      return { system, case: key, unit, median: middle, min: low, max: high, runs: values.length };
    });
  }

  /** Median of a row, or undefined if it was not measured. */
  of(system, key, unit = "tasks/s") {
    return this.rows().find((row) => row.system === system && row.case === key && row.unit === unit)?.median;
  }
}

function ascending(numbers) {
  return [...numbers].sort((a, b) => a - b);
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

function rounded(number) {
  return Number(number.toPrecision(4));
}
