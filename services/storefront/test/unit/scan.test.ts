// A code that stays before the camera is checked once.
import { expect, test } from "@playwright/test";

import { Shown } from "../../src/checkin/scan.ts";

test("a code is new when it comes, and again after it was away or another one came", () => {
  const shown = new Shown();
  expect(shown.isNew("a", 0)).toBe(true);
  expect(shown.isNew("a", 100)).toBe(false);
  expect(shown.isNew("a", 3_000)).toBe(false); // seen at 100: the pictures in between were blurred
  expect(shown.isNew("b", 3_100)).toBe(true);
  expect(shown.isNew("a", 3_200)).toBe(true);
  expect(shown.isNew("a", 6_300)).toBe(true); // away for longer than 3 s
});
