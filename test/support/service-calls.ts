// How does a test ask a server what is not in the SDK: its health, its reflection, bytes that no client would send? By plain calls with plain bytes.
import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { BadRequest } from "@leasehold/proto/google/rpc/error_details";
import { Status } from "@leasehold/proto/google/rpc/status";
import { endingOf, type StreamEnding } from "./raw-worker.js";

/** What a health check answers; `unreachable` if there is no answer. */
export type Health = "SERVING" | "NOT_SERVING" | "unreachable";

/** How a call failed, with the fields that were at fault. */
export interface Refused extends StreamEnding {
  readonly fields: readonly string[];
}

const same = (bytes: Buffer): Buffer => bytes;
const DEADLINE_MS = 5_000;

/** Sends bytes to a unary method. Answers the bytes that came back, or how it failed; never rejects. */
export async function callWithBytes(address: string, method: string, bytes: Buffer): Promise<Buffer | Refused> {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  try {
    return await new Promise((resolve) => {
      client.makeUnaryRequest(method, same, same, bytes, { deadline: Date.now() + DEADLINE_MS }, (error, answer) => {
        resolve(error === null ? (answer ?? Buffer.alloc(0)) : refusedOf(error));
      });
    });
  } finally {
    client.close();
  }
}

/** What a server says of its health: of itself, or of one service. */
export async function healthOf(address: string, service = ""): Promise<Health> {
  const answer = await callWithBytes(address, "/grpc.health.v1.Health/Check", healthRequest(service));
  return Buffer.isBuffer(answer) ? healthIn(answer) : "unreachable";
}

/** Follows the health of a server until its stream ends: everything that it said, in order. */
export function watchHealth(address: string): { said: () => readonly Health[]; ended: Promise<StreamEnding> } {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const said: Health[] = [];
  const call = client.makeServerStreamRequest("/grpc.health.v1.Health/Watch", same, same, healthRequest(""));
  call.on("data", (answer: Buffer) => said.push(healthIn(answer)));
  call.on("error", () => undefined);
  const ended = new Promise<StreamEnding>((resolve) => {
    call.once("status", (end: ServiceError) => {
      client.close();
      resolve(endingOf(end));
    });
  });
  return { said: () => said, ended };
}

/** Names of the services that a server's reflection lists. */
export async function reflectedServices(address: string): Promise<string[]> {
  const client = new Client(address, credentials.createInsecure());
  const call = client.makeBidiStreamRequest("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", same, same);
  try {
    // Field 7, list_services, as an empty string.
    call.write(Buffer.from([0x3a, 0x00]));
    const answer = await new Promise<Buffer>((resolve, reject) => {
      call.once("data", resolve);
      call.once("error", reject);
    });
    return answer.toString("latin1").match(/[a-z]\w*(?:\.\w+)+/g) ?? [];
  } finally {
    call.cancel();
    client.close();
  }
}

// One string, field 1.
function healthRequest(service: string): Buffer {
  return service === "" ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, service.length]), Buffer.from(service)]);
}

// One enum, field 1.
function healthIn(answer: Buffer): Health {
  return answer[1] === 1 ? "SERVING" : "NOT_SERVING";
}

function refusedOf(error: ServiceError): Refused {
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  const details = trailer instanceof Buffer ? Status.decode(trailer).details : [];
  const requests = details.filter(({ typeUrl }) => typeUrl.endsWith("google.rpc.BadRequest"));
  const fields = requests.flatMap(({ value }) => BadRequest.decode(value).fieldViolations.map(({ field }) => field));
  return { ...endingOf(error), fields };
}
