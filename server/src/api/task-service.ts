// Which rpcs does TaskService have here, and which file answers each? Those that are not listed answer UNIMPLEMENTED.

import { TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { Clock } from "../clock.js";
import type { Config } from "../config.js";
import type { TaskCommands, TaskWatch } from "../dispatch/dispatch.js";
import type { Storage } from "../storage/storage.js";
import type { Log } from "../telemetry/log.js";
import type { CallObserver, WrappedService } from "./call.js";
import { wrapService } from "./call.js";
import { cancelTask } from "./cancel-task.js";
import { createDraining } from "./draining.js";
import { explainTask } from "./explain-task.js";
import { listTaskEvents } from "./list-task-events.js";
import { countTasks, getTask, listTasks } from "./read-tasks.js";
import { keepProtoLabelKeys } from "./label-keys.js";
import { proceedTask } from "./proceed-task.js";
import { deleteTask, retryTask } from "./retry-task.js";
import { simulateRetry } from "./simulate-retry.js";
import { submitTask, submitTasks } from "./submit-tasks.js";
import { updateTask } from "./update-task.js";
import { waitTask } from "./wait-task.js";
import { watchTasks } from "./watch-tasks.js";

/** What the handlers of TaskService work with. */
export interface TaskServiceParts {
  readonly storage: Storage;
  readonly commands: TaskCommands;
  readonly watch: TaskWatch;
  readonly clock: Clock;
  readonly config: Config;
  readonly log: Log;
  /** Hears of each unary call. */
  readonly observer?: CallObserver;
}

/** TaskService, ready to be added to a server. */
export function taskService(parts: TaskServiceParts): WrappedService {
  keepProtoLabelKeys();
  const draining = createDraining();
  const waiting = { ...parts, draining };
  return wrapService(
    TaskServiceService,
    {
      submitTask: submitTask(parts),
      submitTasks: submitTasks(parts),
      getTask: getTask(parts),
      listTasks: listTasks(parts),
      countTasks: countTasks(parts),
      listTaskEvents: listTaskEvents(parts),
      explainTask: explainTask(parts),
      waitTask: waitTask(waiting),
      watchTasks: watchTasks(waiting),
      proceedTask: proceedTask(parts),
      cancelTask: cancelTask(parts),
      retryTask: retryTask(parts),
      updateTask: updateTask(parts),
      deleteTask: deleteTask(parts),
      simulateRetry: simulateRetry(parts),
    },
    parts.log,
    draining.begin,
    parts.observer,
  );
}
