// Times at the place of a show, and the time zones to choose from.
/** The names of all time zones that the browser knows, with `own` among them. */
export function timeZones(own: string): string[] {
  const all = typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set([...all, own, "UTC"])].sort();
}

/** The time zone of this device. */
export function ownTimeZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** The time zones of a country, as far as the browser knows them. */
export function zonesOf(country: string): string[] {
  if (country === "") {
    return [];
  }
  // Older browsers have the property, newer ones the function, and some have neither.
  const locale = new Intl.Locale(`und-${country}`) as Intl.Locale & {
    timeZones?: string[];
    getTimeZones?: () => string[] | undefined;
  };
  return locale.getTimeZones?.() ?? locale.timeZones ?? [];
}

/** The time zone for a show in a country: `chosen`, unless it is of another country and the clocks of this one all show the same time. */
export function zoneIn(country: string, chosen: string): string {
  const zones = zonesOf(country);
  const [first] = zones;
  if (first === undefined || zones.includes(chosen)) {
    return chosen;
  }
  const year = new Date().getUTCFullYear();
  const moments = [Date.UTC(year, 0), Date.UTC(year, 6)];
  const same = zones.every((zone) => moments.every((moment) => offset(moment, zone) === offset(moment, first)));
  return same ? first : chosen;
}

/** How many milliseconds the clocks of a time zone are ahead of UTC at a moment. */
function offset(moment: number, timeZone: string): number {
  const parts = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  }).formatToParts(moment);
  const value = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.find((part) => part.type === type)?.value);
  const wall = Date.UTC(value("year"), value("month") - 1, value("day"), value("hour"), value("minute"), value("second"));
  return wall - Math.floor(moment / 1000) * 1000;
}

/**
 * The moment at which the clocks of a time zone show a time, which is in the form of `<input type="datetime-local">`:
 * "2027-12-24T19:30". An hour that occurs twice is the first one. An hour that is skipped is as long after midnight as if it were
 * not. It returns undefined for what is not such a time.
 */
export function momentOf(wall: string, timeZone: string): Date | undefined {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$/.test(wall)) {
    return undefined;
  }
  const utc = Date.parse(`${wall}Z`);
  if (Number.isNaN(utc)) {
    return undefined;
  }
  // The offset a day before and a day after: between them there is one change of the clocks at most.
  const before = offset(utc - 86_400_000, timeZone);
  const after = offset(utc + 86_400_000, timeZone);
  const moments = [utc - before, utc - after].filter((moment) => moment + offset(moment, timeZone) === utc);
  return new Date(moments.length > 0 ? Math.min(...moments) : utc - before);
}

/** What the clocks of a time zone show at a moment, in the form of `<input type="datetime-local">`. */
export function wallOf(moment: string, timeZone: string): string {
  const at = Date.parse(moment);
  return new Date(at + offset(at, timeZone)).toISOString().slice(0, 16);
}
