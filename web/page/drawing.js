// A digit drawn by hand becomes pixels as the MNIST set has them: the ink's box scaled to 20 of 28 pixels, its centre of mass in the middle.

const INK = 22;
const STEP = 10;
/** Of a picture's side, what the ink's box fills. */
const FILLED = 20 / 28;

/** Lets one draw on a canvas with a pointer or by keys; `drawn` hears of every change. */
export function drawing(canvas, drawn) {
  const ink = new OffscreenCanvas(canvas.width, canvas.height);
  const brush = ink.getContext("2d", { willReadFrequently: true });
  const shown = canvas.getContext("2d");
  Object.assign(brush, { lineWidth: INK, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  let at = { x: canvas.width / 2, y: canvas.height / 2 };
  let down = false;
  let byKeys = false;

  const show = () => {
    shown.fillStyle = "#000";
    shown.fillRect(0, 0, canvas.width, canvas.height);
    shown.drawImage(ink, 0, 0);
    if (!byKeys) return;
    shown.strokeStyle = down ? "#e66100" : "#62a0ea";
    shown.lineWidth = 3;
    shown.strokeRect(at.x - INK / 2, at.y - INK / 2, INK, INK);
  };
  const stroke = (from, to) => {
    brush.beginPath();
    brush.moveTo(from.x, from.y);
    brush.lineTo(to.x + 0.01, to.y);
    brush.stroke();
  };
  const moved = (to) => {
    if (down) stroke(at, to);
    at = to;
    show();
    if (down) drawn();
  };
  const clear = () => {
    brush.clearRect(0, 0, ink.width, ink.height);
    down = false;
    show();
    drawn();
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    [byKeys, down, at] = [false, true, place(event)];
    moved(at);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (down && !byKeys) moved(place(event));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (down = byKeys && down));
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step && event.key !== " " && event.key !== "Delete") return;
    event.preventDefault();
    byKeys = true;
    if (event.key === "Delete") return clear();
    if (event.key === " ") {
      down = !down;
      return moved(at);
    }
    const within = (v, most) => Math.min(Math.max(v, INK / 2), most - INK / 2);
    moved({
      x: within(at.x + STEP * step[0], canvas.width),
      y: within(at.y + STEP * step[1], canvas.height),
    });
  });
  canvas.addEventListener("blur", () => {
    [byKeys, down] = [false, false];
    show();
  });
  show();
  return {
    clear,
    /** The drawing at a size, one byte a pixel; null of an empty one. */
    pixels: (width, height) => fit(brush.getImageData(0, 0, ink.width, ink.height), width, height),
  };
}

/** The ink of an image, scaled and placed. */
export function fit(image, width, height) {
  const alpha = (x, y) => image.data[4 * (y * image.width + x) + 3];
  let [left, top, right, bottom] = [image.width, image.height, -1, -1];
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      if (!alpha(x, y)) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
  }
  if (right < 0) return null;
  const [w, h] = [right + 1 - left, bottom + 1 - top];
  // pixels of the drawing in one of the picture
  const scale = Math.max(w / (FILLED * width), h / (FILLED * height));
  let [mass, x0, y0] = [0, 0, 0];
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const m = alpha(x, y);
      [mass, x0, y0] = [mass + m, x0 + m * (x + 0.5), y0 + m * (y + 0.5)];
    }
  }
  // where in the drawing the picture's corner lies
  const corner = [x0 / mass - (width / 2) * scale, y0 / mass - (height / 2) * scale];
  // mean over the pixels that one covers, with the parts of those at its edges
  const covered = (i, from, most) => {
    const [a, b] = [from + i * scale, from + (i + 1) * scale];
    const all = [];
    for (let k = Math.max(0, Math.floor(a)); k < Math.min(most, Math.ceil(b)); k++) {
      all.push([k, (Math.min(b, k + 1) - Math.max(a, k)) / scale]);
    }
    return all;
  };
  const out = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const ys = covered(row, corner[1], image.height);
    for (let column = 0; column < width; column++) {
      let sum = 0;
      for (const [x, of] of covered(column, corner[0], image.width)) for (const [y, part] of ys) sum += of * part * alpha(x, y);
      out[row * width + column] = Math.min(255, Math.round(sum));
    }
  }
  return out;
}

/** Draws bytes of one or three channels on a canvas. */
export function paint(canvas, bytes, width, height, channels) {
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[i * channels + (channels === 3 ? c : 0)] ?? 0;
    image.data[4 * i + 3] = i * channels < bytes.length ? 255 : 0;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
