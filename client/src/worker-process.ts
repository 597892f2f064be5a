// What does a running worker have to do with its process?
//
// SIGTERM and SIGINT drain it, only while it runs. When user code ends the process by an uncaught error, a monitor says which tasks were
// running; it changes nothing about what Node does then. Health answers on a port of its own, if wanted.
import { createServer } from "node:http";
import { LeaseholdError } from "./errors.js";

/** Listens for SIGTERM and SIGINT. Returns the function that stops listening. */
export function onStopSignals(stop: () => void): () => void {
  const offs = [stopSignals.SIGTERM.add(stop), stopSignals.SIGINT.add(stop)];
  return () => {
    for (const off of offs) off();
  };
}

/** Is told of an uncaught error just before Node ends the process. Returns the function that stops listening. */
export function onUncaught(tell: (error: unknown) => void): () => void {
  return uncaught.add(tell);
}

/** One listener at the process for all workers in it: Node warns at the eleventh of one kind. There is none while nobody listens. */
class SharedListener<Value> {
  readonly #listeners = new Set<(value: Value) => void>();
  readonly #tell = (value: Value): void => {
    for (const listener of [...this.#listeners]) listener(value);
  };

  constructor(private readonly event: "SIGTERM" | "SIGINT" | "uncaughtExceptionMonitor") {}

  add(listener: (value: Value) => void): () => void {
    // Wrapped, so that the same function added twice is two listeners.
    const own = (value: Value): void => {
      listener(value);
    };
    if (this.#listeners.size === 0) process.on(this.event, this.#tell);
    this.#listeners.add(own);
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) process.off(this.event, this.#tell);
    };
  }
}

const stopSignals = { SIGTERM: new SharedListener<unknown>("SIGTERM"), SIGINT: new SharedListener<unknown>("SIGINT") };
const uncaught = new SharedListener<unknown>("uncaughtExceptionMonitor");

/** Serves `/livez` (200 while the event loop answers) and `/readyz` (200, or 503 with the reason). Returns the function that closes the port. Throws FAILED_PRECONDITION. */
export async function serveHealth(port: number, host: string, notReady: () => string | undefined): Promise<() => void> {
  const server = createServer((request, response) => {
    const known = request.url === "/livez" || request.url === "/readyz";
    const reason = request.url === "/readyz" ? notReady() : undefined;
    response
      .writeHead(known ? (reason === undefined ? 200 : 503) : 404, { "content-type": "text/plain; charset=utf-8" })
      .end(known ? `${reason ?? "ok"}\n` : "");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `health cannot be served on ${host}:${String(port)}: ${cause.message}`;
      reject(new LeaseholdError({ code: "FAILED_PRECONDITION", message, cause }));
    });
    server.listen(port, host, resolve);
  });
  return () => {
    server.close();
    server.closeAllConnections();
  };
}
