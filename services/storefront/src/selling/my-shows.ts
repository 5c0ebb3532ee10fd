// The shows of the reader.
import { api, paginate, type Show } from "../lib/api.ts";

/** All shows that the reader has announced, newest first. */
export async function myShows(signal: AbortSignal): Promise<Show[]> {
  const shows: Show[] = [];
  for await (const show of paginate((page) =>
    api.GET("/api/shows", { params: { query: { owner: "me", limit: 200, ...page } }, signal }),
  )) {
    shows.push(show);
  }
  return shows;
}
