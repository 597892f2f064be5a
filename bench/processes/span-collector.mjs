// Which spans arrive? A collector of OTLP over HTTP that counts them by the first word of their names, for the service that is called `all`.
import { createServer } from "node:http";

import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import "./end-with-parent.mjs";

const counts = {};

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    count(Buffer.concat(chunks));
    response.setHeader("content-type", "application/x-protobuf");
    response.end();
  });
}).listen(0, "127.0.0.1", () => process.send(`http://127.0.0.1:${server.address().port}`));

process.on("message", () => process.send(counts));

/** ExportTraceServiceRequest: resource_spans 1 { resource 1, scope_spans 2 { spans 2 { name 5 } } }. */
function count(body) {
  for (const resourceSpans of within(body, 1)) {
    if (!within(resourceSpans, 1).some((resource) => Buffer.from(resource).includes("service.name\u0012\u0005\n\u0003all"))) continue;
    for (const span of within(resourceSpans, 2).flatMap((scopeSpans) => within(scopeSpans, 2))) {
      const kind = Buffer.from(within(span, 5)[0] ?? [])
        .toString()
        .split(" ")[0];
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
  }
}

function within(bytes, wanted) {
  const reader = new BinaryReader(bytes);
  const found = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted && type === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(type, field);
  }
  return found;
}
