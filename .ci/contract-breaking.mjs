// Does the contract break who uses the last release? Compares the .proto files with those of the newest release tag that this commit comes from.
//
//   node .ci/contract-breaking.mjs [folder]
//
// Ends with 0 where there is no release to compare with, and says so: a clone without tags looks like a project without releases.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const folder = process.argv[2] ?? ROOT;
const execute = promisify(execFile);
const env = { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}` };

async function git(...args) {
  return (await execute("git", args, { cwd: folder, env })).stdout.trim();
}

/** Release tags, the newest first; a pre-release is older than its release. */
async function releaseTags(...filter) {
  const listed = await git("-c", "versionsort.suffix=-", "tag", "--list", "v*", "--sort=-v:refname", ...filter);
  return listed.split("\n").filter((tag) => /^v\d+\.\d+\.\d+/.test(tag));
}

/** The tag to compare with, or why there is none. */
async function lastRelease() {
  const inside = await git("rev-parse", "--is-inside-work-tree").catch(() => "false");
  if (inside !== "true") return { none: "this is no git repository" };
  const [tag] = [...(await releaseTags("--merged", "HEAD")), ...(await releaseTags())];
  if (tag !== undefined) return { tag };
  const shallow = (await git("rev-parse", "--is-shallow-repository")) === "true";
  const remotes = (await git("remote")) !== "";
  if (shallow) return { none: "this clone is shallow and has no tag v*; `git fetch --tags --unshallow` brings the tags if there are any" };
  return { none: `there is no tag v*${remotes ? "; if there are releases, `git fetch --tags` brings their tags" : ""}` };
}

/** Compares with a tag. The files come from an archive: a worktree has no .git folder that buf could read. */
async function compare(tag) {
  const scratch = await mkdtemp(join(tmpdir(), "leasehold-breaking-"));
  try {
    const archive = join(scratch, "release.tar");
    await git("archive", "--format=tar", "--output", archive, tag, "buf.yaml", "proto");
    await execute("buf", ["breaking", "--against", archive], { cwd: folder, env });
    process.stdout.write(`The contract breaks nobody who uses ${tag}.\n`);
  } catch (error) {
    process.stdout.write(`Compared with ${tag}:\n${error.stdout ?? ""}${error.stderr ?? error.message}\n`);
    process.exitCode = 1;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

const { tag, none } = await lastRelease();
if (tag === undefined) process.stdout.write(`NOT COMPARED with a release: ${none}.\n`);
else await compare(tag);
