// Does the repository keep the rules of the house? Layout, arrows, words and docs, each as an ordinary test over every source file.
// The rules themselves are in support/house; that each of them catches what it forbids is proven in unit/house-*.test.ts.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { importBreaches } from "./support/house/arrows.js";
import { metricBreaches, reasonBreaches, settingBreaches, whereIsBreaches } from "./support/house/docs.js";
import { guaranteeBreaches } from "./support/house/guarantees.js";
import { nameBreaches } from "./support/house/names.js";
import { impurityBreaches, sqlBreaches } from "./support/house/purity.js";
import type { Breach } from "./support/house/source.js";
import { diskTree, sourcesOf, tell } from "./support/house/source.js";
import { migrationBreaches, styleBreaches } from "./support/house/style.js";

const tree = diskTree(join(import.meta.dirname, ".."));
const sources = sourcesOf(tree);

function expectKept(breaches: readonly Breach[]): void {
  expect(breaches.map(tell)).toEqual([]);
}

describe("the house", () => {
  it("is read whole: every package has sources to judge", () => {
    const folders = [
      "server/src/domain/",
      "server/src/storage/",
      "server/src/dispatch/",
      "server/src/upkeep/",
      "server/src/api/",
      "client/src/",
      "cli/src/",
      "testing/src/",
      "test/",
    ];
    expect(folders.filter((folder) => !sources.some(({ path }) => path.startsWith(folder)))).toEqual([]);
    expect(tree.list().filter((path) => path.startsWith("migrations/") && path.endsWith(".sql"))).not.toEqual([]);
  });

  it("keeps the arrows between rooms and packages, without circles and barrels", () => {
    expectKept(importBreaches(sources));
  });

  it("keeps SQL in server/src/storage and migrations", () => {
    expectKept(sources.flatMap(sqlBreaches));
  });

  it("tells the domain the time and draws its random numbers outside", () => {
    expectKept(sources.flatMap(impurityBreaches));
  });

  it("opens every file with a sentence, keeps it short, puts nothing off and skips no test", () => {
    expectKept([...styleBreaches(sources), ...migrationBreaches(tree)]);
  });

  it("names files and exports by what they are", () => {
    expectKept(nameBreaches(sources));
  });

  it("says truly in docs/architecture.md where things are", () => {
    expectKept(whereIsBreaches(tree));
  });

  it("describes every setting in docs/configuration.md, and no other", () => {
    expectKept(settingBreaches(tree, sources));
  });

  it("describes every reason of an error in docs/errors.md, and no other", () => {
    expectKept(reasonBreaches(tree));
  });

  it("describes every metric in docs/telemetry.md, and no other", () => {
    expectKept(metricBreaches(tree));
  });

  it("names in docs/guarantees.md, for each promise, tests that exist", () => {
    expectKept(guaranteeBreaches(tree));
  });
});
