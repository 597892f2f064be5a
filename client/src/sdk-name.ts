// How does this SDK name itself to a server?

/** Name and version, as a hello carries it. The version is the package's. */
export const SDK_NAME = "@leasehold/client 0.1.0";
