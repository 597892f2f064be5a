// What can Postgres do on three connections? More than that made nothing faster.
import { limitSystem } from "./limit-scene.mjs";

/** The system. */
export default limitSystem("limit-3", 3);
