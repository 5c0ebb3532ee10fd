// A code that stays before the camera is checked once.
import { expect, test } from "@playwright/test";

import { Shown } from "../../src/scanner/scan.ts";

test("a code is new when it comes, and again after it was away or another one came", () => {
  const shown = new Shown();
  expect(shown.isNew("a", 0)).toBe(true);
  expect(shown.isNew("a", 100)).toBe(false);
  expect(shown.isNew("a", 1_500)).toBe(false); // seen at 100: some pictures in between were blurred
  expect(shown.isNew("b", 1_600)).toBe(true);
  expect(shown.isNew("a", 1_700)).toBe(true);
  expect(shown.isNew("a", 3_300)).toBe(true); // away for longer than 1.5 s
});
