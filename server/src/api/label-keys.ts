// How is a label named `__proto__` refused? The generated decoder assigns labels as properties of an object, where that one key is lost
// without a trace, so a request would be stored with a label less than it was sent with. It is renamed before the assignment, to a key
// that validate-text.ts knows and refuses.

import { NewTask_LabelsEntry, TaskFilter_LabelsEntry } from "@leasehold/proto/leasehold/v1/task_service";
import { Hello_LabelsEntry } from "@leasehold/proto/leasehold/v1/worker_service";
import { REFUSED_LABEL_KEY } from "./validate-text.js";

interface LabelEntry {
  key: string;
  value: string;
}

interface LabelDecoder {
  decode: typeof NewTask_LabelsEntry.decode;
}

let kept = false;

/** Makes the decoders of label maps keep `__proto__`, once in a process. */
export function keepProtoLabelKeys(): void {
  if (kept) return;
  kept = true;
  for (const entry of [NewTask_LabelsEntry, TaskFilter_LabelsEntry, Hello_LabelsEntry] satisfies LabelDecoder[]) {
    const decode = entry.decode.bind(entry);
    entry.decode = (input, length): LabelEntry => {
      const decoded = decode(input, length);
      if (decoded.key === "__proto__") decoded.key = REFUSED_LABEL_KEY;
      return decoded;
    };
  }
}
