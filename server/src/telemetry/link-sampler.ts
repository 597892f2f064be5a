// Which spans are kept? As OTEL_TRACES_SAMPLER says, with two exceptions: the wake-up of a task whose submission was sampled is a trace of its
// own and would else be drawn for anew; and slonik's own spans are none of ours, they would tell what was asked of Postgres in full.

import { TraceFlags } from "@opentelemetry/api";
import type { tracing } from "@opentelemetry/sdk-node";

/** A sampler of the SDK. */
export type Sampler = tracing.Sampler;
/** What samplers are made with. */
type Samplers = Pick<
  typeof tracing,
  "AlwaysOffSampler" | "AlwaysOnSampler" | "ParentBasedSampler" | "SamplingDecision" | "TraceIdRatioBasedSampler"
>;

const FOREIGN = "slonik.";

/** The sampler that the variables ask for; one that the specification does not name is `parentbased_always_on`, its default. */
export function linkSampler(env: Readonly<Record<string, string | undefined>>, samplers: Samplers): Sampler {
  const asked = env["OTEL_TRACES_SAMPLER"]?.trim() || "parentbased_always_on";
  const root = rootOf(asked.replace("parentbased_", ""), env["OTEL_TRACES_SAMPLER_ARG"], samplers);
  const chosen = /^(always_on|always_off|traceidratio)$/.test(asked)
    ? root
    : new samplers.ParentBasedSampler({ root: withLinks(root, samplers) });
  return {
    shouldSample: (context, traceId, name, kind, attributes, links) =>
      name.startsWith(FOREIGN)
        ? { decision: samplers.SamplingDecision.NOT_RECORD }
        : chosen.shouldSample(context, traceId, name, kind, attributes, links),
    toString: () => chosen.toString(),
  };
}

function withLinks(root: Sampler, { SamplingDecision }: Samplers): Sampler {
  return {
    shouldSample: (context, traceId, name, kind, attributes, links) => {
      const follows = links.some(({ context: { traceFlags } }) => (traceFlags & TraceFlags.SAMPLED) !== 0);
      if (follows) return { decision: SamplingDecision.RECORD_AND_SAMPLED };
      return root.shouldSample(context, traceId, name, kind, attributes, links);
    },
    toString: () => `LinkSampler{${root.toString()}}`,
  };
}

function rootOf(asked: string, ratio: string | undefined, samplers: Samplers): Sampler {
  if (asked === "always_off") return new samplers.AlwaysOffSampler();
  return asked === "traceidratio" ? new samplers.TraceIdRatioBasedSampler(ratioOf(ratio)) : new samplers.AlwaysOnSampler();
}

/** As the SDK reads it: what is no number from 0 to 1 means all. */
function ratioOf(text: string | undefined): number {
  const ratio = text === undefined || text.trim() === "" ? 1 : Number(text);
  return ratio >= 0 && ratio <= 1 ? ratio : 1;
}
