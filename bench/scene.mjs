// What is on the stage while a case of one system is measured? Its servers, its database, a producer and a worker, each a process of its own.
import { Child } from "./children.mjs";

/** A system that runs. Producer and worker are started when a case first needs them, and stay warm for the next. */
export class Scene {
  #processes = new Map();

  /**
   * `client` is a file of bench/clients, `target` what it needs to find the system, `pids` tells the processes that serve, `reset` empties
   * the system, `close` stops it. `database` is left out where there is none.
   */
  constructor({ name, client = name, target, pids = () => [], database, reset = async () => undefined, close, addServer }) {
    Object.assign(this, { name, client, target, pids, database, reset, addServer });
    this.close = close;
  }

  /** The process that submits. */
  producer() {
    return this.#connected("producer.mjs");
  }

  /** The process that works. */
  worker() {
    return this.#connected("worker.mjs");
  }

  /** Ends producer and worker; the next case gets new ones. */
  async stopClients() {
    await Promise.all([...this.#processes.values()].map((child) => child.stop()));
    this.#processes.clear();
  }

  /** Ends everything. */
  async stop() {
    await this.stopClients();
    await this.close?.();
    await this.database?.drop();
  }

  async #connected(file) {
    const known = this.#processes.get(file);
    if (known !== undefined) return known;
    const child = new Child(file);
    this.#processes.set(file, child);
    await child.ask("connect", { system: this.client, target: this.target });
    return child;
  }
}
