// Users who are not there, and receipts, over three nodes on one Redis: nodes are killed, Redis goes away, and what waits is given once.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Balancer, Fleet } from "./fleet.mjs";
import { Client, Events, Plain, mint } from "./harness.mjs";
import { Redis, poll } from "./redis.mjs";

/** The default profile, and receipts of one type. */
const place = mkdtempSync(path.join(tmpdir(), "tenantcast-queue-"));
const PROFILE = path.join(place, "default.toml");
const standard = readFileSync(new URL("../../../src/profile/builtin/default.toml", import.meta.url), "utf8");
writeFileSync(PROFILE, `${standard}\n[events]\nmessage = { receipts = true }\n`);
const stops = [];
const whole = { after: (stop) => stops.push(stop) };
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis, { env: { PROFILE } });
  await fleet.becomes("ok");
});
after(async () => {
  for (const stop of stops.reverse()) await stop();
  rmSync(place, { recursive: true, force: true });
});

/** Publishes numbered notes for a user through any nodes; their ids. */
let turn = 0;
const tell = async (tenant, user, numbers, on = fleet) => {
  const ids = [];
  for (const n of numbers) {
    const nodes = on.running;
    ids.push((await nodes[turn++ % nodes.length].publish(tenant, { user, type: "note", data: n })).id);
  }
  return ids;
};

/** What a client has got so far; its question is answered after everything before it. */
const got = async (client) => {
  await client.ask("presence", { room: `user:${client.welcome.user}` });
  return client.all("note").map(([data]) => data);
};

/** Leaves: its node has seen it when it says so. */
const leave = async (client, node, tenant, user) => {
  client.socket.disconnect();
  await poll(async () => (await node.api("GET", tenant, `users/${user}`)).body.connections === 0, `${user} has left`);
};

test("what came while a user was away comes on whichever node it comes to, in order, until it is received", async (t) => {
  const ids = await tell("queue", "ana", [1, 2, 3]);
  const ana = await Client.join(t, fleet.nodes[0], "queue", "ana");
  await tell("queue", "ana", [4]);
  const events = await ana.gather("note", 4);
  assert.deepEqual(events.map(([data, meta]) => [data, meta.queued, meta.offset]), [[1, true, 1], [2, true, 2], [3, true, 3], [4, undefined, 4]]);
  assert.deepEqual(events.slice(0, 3).map(([, meta]) => meta.id), ids);
  assert.equal(ana.names[0], "connected", "the greeting comes first");
  // A second device elsewhere: what is not acknowledged, but not what came as it was published.
  const plain = await Plain.join(t, fleet.nodes[1], "queue", "ana");
  assert.deepEqual((await plain.gather("note", 3)).map(([data]) => data), [1, 2, 3]);
  assert.deepEqual(await plain.ask("received", { ids: [ids[0], ids[2], "unknown"] }), { ok: true });
  const third = await Client.join(t, fleet.nodes[2], "queue", "ana");
  assert.deepEqual(await got(third), [2]);
  await third.ask("received", { ids });
  const stream = new Events(t, fleet.nodes[0], { token: mint("queue", "ana") });
  await stream.next("connected");
  const last = await Client.join(t, fleet.nodes[1], "queue", "ana");
  assert.deepEqual(await got(last), []);
  assert.deepEqual(stream.log.entries.filter(({ name }) => name === "note"), []);
  const other = await Client.join(t, fleet.nodes[2], "elsewhere", "ana");
  assert.deepEqual(await got(other), [], "the same name in another tenant is another user");
});

test("every event for users who come and go over all nodes is given, and none twice", async (t) => {
  const users = ["u0", "u1", "u2", "u3"];
  const published = new Map(users.map((user) => [user, 0]));
  let over = false;
  const publishing = Promise.all(
    users.map(async (user, n) => {
      while (!over) {
        const node = fleet.nodes[(n + published.get(user)) % 3];
        const next = published.get(user) + 1;
        await node.publish("busy", { user, type: "note", data: next });
        published.set(user, next);
      }
    }),
  );
  const seen = new Map(users.map((user) => [user, []]));
  let queued = 0;
  const visit = async (user, at) => {
    const client = await Client.join(t, fleet.nodes[at], "busy", user);
    await got(client);
    const waited = client.all("note").filter(([, meta]) => meta.queued);
    queued += waited.length;
    await client.ask("received", { ids: waited.map(([, meta]) => meta.id) });
    client.socket.disconnect();
    // What came between the answer and the end has come.
    const notes = client.all("note").map(([data]) => data);
    for (let n = 1; n < notes.length; n++) assert.ok(notes[n] > notes[n - 1], `${user} in order: ${notes}`);
    seen.get(user).push(...notes);
    await poll(async () => (await fleet.nodes[at].api("GET", "busy", `users/${user}`)).body.connections === 0, `${user} has left`);
  };
  for (let round = 0; round < 12; round++) await Promise.all(users.map((user, n) => visit(user, (round + n) % 3)));
  over = true;
  await publishing;
  for (const [n, user] of users.entries()) {
    await visit(user, n % 3);
    const all = seen.get(user);
    assert.equal(new Set(all).size, all.length, `${user}: none came twice`);
    const missing = Array.from({ length: published.get(user) }, (_, n) => n + 1).filter((n) => !all.includes(n));
    // What was written to a client that was leaving was written, and nobody read it.
    assert.ok(missing.length <= 12 * 3, `${user}: ${missing.length} of ${published.get(user)} missing`);
  }
  t.diagnostic(`published ${[...published.values()].reduce((a, b) => a + b)}, ${queued} of them from a queue`);
});

test("the node that had the user is killed: what is published before anybody knows waits, and nothing is lost", async (t) => {
  const three = await Fleet.start(t, redis, { env: { TENANTCAST_REDIS__PREFIX: "killed" } });
  const balancer = await Balancer.over(t, three);
  const ana = await Client.join(t, three, "killed", "ana", { url: balancer.url });
  const at = balancer.last;
  await tell("killed", "ana", [1, 2], three);
  await ana.gather("note", 2);
  balancer.cut();
  await three.kill(at);
  const ids = await tell("killed", "ana", [3, 4], three);
  balancer.mend();
  balancer.shunned.add(at);
  await ana.gather("note", 4);
  assert.deepEqual(await got(ana), [1, 2, 3, 4], "it comes back by itself, and has missed nothing");
  assert.equal(ana.socket.recovered, true);
  ana.socket.disconnect();
  // And a device that knows nothing of that socket.
  const other = await Client.join(t, three.running[0], "killed", "ana");
  assert.deepEqual(await got(other), [3, 4], "they were not acknowledged");
  await other.ask("received", { ids });
  assert.deepEqual(await got(await Client.join(t, three.running[1], "killed", "ana")), []);
});

test("killed while a user comes and goes under load: everything is given, in order", async (t) => {
  const three = await Fleet.start(t, redis, { env: { TENANTCAST_REDIS__PREFIX: "load" } });
  let published = 0;
  let over = false;
  const publishing = (async () => {
    while (!over) {
      // The same id until it is answered: a node may die with the answer.
      const event = { id: `note-${published + 1}`, user: "ana", type: "note", data: published + 1 };
      const nodes = three.running;
      const done = await nodes[turn++ % nodes.length].publish("load", event).catch(() => undefined);
      if (done) published++;
    }
  })();
  const seen = new Set();
  const note = (client) => client.socket.on("note", (data) => seen.add(data));
  for (let round = 0; round < 3; round++) {
    const at = round % 3;
    const client = new Client(t, three.nodes[at].url, { auth: { token: mint("load", "ana") }, reconnection: false });
    note(client);
    await client.next("connected");
    const from = published;
    await poll(() => published > from + 20, "20 more events");
    await three.kill(at);
    await client.disconnected();
    await poll(() => published > from + 40, "20 more events");
    // Comes back to another node, by its private id, as the official client does by itself.
    client.socket.io.uri = three.running[0].url;
    client.socket.io.opts.reconnection = true;
    client.socket.connect();
    await client.next("connected");
    const notes = client.all("note").map(([data]) => data);
    for (let n = 1; n < notes.length; n++) assert.ok(notes[n] > notes[n - 1], `in order: ${notes}`);
    client.socket.disconnect();
    await three.revive(at);
  }
  over = true;
  await publishing;
  const last = await Client.join(t, three.nodes[2], "load", "ana");
  note(last);
  for (const data of await got(last)) seen.add(data);
  const missing = Array.from({ length: published }, (_, n) => n + 1).filter((n) => !seen.has(n));
  t.diagnostic(`published ${published}, received ${seen.size}`);
  assert.deepEqual(missing, []);
});

test("Redis away: who comes is let in, and given what waits when it is back, before anything newer", async (t) => {
  const own = await Redis.start(t);
  const two = await Fleet.start(t, own, { count: 2 });
  await two.becomes("ok");
  await tell("away", "ana", [1, 2], two);
  own.freeze();
  await two.becomes("degraded");
  const ana = await Client.join(t, two.nodes[0], "away", "ana");
  assert.deepEqual(await got(ana), []);
  const waiting = two.nodes[1].api("POST", "away", "events", { body: { user: "ana", type: "note", data: 3 } });
  own.thaw();
  await two.becomes("ok");
  await waiting;
  const notes = await ana.gather("note", 3);
  assert.deepEqual(notes.map(([data, meta]) => [data, meta.queued]), [[1, true], [2, true], [3, undefined]]);
  await ana.ask("received", { ids: notes.map(([, meta]) => meta.id) });
  await leave(ana, two.nodes[0], "away", "ana");
  assert.deepEqual(await got(await Client.join(t, two.nodes[1], "away", "ana")), []);
});

test("receipts: once, to the sender, from whichever node", async (t) => {
  const sender = await Client.join(t, fleet.nodes[0], "receipts", "sam");
  const [ana, ben] = await Promise.all([Client.join(t, fleet.nodes[1], "receipts", "ana"), Client.join(t, fleet.nodes[2], "receipts", "ben")]);
  await ana.ask("subscribe", { rooms: ["team"] });
  const { id } = await sender.ask("publish", { room: "team", type: "message", data: 1 });
  await ana.next("message");
  await ben.ask("received", { ids: [id] });
  await ana.ask("received", { ids: [id] });
  const delivered = await sender.next("delivered");
  assert.deepEqual([delivered.id, delivered.user], [id, "ana"], "ben is not in that room");
  await ana.ask("received", { ids: [id] });
  await ana.ask("read", { ids: [id] });
  const read = await sender.next("read");
  assert.deepEqual([read.id, read.user], [id, "ana"]);
  await ana.ask("received", { ids: [id] });
  // To who was away, and from who is: its receipt waits for it on any node.
  const away = await sender.ask("publish", { room: "user:cat", type: "message", data: 2 });
  await leave(sender, fleet.nodes[0], "receipts", "sam");
  const cat = await Client.join(t, fleet.nodes[2], "receipts", "cat");
  await cat.next("message");
  await cat.ask("received", { ids: [away.id] });
  await poll(async () => {
    const again = await Client.join(t, fleet.nodes[1], "receipts", "sam");
    await again.ask("presence", { room: "user:sam" });
    again.socket.disconnect();
    const told = again.all("delivered").map(([{ id, user }]) => [id, user]);
    assert.ok(told.length <= 1);
    return String(told) === String([[away.id, "cat"]]);
  }, "the receipt");
  assert.equal(sender.all("delivered").length, 1, "each is told once");
  assert.equal(sender.all("read").length, 1);
});
