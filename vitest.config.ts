// How are the tests run? Every package from its TypeScript sources, as one copy, so that no test passes on yesterday's build.
// Eight projects: unit (nothing outside the process), postgres (a shared embedded Postgres) beside postgres-17 (races and fenced writes on a server
// that rechecks less), postgres-debian and pglite (the storage on Debian's, and on what the test kit runs on), e2e (real processes), long (real
// processes for minutes), load (real processes that keep a machine busy, one file at a time).
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

const ROOT = import.meta.dirname;
const PACKAGES = ["proto", "client", "server", "testing"];

interface Alias {
  find: RegExp;
  replacement: string;
}

/** Turns each entry of a package's `exports` from what is built (`./dist/x.js`) to what is written (`src/x.ts`). */
function sourceAliases(folder: string): Alias[] {
  const manifest = join(ROOT, folder, "package.json");
  if (!existsSync(manifest)) return [];
  const { name, exports } = JSON.parse(readFileSync(manifest, "utf8")) as {
    name: string;
    exports: Record<string, string | { default: string }>;
  };
  const listed = Object.entries(exports).flatMap(([entry, target]) => {
    const built = typeof target === "string" ? target : target.default;
    if (!built.startsWith("./dist/")) return [];
    const source = join(ROOT, folder, built.replace("./dist/", "src/").replace(/\.js$/, ".ts")).replace("*", "$1");
    const pattern = `${name}${entry.slice(1)}`.replaceAll(".", "\\.").replace("*", "(.+)");
    return [{ find: new RegExp(`^${pattern}$`), replacement: source }];
  });
  // Tests also reach what a package keeps to itself: `@leasehold/server/domain/retry`.
  return [...listed, { find: new RegExp(`^${name}/(?!.*\\.binpb$)(.+)$`), replacement: join(ROOT, folder, "src/$1.ts") }];
}

/** What starts a process for each of its many scenarios, or works for minutes. */
const LONG = ["test/fault/**/*.test.ts", "test/e2e/{conform,raw-workers}.test.ts"];
/** What keeps both cores busy by itself, and measures. */
const LOADS = ["test/e2e/{bench,overload}.test.ts"];

/** What shows that the double of the test kit, and a Postgres built by others, do what the embedded one does. */
const STORAGE = [
  "test/integration/storage/{apply-decisions,decide,insert-leased,insert-tasks,lease-tasks,read-tasks,sessions,upkeep}.test.ts",
];

const POSTGRES = "test/support/global-postgres.ts";

export default defineConfig({
  resolve: { alias: PACKAGES.flatMap(sourceAliases) },
  test: {
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    // A flake is a bug.
    retry: 0,
    projects: [
      {
        extends: true,
        test: { name: "unit", include: ["test/house.test.ts", "test/unit/**/*.test.ts"], sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: {
          name: "postgres",
          include: ["test/{integration,model,conformance}/**/*.test.ts"],
          globalSetup: POSTGRES,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "postgres-17",
          include: ["test/integration/races*.test.ts", "test/integration/storage/{apply-decisions,lease-tasks,plans,sessions}.test.ts"],
          globalSetup: "test/support/old-postgres.ts",
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "postgres-debian",
          include: STORAGE,
          globalSetup: "test/support/debian-shared-postgres.ts",
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "pglite",
          include: STORAGE,
          env: { LEASEHOLD_TEST_STORAGE: "pglite" },
          // PGlite is started once for all of them.
          isolate: false,
          maxWorkers: 1,
          sequence: { groupOrder: 5 },
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: ["test/{e2e,abuse}/**/*.test.ts"],
          exclude: [...LONG, ...LOADS],
          globalSetup: POSTGRES,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: { name: "long", include: LONG, globalSetup: POSTGRES, sequence: { groupOrder: 3 } },
      },
      {
        extends: true,
        test: {
          name: "load",
          include: LOADS,
          globalSetup: POSTGRES,
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});
