// The shows of the reader.
import { api, paginate, type Show } from "../lib/api.ts";

/** For how long after its start a show is among the first, in milliseconds: its guests still come, or come late. */
const evening = 12 * 60 * 60 * 1000;

/** All shows that the reader has announced: first those to come, the next one first, and then those that are over, the last one first. */
export async function myShows(signal: AbortSignal): Promise<Show[]> {
  const shows: Show[] = [];
  for await (const show of paginate((page) =>
    api.GET("/api/shows", { params: { query: { owner: "me", limit: 200, ...page } }, signal }),
  )) {
    shows.push(show);
  }
  const since = new Date(Date.now() - evening).toISOString();
  shows.sort((a, b) => (a.startsAt < b.startsAt ? -1 : 1));
  return [...shows.filter(({ startsAt }) => startsAt >= since), ...shows.filter(({ startsAt }) => startsAt < since).reverse()];
}
