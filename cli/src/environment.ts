// Which settings belong to the command and which to the server? A shell that names a server for the client verbs may start one as well.

/** What the client verbs and the SDK read; to the server these are no settings, and it refuses what it does not know. */
const CLIENT_SETTINGS: readonly string[] = ["LEASEHOLD_ADDRESS", "LEASEHOLD_NAMESPACE", "LEASEHOLD_TOKEN"];

/** The environment without what is meant for the client. */
export function serverEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !CLIENT_SETTINGS.includes(name)));
}
