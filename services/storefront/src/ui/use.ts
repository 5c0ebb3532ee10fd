// Hooks for what a page loads and does.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export interface Loaded<Result> {
  /** What was loaded last; it stays while it is loaded again. */
  data: Result | undefined;
  error: unknown;
  loading: boolean;
  reload: () => void;
  /** Replaces what was loaded, for example by the answer to a change. */
  set: (data: Result) => void;
}

/** Loads something when the page begins, and again with `reload`. A signal ends what is not wanted any more. */
export function useLoaded<Result>(
  load: (signal: AbortSignal) => Promise<Result>,
  dependencies: readonly unknown[] = [],
): Loaded<Result> {
  const [data, set] = useState<Result>();
  const [error, setError] = useState<unknown>();
  const [loading, setLoading] = useState(true);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    setLoading(true);
    load(controller.signal).then(
      (result) => {
        if (!controller.signal.aborted) {
          set(() => result);
          setError(undefined);
          setLoading(false);
        }
      },
      (failure: unknown) => {
        if (!controller.signal.aborted) {
          setError(failure);
          setLoading(false);
        }
      },
    );
    return () => {
      controller.abort();
    };
  }, [turn, ...dependencies]);
  const reload = useCallback(() => {
    setTurn((n) => n + 1);
  }, []);
  return { data, error, loading, reload, set };
}

export interface Action<Arguments extends unknown[]> {
  run: (...values: Arguments) => void;
  busy: boolean;
  error: unknown;
  clear: () => void;
}

/** Something that the reader starts, once at a time: a second call while it runs does nothing. */
export function useAction<Arguments extends unknown[]>(act: (...values: Arguments) => Promise<void>): Action<Arguments> {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const running = useRef(false);
  const run = (...values: Arguments): void => {
    if (running.current) {
      return;
    }
    running.current = true;
    setBusy(true);
    setError(undefined);
    act(...values)
      .catch(setError)
      .finally(() => {
        running.current = false;
        setBusy(false);
      });
  };
  return {
    run,
    busy,
    error,
    clear: () => {
      setError(undefined);
    },
  };
}
