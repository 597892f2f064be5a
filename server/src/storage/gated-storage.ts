// What does a server do whose Postgres must not be used as it is? The same as while it is away: every operation fails before it is sent.

import { UnfitDatabase } from "./conditions.js";
import type { Storage } from "./storage.js";

/** Goes on whatever the database is like. */
const ALWAYS: readonly (string | symbol)[] = ["onHint", "close", "health", "listening"] satisfies (keyof Storage)[];

/** The same storage, whose operations fail with an `UnfitDatabase` for as long as there are problems. */
export function gatedStorage(storage: Storage, problems: () => readonly string[]): Storage {
  return new Proxy(storage, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function" || ALWAYS.includes(name)) return member;
      return (...parameters: unknown[]): unknown => {
        const found = problems();
        if (found.length > 0) return Promise.reject(new UnfitDatabase(found));
        return Reflect.apply(member, target, parameters);
      };
    },
  });
}
