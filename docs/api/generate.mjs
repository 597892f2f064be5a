// Where does the API reference come from? From the comments of the .proto files, by way of the descriptor set that reflection serves too.
// Run: npm run generate:reference. A test compares the pages with what this makes, and the examples with the contract.

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { fromBinary } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label, FieldDescriptorProto_Type, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const folder = path.dirname(fileURLToPath(import.meta.url));
const PAGES = {
  "leasehold/v1/task.proto": "task.md",
  "leasehold/v1/task_service.proto": "task-service.md",
  "leasehold/v1/worker_service.proto": "worker-service.md",
};

/** The pages by file name. */
export async function referencePages() {
  const image = fromBinary(FileDescriptorSetSchema, await readFile(path.join(folder, "../../proto/leasehold.binpb")));
  const examples = JSON.parse(await readFile(path.join(folder, "examples.json"), "utf8"));
  const homes = new Map();
  for (const file of image.file)
    for (const type of [...file.messageType, ...file.enumType]) homes.set(`.${file.package}.${type.name}`, PAGES[file.name]);
  const pages = new Map();
  for (const file of image.file) if (PAGES[file.name]) pages.set(PAGES[file.name], page(file, homes, examples));
  return pages;
}

function page(file, homes, examples) {
  const comments = commentsOf(file);
  const here = PAGES[file.name];
  const lines = [
    `# ${file.name}`,
    "",
    "Generated from the comments of the contract by `npm run generate:reference`; change them there.",
    "",
    firstComment(file),
    "",
  ];
  file.service.forEach((service, s) => {
    lines.push(`## ${service.name}`, "", comments.get(`6.${s}`) ?? "", "");
    service.method.forEach((method, m) => lines.push(...rpc(service, method, comments.get(`6.${s}.2.${m}`) ?? "", homes, here, examples)));
  });
  if (file.messageType.length > 0) lines.push("## Messages", "");
  file.messageType.forEach((message, m) => lines.push(...messageLines(message, `4.${m}`, comments, homes, here)));
  if (file.enumType.length > 0) lines.push("## Enums", "");
  file.enumType.forEach((type, e) => lines.push(...enumLines(type, `5.${e}`, comments)));
  return `${lines
    .join("\n")
    .replaceAll(/\n{3,}/g, "\n\n")
    .trimEnd()}\n`;
}

function rpc(service, method, comment, homes, here, examples) {
  const stream = (on) => (on ? "stream " : "");
  const signature = `${stream(method.clientStreaming)}${link(method.inputType, homes, here)} → ${stream(method.serverStreaming)}${link(method.outputType, homes, here)}`;
  const example = examples[`${service.name}.${method.name}`];
  const shown =
    example === undefined
      ? []
      : [
          "```json",
          `// request${method.clientStreaming ? " (one message of the stream)" : ""}`,
          JSON.stringify(example.request, null, 2),
          `// answer${method.serverStreaming ? " (one message of the stream)" : ""}`,
          JSON.stringify(example.response, null, 2),
          "```",
          "",
        ];
  return [`### ${method.name}`, "", signature, "", comment, "", ...shown];
}

function messageLines(message, at, comments, homes, here) {
  const lines = [`### ${message.name}`, "", comments.get(at) ?? "", ""];
  const fields = message.field.map(
    (field, f) => `| \`${field.name}\` | ${typeOf(field, message, homes, here)} | ${cell(comments.get(`${at}.2.${f}`) ?? "")} |`,
  );
  return fields.length === 0 ? lines : [...lines, "| field | type | meaning |", "|---|---|---|", ...fields, ""];
}

function enumLines(type, at, comments) {
  const values = type.value.map((value, v) => `| \`${value.name}\` | ${value.number} | ${cell(comments.get(`${at}.2.${v}`) ?? "")} |`);
  return [`### ${type.name}`, "", comments.get(at) ?? "", "", "| value | number | meaning |", "|---|---|---|", ...values, ""];
}

function typeOf(field, message, homes, here) {
  const entry = message.nestedType.find((nested) => nested.options?.mapEntry && field.typeName.endsWith(`.${nested.name}`));
  if (entry) return `map of ${scalar(entry.field[0], homes, here)} to ${scalar(entry.field[1], homes, here)}`;
  const repeated = field.label === FieldDescriptorProto_Label.REPEATED ? "repeated " : "";
  return `${field.proto3Optional ? "optional " : ""}${repeated}${scalar(field, homes, here)}`;
}

function scalar(field, homes, here) {
  if (field.typeName !== "") return link(field.typeName, homes, here);
  return FieldDescriptorProto_Type[field.type].toLowerCase();
}

function link(typeName, homes, here) {
  const home = homes.get(typeName);
  const name = typeName.split(".").at(-1);
  return home === undefined ? typeName.slice(1) : `[${name}](${home === here ? "" : home}#${name.toLowerCase()})`;
}

function cell(text) {
  return text.replaceAll("\n", " ").replaceAll("|", "\\|");
}

function commentsOf(file) {
  const found = new Map();
  for (const { path: at, leadingComments } of file.sourceCodeInfo?.location ?? []) {
    if (leadingComments) found.set(at.join("."), tidy(leadingComments));
  }
  return found;
}

// The comment that opens the file stands detached before `syntax`.
function firstComment(file) {
  const syntax = file.sourceCodeInfo?.location.find(({ path: at }) => at.length === 1 && at[0] === 12);
  return tidy([...(syntax?.leadingDetachedComments ?? []), syntax?.leadingComments ?? ""].join("\n"));
}

function tidy(comment) {
  return comment
    .split("\n")
    .map((line) => line.trim())
    .join("\n")
    .trim();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of await referencePages()) await writeFile(path.join(folder, name), text);
}
