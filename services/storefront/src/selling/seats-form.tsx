// The form that lists the seats of a show, with its progress and its failures.
import { useEffect, useState } from "preact/hooks";

import { messageOf, type Show } from "../lib/api.ts";
import { money, parseMoney } from "../lib/format.ts";
import { t, tn } from "../lib/texts.ts";
import { FieldError, textOf, useForm } from "../ui/form.ts";
import { Button, ErrorAlert, Field, LinkButton } from "../ui/index.tsx";
import { useAction } from "../ui/use.ts";
import { AmountField } from "./amount-field.tsx";
import { listAll, listingsOf, type Listing } from "./list.ts";
import { mostTickets, NumbersError, parseNumbers } from "./numbers.ts";
import { amountOf, nameCap } from "./price.ts";

/** Lists tickets for places of a show: a row of numbered ones, or some alike without a number. */
export function SeatsForm({ show, currency }: { show: Show; currency: string }) {
  const [numbered, setNumbered] = useState(true);
  const [places, setPlaces] = useState("");
  const [price, setPrice] = useState("");
  const [listings, setListings] = useState<Listing[]>([]);
  const changed = (): void => {
    setListings((before) => [...before]);
  };

  const form = useForm(async (values) => {
    const text = (field: string): string => textOf(values, field);
    const seat = { ...(text("section") && { section: text("section") }), ...(text("row") && { row: text("row") }) };
    const numbers = numbered ? numbersOf(text("places")) : Array.from({ length: countOf(text("places")) }, () => "");
    const ticket = {
      showId: show.id,
      price: amountOf(values, "price", currency),
      ...(text("faceValue") && { faceValue: amountOf(values, "faceValue", currency) }),
    };
    const all = listingsOf(
      numbers.map((number) => {
        const place = { ...seat, ...(number && { number }) };
        return { ...ticket, ...(Object.keys(place).length > 0 && { seat: place }) };
      }),
    );
    setListings(all);
    try {
      await listAll(all, changed);
    } catch (error) {
      throw nameCap(error, currency);
    }
    setPlaces(""); // the next row
  });
  const again = useAction(() => listAll(listings, changed));
  const busy = form.busy || again.busy;
  useWarning(busy);

  return (
    <form class="panel" {...form.attributes}>
      <ErrorAlert error={form.error} />
      <fieldset class="choices">
        <legend>{t("seats.kind")}</legend>
        {[true, false].map((value) => (
          <label key={String(value)}>
            <input
              type="radio"
              name="kind"
              checked={numbered === value}
              onChange={() => {
                setNumbered(value);
                setPlaces("");
              }}
            />
            {t(value ? "seats.numbered" : "seats.standing")}
          </label>
        ))}
      </fieldset>
      <div class="fields">
        <Field
          name="section"
          label={t("seats.section")}
          hint={t("seats.sectionHint")}
          error={form.errorOf("section")}
          maxLength={50}
        />
        <Field name="row" label={t("seats.row")} hint={t("seats.rowHint")} error={form.errorOf("row")} maxLength={50} />
      </div>
      <Field
        key={String(numbered)}
        name="places"
        label={t(numbered ? "seats.numbers" : "seats.count")}
        hint={numbered ? t("seats.numbersHint") : undefined}
        error={form.errorOf("places")}
        class={numbered ? "" : "short"}
        inputMode={numbered ? "text" : "numeric"}
        autocomplete="off"
        value={places}
        onInput={(event) => {
          setPlaces(event.currentTarget.value);
        }}
        required
      />
      <div class="fields">
        <AmountField form={form} name="price" currency={currency} value={price} onInput={setPrice} required />
        <AmountField
          form={form}
          name="faceValue"
          currency={currency}
          hint={show.maxMarkup === undefined ? t("price.faceValueHint") : t("price.faceValueCap", { percent: show.maxMarkup })}
        />
      </div>
      <p class="summary" aria-live="polite">
        {summary(numbered, places, parseMoney(price, currency), currency)}
      </p>
      <p class="actions">
        <Button type="submit" busy={busy}>
          {t("seats.submit")}
        </Button>
      </p>
      <Progress listings={listings} busy={busy} />
      <Outcome show={show} listings={listings} busy={busy} error={again.error} again={again.run} />
    </form>
  );
}

function numbersOf(text: string): string[] {
  let numbers: string[];
  try {
    numbers = parseNumbers(text);
  } catch (error) {
    const wrong = error as NumbersError;
    throw new FieldError(
      "places",
      wrong.tooMany ? t("seats.tooMany", { most: mostTickets }) : t("seats.numbersWrong", { part: wrong.part }),
    );
  }
  if (numbers.length === 0) {
    throw new FieldError("places", t("seats.numbersMissing"));
  }
  return numbers;
}

function countOf(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > mostTickets) {
    throw new FieldError("places", t("seats.countWrong", { most: mostTickets }));
  }
  return count;
}

/** "12 tickets, $540.00 in all", once that is known. */
function summary(numbered: boolean, places: string, price: number | undefined, currency: string): string {
  try {
    const count = numbered ? numbersOf(places).length : countOf(places);
    return (
      tn("seats.summary", count) +
      (price === undefined ? "" : ` · ${t("seats.total", { total: money(count * price, currency) })}`)
    );
  } catch {
    return "\u00a0";
  }
}

function Progress({ listings, busy }: { listings: readonly Listing[]; busy: boolean }) {
  const done = listings.filter(({ state }) => state !== "waiting").length;
  return busy && listings.length > 0 ? (
    <p class="progress">
      <label>
        {t("seats.progress", { done, all: listings.length })}
        <progress max={listings.length} value={done} />
      </label>
    </p>
  ) : null;
}

interface OutcomeProps {
  show: Show;
  listings: readonly Listing[];
  busy: boolean;
  error: unknown;
  again: () => void;
}

/** What became of the tickets. */
function Outcome({ show, listings, busy, error, again }: OutcomeProps) {
  const listed = listings.filter(({ state }) => state === "listed").length;
  const rest = listings.length - listed;
  return (
    <div role="status" class="outcome">
      {!busy && listed > 0 && (
        <div class="alert success">
          <p>{tn("seats.listed", listed)}</p>
          <p class="actions">
            <LinkButton kind="secondary" href={`/shows/${show.id}`}>
              {t("seats.toShow")}
            </LinkButton>
            <LinkButton kind="quiet" href="/listings">
              {t("listings.title")}
            </LinkButton>
          </p>
        </div>
      )}
      {!busy && listings.length > 0 && rest > 0 && (
        <div class="alert warning">
          <p>{tn("seats.notListed", rest)}</p>
          <ul>
            {reasons(listings).map(({ message, numbers }) => (
              <li key={message}>
                {numbers && <strong>{numbers}: </strong>}
                {message}
              </li>
            ))}
          </ul>
          {error !== undefined && <p>{messageOf(error)}</p>}
          <p class="actions">
            <Button kind="secondary" onClick={again}>
              {t("seats.again")}
            </Button>
          </p>
        </div>
      )}
    </div>
  );
}

/** Why tickets are not listed, each reason with the numbers of its places. */
function reasons(listings: readonly Listing[]): { message: string; numbers: string }[] {
  const numbers = new Map<string, string[]>();
  for (const { state, error, body } of listings) {
    if (state !== "listed") {
      const message = state === "failed" ? messageOf(error) : t("seats.waiting");
      numbers.set(message, [...(numbers.get(message) ?? []), ...(body.seat?.number ? [body.seat.number] : [])]);
    }
  }
  return [...numbers].map(([message, of]) => ({ message, numbers: of.join(", ") }));
}

/** The browser asks before the page ends while something is under way. */
function useWarning(busy: boolean): void {
  useEffect(() => {
    if (!busy) {
      return;
    }
    const warn = (event: Event): void => {
      event.preventDefault();
    };
    addEventListener("beforeunload", warn);
    return () => {
      removeEventListener("beforeunload", warn);
    };
  }, [busy]);
}
