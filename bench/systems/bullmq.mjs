// How is BullMQ started? On a Redis of its own that syncs its append-only file every second; what is newer is lost with the power.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { startProgram } from "../children.mjs";
import { Scene } from "../scene.mjs";
import { missingPackage } from "./installed.mjs";

const DURABLE = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];

/** The system. */
export default {
  name: "bullmq",
  cases: ["a-64", "b", "c", "d-64", "e", "f"],
  absent() {
    if (spawnSync("redis-server", ["--version"]).status === 0) return missingPackage("bullmq");
    return "redis-server is not installed: apt-get install redis-server, or npm run bench -- --install";
  },
  async start({ folder, turn }) {
    const home = path.join(folder, `redis-${turn}`);
    mkdirSync(home);
    const redisPath = path.join(home, "redis.sock");
    const args = ["--port", "0", "--unixsocket", redisPath, "--dir", home, "--logfile", "", ...DURABLE];
    const redis = await startProgram("redis-server", args, /ready to accept connections/i);
    const { default: Redis } = await import("ioredis");
    const client = new Redis({ path: redisPath });
    return new Scene({
      name: "bullmq",
      target: { redisPath },
      pids: () => [redis.pid],
      reset: () => client.flushall(),
      async close() {
        client.disconnect();
        await redis.stop();
      },
    });
  },
};
