// Which traces are kept? As OTEL_TRACES_SAMPLER says, and with a submission also the traces that link back to it: the wake-up of a task whose
// submission was sampled is a trace of its own, and would else be drawn for anew.

import { TraceFlags } from "@opentelemetry/api";
import type { tracing } from "@opentelemetry/sdk-node";

/** A sampler of the SDK. */
export type Sampler = tracing.Sampler;
/** What samplers are made with. */
type Samplers = Pick<
  typeof tracing,
  "AlwaysOffSampler" | "AlwaysOnSampler" | "ParentBasedSampler" | "SamplingDecision" | "TraceIdRatioBasedSampler"
>;

/** The sampler that the variables ask for; null: one that this does not know or should not change, which the SDK makes itself. */
export function linkSampler(env: Readonly<Record<string, string | undefined>>, samplers: Samplers): Sampler | null {
  const root = rootOf(env, samplers);
  if (root === null) return null;
  const linked: Sampler = {
    shouldSample: (context, traceId, name, kind, attributes, links) => {
      const follows = links.some(({ context: { traceFlags } }) => (traceFlags & TraceFlags.SAMPLED) !== 0);
      if (follows) return { decision: samplers.SamplingDecision.RECORD_AND_SAMPLED };
      return root.shouldSample(context, traceId, name, kind, attributes, links);
    },
    toString: () => `LinkSampler{${root.toString()}}`,
  };
  return new samplers.ParentBasedSampler({ root: linked });
}

function rootOf(env: Readonly<Record<string, string | undefined>>, samplers: Samplers): Sampler | null {
  switch (env["OTEL_TRACES_SAMPLER"]?.trim() || "parentbased_always_on") {
    case "parentbased_always_on":
      return new samplers.AlwaysOnSampler();
    case "parentbased_always_off":
      return new samplers.AlwaysOffSampler();
    case "parentbased_traceidratio":
      return new samplers.TraceIdRatioBasedSampler(ratioOf(env["OTEL_TRACES_SAMPLER_ARG"]));
    default:
      return null;
  }
}

/** As the SDK reads it: what is no number from 0 to 1 means all. */
function ratioOf(text: string | undefined): number {
  const ratio = text === undefined || text.trim() === "" ? 1 : Number(text);
  return ratio >= 0 && ratio <= 1 ? ratio : 1;
}
