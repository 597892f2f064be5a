// Where does the vitest project `postgres-debian` get its Postgres? From Debian's packages: an older version than the embedded one, built
// by others.
import { startDebianPostgres } from "./debian-postgres.js";
import { sharedPostgres } from "./global-postgres.js";

export default sharedPostgres("debian", startDebianPostgres);
