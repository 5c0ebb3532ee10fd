/** Reads QR codes in pictures of a camera. */
export interface Decoder {
  /** The text of a code in the picture, or undefined if it has none. */
  decode(video: HTMLVideoElement): Promise<string | undefined>;
}

/** How long a code is out of the picture until it counts as shown once more, in milliseconds. */
const absence = 3_000;
/** The pause between two pictures that are searched, in milliseconds: a telephone stays cool. */
const pause = 100;

/** Decides whether a code that is in the picture is a new one, or the last one that is still there. */
export class Shown {
  #code = "";
  #seen = -Infinity;

  /** Reports whether the code was just put before the camera. */
  isNew(code: string, now: number): boolean {
    const fresh = code !== this.#code || now - this.#seen > absence;
    this.#code = code;
    this.#seen = now;
    return fresh;
  }
}

/** Searches the pictures of a video for codes until the signal ends it. Each code is given once, until it was away or another came. */
export async function scan(
  video: HTMLVideoElement,
  decoder: Decoder,
  found: (code: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const shown = new Shown();
  while (!signal.aborted) {
    if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !document.hidden) {
      const code = await decoder.decode(video).catch(() => undefined); // a picture that is not there yet
      if (code !== undefined && shown.isNew(code, performance.now())) {
        found(code);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
