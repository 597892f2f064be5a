// Who runs the bare statements? A process of its own, as a server is one.
import { openLimit, threeCommits } from "../limit.mjs";
import { answerWith } from "./answering.mjs";

let limit;

answerWith({
  async open({ databaseUrl, connections }) {
    limit = await openLimit(databaseUrl, connections);
  },
  life: ({ batch, seconds }) => limit.life(batch, seconds),
  insert: ({ batch, seconds }) => limit.insert(batch, seconds),
  leaseAndComplete: ({ batch, backlog }) => limit.leaseAndComplete(batch, backlog),
  reset: () => limit.reset(),
  threeCommits: ({ databaseUrl, perSecond, seconds }) => threeCommits(databaseUrl, perSecond, seconds),
});
