// The decoder for browsers without BarcodeDetector. It is a file of its own, which only they load.
import jsQR from "jsqr";

import type { Decoder } from "./scan.ts";

/** The longer side of a picture that is searched. A code that fills a third of it has several pixels for each of its squares. */
const longestSide = 800;

/** A decoder in script, for browsers without one. */
export default function jsqr(): Decoder {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return {
    decode(video) {
      const { videoWidth, videoHeight } = video;
      if (context === null || videoWidth === 0) {
        return Promise.resolve(undefined);
      }
      const scale = Math.min(1, longestSide / Math.max(videoWidth, videoHeight));
      const width = Math.round(videoWidth * scale);
      const height = Math.round(videoHeight * scale);
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
      }
      context.drawImage(video, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      const text = jsQR(data, width, height, { inversionAttempts: "attemptBoth" })?.data;
      return Promise.resolve(text === "" ? undefined : text);
    },
  };
}
