// Is a package of the peers there? They are dependencies of bench/ alone, which nobody else installs.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Undefined if it is, else what to do. */
export function missingPackage(name) {
  try {
    require.resolve(name);
    return undefined;
  } catch {
    return `${name} is not installed: npm ci --prefix bench, or npm run bench -- --install`;
  }
}
