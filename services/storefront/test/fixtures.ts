// What every test of the browser gets: pages that are watched. A test fails if one of its pages breaks a rule that holds for all of them.
import { test as base, expect, type BrowserContext, type BrowserContextOptions } from "@playwright/test";

import { Account, password } from "./api.ts";
import { hastyUrl, storefrontUrl, stripeUrl } from "./stacks.ts";

interface Fixtures {
  /** A further visitor: a browser with cookies of its own. */
  visit: (options?: BrowserContextOptions) => Promise<BrowserContext>;
  /** Signs somebody new in at a context's browser. */
  signedIn: (context: BrowserContext, url?: string) => Promise<Account>;
  /** Origins beside the storefront's from which pages of this test may load something. */
  otherOrigins: string[];
}

export const test = base.extend<Fixtures>({
  otherOrigins: async ({}, use) => {
    await use([]);
  },

  context: async ({ context, otherOrigins }, use) => {
    const watched = watch(context, otherOrigins);
    await use(context);
    expect(await watched.broken()).toEqual([]);
  },

  visit: async ({ browser, contextOptions, baseURL, locale, timezoneId, otherOrigins }, use) => {
    const contexts: BrowserContext[] = [];
    const watched: Watch[] = [];
    await use(async (options) => {
      const context = await browser.newContext({
        ...contextOptions,
        ...(baseURL !== undefined && { baseURL }),
        ...(locale !== undefined && { locale }),
        ...(timezoneId !== undefined && { timezoneId }),
        ...options,
      });
      contexts.push(context);
      watched.push(watch(context, otherOrigins));
      return context;
    });
    for (const { broken } of watched) {
      expect(await broken()).toEqual([]);
    }
    await Promise.all(contexts.map((context) => context.close()));
  },

  signedIn: async ({}, use) => {
    await use(async (context, url = storefrontUrl) => {
      const account = await Account.signUp(url);
      await signIn(context, account);
      return account;
    });
  },
});

export { expect };

/** Gives a context the cookies of an account, without the page that does it. */
export async function signIn(context: BrowserContext, account: Account): Promise<void> {
  const data = { email: account.email, password, cookieOnly: true };
  const response = await context.request.post(`${account.url}/api/users/signin`, { data });
  expect(response.status()).toBe(200);
}

/** What no page may do, and whether one has done it. */
interface Watch {
  /** The broken rules, once all responses are read. */
  broken: () => Promise<string[]>;
}

/**
 * Watches the pages of a context. None may throw an error, violate its content security policy or Trusted Types, request something of
 * another origin, or get a token into a body that its scripts can read.
 */
function watch(context: BrowserContext, otherOrigins: string[]): Watch {
  const allowed = [storefrontUrl, hastyUrl, stripeUrl, ...otherOrigins].map((url) => new URL(url).origin);
  const broken: string[] = [];
  const bodies: Promise<void>[] = [];
  void context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`violation of ${event.violatedDirective} by ${event.blockedURI} ${event.sample}`);
    });
  });
  context.on("weberror", (error) =>
    broken.push(`${error.page()?.url() ?? ""} threw ${error.error().stack ?? error.error().message}`),
  );
  context.on("console", (message) => {
    if (message.type() === "error" && /violat|Content Security Policy|Trusted ?(Type|HTML|Script)/i.test(message.text())) {
      broken.push(`${message.page()?.url() ?? ""}: ${message.text()}`);
    }
  });
  context.on("request", (request) => {
    const { origin, protocol, hostname } = new URL(request.url());
    const toSandbox = request.isNavigationRequest() && ["127.0.0.1", "localhost"].includes(hostname); // 3-D Secure
    if (protocol.startsWith("http") && !allowed.includes(origin) && !toSandbox) {
      broken.push(`a page requested ${request.url()}`);
    }
  });
  context.on("response", (response) => {
    if (new URL(response.url()).pathname.startsWith("/api/users/")) {
      const check = (text: string) => {
        if (/"(token|refreshToken)":/.test(text)) {
          broken.push(`${response.url()} answered with a token in its body`);
        }
      };
      bodies.push(response.text().then(check, () => undefined)); // that of a page that is gone cannot be read
    }
  });
  return {
    broken: async () => {
      // The body of a request that a page gave up may never come.
      await Promise.race([Promise.all(bodies), new Promise((resolve) => setTimeout(resolve, 2000))]);
      return broken;
    },
  };
}
