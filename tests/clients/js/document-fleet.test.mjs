// Documents that clients of several nodes write to: one on all nodes, whoever is faster.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Fleet } from "./fleet.mjs";
import { Client, SOON, scope, within } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const PROFILE = `
name = "drafts"
about = "Documents, one pattern for each strategy"
[client_events]
"document:update" = { do = "document", action = "update" }
"document:open" = { do = "document", action = "open" }
"document:get" = { do = "document", action = "get" }
"document:close" = { do = "document", action = "close" }
"conflict:resolve" = { do = "document", action = "resolve" }
[documents]
"strict:*" = { strategy = "reject" }
"manual:*" = { strategy = "manual" }
"*" = { strategy = "last-write-wins" }
`;

const whole = scope();
after(whole.end);
let redis, fleet;
before(async () => {
  const place = mkdtempSync(path.join(tmpdir(), "tenantcast-drafts-"));
  whole.after(() => rmSync(place, { recursive: true, force: true }));
  writeFileSync(path.join(place, "drafts.toml"), PROFILE);
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis, { count: 2, env: { PROFILE: path.join(place, "drafts.toml") } });
  await fleet.becomes("ok");
});

/** Somebody who has a document open, and keeps it as the README says. */
class Writer {
  static async open(t, at, tenant, user, document, more = {}) {
    const writer = new Writer();
    writer.document = document;
    writer.versions = [];
    writer.client = await Client.join(t, fleet.nodes[at], tenant, user);
    writer.client.socket.on("document:updated", (told) => {
      if (told.document === document) writer.take(told.version, told.epoch, told.fields);
    });
    writer.opened = await writer.client.ask("document:open", { document, ...more });
    assert.equal(writer.opened.ok, true, JSON.stringify(writer.opened));
    writer.fields = { ...writer.opened.fields };
    writer.version = writer.opened.version;
    return writer;
  }

  take(version, epoch, fields) {
    this.versions.push(version);
    this.version = version;
    this.epoch = epoch;
    this.fields = { ...this.fields, ...fields };
  }

  /** The answer is taken when it comes, and not when a promise of it has come round. */
  write(fields, { base = this.version, ...more } = {}) {
    const update = { document: this.document, baseVersion: base, fields, ...more };
    const answered = new Promise((resolve) => {
      this.client.socket.emit("document:update", update, (answer) => {
        if (answer.version > this.version) this.versions.push(answer.version);
        if (answer.version >= this.version) {
          this.version = answer.version;
          this.epoch = answer.epoch;
          this.fields = { ...this.fields, ...(answer.ok ? fields : {}), ...answer.fields };
        }
        resolve(answer);
      });
    });
    return within(SOON, answered, () => `the answer to ${JSON.stringify(update)}`);
  }

  /** Has heard of this version, and waits for it where it has not. */
  async reached(version) {
    while (this.version < version) await this.client.next("document:updated", (told) => told.document === this.document);
    assert.equal(this.version, version);
  }
}

const whole_of = async (writer) => writer.client.ask("document:get", { document: writer.document });

test("what clients of two nodes write at once is one document, and no version is given twice", async (t) => {
  const writers = await Promise.all([0, 1, 0, 1].map((at, nth) => Writer.open(t, at, "at-once", `user-${nth}`, "sheet")));
  const answers = [];
  await Promise.all(writers.map(async (writer, nth) => {
    for (let n = 1; n <= 40; n++) answers.push(await writer.write({ [`own-${nth}`]: n, shared: `${nth}:${n}` }));
  }));
  assert.ok(answers.every((answer) => answer.ok), JSON.stringify(answers.find((answer) => !answer.ok)));
  const { version, fields, epoch } = await whole_of(writers[1]);
  for (const writer of writers) {
    await writer.reached(version);
    assert.deepEqual(writer.fields, fields);
    assert.equal(writer.epoch ?? epoch, epoch);
    assert.deepEqual(writer.versions, Array.from({ length: version }, (_, n) => n + 1), "each version once and in order");
  }
  for (let nth = 0; nth < 4; nth++) assert.equal(fields[`own-${nth}`], 40, "nothing of anybody's own is lost");
  assert.ok(version >= 160 - answers.filter((answer) => answer.strategy).length);
  t.diagnostic(`160 updates from two nodes at once: version ${version}, ${answers.filter((answer) => answer.strategy).length} conflicts`);
});

test("a conflict between nodes is resolved as the profile says", async (t) => {
  const at = Date.now();
  // The last write wins, wherever it was made; all are told, and the writer that there was a conflict.
  const [ana, ben] = [await Writer.open(t, 0, "conflicts", "ana", "free"), await Writer.open(t, 1, "conflicts", "ben", "free")];
  await ana.write({ title: "a", note: "a" }, { timestamp: at });
  await ben.reached(1);
  await ana.write({ title: "b" }, { timestamp: at + 20 });
  const lost = await ben.write({ title: "c" }, { base: 1, timestamp: at + 10 });
  assert.deepEqual([lost.ok, lost.strategy, lost.resolvedValue], [true, "last-write-wins", { title: "b" }]);
  assert.deepEqual((await ben.client.next("document:conflict")).incomingValue, { title: "c" });
  for (const writer of [ana, ben]) assert.deepEqual((await writer.client.next("conflict:resolved")).resolvedValue, { title: "b" });
  assert.deepEqual(ana.client.all("document:conflict"), []);
  // Or nothing is written over another's.
  const [cat, dan] = [await Writer.open(t, 0, "conflicts", "cat", "strict:1"), await Writer.open(t, 1, "conflicts", "dan", "strict:1")];
  await cat.write({ title: "a" });
  await dan.reached(1);
  await cat.write({ title: "b" });
  const refused = await dan.write({ title: "c", more: 1 }, { base: 1 });
  assert.deepEqual([refused.code, refused.version, refused.fields], ["conflict", 2, { title: "b" }]);
  assert.deepEqual((await whole_of(cat)).fields, { title: "b" });
  // Or somebody decides, on any node.
  const [eve, fay] = [await Writer.open(t, 0, "conflicts", "eve", "manual:1"), await Writer.open(t, 1, "conflicts", "fay", "manual:1")];
  await eve.write({ title: "a" });
  await fay.reached(1);
  await eve.write({ title: "b" });
  const kept = await fay.write({ title: "c" }, { base: 1 });
  assert.deepEqual([kept.code, kept.conflict], ["conflict", 1]);
  for (const writer of [eve, fay]) assert.equal((await writer.client.next("document:conflict")).conflict, 1);
  assert.equal((await whole_of(eve)).conflicts.length, 1);
  await eve.reached(2);
  const decided = await eve.client.ask("conflict:resolve", { document: "manual:1", baseVersion: 2, fields: { title: "d" } });
  assert.deepEqual([decided.ok, decided.version], [true, 3]);
  for (const writer of [eve, fay]) assert.deepEqual((await writer.client.next("conflict:resolved")).conflicts, [1]);
  await fay.reached(3);
  assert.deepEqual([(await whole_of(fay)).fields, (await whole_of(fay)).conflicts], [{ title: "d" }, []]);
});

test("a document is there for who comes to another node, and an update that is sent again is known there", async (t) => {
  const ana = await Writer.open(t, 0, "elsewhere", "ana", "sheet", { version: 41, fields: { title: "mine" } });
  assert.equal(ana.opened.version, 41);
  const update = { document: "sheet", baseVersion: 41, fields: { title: "new" }, timestamp: Date.now() };
  assert.equal((await ana.client.ask("document:update", update)).version, 42);
  ana.client.socket.disconnect();
  const back = await Writer.open(t, 1, "elsewhere", "ana", "sheet", { version: 7, fields: { title: "old" } });
  assert.deepEqual([back.opened.version, back.opened.fields, back.opened.epoch], [42, { title: "new" }, ana.opened.epoch]);
  assert.deepEqual([(await back.client.ask("document:update", update)).version, (await whole_of(back)).version], [42, 42]);
  const other = await Writer.open(t, 0, "another-tenant", "ana", "sheet");
  assert.equal(other.version, 0);
});

test("without Redis an update is refused, and nothing that was accepted is lost", async (t) => {
  const [ana, ben] = [await Writer.open(t, 0, "away", "ana", "sheet"), await Writer.open(t, 1, "away", "ben", "sheet")];
  assert.equal((await ana.write({ a: 1 })).version, 1);
  await ben.reached(1);
  redis.freeze();
  let refused;
  try {
    refused = await Promise.all([ana.write({ a: 2 }, { timestamp: 5 }), ben.client.ask("document:get", { document: "sheet" })]);
  } finally {
    redis.thaw();
  }
  assert.deepEqual(refused.map(({ code }) => code), ["backplane_unavailable", "backplane_unavailable"]);
  await fleet.becomes("ok");
  // Sent again, it is written once, whatever had become of it.
  let again;
  do again = await ana.write({ a: 2 }, { base: 1, timestamp: 5 });
  while (again.code === "backplane_unavailable");
  assert.deepEqual([again.ok, again.version], [true, 2]);
  await ben.reached(2);
  await ben.write({ b: 1 });
  const { version, fields } = await whole_of(ana);
  assert.deepEqual([version, fields], [3, { a: 2, b: 1 }]);
  await ana.reached(3);
  assert.deepEqual(ana.fields, ben.fields);
});

test("what Redis has lost is what the next one brings", async (t) => {
  const [ana, ben] = [await Writer.open(t, 0, "lost", "ana", "sheet"), await Writer.open(t, 1, "lost", "ben", "sheet")];
  await ana.write({ a: 1 });
  await ben.reached(1);
  await redis.ask("FLUSHALL");
  assert.equal((await ben.write({ a: 2 })).code, "unknown_document");
  const brought = await ben.client.ask("document:open", { document: "sheet", version: ben.version, fields: ben.fields });
  assert.deepEqual([brought.version, brought.fields], [1, { a: 1 }]);
  assert.notEqual(brought.epoch, ben.epoch);
  assert.equal((await ana.write({ a: 3 }, { epoch: ana.epoch })).code, "version_unknown");
  assert.equal((await ben.write({ a: 2 })).version, 2);
  const told = await ana.client.next("document:updated", ({ epoch }) => epoch === brought.epoch);
  assert.deepEqual([told.version, told.fields], [2, { a: 2 }]);
});
