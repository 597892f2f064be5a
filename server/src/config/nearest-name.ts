// Which setting was probably meant by a name that is none? The one that the fewest changed letters make of it.

/** More letters than this were no slip of the hand. */
const MOST_STEPS = 6;

/** The known name that is nearest to another one; null if none is near. */
export function nearestName(name: string, known: readonly string[]): string | null {
  const nearest = known.map((other) => ({ other, steps: editDistance(name, other) })).sort((a, b) => a.steps - b.steps)[0];
  return nearest !== undefined && nearest.steps <= MOST_STEPS ? nearest.other : null;
}

/** How many letters must be added, removed or replaced to make one name of the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
