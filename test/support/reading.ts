// How does a test read tasks as owners do? Lists walked to their end, whatever their order, filter and page size, on one server after the other.
import { ListTasksRequest, type ListTasksResponse, TaskServiceService } from "@leasehold/proto/leasehold/v1/task_service";
import type { ListFilter, ListOrder, ListQuery } from "@leasehold/server/storage/queries";
import { NO_FILTER } from "@leasehold/server/storage/queries";
import type { Storage, StoredTask } from "@leasehold/server/storage/storage";
import type { OwnerCalls } from "./owner-calls.js";

/** A list of which only a few things matter. */
export function listQuery(filter: Partial<ListFilter> = {}, query: Partial<Omit<ListQuery, "filter">> = {}): ListQuery {
  return {
    namespace: "default",
    order: "NEWEST_FIRST",
    after: null,
    pageSize: 1000,
    withPayloads: false,
    ...query,
    filter: { ...NO_FILTER, ...filter },
  };
}

/** Every task of a list, page after page. */
export async function walk(storage: Storage, filter: Partial<ListFilter>, order: ListOrder, pageSize: number): Promise<StoredTask[]> {
  const found: StoredTask[] = [];
  let after: ListQuery["after"] = null;
  do {
    const page = await storage.listTasks(listQuery(filter, { order, after, pageSize }));
    if (page.tasks.length > pageSize) throw new Error("a page is larger than was asked for");
    found.push(...page.tasks);
    after = page.next;
  } while (after !== null);
  return found;
}

/** One page over the wire. */
export function listPage(owner: OwnerCalls, request: Parameters<typeof ListTasksRequest.create>[0]): Promise<ListTasksResponse> {
  return owner.call(TaskServiceService.listTasks, ListTasksRequest.create(request));
}

/** The ids of a whole list over the wire, each page from the next of these servers; `between` runs after each page. */
export async function walkServers(
  owners: readonly OwnerCalls[],
  request: Parameters<typeof ListTasksRequest.create>[0],
  between: (idsSoFar: readonly string[]) => Promise<void> = () => Promise.resolve(),
): Promise<string[]> {
  const ids: string[] = [];
  let pageToken = "";
  let turn = 0;
  do {
    const page = await listPage(owners[turn++ % owners.length]!, { ...request, pageToken });
    ids.push(...page.tasks.map(({ taskId }) => taskId));
    pageToken = page.nextPageToken;
    await between(ids);
  } while (pageToken !== "");
  return ids;
}
