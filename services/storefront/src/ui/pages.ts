// Lists that are read page by page.
import { useEffect, useRef, useState } from "preact/hooks";

import { nextCursor } from "../lib/api.ts";

interface Page<Item> {
  data: readonly Item[];
  response: Response;
}

export interface Pages<Item> {
  /** Undefined until the first page is there. */
  items: Item[] | undefined;
  error: unknown;
  busy: boolean;
  /** Whether there is another page. */
  more: boolean;
  /** Reads the next page. After an error, it tries again. */
  next: () => void;
  /** Reads the first page again, which takes the place of the list. */
  reload: () => void;
  /** Replaces an item, or removes it. */
  replace: (old: Item, by: Item | undefined) => void;
}

/** A list that is read page by page, when the reader asks for more. */
export function usePages<Item>(read: (page: { cursor?: string }) => Promise<Page<Item>>): Pages<Item> {
  const [items, setItems] = useState<Item[]>();
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const [cursor, setCursor] = useState<string>();
  const running = useRef(false);
  // A page may be empty although there are more.
  const readFilled = async (from: string | undefined): Promise<Page<Item>> => {
    const page = await read(from === undefined ? {} : { cursor: from });
    const following = nextCursor(page.response);
    return page.data.length === 0 && following !== undefined ? readFilled(following) : page;
  };
  const load = (from: string | undefined): void => {
    if (running.current) {
      return;
    }
    running.current = true;
    setBusy(true);
    setError(undefined);
    readFilled(from)
      .then(({ data, response }) => {
        setItems((before = []) => (from === undefined ? [...data] : [...before, ...data]));
        setCursor(nextCursor(response));
      })
      .catch(setError)
      .finally(() => {
        running.current = false;
        setBusy(false);
      });
  };
  useEffect(() => {
    load(undefined);
  }, []);
  return {
    items,
    error,
    busy,
    more: cursor !== undefined || (items === undefined && error !== undefined),
    next: () => {
      load(cursor);
    },
    reload: () => {
      load(undefined);
    },
    replace: (old, by) => {
      setItems((before) => before?.flatMap((item) => (item !== old ? [item] : by === undefined ? [] : [by])));
    },
  };
}
