// A small network that knows digits drawn by straight strokes: made here, from strokes alone, by the programs themselves. For tests.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fit } from "../page/drawing.js";

/** Strokes of each digit, corner by corner, in a square of side 1. */
export const STROKES = [
  "0 0,1 0,1 1,0 1,0 0", ".5 0,.5 1", "0 0,1 0,1 .5,0 .5,0 1,1 1", "0 0,1 0,1 .5,.3 .5,1 .5,1 1,0 1", "0 0,0 .5,1 .5,1 0,1 1",
  "1 0,0 0,0 .5,1 .5,1 1,0 1", "1 0,0 0,0 1,1 1,1 .5,0 .5", "0 0,1 0,.4 1", "0 0,1 0,1 1,0 1,0 0,0 .5,1 .5", "1 .5,0 .5,0 0,1 0,1 1",
].map((text) => text.split(",").map((p) => p.split(" ").map(Number)));
const SIDE = 280;
const INK = 22;

/** The ink of a digit as a canvas would hold it; `random` gives numbers from 0 to 1. */
export function drawn(digit, random) {
  const shaken = () => (random() - 0.5) * 0.16;
  const [w, h, lean] = [100 + 60 * random(), 170 + 50 * random(), (random() - 0.5) * 50];
  const points = STROKES[digit].map(([x, y]) => [140 + (x - 0.5 + shaken()) * w + lean * (0.5 - y), 140 + (y - 0.5 + shaken() / 2) * h]);
  const data = new Uint8ClampedArray(4 * SIDE * SIDE);
  for (let i = 0; i + 1 < points.length; i++) {
    const [[ax, ay], [bx, by]] = [points[i], points[i + 1]];
    const long = Math.max(1, (bx - ax) ** 2 + (by - ay) ** 2);
    const near = (a, b) => [Math.max(0, Math.floor(Math.min(a, b) - INK)), Math.min(SIDE, Math.ceil(Math.max(a, b) + INK))];
    const [[left, right], [top, bottom]] = [near(ax, bx), near(ay, by)];
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const t = Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / long));
        const far = Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay));
        const at = 4 * (y * SIDE + x) + 3;
        data[at] = Math.max(data[at], 255 * Math.min(1, Math.max(0, INK / 2 + 0.5 - far)));
      }
    }
  }
  return fit({ data, width: SIDE, height: SIDE }, 28, 28);
}

/** Numbers from 0 to 1, the same for the same seed. */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** What the network gives for pixels in the clear, by the program. */
export function clear(programs, files, pixels) {
  const folder = mkdtempSync(join(tmpdir(), "polyveil-clear-"));
  try {
    const head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 28, 28), }".padEnd(117) + "\n";
    const values = Buffer.from(Float32Array.from(pixels, (v) => v / 255).buffer);
    const file = join(folder, "x.npy");
    writeFileSync(file, Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), Buffer.from([118, 0]), Buffer.from(head), values]));
    const said = execFileSync(join(programs, "polyveil"), ["values", files.network, "--input", file], { stdio: ["ignore", "pipe", "ignore"] });
    return JSON.parse(said).values.flat(9);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Compiles the network into a folder, unless it is there: gives the names of its files. */
export function network(programs, folder) {
  const at = (name) => join(folder, name);
  const files = { plan: at("digits.plan"), client: at("digits.client"), network: at("degree2/network.pvm") };
  if (existsSync(files.client)) return files;
  mkdirSync(folder, { recursive: true });
  const random = numbers(1);
  const count = 1200;
  const head = (...n) => Buffer.from(Uint32Array.from(n).map((v) => ((v & 255) << 24) | ((v & 65280) << 8) | (v >> 8 & 65280) | (v >>> 24)).buffer);
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
  writeFileSync(at("train-images-idx3-ubyte"), Buffer.concat([head(0x803, count, 28, 28), ...Array.from(labels, (l) => drawn(l, random))]));
  writeFileSync(at("train-labels-idx1-ubyte"), Buffer.concat([head(0x801, count), labels]));
  writeFileSync(
    at("digits.toml"),
    `network = { kind = "small", width = 4, activation = "silu" }
[data]
train = "train-images-idx3-ubyte"
held_out = 200
labels = [${Array.from({ length: 10 }, (_, i) => `"${i}"`)}]
normalization = "none"
[[stage]]
epochs = 10.0
`,
  );
  const run = (program, ...line) => execFileSync(join(programs, program), ["--threads", "1", ...line], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  run("polyveil", "train", "--config", "digits.toml", "-o", "float");
  run("polyveil", "adapt", "float/network.pvm", "--train", "train-images-idx3-ubyte", "--degree", "2", "--no-flip", "-o", "degree2");
  run("polyveil", "compile", "degree2/network.pvm", "--no-probe", "-o", "digits.plan");
  return files;
}
