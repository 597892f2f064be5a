// What keeps a server from outliving the benchmark? The channel to its parent: when it closes, the process ends. Loaded with --import.

process.once("disconnect", () => process.exit(1));
// Listening must not keep a server alive that was asked to stop.
process.channel?.unref();
