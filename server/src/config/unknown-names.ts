// Which variables look like settings and are none? A slip of the pen would otherwise be a setting that silently does nothing.

import { nearestName } from "./nearest-name.js";

/** One sentence for each name with the prefix that is no setting, with the setting that may have been meant. */
export function unknownNames(env: Readonly<Record<string, string | undefined>>, prefix: string, known: readonly string[]): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith(prefix) && !known.includes(name));
  return unknown.map((name) => {
    const nearest = nearestName(name, known);
    const meant = nearest === null ? "." : `; did you mean ${nearest}?`;
    return `${name} is no setting${meant}`;
  });
}
