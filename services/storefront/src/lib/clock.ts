// The server's clock. Countdowns use it, so a wrong clock of the reader's device does not matter.

// The Date header has whole seconds, so one response shows the difference to this device's clock up to a second and the time of the
// request. Each response makes that range smaller.
let earliest = -Infinity;
let latest = Infinity;

/** Takes the time of a response: sent and received are of performance.now(). */
export function noteServerTime(response: Response, sent: number, received: number): void {
  const written = Date.parse(response.headers.get("Date") ?? "");
  if (Number.isNaN(written)) {
    return;
  }
  const [from, to] = [written - received, written + 1000 - sent];
  if (from > latest || to < earliest) {
    [earliest, latest] = [from, to]; // the device was suspended, or the server's clock was set
  } else {
    [earliest, latest] = [Math.max(earliest, from), Math.min(latest, to)];
  }
}

/** The time at the server, in milliseconds since 1970. Without any response it is the device's. */
export function serverNow(): number {
  return earliest === -Infinity ? Date.now() : performance.now() + (earliest + latest) / 2;
}
