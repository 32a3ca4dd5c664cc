// The page in headless Chromium against a running service: whole runs by clicks and by keys, and what can go wrong on the way.
//   node test/page.mjs FOLDER_OF_PROGRAMS [FOLDER_OF_NETWORK] [FOLDER_FOR_SCREENSHOTS]
// CHROMIUM names the browser.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { clear, network, STROKES } from "./digits.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const programs = resolve(process.argv[2] ?? join(here, "../../target/release"));
const files = network(programs, resolve(process.argv[3] ?? join(here, "../target/digits")));
const pictures = process.argv[4];
const folder = mkdtempSync(join(tmpdir(), "polyveil-page-"));
const data = join(folder, "data");
const program = join(programs, "polyveil-serve");
const operate = (...line) => execFileSync(program, [...line, "--data", data], { encoding: "utf8" });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const LONG = 120_000;

const port = await new Promise((done) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => done(port));
  });
});
const url = `http://127.0.0.1:${port}/`;
let server;
async function start() {
  server = spawn(program, ["start", "--data", data, "--listen", `127.0.0.1:${port}`, "--page", join(here, "../dist")], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((done, fail) => {
    server.stdout.on("data", (text) => String(text).includes('"listening"') && done());
    server.on("exit", (code) => fail(new Error(`the service ended: ${code}`)));
  });
}
async function stop() {
  server.removeAllListeners("exit");
  const ended = new Promise((done) => server.on("exit", done));
  server.kill("SIGTERM");
  await ended;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
/** A visitor of their own: nothing kept from others, and all that left the browser. */
async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: { width: 900, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(LONG);
  const left = [];
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (said) => said.type() === "error" && errors.push(said.text()));
  context.on("request", (request) => left.push(request));
  const text = (id) => page.locator(`#${id}`).innerText();
  const seen = (id) => page.locator(`#${id}`).waitFor();
  return { context, page, left, errors, text, seen, close: () => context.close() };
}
async function enter(v, token, remember) {
  await v.page.goto(url);
  await v.seen("token-form");
  await v.page.getByLabel("Token").fill(token);
  if (remember) await v.page.getByLabel("keep it in this browser").check();
  await v.page.getByRole("button", { name: "Enter" }).click();
  await v.seen("keys");
}
async function make(v) {
  await v.page.getByRole("button", { name: "Make keys" }).click();
  await v.seen("picture");
}
async function draw(v, digit) {
  await v.page.getByRole("button", { name: "Clear" }).click();
  await v.page.locator("#draw").scrollIntoViewIfNeeded();
  const box = await v.page.locator("#draw").boundingBox();
  const points = STROKES[digit].map(([x, y]) => [box.x + box.width * (0.28 + 0.44 * x), box.y + box.height * (0.15 + 0.7 * y)]);
  await v.page.mouse.move(...points[0]);
  await v.page.mouse.down();
  for (const point of points.slice(1)) await v.page.mouse.move(...point, { steps: 8 });
  await v.page.mouse.up();
}
const ask = (v) => v.page.getByRole("button", { name: "Encrypt and ask" }).click();
/** The answer is there, and is what the network gives in the clear for the pixels that are shown. */
async function answered(v) {
  await v.seen("answer");
  const pixels = await v.page.evaluate(() => {
    const canvas = document.querySelector("#seen");
    return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).filter((_, i) => i % 4 === 0);
  });
  assert.ok(pixels.some((p) => p > 100), "there is a picture");
  const wanted = clear(programs, files, pixels);
  const values = (await v.page.locator("#rows tbody tr td:last-child").allInnerTexts()).map(Number);
  assert.equal(values.length, 10);
  // four digits are shown
  const within = Number(/within ([\d.e+-]+) of/.exec(await v.text("error"))[1]) + 5.1e-5;
  values.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) <= within, `output ${i}: ${value}, ${wanted[i]} in the clear`));
  const best = wanted.indexOf(Math.max(...wanted));
  assert.match(await v.text("best"), new RegExp(`^${best}, with a share of`));
  assert.match(await v.text("alarm"), /^The alarm is silent/);
  assert.equal(await v.page.locator("#alert").isVisible(), false);
}
const screenshot = async (v, name) => pictures && v.page.screenshot({ path: join(pictures, name), fullPage: true });
const kept = (v) =>
  v.page.evaluate(
    () =>
      new Promise((done) => {
        indexedDB.open("polyveil").onsuccess = ({ target: { result } }) => {
          result.transaction("kept").objectStore("kept").getAllKeys().onsuccess = (e) => done(e.target.result);
        };
      }),
  );

const tests = {
  async "a whole run by clicks"(token) {
    const v = await visitor();
    await enter(v, token);
    await make(v);
    await draw(v, 7);
    await ask(v);
    await v.seen("leaves");
    assert.match(await v.text("leaves-say"), /bytes, \d+ ciphertext/);
    await answered(v);
    assert.match(await v.text("best"), /^7,/);
    await screenshot(v, "page.png");
    console.log(`    ${(await v.page.locator("#report tr").allInnerTexts()).join("; ").replaceAll("\t", ": ")}`);
    // the secret key's file, as its owner saves it, is nowhere in what left
    const [download] = await Promise.all([v.page.waitForEvent("download"), v.page.getByRole("button", { name: "Save the secret key" }).click()]);
    const secret = readFileSync(await download.path());
    assert.equal(secret.subarray(0, 4).toString("latin1").length, 4);
    // a piece of the secret's section: rows of −1, 0, 1
    const piece = secret.subarray(secret.length >> 1, (secret.length >> 1) + 64);
    const bodies = v.left.map((request) => request.postDataBuffer()).filter(Boolean);
    assert.ok(bodies.length > 2, "keys and an input were sent");
    assert.ok(bodies.every((body) => !body.includes(piece)), "the secret key left the browser");
    assert.ok(v.left.every((request) => request.url().startsWith(url) || request.url().startsWith("blob:")), "another host was asked");
    assert.ok(bodies.some((body) => body.length > 1e6), "bodies are seen at all");
    await enterAgainWithKey(v, token, secret);
    assert.deepEqual(v.errors, []);
    await v.close();
  },

  async "by keyboard alone, on a narrow screen"(token) {
    const v = await visitor({ viewport: { width: 340, height: 640 } });
    await v.page.goto(url);
    await v.seen("token-form");
    const keys = v.page.keyboard;
    const to = async (id) => {
      for (let i = 0; i < 40; i++) {
        if ((await v.page.evaluate(() => document.activeElement.id)) === id) return;
        await keys.press("Tab");
      }
      assert.fail(`${id} is not reached by Tab`);
    };
    await to("token");
    await keys.type(token);
    await keys.press("Enter");
    await v.seen("keys");
    await to("make");
    await keys.press("Enter");
    await v.seen("picture");
    await to("draw");
    for (let i = 0; i < 8; i++) await keys.press("ArrowUp");
    await keys.press("Space");
    for (let i = 0; i < 17; i++) await keys.press("ArrowDown");
    await keys.press("Space");
    await to("ask");
    await keys.press("Enter");
    await answered(v);
    const wide = await v.page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels too wide`);
    await screenshot(v, "page-narrow.png");
    assert.deepEqual(v.errors, []);
    await v.close();
  },

  async "a file, and one that is no picture"(token) {
    const v = await visitor();
    await enter(v, token);
    await make(v);
    await v.page.locator("#file").setInputFiles({ name: "x.png", mimeType: "image/png", buffer: Buffer.from("none") });
    await v.seen("alert");
    assert.match(await v.text("alert"), /convert it to PNG/);
    await draw(v, 4);
    const png = await v.page.evaluate(() => document.querySelector("#draw").toDataURL("image/png"));
    await v.page.getByRole("button", { name: "Clear" }).click();
    await v.page.locator("#file").setInputFiles({ name: "4.png", mimeType: "image/png", buffer: Buffer.from(png.split(",")[1], "base64") });
    await v.page.getByText("scaled").waitFor();
    await ask(v);
    await answered(v);
    await v.close();
  },

  async "loaded again while keys are sent, and while a job waits"(token) {
    const v = await visitor();
    await enter(v, token, true);
    let [sent, hold] = [0, true];
    await v.page.route("**/parts/*", async (route) => {
      // the second part never arrives
      if (hold && ++sent === 2) return;
      await route.continue().catch(() => {});
    });
    await v.page.getByRole("button", { name: "Make keys" }).click();
    while (sent < 2) await pause(50);
    await v.page.reload();
    hold = false;
    const before = v.left.length;
    // the token is kept, and the keys
    await v.page.getByRole("button", { name: "Send the public part" }).click();
    await v.seen("picture");
    const again = v.left.slice(before).filter((r) => r.method() === "PUT").length;
    const all = Math.ceil(readPlan(token).key_bytes / (4 << 20));
    assert.equal(again, all - 1, "what was there is not sent again");
    assert.ok(!(await kept(v)).some((name) => name.includes("/part/")), "parts that were sent are not kept");
    await draw(v, 2);
    // the job's request goes out, its answer is lost
    await v.page.route("**/v1/jobs?*", async (route) => {
      await route.fetch();
      await pause(LONG);
    });
    await ask(v);
    await v.seen("leaves");
    await pause(1500);
    await v.page.unrouteAll({ behavior: "ignoreErrors" });
    await v.page.reload();
    await answered(v);
    const jobs = await (await fetch(`${url}v1/jobs`, { headers: { authorization: `Bearer ${token}` } })).json();
    assert.equal(jobs.length, 0, "one job, and it is gone");
    await v.close();
  },

  async "a service that restarts"(token) {
    const v = await visitor();
    await enter(v, token);
    await make(v);
    await draw(v, 3);
    await stop();
    await ask(v);
    await v.page.getByText("trying again").waitFor();
    await start();
    await answered(v);
    assert.equal(await v.page.locator("#waits").isVisible(), false);
    await v.close();
  },

  async "a browser without room"(token) {
    const v = await visitor();
    const devtools = await v.context.newCDPSession(v.page);
    await v.page.goto(url);
    const most = (quotaSize) => devtools.send("Storage.overrideQuotaForOrigin", { origin: url.slice(0, -1), quotaSize });
    await most(1);
    await enter(v, token);
    // keys are made and sent, and it is said that nothing stays
    await make(v);
    assert.match(await v.text("keys-say"), /no room to keep the secret key: save it in a file/);
    await draw(v, 0);
    await ask(v);
    await answered(v);
    assert.deepEqual((await kept(v)).filter((name) => name.endsWith("/key")), []);
    await v.page.reload();
    await v.seen("token-form");
    await v.close();
  },

  async "keys that are removed"(token) {
    const v = await visitor();
    await enter(v, token);
    await make(v);
    const mine = async () => (await (await fetch(`${url}v1/keys`, { headers: { authorization: `Bearer ${token}` } })).json()).length;
    const before = await mine();
    await v.page.getByRole("button", { name: "Remove keys" }).click();
    await v.page.getByRole("button", { name: "Make keys" }).waitFor();
    assert.equal(await mine(), before - 1);
    assert.deepEqual(await kept(v), []);
    await v.close();
  },

  async "a wrong token"() {
    const v = await visitor();
    await v.page.goto(`${url}#token=none`);
    await v.seen("alert");
    assert.match(await v.text("alert"), /token/);
    assert.equal(v.page.url(), url, "the token is taken off the address");
    await v.close();
  },
};

/** The saved key in a browser that has none: new public keys for it. */
async function enterAgainWithKey(v, token, secret) {
  const other = await visitor();
  await enter(other, token);
  await other.page.locator("#key-file").setInputFiles({ name: "client.key", mimeType: "application/octet-stream", buffer: secret });
  await other.seen("picture");
  await draw(other, 5);
  await ask(other);
  await answered(other);
  await other.close();
}

function readPlan() {
  return JSON.parse(operate("plan", "list"))[0];
}

let failed = 0;
try {
  operate("plan", "add", files.plan);
  await start();
  const only = process.env.ONLY;
  for (const [name, test] of Object.entries(tests)) {
    if (only && !new RegExp(only).test(name)) continue;
    const token = operate("account", "add", name.replace(/[^a-z]+/g, "-").slice(0, 40)).trim();
    const began = Date.now();
    try {
      await test(token);
      console.log(`ok: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed++;
      console.log(`FAILED: ${name}: ${error.stack}`);
    }
  }
} finally {
  await browser.close();
  server?.removeAllListeners("exit");
  server?.kill("SIGKILL");
  rmSync(folder, { recursive: true });
}
process.exitCode = failed ? 1 : 0;
