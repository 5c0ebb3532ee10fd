// Stripe's frontend, which the page of an order has if the system has a publishable key (STRIPE_PUBLISHABLE_KEY). The server writes the
// script element and allows Stripe's hosts; see services/storefront/README.md, "Payments". Card numbers go from Stripe's frame to Stripe.
import { language } from "../lib/texts.ts";

/** The part of Stripe.js that this page uses (https://docs.stripe.com/js). Amounts are in the currency's minor unit. */
interface Stripe {
  elements: (options: Record<string, unknown>) => Elements;
  createPaymentMethod: (options: {
    elements: Elements;
  }) => Promise<{ paymentMethod?: { id: string }; error?: { message?: string | undefined } }>;
}

interface Elements {
  create: (
    type: "payment",
    options: Record<string, unknown>,
  ) => {
    mount: (place: HTMLElement) => void;
    destroy: () => void;
    on: (event: "ready" | "loaderror", listener: () => void) => void;
  };
  submit: () => Promise<{ error?: { message?: string | undefined } }>;
}

declare global {
  interface Window {
    Stripe?: (key: string, options?: { locale?: string }) => Stripe;
  }
}

/** The publishable key, or undefined: then payments go to the sandbox. */
export const stripeKey = document.body.dataset["stripeKey"];

/** A form of Stripe's, for one card. */
export interface CardForm {
  /** Makes a payment method of what the buyer has typed. It returns its id, or Stripe's message in the buyer's language. */
  paymentMethod: () => Promise<{ id: string } | { message?: string | undefined }>;
  destroy: () => void;
}

/** Waits for Stripe.js, whose script element is in the page: the page is loaded when it has arrived, or failed. */
async function loadStripe(key: string): Promise<Stripe> {
  if (!window.Stripe && document.readyState !== "complete") {
    await new Promise((resolve) => {
      addEventListener("load", resolve, { once: true });
    });
  }
  if (!window.Stripe) {
    throw new Error("Stripe.js did not arrive");
  }
  return window.Stripe(key, { locale: language });
}

/** Puts Stripe's Payment Element into a place of the page, for a card and nothing else: as payments makes the PaymentIntent. */
export async function mountCardForm(key: string, place: HTMLElement, amount: number, currency: string): Promise<CardForm> {
  const stripe = await loadStripe(key);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const elements = stripe.elements({
    mode: "payment",
    amount,
    currency,
    captureMethod: "manual",
    paymentMethodTypes: ["card"],
    paymentMethodCreation: "manual",
    appearance: { theme: dark ? "night" : "stripe" },
  });
  const element = elements.create("payment", { layout: "tabs", wallets: { applePay: "never", googlePay: "never" } });
  await new Promise<void>((resolve, reject) => {
    element.on("ready", resolve);
    element.on("loaderror", () => {
      reject(new Error("Stripe's form did not arrive"));
    });
    element.mount(place);
  });
  return {
    paymentMethod: async () => {
      const checked = await elements.submit();
      if (checked.error) {
        return checked.error;
      }
      const { paymentMethod, error } = await stripe.createPaymentMethod({ elements });
      return paymentMethod ? { id: paymentMethod.id } : { message: error?.message };
    },
    destroy: () => {
      element.destroy();
    },
  };
}
