// The addresses of the stacks that browser_test.go starts. To try a test on `make run`: BOXOFFICE_URL=http://localhost:8080.

/** The stack of most tests. */
export const storefrontUrl = process.env["BOXOFFICE_URL"] ?? "http://localhost:8080";
/** A stack whose reservation window is a few seconds. It has the sample programme. */
export const hastyUrl = process.env["BOXOFFICE_HASTY_URL"] ?? storefrontUrl;
/** A stack with a publishable key of Stripe. */
export const stripeUrl = process.env["BOXOFFICE_STRIPE_URL"] ?? storefrontUrl;
