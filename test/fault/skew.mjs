// What if a process believes in another time? Loaded before anything else, this shifts the wall clock of the process by as many milliseconds as the
// file FAULT_SKEW_FILE says; what measures durations stays as it is. The file is looked at again and again, so the clock can jump.
import { readFileSync } from "node:fs";

const file = process.env["FAULT_SKEW_FILE"];
const RealDate = Date;
let skewMs = 0;

function look() {
  try {
    skewMs = Number(readFileSync(file, "utf8"));
  } catch {
    skewMs = 0;
  }
}

if (file !== undefined) {
  look();
  setInterval(look, 200).unref();
  const now = () => RealDate.now() + skewMs;
  globalThis.Date = class extends RealDate {
    constructor(...parts) {
      if (parts.length === 0) super(now());
      else super(...parts);
    }
    static now() {
      return now();
    }
  };
}
