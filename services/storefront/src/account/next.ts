// Where a reader goes on after signing in or up.
import { noteSignedIn } from "../lib/session.ts";

/**
 * The address to which a sign-in returns: that of the parameter `next`, if it is a path of this site. It is a whole address, because a
 * path that begins with two slashes would be another site's.
 */
export function nextAddress(search: string, origin: string, otherwise = "/"): string {
  const next = new URLSearchParams(search).get("next") ?? "";
  return (ownAddress(next, origin) ?? new URL(otherwise, origin)).href;
}

function ownAddress(path: string, origin: string): URL | undefined {
  if (!path.startsWith("/")) {
    return undefined;
  }
  try {
    const address = new URL(path, origin);
    return address.origin === origin && !/^\/sign(in|up)(\/|$)/.test(address.pathname) ? address : undefined;
  } catch {
    return undefined;
  }
}

/** Ends a page that has signed the reader in, and opens that in `?next=`. The back button does not come back to this one. */
export function goOn(): void {
  noteSignedIn(true);
  location.replace(nextAddress(location.search, location.origin));
}
