// The decoder that this browser has: its own, or that in script.
import type { Decoder } from "./scan.ts";

interface BarcodeDetector {
  detect(source: CanvasImageSource): Promise<{ rawValue: string }[]>;
}

interface BarcodeDetectorType {
  new (options: { formats: string[] }): BarcodeDetector;
  getSupportedFormats(): Promise<string[]>;
}

/** The browser's own decoder where it has one, and otherwise jsQR, which is a file that only then is loaded. */
export async function createDecoder(): Promise<Decoder> {
  const native = (globalThis as { BarcodeDetector?: BarcodeDetectorType }).BarcodeDetector;
  if (native !== undefined) {
    try {
      if ((await native.getSupportedFormats()).includes("qr_code")) {
        const detector = new native({ formats: ["qr_code"] });
        return { decode: async (video) => (await detector.detect(video))[0]?.rawValue };
      }
    } catch {
      // Some systems have the type without what it needs.
    }
  }
  const { default: jsqr } = await import("./jsqr.ts");
  return jsqr();
}
