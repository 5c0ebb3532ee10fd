// A sign-in leads back to a page of this site, and to no other.
import { expect, test } from "@playwright/test";

import { nextAddress } from "../../src/account/next.ts";

const site = "https://tickets.example";

const addresses: [next: string, address: string][] = [
  ["/orders/1?x=1#y", `${site}/orders/1?x=1#y`],
  ["/", `${site}/`],
  ["", `${site}/`],
  ["orders", `${site}/`],
  ["https://evil.example", `${site}/`],
  ["//evil.example", `${site}/`],
  ["/\\evil.example", `${site}/`],
  ["/\t/evil.example", `${site}/`],
  ["/.//evil.example", `${site}//evil.example`], // the path //evil.example of this site
  ["javascript:alert(1)", `${site}/`],
  ["/signin?next=/orders", `${site}/`],
  ["/signup", `${site}/`],
];

for (const [next, address] of addresses) {
  test(`"${next}" leads to ${address}`, () => {
    expect(nextAddress(`?${new URLSearchParams({ next }).toString()}`, site)).toBe(address);
  });
}

test("without it a sign-in leads to the start", () => {
  expect(nextAddress("", site)).toBe(`${site}/`);
});
