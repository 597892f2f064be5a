// Does every alert say where its page is, and does that page say what it means, what to type first and what then?
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { observabilityFolder } from "../support/observability.js";
import { alertSections } from "../support/runbook.js";

const rules = readFileSync(join(observabilityFolder, "alerts.yml"), "utf8");
const alerts = rules
  .split(/^\s+- alert: /m)
  .slice(1)
  .map((rule) => ({
    name: /^\w+/.exec(rule)?.[0] ?? "",
    runbook: /runbook: (\S+)/.exec(rule)?.[1],
    severity: /severity: (\w+)/.exec(rule)?.[1],
  }));

describe("each alert", () => {
  it("names the section of the runbook that bears its name", () => {
    expect(alerts.length).toBeGreaterThan(15);
    const wrong = alerts.filter(({ name, runbook }) => runbook !== `docs/operations.md#${name.toLowerCase()}`);
    expect(wrong).toEqual([]);
    expect(alerts.filter(({ severity }) => !["critical", "warning", "info"].includes(severity ?? ""))).toEqual([]);
  });

  it("has a section with what it means, what to type first, and what then; and no section is of an alert that is gone", () => {
    const sections = alertSections();
    const lacking = alerts.filter(({ name }) => {
      const section = sections.get(name.toLowerCase()) ?? "";
      return !["**Means**: ", "**First**:", "**Then**: "].every((word) => section.includes(word)) || !section.includes("`");
    });
    expect(lacking.map(({ name }) => name)).toEqual([]);
    expect([...sections.keys()].sort()).toEqual(alerts.map(({ name }) => name.toLowerCase()).sort());
  });
});
