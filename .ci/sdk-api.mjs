// Is the public surface of the SDK what client/client.api.md says? Whoever changes it sees the difference in the report, and so does whoever reviews it.
//
//   node .ci/sdk-api.mjs           compares; fails when they differ
//   node .ci/sdk-api.mjs --write   writes the report (npm run generate:sdk-api)
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const CLIENT = join(import.meta.dirname, "../client");
const ENTRY = join(CLIENT, "dist/index.d.ts");

if (!existsSync(ENTRY)) throw new Error(`${ENTRY} is not built: run npm run build first`);
const scratch = await mkdtemp(join(tmpdir(), "leasehold-sdk-api-"));
const config = ExtractorConfig.prepare({
  configObject: {
    projectFolder: CLIENT,
    mainEntryPointFilePath: ENTRY,
    compiler: { tsconfigFilePath: join(CLIENT, "tsconfig.json") },
    apiReport: { enabled: true, reportFileName: "client", reportFolder: CLIENT, reportTempFolder: scratch },
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
  configObjectFullPath: join(CLIENT, "api-extractor.json"),
  packageJsonFullPath: join(CLIENT, "package.json"),
});
const write = process.argv.includes("--write");
const { apiReportChanged, errorCount } = Extractor.invoke(config, {
  localBuild: write,
  showVerboseMessages: false,
  messageCallback: quiet,
});
await rm(scratch, { recursive: true });
if (errorCount > 0) throw new Error("the declarations of the SDK could not be read");
if (apiReportChanged && !write) {
  console.error("The public surface of the SDK has changed. If that is meant: npm run generate:sdk-api, and commit client/client.api.md.");
  process.exitCode = 1;
}

/** Only errors are told: everything else is in the report. */
function quiet(message) {
  if (message.logLevel !== "error") message.handled = true;
}
