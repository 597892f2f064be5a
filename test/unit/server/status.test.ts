// Can every refusal be read by any client: code, reason, paths, resource, delay? And does nothing inside show?
import { status } from "@grpc/grpc-js";
import type { Any } from "@leasehold/proto/google/protobuf/any";
import { BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { describe, expect, it } from "vitest";
import type { Reason } from "@leasehold/server/api/reasons";
import { REASONS } from "@leasehold/server/api/reasons";
import { refusalOf, refusalOfRejection, RefusedCall, toServiceError, toStatusMessage } from "@leasehold/server/api/status";
import { DatabaseFault } from "@leasehold/server/storage/faults";
import { keptLog } from "../../support/api-fakes.js";

function detail(details: readonly Any[], type: string): Buffer | undefined {
  return details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${type}`)?.value;
}

describe("a refusal", () => {
  it.each(Object.keys(REASONS) as Reason[])("%s has its code, its reason and a sentence", (reason) => {
    const error = toServiceError({ reason });
    const message = Status.decode(error.metadata.get("grpc-status-details-bin")[0] as Buffer);
    expect(message).toMatchObject({ code: error.code, message: error.details });
    expect(ErrorInfo.decode(detail(message.details, "ErrorInfo")!)).toMatchObject({ reason, domain: "leasehold" });
    expect(error.code).toBe(REASONS[reason].code);
    expect(error.details).toMatch(/^[A-Z].*\.$/);
  });

  it("names fields, resource, precondition and delay", () => {
    const { details } = toStatusMessage({
      reason: "TASK_FINISHED",
      resource: "id",
      retryAfterMs: 1500,
      violations: [{ field: "a.b", description: "is odd" }],
    });
    expect(BadRequest.decode(detail(details, "BadRequest")!).fieldViolations).toMatchObject([{ field: "a.b", description: "is odd" }]);
    expect(ResourceInfo.decode(detail(details, "ResourceInfo")!)).toMatchObject({ resourceType: "leasehold.v1.Task", resourceName: "id" });
    expect(PreconditionFailure.decode(detail(details, "PreconditionFailure")!).violations).toMatchObject([
      { type: "TASK_FINISHED", subject: "id" },
    ]);
    expect(RetryInfo.decode(detail(details, "RetryInfo")!).retryDelay).toEqual({ seconds: 1n, nanos: 500_000_000 });
  });

  it("stays below what trailers may hold, however much is wrong", () => {
    const violations = Array.from({ length: 1_000 }, (_, index) => ({
      field: `tasks[${index}].labels["${"x".repeat(1_000)}"]`,
      description: "y".repeat(1_000),
    }));
    const error = toServiceError({ reason: "INVALID_FIELD", violations });
    expect((error.metadata.get("grpc-status-details-bin")[0] as Buffer).length).toBeLessThan(5_500);
    expect(error.details.length).toBeLessThanOrEqual(1024);
  });

  it("can be sent whatever text is in it", () => {
    const error = toServiceError({ reason: "INVALID_FIELD", violations: [{ field: "a\ud800\0", description: "b\udc00" }] });
    expect(() => encodeURI(error.details)).not.toThrow();
  });
});

describe("what was thrown", () => {
  it("is answered as it says, if it is a refusal", () => {
    const log = keptLog();
    expect(refusalOf(new RefusedCall({ reason: "TASK_NOT_FOUND" }), log, "m")).toEqual({ reason: "TASK_NOT_FOUND" });
    expect(log.lines).toEqual([]);
  });

  it.each([
    ["unavailable", false, "DATABASE_UNAVAILABLE", 1000],
    ["overloaded", false, "OVERLOADED", 1000],
    ["overloaded", true, "DATABASE_UNAVAILABLE", 1000],
    ["conflict", false, "CONFLICT", undefined],
    ["invalid-value", false, "INVALID_FIELD", undefined],
  ] as const)("is answered without the driver's words, if the database is %s", (kind, outcomeUnknown, reason, retryAfterMs) => {
    const refusal = refusalOf(new DatabaseFault(kind, "driver text", outcomeUnknown, null), keptLog(), "m");
    expect(refusal).toMatchObject({ reason, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
    expect(JSON.stringify(refusal)).not.toContain("driver text");
  });

  it.each([new Error("secret"), "secret", undefined, null, { secret: true }, new DatabaseFault("unexpected", "secret", true, null)])(
    "is logged under a reference, if nobody expected it (%s)",
    (thrown) => {
      const log = keptLog();
      const refusal = refusalOf(thrown, log, "m");
      expect(refusal.reason).toBe("INTERNAL");
      expect(refusal.message).not.toContain("secret");
      expect(log.lines).toMatchObject([{ level: "error", fields: { err: thrown, method: "m", reference: refusal.reference } }]);
    },
  );
});

it("a rejection of the domain keeps its reason", () => {
  expect(refusalOfRejection({ reason: "TASK_NOT_SUSPENDED" }, "id")).toEqual({ reason: "TASK_NOT_SUSPENDED", resource: "id" });
  expect(toServiceError(refusalOfRejection({ reason: "TOO_MANY_PROCEEDS" }, "id")).code).toBe(status.RESOURCE_EXHAUSTED);
});
