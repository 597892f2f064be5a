// Who runs imports? This process, until SIGTERM.
import { createClient, createWorker } from "@leasehold/client";
import { importHandler } from "./import.js";

const client = createClient();
// Two seconds after this process is gone its task goes on elsewhere. The default of 20 s suits real work better.
await createWorker({ client, handlers: [importHandler], sessionTtl: "2s" }).run();
client.close();
