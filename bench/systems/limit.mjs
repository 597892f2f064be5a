// What can Postgres do on one connection? What the targets are measured against.
import { limitSystem } from "./limit-scene.mjs";

/** The system. */
export default limitSystem("limit", 1);
