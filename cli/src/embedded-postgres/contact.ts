// Does the Postgres behind this unix socket answer, and does it have our database?
// Speaks just enough of the wire protocol to log in and run one statement: this package has no Postgres driver, and needs none for more.
import { connect } from "node:net";

/** What Postgres answered instead of doing it. `code` is its SQLSTATE, for example `57P03` while it starts up. */
export class PostgresRefusal extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const protocolVersion = 3 << 16;
const answerTimeoutMs = 30_000;

function framed(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(type.length + 4);
  head.write(type);
  head.writeInt32BE(body.length + 4, type.length);
  return Buffer.concat([head, body]);
}

function startupMessage(user: string, database: string): Buffer {
  const version = Buffer.alloc(4);
  version.writeInt32BE(protocolVersion);
  return framed("", Buffer.concat([version, Buffer.from(`user\0${user}\0database\0${database}\0\0`)]));
}

function refusal(body: Buffer): PostgresRefusal {
  const fields = new Map(
    body
      .toString("utf8")
      .split("\0")
      .map((field) => [field[0] ?? "", field.slice(1)]),
  );
  return new PostgresRefusal(fields.get("C") ?? "", fields.get("M") ?? "");
}

/** Cuts what arrived into whole messages; returns what is left over for the next call. */
function eachMessage(bytes: Buffer, handle: (type: string, body: Buffer) => void): Buffer {
  let rest = bytes;
  while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
    const end = 1 + rest.readInt32BE(1);
    handle(String.fromCharCode(rest[0] ?? 0), rest.subarray(5, end));
    rest = rest.subarray(end);
  }
  return rest;
}

/**
 * Logs in as `postgres` (no password: the socket is private) and runs at most one statement.
 * @param socketPath the socket itself, not its folder.
 * @param statement left out, logging in is all.
 * @throws PostgresRefusal with Postgres' own answer; a Node system error when nobody listens; an Error after 30 s of silence.
 */
export function speakTo(socketPath: string, database: string, statement?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let rest: Buffer = Buffer.alloc(0);
    let unsent = statement;
    const settle = (finish: () => void): void => {
      socket.destroy();
      finish();
    };
    const onMessage = (type: string, body: Buffer): void => {
      if (type === "E") settle(() => reject(refusal(body)));
      else if (type === "Z" && unsent === undefined) settle(resolve);
      else if (type === "Z") {
        socket.write(framed("Q", Buffer.from(`${unsent ?? ""}\0`)));
        unsent = undefined;
      }
    };
    socket.setTimeout(answerTimeoutMs, () => settle(() => reject(new Error(`Postgres does not answer on ${socketPath}`))));
    socket.on("connect", () => socket.write(startupMessage("postgres", database)));
    socket.on("data", (bytes: Buffer) => {
      rest = eachMessage(Buffer.concat([rest, bytes]), onMessage);
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error(`Postgres closed the connection on ${socketPath}`)));
  });
}
