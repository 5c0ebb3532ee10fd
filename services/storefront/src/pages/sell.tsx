// Announces shows, and lists tickets.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { useSignedIn } from "../account/signed-in.ts";
import { api, messageOf, type Show } from "../lib/api.ts";
import { serverNow } from "../lib/clock.ts";
import { dateTime } from "../lib/format.ts";
import { t } from "../lib/texts.ts";
import { currency } from "../selling/currency.ts";
import { myShows } from "../selling/my-shows.ts";
import { SeatsForm } from "../selling/seats-form.tsx";
import { ShowForm } from "../selling/show-form.tsx";
import { TicketForm } from "../selling/ticket-form.tsx";
import { Alert, ErrorAlert, Skeleton } from "../ui/index.tsx";
import { useLoaded } from "../ui/use.ts";

/**
 * Where things are put up for sale. Each step has an address of its own, so the back button goes one step back: `/sell` chooses,
 * `/sell?new=show` and `/sell?new=ticket` make something, `/sell?show=ID` lists tickets of a show, and `/sell?edit=ID` changes it.
 */
export default function SellPage() {
  useSignedIn();
  const step = new URLSearchParams(location.search);
  const show = step.get("show");
  const edit = step.get("edit");
  if (show !== null) {
    return <Seats id={show} />;
  }
  if (edit !== null) {
    return <Edit id={edit} />;
  }
  switch (step.get("new")) {
    case "show":
      return <Announce />;
    case "ticket":
      return (
        <Step title={t("sell.ticket")} lead={t("sell.ticketLead")}>
          <TicketForm currency={currency()} />
        </Step>
      );
    default:
      return <Choice />;
  }
}

function Step({ title, lead, children }: { title: string; lead?: string; children: ComponentChildren }) {
  return (
    <div class="narrow">
      <p class="crumb">
        <a href="/sell">{t("sell.title")}</a>
      </p>
      <h1>{title}</h1>
      {lead && <p class="lead muted">{lead}</p>}
      {children}
    </div>
  );
}

function Choice() {
  const shows = useLoaded(myShows);
  const open = shows.data?.filter(isOpen);
  return (
    <>
      <h1>{t("sell.title")}</h1>
      <p class="lead muted">{t("sell.lead")}</p>
      <ul class="steps">
        <li>
          <a href="/sell?new=show">
            <strong>{t("sell.show")}</strong>
            <span>{t("sell.showText")}</span>
          </a>
        </li>
        <li>
          <a href="/sell?new=ticket">
            <strong>{t("sell.ticket")}</strong>
            <span>{t("sell.ticketText")}</span>
          </a>
        </li>
        <li>
          <a href="/orders">
            <strong>{t("sell.resale")}</strong>
            <span>{t("sell.resaleText")}</span>
          </a>
        </li>
      </ul>
      <section aria-labelledby="my-shows">
        <h2 id="my-shows">{t("sell.myShows")}</h2>
        <ErrorAlert error={shows.error} />
        {shows.loading && <Skeleton />}
        {open?.length === 0 && <p class="hint">{t("sell.noShows")}</p>}
        {open && open.length > 0 && (
          <ul class="rows">
            {open.map((show) => (
              <li key={show.id}>
                <a class="row row-link" href={`/sell?show=${show.id}`}>
                  <span class="row-main">
                    <strong>{show.name}</strong>
                    <span class="muted">{factsOf(show)}</span>
                  </span>
                  <span class="row-action">{t("sell.listTickets")}</span>
                </a>
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

/** Lists tickets of a show. */
function Seats({ id }: { id: string }) {
  const show = useLoadedShow(id);
  if (show.data === undefined && show.loading) {
    return <Loading />;
  }
  return (
    <Step title={show.data?.name ?? t("sell.title")} {...(show.data && { lead: factsOf(show.data) })}>
      {new URLSearchParams(location.search).has("announced") && <Alert kind="success">{t("sell.announced")}</Alert>}
      <ErrorAlert error={show.error} />
      {show.data && !isOpen(show.data) && <Alert kind="warning">{t("sell.notOpen")}</Alert>}
      {show.data && isOpen(show.data) && <SeatsForm show={show.data} currency={currency()} />}
    </Step>
  );
}

function Loading() {
  return (
    <>
      <h1>{t("sell.title")}</h1>
      <Skeleton rows={5} />
    </>
  );
}

/** Reports whether tickets of the show can be listed. */
function isOpen({ status, startsAt }: Show): boolean {
  return status === "scheduled" && Date.parse(startsAt) > serverNow();
}

function factsOf(show: Show): string {
  return `${dateTime(show.startsAt, show.timeZone)} · ${show.venue}, ${show.city}`;
}

function Announce() {
  const [saved, setSaved] = useState<{ show: Show; problem: unknown }>();
  if (saved !== undefined) {
    return <WithoutImage {...saved} />;
  }
  return (
    <Step title={t("sell.show")} lead={t("sell.showLead")}>
      <ShowForm
        saved={(show, problem) => {
          if (problem === undefined) {
            location.replace(`/sell?show=${show.id}&announced`);
          } else {
            setSaved({ show, problem });
          }
        }}
      />
    </Step>
  );
}

function Edit({ id }: { id: string }) {
  const show = useLoadedShow(id);
  const [saved, setSaved] = useState<{ show: Show; problem: unknown }>();
  if (saved !== undefined) {
    return <WithoutImage {...saved} />;
  }
  if (show.data === undefined && show.loading) {
    return <Loading />;
  }
  return (
    <Step title={t("sell.edit")} {...(show.data && { lead: show.data.name })}>
      <ErrorAlert error={show.error} />
      {show.data && (
        <ShowForm
          key={show.data.version}
          show={show.data}
          saved={(changed, problem) => {
            if (problem === undefined) {
              location.assign("/listings?tab=shows");
            } else {
              setSaved({ show: changed, problem });
            }
          }}
        />
      )}
    </Step>
  );
}

/** The show is saved and its image is not: the owner can choose another one. */
function WithoutImage({ show, problem }: { show: Show; problem: unknown }) {
  const [current, setCurrent] = useState({ show, problem });
  return (
    <Step title={t("sell.edit")} lead={current.show.name}>
      <Alert kind="warning">
        <p>{t("sell.withoutImage")}</p>
        <p>{messageOf(current.problem)}</p>
        <p>
          <a href={`/sell?show=${current.show.id}`}>{t("sell.goOn")}</a>
        </p>
      </Alert>
      <ShowForm
        key={current.show.version}
        show={current.show}
        saved={(changed, next) => {
          if (next === undefined) {
            location.replace(`/sell?show=${changed.id}&announced`);
          } else {
            setCurrent({ show: changed, problem: next });
          }
        }}
      />
    </Step>
  );
}

function useLoadedShow(id: string) {
  return useLoaded(
    async (signal) => (await api.GET("/api/shows/{showId}", { params: { path: { showId: id } }, signal })).data,
    [id],
  );
}
