// In which languages is there a raw worker, and how is each built, started and looked at? One description each; a test goes through them.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { environment } from "./child-process.js";
import { goSources, goWorkerFolder, prepareGo } from "./go.js";
import { javaSources, prepareJava, unformattedJava } from "./java.js";
import { preparePython, pythonWorkerFolder } from "./python.js";
import { prepareRust, rustSources, rustWorkerFolder } from "./rust.js";

/** How a worker is started. */
export interface WorkerCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A language that has a raw worker. */
export interface RawLanguage {
  readonly name: string;
  /** What the names of its tasks begin with. */
  readonly prefix: string;
  /** Its source files, the one with the markers first. */
  readonly sources: readonly string[];
  /** It has fewer lines of machinery than this. */
  readonly machineryLimit: number;
  /** Lines of it that are not counted: blank ones, comments, imports. */
  readonly uncounted: RegExp;
  /** The code of the error that an unforeseen failure of a handler gets. */
  readonly unforeseen: string;
  /** Programs without which it cannot be built. */
  readonly tools: readonly (readonly [program: string, ...args: string[]])[];
  /** Builds it, unless that was done. */
  build(): Promise<WorkerCommand>;
  /** The files that its formatter would change, as the formatter tells them. Needs what is built. */
  unformatted(): string;
}

/** The output of a formatter; empty where all is well. */
function said(program: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { env: environment(), encoding: "utf8" });
  if (error !== undefined) throw error;
  return status === 0 ? stdout : `${stdout}${stderr}`;
}

const PYTHON: RawLanguage = {
  name: "Python",
  prefix: "py",
  sources: [join(pythonWorkerFolder, "worker.py")],
  machineryLimit: 60,
  uncounted: /^\s*(?:#.*|(?:import|from) .*)?$/,
  unforeseen: "KeyError",
  tools: [["python3", "--version"]],
  build: async () => {
    const { interpreter, stubs } = await preparePython();
    PYTHON_SEEN.interpreter = interpreter;
    return { program: interpreter, args: [join(pythonWorkerFolder, "worker.py")], env: { PYTHONPATH: stubs, PYTHONUNBUFFERED: "1" } };
  },
  unformatted: () => said(PYTHON_SEEN.interpreter, ["-m", "black", "--quiet", "--diff", "--line-length", "100", pythonWorkerFolder]),
};
const PYTHON_SEEN = { interpreter: "python3" };

const GO: RawLanguage = {
  name: "Go",
  prefix: "go",
  sources: goSources.map((name) => join(goWorkerFolder, name)),
  machineryLimit: 70,
  uncounted: /^\s*(?:\/\/.*|import .*)?$/,
  unforeseen: "error",
  tools: [["go", "version"]],
  build: async () => ({ program: (await prepareGo()).worker, args: [], env: {} }),
  unformatted: () => said("gofmt", ["-l", goWorkerFolder, join(import.meta.dirname, "go")]),
};

const JAVA: RawLanguage = {
  name: "Java",
  prefix: "java",
  sources: javaSources,
  machineryLimit: 70,
  uncounted: /^\s*(?:\/\/.*|\/?\*.*|import .*)?$/,
  unforeseen: "NullPointerException",
  tools: [
    ["javac", "--version"],
    ["mvn", "--version"],
  ],
  build: async () => {
    const { worker, formatter } = await prepareJava();
    JAVA_SEEN.formatter = formatter;
    return { program: "java", args: ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", worker], env: {} };
  },
  unformatted: () => unformattedJava(JAVA_SEEN.formatter),
};
const JAVA_SEEN = { formatter: "" };

const RUST: RawLanguage = {
  name: "Rust",
  prefix: "rust",
  sources: rustSources,
  machineryLimit: 60,
  uncounted: /^\s*(?:\/\/.*|use .*)?$/,
  unforeseen: "error",
  tools: [
    ["cargo", "--version"],
    ["rustfmt", "--version"],
  ],
  build: async () => ({ program: await prepareRust(), args: [], env: {} }),
  unformatted: () => said("cargo", ["fmt", "--check", "--manifest-path", join(rustWorkerFolder, "Cargo.toml")]),
};

/** Every language that has a raw worker. */
export const rawLanguages: readonly RawLanguage[] = [PYTHON, GO, JAVA, RUST];

/** The tool of a language that this machine lacks, if any. */
export function missingTool({ tools }: Pick<RawLanguage, "tools">): string | undefined {
  return tools.find(([program, ...args]) => spawnSync(program, args).status !== 0)?.[0];
}

/** The counted lines of machinery of a worker, and the lines of all its files that are too wide. */
export function measure({ sources, uncounted }: RawLanguage): { machinery: string[]; wide: string[] } {
  const texts = sources.map((file) => readFileSync(file, "utf8"));
  const [between = ""] = /(?<=--- machinery begins\n).*(?=\n[^\n]*--- machinery ends)/s.exec(texts[0] ?? "") ?? [];
  return {
    machinery: between.split("\n").filter((line) => !uncounted.test(line)),
    wide: texts.flatMap((text) => text.split("\n").filter((line) => line.length > 100)),
  };
}
