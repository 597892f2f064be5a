#!/usr/bin/env node
// Starts the leasehold command. Committed as JavaScript because npm links a bin only if its file exists at install time.
await import("../dist/main.js");
