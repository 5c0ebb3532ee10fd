// A camera that sees a pass: Chromium plays a file in the place of a camera.
import { writeFile } from "node:fs/promises";

import { chromium, type Browser } from "@playwright/test";

import { chromiumOptions } from "./chromium.ts";

const width = 640;
const height = 480;

/** Starts a browser whose camera sees an SVG picture. */
export async function browserWithCamera(browser: Browser, svg: string, file: string): Promise<Browser> {
  await writeFile(file, await video(browser, svg));
  return chromium.launch(
    chromiumOptions(
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      `--use-file-for-fake-video-capture=${file}`,
    ),
  );
}

/** Makes a film of one picture, in the format YUV4MPEG2. */
async function video(browser: Browser, svg: string): Promise<Buffer> {
  const context = await browser.newContext();
  const page = await context.newPage();
  const base64 = await page.evaluate(
    async ([source, width, height]) => {
      const image = new Image();
      image.src = `data:image/svg+xml;base64,${btoa(source)}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [width, height];
      const drawing = canvas.getContext("2d");
      if (drawing === null) {
        throw new Error("there is no canvas");
      }
      drawing.fillStyle = "#fff";
      drawing.fillRect(0, 0, width, height);
      const size = height - 40;
      drawing.drawImage(image, (width - size) / 2, 20, size, size);
      const { data } = drawing.getImageData(0, 0, width, height);
      let brightness = "";
      for (let pixel = 0; pixel < data.length; pixel += 4) {
        brightness += String.fromCharCode(data[pixel + 1] ?? 0);
      }
      return btoa(brightness);
    },
    [svg, width, height] as const,
  );
  await context.close();
  const frame = Buffer.concat([Buffer.from("FRAME\n"), Buffer.from(base64, "base64"), Buffer.alloc((width * height) / 2, 128)]);
  return Buffer.concat([Buffer.from(`YUV4MPEG2 W${width} H${height} F30:1 Ip A1:1 C420jpeg\n`), frame, frame]);
}
