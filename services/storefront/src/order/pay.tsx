// The form to pay an order: with a choice of Stripe's test cards, or with Stripe's own form.
import { useEffect, useRef, useState } from "preact/hooks";

import { api, messageOf, Problem, retry } from "../lib/api.ts";
import { money } from "../lib/format.ts";
import { t, tValue } from "../lib/texts.ts";
import { Alert, Button } from "../ui/index.tsx";
import { useAction } from "../ui/use.ts";
import type { Order } from "./live.ts";
import { type CardForm, mountCardForm, stripeKey } from "./stripe.ts";

/** Stripe's test cards (https://docs.stripe.com/testing) that show each way a payment can go. */
const testCards = [
  { id: "pm_card_visa", last4: "4242", key: "works" },
  { id: "pm_card_authenticationRequired", last4: "3184", key: "secure" },
  { id: "pm_card_chargeDeclined", last4: "0002", key: "declined" },
  { id: "pm_card_chargeDeclinedInsufficientFunds", last4: "9995", key: "insufficient" },
  { id: "pm_card_chargeDeclinedExpiredCard", last4: "0069", key: "expired" },
  { id: "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", last4: "3178", key: "secureDeclined" },
] as const;

/** Why the bank has declined, in the buyer's language. */
export function declineMessage(code: string | undefined): string {
  return tValue(`decline.${code ?? ""}`, t("decline.card_declined"));
}

/** What a payment's refusal means for the buyer. */
function payMessage(error: unknown): string {
  return error instanceof Problem && error.status === 402 ? declineMessage(error.errors[0]?.code) : messageOf(error);
}

/** Sends the browser to the page of the buyer's bank. */
export function goToBank(url: string): void {
  if (/^https?:\/\//.test(url)) {
    location.assign(url);
  }
}

interface Props {
  order: Order;
  /** The code of the last card's decline, which a reload of the page still shows. */
  declined?: string | undefined;
  /** Something has changed at the server. */
  onChange: () => void;
}

export function PayForm({ order, declined, onChange }: Props) {
  const { price, currency } = order.ticket;
  const [card, setCard] = useState<string>(testCards[0].id);
  const form = useRef<CardForm>();
  const place = useRef<HTMLDivElement>(null);
  const alert = useRef<HTMLDivElement>(null);
  const [formState, setFormState] = useState<"loading" | "ready" | "failed">(stripeKey ? "loading" : "ready");
  const [formMessage, setFormMessage] = useState<string>();

  useEffect(() => {
    let ended = false;
    if (stripeKey && place.current) {
      mountCardForm(stripeKey, place.current, price, currency).then(
        (mounted) => {
          form.current = mounted;
          setFormState("ready");
          if (ended) {
            mounted.destroy();
          }
        },
        () => {
          setFormState("failed");
        },
      );
    }
    return () => {
      ended = true;
      form.current?.destroy();
    };
  }, []);

  const pay = useAction(async () => {
    setFormMessage(undefined);
    let paymentMethod = card;
    if (stripeKey) {
      const made = await form.current?.paymentMethod();
      if (!made || !("id" in made)) {
        setFormMessage(made?.message ?? t("pay.formFailed"));
        return;
      }
      paymentMethod = made.id;
    }
    // One key for all repetitions: an answer that was lost is sent again, and nobody pays twice.
    const body = { orderId: order.id, paymentMethod, returnUrl: `${location.origin}/orders/${order.id}` };
    try {
      const { data } = await retry((key) => api.POST("/api/payments", { params: { header: { "Idempotency-Key": key } }, body }));
      if (data.status === "requires_action" && data.redirectUrl !== undefined) {
        goToBank(data.redirectUrl);
        return;
      }
    } finally {
      onChange();
    }
  });

  const message =
    formMessage ?? (pay.error === undefined ? declined !== undefined && declineMessage(declined) : payMessage(pay.error));
  const failed = formMessage ?? pay.error;
  useEffect(() => {
    if (failed !== undefined && !pay.busy) {
      alert.current?.querySelector<HTMLElement>(".alert")?.focus();
    }
  }, [failed, pay.busy]);

  return (
    <form
      class="pay"
      onSubmit={(event) => {
        event.preventDefault();
        pay.run();
      }}
    >
      <div ref={alert}>{message && !pay.busy && <Alert kind="error">{message}</Alert>}</div>
      {stripeKey ? (
        <>
          <div class="card-form" ref={place} aria-busy={formState === "loading"} />
          {formState === "failed" && <Alert kind="error">{t("pay.formFailed")}</Alert>}
        </>
      ) : (
        <fieldset>
          <legend>{t("pay.testCard")}</legend>
          <p class="hint">{t("pay.testCard.hint")}</p>
          <div class="test-cards">
            {testCards.map(({ id, last4, key }) => (
              <label class="test-card" key={id}>
                <input
                  type="radio"
                  name="card"
                  value={id}
                  checked={card === id}
                  onChange={() => {
                    setCard(id);
                    pay.clear();
                  }}
                />
                <span>{t(`pay.card.${key}`)}</span>
                <span class="card-number">•••• {last4}</span>
              </label>
            ))}
          </div>
        </fieldset>
      )}
      <p class="actions">
        <Button type="submit" busy={pay.busy} disabled={formState !== "ready"}>
          {t("pay.submit", { price: money(price, currency) })}
        </Button>
      </p>
      <p class="hint">{t(stripeKey ? "pay.secure" : "pay.noMoney")}</p>
    </form>
  );
}
