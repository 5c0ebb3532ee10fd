// Who is signed in. The cookies of the sign-in cannot be read by scripts; this device remembers only that there was one.
import { noteServerTime } from "./clock.ts";

const signedInKey = "signed-in";
const refreshedKey = "refreshed-at";

/** Reports whether somebody has signed in on this device and not out again. The session may have ended since. */
export function maySignedIn(): boolean {
  return read(signedInKey) !== null;
}

/** Call it after a sign-up or sign-in, and after a sign-out. */
export function noteSignedIn(signedIn: boolean): void {
  write(signedInKey, signedIn ? "1" : null);
}

/** Sends the reader to the page to sign in, which comes back to this one. */
export function goToSignIn(): void {
  location.assign(`/signin?next=${encodeURIComponent(location.pathname + location.search + location.hash)}`);
}

/** The refresh of this page that has no answer yet, in a browser without Web Locks. */
let refreshing: Promise<boolean> | undefined;

/**
 * Gets a new token for the refresh token in the cookie, which works once: so only one tab does it at a time (Web Locks), and a tab that
 * waited uses what another one got. It reports whether there is a token now.
 */
export async function refresh(): Promise<boolean> {
  const began = Date.now();
  const once = async (): Promise<boolean> => {
    if (Number(read(refreshedKey) ?? 0) >= began) {
      return true;
    }
    const sent = performance.now();
    const response = await fetch("/api/users/refresh", {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ cookieOnly: true }),
    });
    noteServerTime(response, sent, performance.now());
    if (response.ok) {
      write(refreshedKey, String(Date.now()));
      noteSignedIn(true);
    } else if (response.status === 401) {
      noteSignedIn(false);
    }
    return response.ok;
  };
  if ("locks" in navigator) {
    return await navigator.locks.request("boxoffice-refresh", once);
  }
  // Without https, except on localhost, browsers have no Web Locks: only the requests of this page share a refresh.
  refreshing ??= once().finally(() => {
    refreshing = undefined;
  });
  return await refreshing;
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // the reader forbids storage
  }
}

function write(key: string, value: string | null): void {
  try {
    if (value === null) {
      localStorage.removeItem(key);
    } else {
      localStorage.setItem(key, value);
    }
  } catch {
    // the reader forbids storage
  }
}
