// The client alone, in Node: its keys and input are what the program `polyveil` takes, its answer is what the program and the network in the clear give.
//   node test/roundtrip.mjs FOLDER_OF_PROGRAMS [FOLDER_OF_NETWORK]

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32, deflateSync } from "node:zlib";
import { load, Refused } from "../page/client.js";
import { clear, drawn, network, numbers } from "./digits.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const programs = resolve(process.argv[2] ?? join(here, "../../target/release"));
const files = network(programs, resolve(process.argv[3] ?? join(here, "../target/digits")));
const folder = mkdtempSync(join(tmpdir(), "polyveil-web-"));
const at = (name) => join(folder, name);
const polyveil = (...line) => execFileSync(join(programs, "polyveil"), line, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
const refused = (act, words) => assert.throws(act, (error) => error instanceof Refused && words.test(error.message), String(words));
const timed = (act) => {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const result = act();
  const used = process.cpuUsage(cpu);
  return [result, `${((performance.now() - start) / 1000).toFixed(2)} s (${((used.user + used.system) / 1e6).toFixed(2)} s of CPU time)`];
};

try {
  const wasm = readFileSync(join(here, "../dist/client.wasm"));
  const client = await load(wasm, (bytes) => webcrypto.getRandomValues(bytes));
  const file = readFileSync(files.client);
  refused(() => client.newKey(), /no network is open/);
  refused(() => client.open(file.subarray(0, file.length - 9)), /client file/);
  const described = client.open(file);
  assert.deepEqual(described.picture, { width: 28, height: 28, channels: 1 });
  assert.equal(described.toy, false);
  const pixels = drawn(7, numbers(7));
  refused(() => client.encrypt(pixels), /no secret key/);

  const secret = client.newKey();
  const parts = [];
  const [made, makes] = timed(() => client.evaluationKeys((part) => parts.push(part), () => {}));
  const keys = Buffer.concat(parts);
  assert.equal(keys.length, made.length);
  assert.equal(client.digest(keys), made.digest);
  assert.ok(parts.slice(0, -1).every((p) => p.length === 4 << 20));
  console.log(`keys: ${(keys.length / 1e6).toFixed(1)} MB in ${makes}`);

  const [input, encrypts] = timed(() => client.encrypt(pixels));
  assert.equal(client.digest(input.bytes), input.digest);
  const again = client.encrypt(pixels);
  assert.notEqual(again.digest, input.digest);
  refused(() => client.encrypt(pixels.subarray(1)), /783 pixels/);

  for (const [name, bytes] of [["network.client", file], ["client.key", secret], ["evaluation.keys", keys], ["x.input", input.bytes]]) {
    writeFileSync(at(name), bytes);
  }
  polyveil("run", "--plan", files.plan, "--keys", at("evaluation.keys"), "--input", at("x.input"), "-o", at("x.answer"));
  const answer = readFileSync(at("x.answer"));
  const [said, decrypts] = timed(() => client.decrypt(answer));
  console.log(`encrypted in ${encrypts}, decrypted in ${decrypts}: ${said.rows[said.best].name}`);

  // the program with the same key
  const native = JSON.parse(polyveil("decrypt", "--key", at("client.key"), "--json", at("x.answer")));
  assert.equal(said.rows[said.best].name, "7");
  const values = said.rows.map((row) => row.value);
  const apart = (a, b) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));
  assert.equal(native.logits.length, 10);
  assert.ok(apart(values, native.logits) < 1e-9, `program: ${apart(values, native.logits)}`);
  // the network in the clear
  const wanted = clear(programs, files, pixels);
  assert.ok(apart(values, wanted) <= said.error, `clear: ${apart(values, wanted)} of ${said.error}`);
  console.log(`within ${apart(values, wanted).toExponential(1)} of the network in the clear (${said.error.toExponential(1)} stated), ${apart(values, native.logits).toExponential(1)} of the program`);

  // the key from its file, in another client: the same answer; a new key does not fit
  const second = await load(wasm, (bytes) => webcrypto.getRandomValues(bytes));
  second.open(file);
  second.openKey(secret);
  assert.deepEqual(second.decrypt(answer).rows, said.rows);
  refused(() => second.openKey(keys), /evaluation keys/);
  refused(() => second.openKey(secret.subarray(0, 200)), /./);
  second.newKey();
  refused(() => second.decrypt(answer), /./);
  const damaged = Uint8Array.from(answer);
  damaged[damaged.length >> 1] ^= 1;
  refused(() => client.decrypt(damaged), /./);
  refused(() => client.decrypt(new Uint8Array()), /./);

  // a picture's file: a PNG of the same pixels is the same picture
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const rows = Buffer.concat(Array.from({ length: 28 }, (_, y) => Buffer.concat([Buffer.from([0]), pixels.subarray(28 * y, 28 * y + 28)])));
  const png = Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", Buffer.from([0, 0, 0, 28, 0, 0, 0, 28, 8, 0, 0, 0, 0])),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  const looked = client.look(png);
  assert.deepEqual([looked.lost, Buffer.from(looked.bytes)], [[], Buffer.from(pixels)]);
  refused(() => client.look(png.subarray(0, 60)), /PNG/);
  refused(() => client.look(new Uint8Array(9)), /convert it to PNG/);
  console.log("round trip: ok");
} finally {
  rmSync(folder, { recursive: true });
}
