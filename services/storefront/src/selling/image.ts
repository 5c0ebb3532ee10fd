// Images as the API takes them: checked, and made smaller on the device.
/** The media types that the API takes. */
export const imageTypes = ["image/jpeg", "image/png", "image/webp"];
/** The longest image that the API takes, in bytes. */
export const mostBytes = 2_000_000;
/** How many pixels the API takes in each format. */
const mostPixels = 12_000_000;
/** The longer side of an image that this page makes smaller. The API stores no larger ones. */
const longestSide = 1_600;

/** An image that can be sent. */
export interface Image {
  file: Blob;
  /** For the preview: a `data:` address, because the page's policy allows no `blob:`. */
  preview: string;
  width: number;
  height: number;
}

/** Why a file cannot be an image of a show. */
export class ImageError extends Error {}

/**
 * Makes an image of a file that the reader has chosen. One that is too large, as telephones make them, is scaled down.
 *
 * @throws {ImageError} if the browser finds no image in it
 */
export async function readImage(file: File): Promise<Image> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new ImageError(file.name);
  }
  try {
    const { width, height } = bitmap;
    if (imageTypes.includes(file.type) && file.size <= mostBytes && width * height <= mostPixels) {
      return { file, preview: await dataAddress(file), width, height };
    }
    const scale = Math.min(1, longestSide / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d");
    if (context === null) {
      throw new ImageError(file.name);
    }
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const smaller = await new Promise<Blob | null>((resolve) => {
      canvas.toBlob(resolve, "image/jpeg", 0.85);
    });
    if (smaller === null || smaller.size > mostBytes) {
      throw new ImageError(file.name);
    }
    return { file: smaller, preview: await dataAddress(smaller), width: canvas.width, height: canvas.height };
  } finally {
    bitmap.close();
  }
}

function dataAddress(file: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      resolve(reader.result as string);
    };
    reader.onerror = () => {
      reject(new ImageError());
    };
    reader.readAsDataURL(file);
  });
}
