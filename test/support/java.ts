// Where do the Java tests get the worker and its formatter? Maven builds the example once for each state of it, and fetches google-java-format.
// That needs a JDK of 17 or more, mvn, and a repository that it reaches.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { builtOnce, step } from "./built-once.js";
import { environment } from "./child-process.js";

const ROOT = join(import.meta.dirname, "../..");
// The newest that runs on Java 17.
const FORMATTER = "1.28.0";

/** The folder of the Java worker. */
export const javaWorkerFolder = join(ROOT, "examples/raw-workers/java");

/** Its source files, the one with the markers first. */
export const javaSources = ["Worker", "Handlers", "Conform"].map((name) => join(javaWorkerFolder, `src/${name}.java`));

/** What is built. */
export interface JavaPrograms {
  /** The jar of the worker. */
  readonly worker: string;
  /** The jar of the formatter. */
  readonly formatter: string;
}

/** Builds the worker unless it is there. Rejects, and says loudly what was left out, when that is not possible. */
export async function prepareJava(): Promise<JavaPrograms> {
  const version = await step("java", "java", ["--version"], "there is no java");
  const folder = await builtOnce("java", [...javaSources, join(javaWorkerFolder, "pom.xml")], `${FORMATTER} ${version}`, make);
  return { worker: join(folder, "target/raw-worker.jar"), formatter: join(folder, formatterJar) };
}

const formatterJar = `google-java-format-${FORMATTER}-all-deps.jar`;

async function make(folder: string): Promise<void> {
  // What is built keeps no path to where it was built, so the folder may be renamed.
  const artifact = `com.google.googlejavaformat:google-java-format:${FORMATTER}:jar:all-deps`;
  const formatter = ["dependency:copy", `-Dartifact=${artifact}`, `-DoutputDirectory=${folder}`];
  const build = ["-q", "-B", "package", `-Dtarget=${join(folder, "target")}`, ...formatter];
  const fault = "the worker cannot be built, or google-java-format cannot be fetched";
  // The Java that runs Maven is gone before a better compiler would pay.
  await step("java", "mvn", build, fault, { cwd: javaWorkerFolder, env: { MAVEN_OPTS: "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" } });
}

/** The sources that google-java-format would change; empty where all is well. */
export function unformattedJava(formatter: string): string {
  const opened = ["api", "code", "file", "parser", "tree", "util"];
  const exports = opened.flatMap((part) => ["--add-exports", `jdk.compiler/com.sun.tools.javac.${part}=ALL-UNNAMED`]);
  const args = [...exports, "-jar", formatter, "--dry-run", "--set-exit-if-changed", ...javaSources];
  const { status, stdout, stderr } = spawnSync("java", args, { env: environment(), encoding: "utf8" });
  return status === 0 ? "" : `${stdout}${stderr}`;
}
