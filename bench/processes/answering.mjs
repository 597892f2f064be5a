// How does a process of the benchmark answer its parent? One function for each verb; it ends when the parent lets go of it.

/** Answers questions with these functions. */
export function answerWith(verbs) {
  process.on("message", async ({ id, verb, body }) => {
    try {
      send({ id, value: await verbs[verb](body) });
    } catch (error) {
      send({ id, error: error.stack ?? String(error) });
    }
  });
  process.on("disconnect", () => process.exit(0));
  // Ctrl-C reaches the whole group; the parent decides in which order everything ends.
  process.on("SIGINT", () => undefined);
}

function send(message) {
  // A parent that is gone needs no answer.
  if (process.connected) process.send(message, () => undefined);
}
