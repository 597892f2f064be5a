// How does a test speak the worker protocol as another version of the contract would? Field by field, by number: fewer fields than today's stubs
// know, or more.
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Client, credentials } from "@grpc/grpc-js";

/** A message as numbers and what stands under them; every other field of it was passed over. */
export type Fields = ReadonlyMap<number, readonly (bigint | Buffer)[]>;

/** A field to write: text and bytes, a number, or a message. */
export type Field = readonly [number, string | Buffer | number | readonly Field[]];

/** Writes a message. */
export function encode(fields: readonly Field[]): Buffer {
  const writer = new BinaryWriter();
  for (const [number, value] of fields) {
    if (typeof value === "number") writer.tag(number, WireType.Varint).int32(value);
    else if (typeof value === "string") writer.tag(number, WireType.LengthDelimited).string(value);
    else writer.tag(number, WireType.LengthDelimited).bytes(Buffer.isBuffer(value) ? value : encode(value));
  }
  return Buffer.from(writer.finish());
}

/** Reads the fields that a version knows, and passes over all others, as generated code does. */
export function decode(bytes: Buffer, known: readonly number[]): Fields {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (bigint | Buffer)[]>();
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const value = valueOf(reader, type);
    if (value !== undefined && known.includes(number)) fields.set(number, [...(fields.get(number) ?? []), value]);
  }
  return fields;
}

function valueOf(reader: BinaryReader, type: WireType): bigint | Buffer | undefined {
  if (type === WireType.Varint) return BigInt(reader.uint64());
  if (type === WireType.LengthDelimited) return Buffer.from(reader.bytes());
  if (type === WireType.Bit64) reader.fixed64();
  else reader.fixed32();
  return undefined;
}

/** The first value of a field as text; empty where it is absent. */
export function textOf(fields: Fields, number: number): string {
  const value = fields.get(number)?.[0];
  return Buffer.isBuffer(value) ? value.toString("utf8") : "";
}

/** The messages of a repeated field. */
export function messagesOf(fields: Fields, number: number, known: readonly number[]): Fields[] {
  return (fields.get(number) ?? []).flatMap((value) => (Buffer.isBuffer(value) ? [decode(value, known)] : []));
}

/** A stream of ExecuteTasks in bytes. */
export interface ForeignWorker {
  send(fields: readonly Field[]): void;
  /** The first that `pick` finds in what came or will come. */
  first<T>(pick: (message: Fields) => T | undefined): Promise<T>;
  close(): void;
}

const METHOD = "/leasehold.v1.WorkerService/ExecuteTasks";
const PATIENCE_MS = 15_000;

/** Opens a stream; of what comes it reads the fields of ServerMessage that it knows. */
export function openForeignWorker(address: string, known: readonly number[]): ForeignWorker {
  const client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
  const same = (bytes: Buffer): Buffer => bytes;
  const call = client.makeBidiStreamRequest<Buffer, Buffer>(METHOD, same, same);
  const received: Fields[] = [];
  const listeners = new Set<() => void>();
  call.on("data", (bytes: Buffer) => {
    received.push(decode(bytes, known));
    for (const listener of listeners) listener();
  });
  call.on("error", () => undefined);
  return {
    send: (fields) => void call.write(encode(fields)),
    first: <T>(pick: (message: Fields) => T | undefined) =>
      new Promise<T>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`nothing that was looked for came within ${PATIENCE_MS} ms`)), PATIENCE_MS);
        const look = (): void => {
          for (const message of received) {
            const found = pick(message);
            if (found === undefined) continue;
            clearTimeout(timer);
            listeners.delete(look);
            resolve(found);
            return;
          }
        };
        listeners.add(look);
        look();
      }),
    close: () => {
      call.cancel();
      client.close();
    },
  };
}
