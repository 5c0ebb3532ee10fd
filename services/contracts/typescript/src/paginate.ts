/** What a call for one page returns. */
interface Page<Item> {
  data: readonly Item[];
  response: Response;
}

/**
 * Reads a list page by page, and yields its items. `read` gets the query that asks for the next page: nothing at first.
 *
 * ```ts
 * for await (const ticket of paginate((page) => api.GET("/api/tickets", { params: { query: { limit: 100, ...page } } }))) {
 *   console.log(ticket.title);
 * }
 * ```
 *
 * What is added or removed while the list is read does not end it: the next page begins where the last one ended.
 */
export async function* paginate<Item>(
  read: (page: { cursor?: string }) => Promise<Page<Item>>,
): AsyncGenerator<Item, void, undefined> {
  for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
    const { data, response } = await read(cursor === undefined ? {} : { cursor });
    yield* data;
    cursor = nextCursor(response);
  }
}

/** The cursor in `Link: </api/tickets?cursor=…>; rel="next"`, or undefined on the last page. */
export function nextCursor(response: Response): string | undefined {
  for (const [, target, parameters] of (response.headers.get("Link") ?? "").matchAll(/<([^>]*)>([^,]*)/g)) {
    if (target !== undefined && /;\s*rel="?next"?/i.test(parameters ?? "")) {
      return new URL(target, "http://gateway").searchParams.get("cursor") ?? undefined;
    }
  }
  return undefined;
}
