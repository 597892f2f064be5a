// Are the public surfaces of the SDK and of its test kit what client/client.api.md and testing/testing.api.md say? Whoever changes one sees the
// difference in the report, and so does whoever reviews it.
//
//   node .ci/sdk-api.mjs           compares; fails when they differ
//   node .ci/sdk-api.mjs --write   writes the reports (npm run generate:sdk-api)
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const PACKAGES = ["client", "testing"];
const write = process.argv.includes("--write");

for (const name of PACKAGES) {
  const folder = join(ROOT, name);
  const entry = join(folder, "dist/index.d.ts");
  if (!existsSync(entry)) throw new Error(`${entry} is not built: run npm run build first`);
  const scratch = await mkdtemp(join(tmpdir(), "leasehold-sdk-api-"));
  const { apiReportChanged, errorCount } = Extractor.invoke(configOf(name, folder, entry, scratch), {
    localBuild: write,
    showVerboseMessages: false,
    messageCallback: quiet,
  });
  await rm(scratch, { recursive: true });
  if (errorCount > 0) throw new Error(`the declarations of ${name} could not be read`);
  if (!apiReportChanged || write) continue;
  console.error(`What ${name} exports has changed. If that is meant: npm run generate:sdk-api, and commit ${name}/${name}.api.md.`);
  process.exitCode = 1;
}

function configOf(name, folder, entry, scratch) {
  return ExtractorConfig.prepare({
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: entry,
      compiler: { tsconfigFilePath: join(folder, "tsconfig.json") },
      apiReport: { enabled: true, reportFileName: name, reportFolder: folder, reportTempFolder: scratch },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: "lf",
      messages: {
        // The report is about names and types; how comments are written is the linter's and the reader's business.
        extractorMessageReporting: { default: { logLevel: "none" } },
        tsdocMessageReporting: { default: { logLevel: "none" } },
      },
    },
    configObjectFullPath: join(folder, "api-extractor.json"),
    packageJsonFullPath: join(folder, "package.json"),
  });
}

/** Only errors are told: everything else is in the report. */
function quiet(message) {
  if (message.logLevel !== "error") message.handled = true;
}
