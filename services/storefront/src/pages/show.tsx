// The tickets of a show, live: it takes the place of the list that the server wrote, with the same form, and changes it as buyers and sellers do.
import { useEffect, useId, useRef, useState } from "preact/hooks";

import {
  api,
  currentUser,
  hasCode,
  type LiveEvent,
  messageOf,
  nextCursor,
  Problem,
  publicApi,
  retry,
  type Schemas,
  watch,
} from "../lib/api.ts";
import { apply, type Line, mark, type Offer, offersOf, sorted, type Tickets } from "../show/tickets.ts";
import { money, placeName } from "../lib/format.ts";
import { maySignedIn } from "../lib/session.ts";
import { t, tn } from "../lib/texts.ts";
import { Alert, Badge, Button, Empty, ErrorAlert, LinkButton, More, Price } from "../ui/index.tsx";
import { useAction } from "../ui/use.ts";

/** As many as on the page of the server (show.go). */
const ticketsOnPage = 50;
/** How long buyers have to wait at most for a ticket whose event is on its way. */
const patience = 12_000;

const section = new URLSearchParams(location.search).get("section") ?? undefined;
const firstCursor = new URLSearchParams(location.search).get("cursor") ?? undefined;
const signedIn = document.body.dataset["signedIn"] === "true";
/** The address of a reader who has to sign in to reserve a ticket has the ticket here. */
const wantedHash = "#reserve-";

let reader: Promise<string | undefined> | undefined;

/** The id of the reader, if they are signed in: they cannot reserve what they sell. */
function readerId(): Promise<string | undefined> {
  reader ??=
    signedIn || maySignedIn()
      ? currentUser().then(
          (user) => user?.id,
          () => undefined,
        )
      : Promise.resolve(undefined);
  return reader;
}

/** Reads the tickets before the component takes the place of the server's list. */
export async function prepare(id: string): Promise<Tickets> {
  const path = { showId: id };
  const [show, page] = await Promise.all([
    publicApi.GET("/api/catalogue/shows/{showId}", { params: { path } }),
    readPage(id, firstCursor),
  ]);
  return {
    lines: page.lines,
    left: show.data.left,
    sections: show.data.sections,
    next: page.next,
    position: page.response.headers.get("Catalogue-Position") ?? undefined,
  };
}

async function readPage(
  id: string,
  cursor: string | undefined,
): Promise<{ lines: Line[]; next: string | undefined; response: Response }> {
  const query = { limit: ticketsOnPage, ...(section !== undefined && { section }), ...(cursor !== undefined && { cursor }) };
  const [me, { data, response }] = await Promise.all([
    readerId(),
    publicApi.GET("/api/catalogue/shows/{showId}/tickets", { params: { path: { showId: id }, query } }),
  ]);
  const lines = data.map((ticket) => ({ ...ticket, place: ticket.seat, own: ticket.userId === me }));
  return { lines: sorted(lines), next: nextCursor(response), response };
}

export default function ShowPage({ id = "", prepared }: { id?: string; prepared?: unknown }) {
  const [tickets, setTickets] = useState(prepared as Tickets);
  const [news, setNews] = useState("");
  const [online, setOnline] = useState(navigator.onLine);
  const [updated, setUpdated] = useState(false);
  const alert = useRef<HTMLDivElement>(null);
  const announce = useAnnouncements(setNews);

  useEffect(() => {
    const ended = new AbortController();
    const options = { signal: ended.signal };
    addEventListener(
      "online",
      () => {
        setOnline(true);
      },
      options,
    );
    addEventListener(
      "offline",
      () => {
        setOnline(false);
      },
      options,
    );
    void follow(id, tickets.position, ended.signal, (event) => {
      if (event === "updated") {
        setUpdated(true);
      } else if ("lines" in event) {
        setTickets(event);
      } else {
        setTickets((now) => apply(now, event, section));
        announce(newsOf(event), event.left);
      }
    });
    return () => {
      ended.abort();
    };
  }, []);

  const more = useAction(async () => {
    // Pages with further tickets of the last row alone would show nothing new.
    const rows = offersOf(tickets).length;
    let { next } = tickets;
    const read: Line[] = [];
    do {
      const page = await readPage(id, next);
      read.push(...page.lines);
      next = page.next;
    } while (next !== undefined && offersOf({ lines: [...tickets.lines, ...read], next }).length === rows);
    setTickets((now) => ({
      ...now,
      next,
      lines: sorted([...now.lines, ...read.filter((line) => !now.lines.some(({ id: known }) => known === line.id))]),
    }));
  });

  // A reader who comes back from the sign-in goes on with the same ticket.
  const [wanted] = useState(() => (location.hash.startsWith(wantedHash) ? location.hash.slice(wantedHash.length) : undefined));
  useEffect(() => {
    if (wanted !== undefined) {
      setWantedHash(undefined);
    }
  }, []);

  const [reserving, setReserving] = useState<string>();
  const reserve = useAction(async (line: Line) => {
    setReserving(line.id);
    setWantedHash(line.id); // the sign-in comes back to this address
    try {
      const { data: order } = await retry(
        (key) => api.POST("/api/orders", { params: { header: { "Idempotency-Key": key } }, body: { ticketId: line.id } }),
        { within: patience },
      );
      setWantedHash(undefined);
      location.assign(`/orders/${order.id}`);
      await new Promise(() => undefined); // busy until the next page is there
    } catch (error) {
      setWantedHash(undefined);
      if (hasCode(error, "ticket_reserved")) {
        setTickets((now) => mark(now, line.id, { gone: "reserved" }));
      } else if (hasCode(error, "ticket_sold")) {
        setTickets((now) => mark(now, line.id, { gone: "sold" }));
      } else if (hasCode(error, "ticket_not_found") || hasCode(error, "ticket_withdrawn")) {
        setTickets((now) => mark(now, line.id, { gone: "withdrawn" }));
      } else if (hasCode(error, "own_ticket")) {
        setTickets((now) => mark(now, line.id, { own: true }));
      }
      setReserving(undefined);
      throw error;
    }
  });
  useEffect(() => {
    if (reserve.error !== undefined) {
      alert.current?.querySelector<HTMLElement>(".alert")?.focus();
      alert.current?.scrollIntoView({ block: "nearest" });
    }
  }, [reserve.error]);
  // The back button may bring this page back as it was left.
  useEffect(() => {
    const again = (event: PageTransitionEvent): void => {
      if (event.persisted) {
        location.reload();
      }
    };
    addEventListener("pageshow", again);
    return () => {
      removeEventListener("pageshow", again);
    };
  }, []);

  const { left, sections, next } = tickets;
  const offers = offersOf(tickets);
  const isWanted = (offer: Offer): boolean => offer.free.length > 0 && offer.lines.some((line) => line.id === wanted);
  const order = reserve.error instanceof Problem ? reserve.error.members["orderId"] : undefined;
  return (
    <>
      <div class="tickets-head">
        <h2 id="tickets-heading">{t("show.tickets")}</h2>
        <p class="left">
          {left > 0 && <Badge kind={left <= 5 ? "warning" : "note"}>{tn("show.left", left)}</Badge>}
          <span class={`live ${online ? "on" : "off"}`}>{t(online ? "show.live" : "show.offline")}</span>
        </p>
      </div>
      {sections.length > 1 && <Sections id={id} sections={sections} />}
      <div ref={alert}>
        {signedIn && wanted !== undefined && !offers.some(isWanted) && <Alert kind="note">{t("show.signedIn")}</Alert>}
        {updated && (
          <Alert kind="note">
            {t("show.updated")} <a href={location.href}>{t("show.reload")}</a>
          </Alert>
        )}
        {reserve.error !== undefined && (
          <Alert kind="error">
            <p>{messageOf(reserve.error)}</p>
            {hasCode(reserve.error, "own_reservation") && typeof order === "string" && (
              <p>
                <LinkButton kind="secondary" href={`/orders/${order}`}>
                  {t("show.yourOrder")}
                </LinkButton>
              </p>
            )}
          </Alert>
        )}
      </div>
      {offers.length > 0 ? (
        <ul class="plain">
          {offers.map((offer) => (
            <Stub
              key={offer.key}
              offer={offer}
              wanted={isWanted(offer)}
              busy={offer.lines.some((line) => line.id === reserving)}
              onReserve={reserve.run}
            />
          ))}
        </ul>
      ) : (
        <NoTickets id={id} elsewhere={section !== undefined && left > 0} />
      )}
      <ErrorAlert error={more.error} />
      {next !== undefined && <More busy={more.busy} onClick={more.run} />}
      <p class="visually-hidden" role="status">
        {news}
      </p>
    </>
  );
}

function NoTickets({ id, elsewhere }: { id: string; elsewhere: boolean }) {
  const all = (
    <LinkButton kind="secondary" href={`/shows/${id}#tickets`}>
      {t("show.allSections")}
    </LinkButton>
  );
  return elsewhere ? (
    <Empty title={t("show.noneInSection")} action={all}>
      {t("show.noneInSection.text")}
    </Empty>
  ) : (
    <Empty title={t("show.soldOut")}>{t("show.soldOut.text")}</Empty>
  );
}

function Sections({ id, sections }: { id: string; sections: readonly Schemas["SectionLeft"][] }) {
  return (
    <ul class="chips" aria-label={t("show.sections")}>
      {sections
        .toSorted((a, b) => Number(a.section === "") - Number(b.section === ""))
        .map(({ section: name }) => {
          const on = name === section;
          return (
            <li key={name}>
              <a
                class={`chip${on ? " on" : ""}`}
                href={`/shows/${id}${on ? "" : `?${new URLSearchParams({ section: name }).toString()}`}#tickets`}
                aria-current={on ? "true" : undefined}
              >
                {name || t("show.noSection")}
                {on && (
                  <span class="cross" aria-hidden="true">
                    ×
                  </span>
                )}
              </a>
            </li>
          );
        })}
    </ul>
  );
}

/** Puts a ticket into the address of the page, or takes it out. */
function setWantedHash(ticket: string | undefined): void {
  history.replaceState(null, "", location.pathname + location.search + (ticket === undefined ? "" : wantedHash + ticket));
}

interface StubProps {
  offer: Offer;
  /** The reader wanted it before they signed in. */
  wanted: boolean;
  busy: boolean;
  onReserve: (line: Line) => void;
}

function Stub({ offer, wanted, busy, onReserve }: StubProps) {
  const { free, lines, more } = offer;
  const [line] = lines;
  const others = free.filter(({ own }) => !own);
  const gone = free.length > 0 ? undefined : lines.at(-1)?.gone;
  const place = placeName(line.place) || t("ui.noPlace");
  const price = money(line.price, line.currency);
  const isGroup = lines.length > 1;
  const row = useRef<HTMLLIElement>(null);
  const hint = useId();
  useEffect(() => {
    if (wanted) {
      row.current?.querySelector("button")?.focus();
      row.current?.scrollIntoView({ block: "center" });
    }
  }, []);
  return (
    <li class={`stub${gone ? " gone" : ""}${lines.some(({ fresh }) => fresh) ? " fresh" : ""}`} ref={row}>
      <div>
        <p class="place">
          {place}
          {isGroup && free.length > 0 && (
            <>
              {" "}
              <span class="count">· {tn(more ? "show.sameMore" : "show.same", free.length)}</span>
            </>
          )}
        </p>
        {gone ? (
          <p class="face-value">{t(`show.change.${gone}`)}</p>
        ) : (
          line.faceValue !== undefined &&
          line.faceValue !== line.price && (
            <p class="face-value">{t("show.faceValue", { price: money(line.faceValue, line.currency) })}</p>
          )
        )}
        {wanted && signedIn && (
          <p class="face-value" id={hint}>
            {t("show.signedInHere")}
          </p>
        )}
      </div>
      <div>
        <Price amount={line.price} currency={line.currency} />
        {free.length > 0 && others.length === 0 ? (
          <span class="yours">{t("show.yours")}</span>
        ) : (
          <Button
            aria-label={
              isGroup && !gone ? tn("show.reserveOneFor", free.length, { place, price }) : t("show.reserveFor", { place, price })
            }
            aria-describedby={wanted && signedIn ? hint : undefined}
            busy={busy}
            disabled={gone !== undefined}
            onClick={() => {
              // Any of them: if all readers took the first one, most of them would be refused.
              const one = others[Math.floor(Math.random() * others.length)];
              if (one) {
                onReserve(one);
              }
            }}
          >
            {t("show.reserve")}
          </Button>
        )}
      </div>
    </li>
  );
}

/**
 * Follows the show until the signal. After `reset` it begins again with the pages. It ends by itself only if the stream is refused for good; the
 * page then stays as it is.
 */
async function follow(
  id: string,
  position: string | undefined,
  signal: AbortSignal,
  take: (event: Schemas["LiveListing"] | Tickets | "updated") => void,
): Promise<void> {
  const ended = (): boolean => signal.aborted;
  for (let after = position; !ended();) {
    try {
      for await (const event of watch([id], {
        baseUrl: location.origin,
        signal,
        ...(after !== undefined && { lastEventId: after }),
      })) {
        if (event.event === "reset") {
          break;
        }
        handle(event, take);
      }
      if (ended()) {
        return;
      }
      const tickets = await prepare(id);
      after = tickets.position;
      take(tickets);
    } catch {
      return;
    }
  }
}

function handle(event: LiveEvent, take: (event: Schemas["LiveListing"] | "updated") => void): void {
  if (event.event === "listing") {
    take(event.data);
  } else if (event.event === "show") {
    if (event.data.change === "cancelled") {
      location.reload(); // the server writes the page of a cancelled show
    } else {
      take("updated");
    }
  }
}

/** A sentence for screen readers. */
function newsOf({ change, seat, price, currency }: Schemas["LiveListing"]): string {
  const known = ["reserved", "sold", "withdrawn", "free", "new", "changed"] as const;
  const name = known.find((one) => one === change);
  if (name === undefined) {
    return "";
  }
  const place = placeName(seat);
  const what = place === "" ? t("show.aTicket") : seat?.number ? place : t("show.oneOf", { place });
  return t(`show.news.${name}`, { place: what, price: money(price, currency) });
}

/** Announces changes one after the other, at most one sentence in two seconds: the last one, with what is left. */
function useAnnouncements(set: (news: string) => void): (news: string, left: number) => void {
  const timer = useRef<ReturnType<typeof setTimeout>>();
  const last = useRef("");
  return (news, left) => {
    last.current = `${news} ${left > 0 ? tn("show.left", left) : t("show.none")}`;
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      set(last.current);
    }, 2000);
  };
}
