// Users who are not there, and receipts, over three nodes on one Redis: nodes are killed, Redis goes away, and what waits is given once.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Balancer, Fleet } from "./fleet.mjs";
import { Client, Events, Plain, mint, profileWith, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const whole = scope();
/** The default profile, and receipts of one type. */
const PROFILE = profileWith(whole, `[events]\nmessage = { receipts = true }`);
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis, { env: { PROFILE } });
  await fleet.becomes("ok");
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

/** Leaves: its node, which has fewer clients then, has seen it. Nobody else comes or goes there meanwhile. */
const leave = async (client, node) => {
  const clients = async () => (await node.fetch("/health/websocket")).body.connectedClients;
  const before = await clients();
  client.socket.disconnect();
  await until(async () => (await clients()) < before, "its node has seen it leave");
};

/** As `leave`, among others who come and go. */
const leaveOthers = async (client, node, tenant, user) => {
  client.socket.disconnect();
  await until(async () => (await node.api("GET", tenant, `users/${user}`)).body.connections === 0, `${user} has left`);
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
  const left = await got(third);
  assert.ok(left.includes(2) && left.every((data) => data <= 3), String(left));
  await third.ask("received", { ids });
  // An acknowledgement is answered by its node, and on its way to the others.
  await until(async () => {
    const stream = new Events(t, fleet.nodes[0], { token: mint("queue", "ana") });
    await stream.next("connected");
    const last = await Client.join(t, fleet.nodes[1], "queue", "ana");
    const left = [...(await got(last)), ...stream.log.entries.filter(({ name }) => name === "note").map(({ args }) => args[0].data)];
    assert.ok(left.every((data) => data <= 3), String(left));
    last.socket.disconnect();
    return left.length === 0;
  }, "nothing waits any more");
  const other = await Client.join(t, fleet.nodes[2], "elsewhere", "ana");
  assert.deepEqual(await got(other), [], "the same name in another tenant is another user");
});

/** Publishes numbered notes for a user, one after the other, each until it is answered; holds still where nothing may be under way. */
class Source {
  /** `isAlone`: nobody else comes or goes on its nodes. */
  constructor(fleet, tenant, user, isAlone = false) {
    Object.assign(this, { isAlone, fleet, tenant, user, published: 0, isOver: false, gate: undefined });
    this.done = this.run();
  }

  async run() {
    while (!this.isOver) {
      if (this.gate) {
        this.gate.held();
        await this.gate.opened;
        continue;
      }
      // The same id until it is answered: a node may die with the answer.
      const n = this.published + 1;
      const event = { id: `${this.user}-${n}`, user: this.user, type: "note", data: n };
      const nodes = this.fleet.running;
      if (await nodes[turn++ % nodes.length].publish(this.tenant, event).catch(() => undefined)) this.published = n;
    }
  }

  /** Waits until the last one is answered, and lets no other go. */
  async hold() {
    this.gate = {};
    const held = new Promise((resolve) => (this.gate.held = resolve));
    this.gate.opened = new Promise((resolve) => (this.gate.open = resolve));
    await held;
  }

  go() {
    const { open } = this.gate;
    this.gate = undefined;
    open();
  }

  /** Leaves when all that was published has come: what is on its way to whoever closes is given to nobody. */
  async leave(client, node) {
    await this.hold();
    await until(() => this.published === 0 || client.all("note").some(([data]) => data === this.published), `${this.user} has got ${this.published}`);
    await (this.isAlone ? leave(client, node) : leaveOthers(client, node, this.tenant, this.user));
    this.go();
  }

  missing(seen) {
    return Array.from({ length: this.published }, (_, n) => n + 1).filter((n) => !seen.has(n));
  }
}

const inOrder = (notes, user) => notes.forEach((note, n) => assert.ok(n === 0 || note > notes[n - 1], `${user} in order: ${notes}`));

test("every event for users who come and go over all nodes is given, and none twice", async (t) => {
  const sources = ["u0", "u1", "u2", "u3"].map((user) => new Source(fleet, "busy", user));
  const seen = new Map(sources.map(({ user }) => [user, []]));
  let queued = 0;
  const visit = async (source, at) => {
    const { user } = source;
    const client = await Client.join(t, fleet.nodes[at], "busy", user);
    await got(client);
    const waited = client.all("note").filter(([, meta]) => meta.queued);
    queued += waited.length;
    await client.ask("received", { ids: waited.map(([, meta]) => meta.id) });
    if (source.isOver) client.socket.disconnect();
    else await source.leave(client, fleet.nodes[at]);
    const notes = client.all("note").map(([data]) => data);
    inOrder(notes, user);
    seen.get(user).push(...notes);
  };
  for (let round = 0; round < 10; round++) {
    await Promise.all(sources.map((source, n) => visit(source, (round + n) % 3)));
    const from = sources.map(({ published }) => published);
    await until(() => sources.every(({ published }, n) => published > from[n] + 5), "some come while nobody is there");
  }
  for (const source of sources) source.isOver = true;
  await Promise.all(sources.map(({ done }) => done));
  for (const [n, source] of sources.entries()) {
    await visit(source, n % 3);
    const all = seen.get(source.user);
    assert.equal(new Set(all).size, all.length, `${source.user}: none came twice`);
    assert.deepEqual(source.missing(new Set(all)), [], `${source.user}: none is missing`);
  }
  t.diagnostic(`published ${sources.reduce((sum, { published }) => sum + published, 0)}, ${queued} of them from a queue`);
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
  const three = await Fleet.start(t, redis, { env: { PROFILE, TENANTCAST_REDIS__PREFIX: "load" } });
  const source = new Source(three, "load", "ana", true);
  t.after(() => (source.isOver = true));
  const grown = async (count) => {
    const from = source.published;
    await until(() => source.published > from + count, `${count} more events`);
  };
  const seen = new Set();
  let [again, recovered] = [0, 0];
  for (let round = 0; round < 3; round++) {
    const at = round % 3;
    const client = new Client(t, three.nodes[at].url, { auth: { token: mint("load", "ana") }, reconnection: false });
    await client.next("connected");
    await grown(20);
    await three.kill(at);
    await client.disconnected();
    await grown(20);
    // Comes back to another node, by its private id, as the official client does by itself.
    const back = three.running[0];
    client.socket.io.uri = back.url;
    client.socket.connect();
    recovered += Number((await client.next("connected")).recovered);
    await source.leave(client, back);
    const notes = client.all("note").map(([data]) => data);
    inOrder(notes, "ana");
    for (const note of notes) {
      again += Number(seen.has(note));
      seen.add(note);
    }
    await three.revive(at);
  }
  source.isOver = true;
  await source.done;
  const last = await Client.join(t, three.nodes[2], "load", "ana");
  for (const data of await got(last)) seen.add(data);
  t.diagnostic(`published ${source.published}, received ${seen.size}, ${again} again by another connection; ${recovered} of 3 came back by recovery`);
  assert.deepEqual(source.missing(seen), []);
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
  assert.deepEqual(notes.map(([data]) => data), [1, 2, 3]);
  assert.deepEqual(notes.slice(0, 2).map(([, meta]) => meta.queued), [true, true]);
  await ana.ask("received", { ids: notes.map(([, meta]) => meta.id) });
  await leave(ana, two.nodes[0]);
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
  await leaveOthers(sender, fleet.nodes[0], "receipts", "sam");
  const cat = await Client.join(t, fleet.nodes[2], "receipts", "cat");
  await cat.next("message");
  await cat.ask("received", { ids: [away.id] });
  await until(async () => {
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
