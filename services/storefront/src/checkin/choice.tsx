// The first page of check-in: which show.
import { dateTime } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { myShows } from "../selling/my-shows.ts";
import { Empty, ErrorAlert, LinkButton, Skeleton } from "../ui/index.tsx";
import { useLoaded } from "../ui/use.ts";

/** Chooses the show at whose door the reader stands: the next one is the first. */
export function Choice() {
  const shows = useLoaded(async (signal) => (await myShows(signal)).filter(({ status }) => status === "scheduled"));
  return (
    <>
      <h1>{t("checkin.title")}</h1>
      <p class="lead muted">{t("checkin.lead")}</p>
      <ErrorAlert error={shows.error} />
      {shows.data === undefined && shows.loading && <Skeleton />}
      {shows.data?.length === 0 && (
        <Empty title={t("myShows.none")} action={<LinkButton href="/sell?new=show">{t("sell.show")}</LinkButton>}>
          {t("checkin.noShows")}
        </Empty>
      )}
      <ul class="rows">
        {shows.data?.map((show) => (
          <li key={show.id}>
            <a class="row row-link" href={`/checkin/${show.id}`}>
              <span class="row-main">
                <strong>{show.name}</strong>
                <span class="muted">
                  {dateTime(show.startsAt, show.timeZone)} · {show.venue}, {show.city}
                </span>
              </span>
              <span class="row-action arrow" aria-hidden="true">
                →
              </span>
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}
