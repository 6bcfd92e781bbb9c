// Others in the same Redis: emitters, plain channels, and Node servers that make one fleet with two of our nodes. All of them as npm has them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { Emitter } from "@socket.io/redis-emitter";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server as SocketServer } from "socket.io";
import { Fleet } from "./fleet.mjs";
import { Client, Events, Plain, SOON, scope, until, within } from "./harness.mjs";
import { Cluster, Redis } from "./redis.mjs";
import { token } from "./catalogue.mjs";

/** A client of the real package. */
async function client(t, redis) {
  const made = createClient({ url: redis.url });
  made.on("error", () => {});
  await made.connect();
  t.after(() => made.close().catch(() => {}));
  return made;
}

const subscribers = async (redis, channel, sharded = false) =>
  (await redis.ask("PUBSUB", sharded ? "SHARDNUMSUB" : "NUMSUB", channel))[1];
/** Waits until so many nodes hear emitters: their channels and their stream. */
async function hears(redis, count, channel = "socket.io-request#/#") {
  await until(async () => (await subscribers(redis, channel)) >= count, `${count} nodes hear ${channel}`);
  await until(async () => (await redis.ask("CLIENT", "LIST")).split("cmd=xread").length > count, `${count} nodes read the stream`);
}
/** Names of what an application sent, without the server's own words. */
const OWN = ["connected", "user:online", "user:offline", "user:status"];
const said = (client) => client.log.entries.filter(({ name }) => !name.startsWith("(") && !OWN.includes(name)).map(({ name }) => name);
/** Whatever was sent before it has come when this has. */
async function settle(clients, send) {
  send();
  await Promise.all(clients.map((one) => one.next("end")));
}

describe("emitters, with nothing configured but Redis", () => {
  const all = scope();
  let redis, fleet, emitter, raw;
  before(async () => {
    redis = await Redis.start(all);
    fleet = await Fleet.start(all, redis, { count: 2 });
    await fleet.becomes("ok");
    await hears(redis, 2);
    raw = await client(all, redis);
    emitter = new Emitter(raw);
  });
  after(() => all.end());

  const end = (...rooms) => () => emitter.to(rooms).emit("end");

  test("an event reaches a room's members on every node and over every transport, and no other tenant", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    const polls = await Client.join(t, fleet.nodes[1], "acme", "pol", { transports: ["polling"] });
    const plain = await Plain.join(t, fleet.nodes[1], "acme", "bob");
    const other = await Client.join(t, fleet.nodes[0], "beta", "ana");
    const events = new Events(t, fleet.nodes[0], { rooms: ["project:7"], token: token({ sub: "eve", tenant: "acme" }) });
    await events.next("connected");
    for (const one of [ana, polls, plain, other]) await one.ask("subscribe", { rooms: ["project:7"] });
    emitter.to("acme/project:7").emit("note", { a: 1, list: [true, null, 1.5, "é😀"] });
    const note = { a: 1, list: [true, null, 1.5, "é😀"] };
    for (const one of [ana, polls, plain]) assert.deepEqual(await one.next("note"), note);
    assert.deepEqual((await events.next("note")).args[0].data, note);
    // Several arguments: as they are, and as a list where there is one value.
    emitter.to("acme/project:7").emit("two", 1, "x");
    assert.deepEqual(await ana.nextArgs("two").then((args) => args.slice(0, 2)), [1, "x"]);
    assert.deepEqual(await plain.next("two"), [1, "x"]);
    emitter.to("acme/project:7").emit("none");
    assert.equal((await ana.nextArgs("none")).length, 0);
    assert.equal(await plain.next("none"), null);
    // Without a tenant, and to everybody: to nobody.
    emitter.to("project:7").emit("lost");
    emitter.emit("lost");
    await settle([ana, polls, plain, other], end("acme/project:7", "beta/project:7"));
    for (const one of [ana, polls, plain]) assert.deepEqual(said(one), ["note", "two", "none", "end"]);
    assert.deepEqual(said(other), ["end"]);
  });

  test("binary parts arrive as bytes, over WebSocket and long-polling", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    const polls = await Client.join(t, fleet.nodes[1], "acme", "pol", { transports: ["polling"] });
    for (const one of [ana, polls]) await one.ask("subscribe", { rooms: ["bytes"] });
    emitter.to("acme/bytes").emit("file", { name: "a", body: Buffer.from([1, 2, 250]) }, Buffer.from("x"));
    for (const one of [ana, polls]) {
      const [file, rest] = await one.nextArgs("file");
      assert.equal(file.name, "a");
      assert.deepEqual([...file.body], [1, 2, 250]);
      assert.deepEqual([...rest], [120]);
    }
    await settle([ana, polls], end("acme/bytes"));
  });

  test("except, a socket by its id, rooms of several tenants", async (t) => {
    const [ana, bob] = [await Client.join(t, fleet.nodes[0], "acme", "ana"), await Client.join(t, fleet.nodes[1], "acme", "bob")];
    const other = await Client.join(t, fleet.nodes[1], "beta", "eve");
    for (const one of [ana, bob, other]) await one.ask("subscribe", { rooms: ["r"] });
    await bob.ask("subscribe", { rooms: ["quiet"] });
    await other.ask("subscribe", { rooms: ["quiet"] });
    emitter.to(["acme/r", "beta/r"]).except("acme/quiet").emit("one");
    emitter.to("acme/r").except(ana.socket.id).emit("two");
    emitter.to(bob.socket.id).emit("three");
    emitter.to(`beta/${bob.socket.id}`).emit("lost");
    emitter.to("acme/user:ana").emit("four");
    emitter.to(["acme/r", "acme/user:ana", ana.socket.id]).emit("once");
    await settle([ana, bob, other], end("acme/r", "beta/r"));
    assert.deepEqual(said(ana), ["one", "four", "once", "end"]);
    assert.deepEqual(said(bob), ["two", "three", "once", "end"]);
    assert.deepEqual(said(other), ["one", "end"]);
  });

  test("sockets are made to join, leave and go: within their tenant", async (t) => {
    const [ana, bob] = [await Client.join(t, fleet.nodes[0], "acme", "ana"), await Client.join(t, fleet.nodes[1], "acme", "bob")];
    const other = await Client.join(t, fleet.nodes[1], "beta", "eve");
    emitter.in("acme/tenant:acme").socketsJoin(["acme/late", "beta/late"]);
    // What a socket of ours publishes goes to who was made to join.
    await until(async () => {
      emitter.to("acme/late").emit("ping?");
      return said(ana).length && said(bob).length;
    }, "both are in the room");
    assert.equal((await ana.ask("publish", { room: "late", type: "hello", data: 1 })).ok, true);
    assert.equal(await bob.next("hello"), 1);
    emitter.in("acme/user:bob").socketsLeave("acme/late");
    // In one channel's order: what follows finds it done.
    emitter.in("acme/user:bob").emit("left?");
    await bob.next("left?");
    await until(async () => (await fleet.nodes[1].api("GET", "acme", "rooms/late/presence")).body.members.every(({ user }) => user !== "bob"), "bob has left");
    emitter.to(["acme/late", "beta/late"]).emit("not bob");
    await ana.next("not bob");
    emitter.in("acme/user:bob").disconnectSockets();
    assert.equal(await bob.disconnected(), "io server disconnect");
    emitter.in("acme/user:ana").disconnectSockets(true);
    assert.match(await ana.disconnected(), /io server disconnect|transport close/);
    await settle([other], end("beta/tenant:beta"));
    assert.deepEqual(said(other), ["end"]);
    assert.ok(!said(bob).includes("not bob"));
  });

  test("the streams emitter's rows", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    const plain = await Plain.join(t, fleet.nodes[1], "acme", "bob");
    for (const one of [ana, plain]) await one.ask("subscribe", { rooms: ["project:7"] });
    // As `@socket.io/redis-streams-emitter` 0.1.1 writes them.
    const row = (data, nsp = "/") => redis.ask("XADD", "socket.io", "*", "uid", "emitter", "nsp", nsp, "type", "3", "data", JSON.stringify(data));
    const event = (rooms, ...data) => ({ packet: { type: 2, data, nsp: "/" }, opts: { rooms, flags: {}, except: [] } });
    await row(event(["project:7"], "lost", 1));
    await row(event(["acme/project:7"], "note", { a: 1 }));
    await row(event(["acme/project:7"], "connect"));
    await redis.ask("XADD", "socket.io", "*", "nonsense", "1");
    await row(event(["acme/project:7"], "end"));
    for (const one of [ana, plain]) {
      await one.next("end");
      assert.deepEqual(said(one), ["note", "end"]);
    }
  });

  test("nonsense on its channels disturbs nobody", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    for (const channel of ["socket.io#/#", "socket.io#/#acme/r#", "socket.io-request#/#"]) {
      for (const text of ["", "{", "[]", "{}", '{"type":2}', "\u0093", '["x",{"type":2,"data":[]},{}]', "[".repeat(5000)]) {
        await redis.ask("PUBLISH", channel, text);
      }
    }
    await settle([ana], end("acme/tenant:acme"));
    assert.deepEqual(said(ana), ["end"]);
  });

  test("a fleet that this server is not told of is not heard, and not held up", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    const own = scope();
    const node = await NodeServer.start(own, redis, "classic");
    try {
      await until(async () => (await subscribers(redis, "socket.io-request#/#")) === 3, "three listen");
      node.io.to("acme/tenant:acme").emit("theirs");
      node.io.in("acme/tenant:acme").disconnectSockets(true);
      assert.deepEqual(await within(SOON, node.io.in("acme/tenant:acme").fetchSockets(), "the sockets"), []);
      assert.deepEqual(await node.io.timeout(2000).to("acme/tenant:acme").emitWithAck("theirs"), []);
      await settle([ana], end("acme/tenant:acme"));
      assert.deepEqual(said(ana), ["end"]);
    } finally {
      await own.end();
    }
  });

  test("after Redis has restarted emitters are heard again", async (t) => {
    const ana = await Client.join(t, fleet.nodes[0], "acme", "ana");
    await redis.kill();
    await fleet.becomes("degraded", 20_000);
    await redis.begin();
    await fleet.becomes("ok", 20_000);
    await hears(redis, 2);
    await until(async () => {
      await raw.ping().catch(() => {});
      emitter.to("acme/tenant:acme").emit("back");
      return said(ana).includes("back");
    }, "the emitter is heard");
  });
});

describe("a profile of one tenant", () => {
  const all = scope();
  let redis, fleet;
  before(async () => {
    redis = await Redis.start(all);
    const place = mkdtempSync(path.join(tmpdir(), "tenantcast-profile-"));
    all.after(() => rmSync(place, { recursive: true, force: true }));
    const profile = path.join(place, "one.toml");
    writeFileSync(profile, 'name = "one"\nabout = "One."\n[claims]\nsingle_tenant = "main"\n[client_events]\nsubscribe = { do = "subscribe" }\npublish = { do = "publish" }\n');
    fleet = await Fleet.start(all, redis, { count: 2, env: { PROFILE: profile, TENANTCAST_FLEET__ADAPTER: "classic" } });
    await fleet.becomes("ok");
    await hears(redis, 2);
  });
  after(() => all.end());

  test("rooms without a tenant, and everybody", async (t) => {
    const node = await NodeServer.start(t, redis, "classic");
    const clients = await Promise.all(fleet.nodes.map(async (one, at) => {
      const made = new Client(t, one.url, { auth: { token: token({ sub: `u${at}`, permissions: ["publish"] }) } });
      await made.next("connected");
      return made;
    }));
    assert.equal((await clients[0].ask("subscribe", { rooms: ["project:7"] })).ok, true);
    const theirs = await node.join(t, "project:7");
    await until(async () => (await subscribers(redis, "socket.io-request#/#")) === 3, "three are in the fleet");
    node.io.to("project:7").emit("a");
    node.io.to("main/project:7").emit("b");
    node.io.to("other/project:7").emit("lost");
    node.io.emit("all");
    for (const one of clients) await one.next("all");
    assert.deepEqual(said(clients[0]), ["a", "b", "all"]);
    assert.deepEqual(said(clients[1]), ["all"]);
    await clients[1].ask("publish", { room: "project:7", type: "ours", data: 1 });
    assert.equal(await theirs.next("ours"), 1);
  });
});

describe("plain channels of project-hub", () => {
  const all = scope();
  let redis, fleet;
  before(async () => {
    redis = await Redis.start(all);
    fleet = await Fleet.start(all, redis, { count: 2, env: { PROFILE: "project-hub" } });
    await fleet.becomes("ok");
    for (const name of ["notifications", "projects", "users"]) await hears(redis, 2, `realtime:${name}`);
  });
  after(() => all.end());

  async function enter(t, node, organization, user) {
    const client = new Client(t, node.url);
    await client.next("(connect)");
    client.socket.emit("authenticate", token({ userId: user, organizationId: organization }));
    await client.next("authenticated");
    return client;
  }

  test("each message is one event, in order, to whom it is for", async (t) => {
    const [one, two] = await Promise.all(fleet.nodes.map((node, at) => enter(t, node, "ncy", `u${at}`)));
    const other = await enter(t, fleet.nodes[0], "rival", "u0");
    for (const client of [one, two, other]) assert.equal((await client.ask("join_project", "p1")).ok, true);
    const publish = (channel, value) => redis.ask("PUBLISH", `realtime:${channel}`, typeof value === "string" ? value : JSON.stringify(value));
    const project = (n) => ({ organizationId: "ncy", projectId: "p1", update: { type: "task_updated", n } });
    for (let n = 0; n < 20; n++) await publish("projects", project(n));
    // The same text again is another message.
    for (let n = 0; n < 3; n++) await publish("projects", project("again"));
    await publish("notifications", { organizationId: "ncy", userId: "u1", notification: { type: "TASK_UPDATED", taskId: "t7" } });
    await publish("users", { organizationId: "ncy", userId: "u1", update: { type: "user_status_changed", status: "away" } });
    // What is no event of the profile's, or does not say its organization, is nobody's.
    await publish("users", { organizationId: "ncy", userId: "u1", update: { status: "away" } });
    await publish("projects", { projectId: "p1", update: { type: "task_updated" } });
    await publish("projects", "{");
    await publish("projects", project("end"));
    const data = (client, type) => client.all("message").filter(([message]) => message.type === type).map(([message]) => message.data);
    const want = [...Array.from({ length: 20 }, (_, n) => n), "again", "again", "again", "end"];
    for (const client of [one, two]) {
      await until(async () => data(client, "project_update").some(({ n }) => n === "end"), "the last one has come");
      assert.deepEqual(data(client, "project_update").map(({ n }) => n), want);
      // They are durable: places in the room's history, each its own, the same for all.
      const metas = client.all("message").filter(([message]) => message.type === "project_update").map(([, meta]) => meta);
      assert.deepEqual(metas.map(({ offset }) => offset), want.map((_, at) => at + 1));
      assert.equal(new Set(metas.map(({ id }) => id)).size, want.length);
    }
    await until(async () => data(two, "user_update").length === 1, "the user's update");
    assert.deepEqual(data(two, "notification"), [{ type: "TASK_UPDATED", taskId: "t7" }]);
    assert.deepEqual(data(two, "user_update"), [{ type: "user_status_changed", status: "away" }]);
    assert.deepEqual([data(one, "notification"), data(one, "user_update")], [[], []]);
    assert.deepEqual(other.all("message"), []);
    // A node that dies takes nothing with it: the other one has heard the same.
    await fleet.kill(0);
    await publish("projects", project("after"));
    await until(async () => data(two, "project_update").some(({ n }) => n === "after"), "what was published then");
  });
});

describe("in a Cluster", () => {
  const all = scope();
  let cluster, fleet;
  before(async () => {
    cluster = await Cluster.start(all);
    fleet = await Fleet.start(all, cluster, { count: 2 });
    await fleet.becomes("ok", 20_000);
    const sum = async (ask) => (await Promise.all(cluster.members.map(ask))).reduce((a, b) => a + b, 0);
    await until(() => sum((member) => subscribers(member, "socket.io-request#/#")).then((count) => count === 2), "both nodes hear emitters");
    const reads = async (member) => (await member.ask("CLIENT", "LIST")).split("cmd=xread").length - 1;
    await until(() => sum(reads).then((count) => count === 2), "both nodes read the stream");
  });
  after(() => all.end());

  test("emitters and their stream are heard, whichever member they speak to", async (t) => {
    const [ana, bob] = [await Client.join(t, fleet.nodes[0], "acme", "ana"), await Client.join(t, fleet.nodes[1], "acme", "bob")];
    const opts = { rooms: ["acme/tenant:acme"], except: [], flags: {} };
    for (const [at, member] of cluster.members.slice(0, 3).entries()) {
      await member.ask("PUBLISH", "socket.io#/#", JSON.stringify(["emitter", { type: 2, data: ["note", at], nsp: "/" }, opts]));
      for (const one of [ana, bob]) assert.equal(await one.next("note"), at);
    }
    const data = JSON.stringify({ packet: { type: 2, data: ["row", 1], nsp: "/" }, opts });
    const added = cluster.members.map((member) => member.ask("XADD", "socket.io", "*", "uid", "emitter", "nsp", "/", "type", "3", "data", data));
    assert.equal((await Promise.allSettled(added)).filter(({ status }) => status === "fulfilled").length, 1, "one master has the stream");
    for (const one of [ana, bob]) assert.equal(await one.next("row"), 1);
    for (const one of [ana, bob]) assert.deepEqual(said(one), ["note", "note", "note", "row"]);
  });
});

/** A Node server of the fleet: its clients say in which rooms they are. */
class NodeServer {
  static async start(t, redis, kind) {
    const [one, two] = [await client(t, redis), await client(t, redis)];
    const adapter = {
      classic: () => createAdapter(one, two),
      sharded: () => createShardedAdapter(one, two),
      static: () => createShardedAdapter(one, two, { subscriptionMode: "static" }),
      streams: () => createStreamsAdapter(one, { blockTimeInMs: 200 }),
    }[kind]();
    const node = new NodeServer();
    node.http = http.createServer();
    node.io = new SocketServer(node.http, { adapter });
    node.io.on("connection", (socket) => {
      socket.join(socket.handshake.auth.rooms);
      socket.emit("connected", {});
    });
    await new Promise((resolve) => node.http.listen(0, "127.0.0.1", resolve));
    node.url = `http://127.0.0.1:${node.http.address().port}`;
    t.after(async () => {
      await node.io.close();
      // The adapter's own reader ends when it has waited; without Redis it would wait for ever.
      await until(async () => (await redis.ask("CLIENT", "LIST")).split("cmd=xread").length <= 3, "the server reads no stream any more");
    });
    return node;
  }

  async join(t, ...rooms) {
    const made = new Client(t, this.url, { auth: { rooms } });
    await made.next("connected");
    return made;
  }
}

for (const kind of ["classic", "sharded", "static", "streams"]) {
  describe(`a Node server and two nodes of ours in one fleet: ${kind}`, () => {
    const all = scope();
    let redis, fleet, node;
    before(async () => {
      redis = await Redis.start(all);
      const env = { TENANTCAST_FLEET__ADAPTER: kind === "static" ? "sharded" : kind };
      if (kind === "static") env.TENANTCAST_FLEET__SUBSCRIPTION_MODE = "static";
      fleet = await Fleet.start(all, redis, { count: 2, env });
      await fleet.becomes("ok");
      await hears(redis, 2);
      node = await NodeServer.start(all, redis, kind);
      const sharded = kind === "sharded" || kind === "static";
      const channel = kind === "classic" ? "socket.io-request#/#" : "socket.io#/#";
      await until(async () => (await subscribers(redis, channel, sharded)) === 3, "three servers are in the fleet");
    });
    after(() => all.end());

    /** A socket of ours on each node, in `rooms`, one of another tenant in rooms of the same names, and one of Node's. */
    async function crowd(t, ...rooms) {
      const [ana, bob, eve] = [
        await Client.join(t, fleet.nodes[0], "acme", "ana"),
        await Client.join(t, fleet.nodes[1], "acme", "bob"),
        await Client.join(t, fleet.nodes[1], "beta", "eve"),
      ];
      for (const one of [ana, bob, eve]) await one.ask("subscribe", { rooms });
      const theirs = await node.join(t, ...rooms.map((room) => `acme/${room}`));
      // A room that nobody was in has a channel of its own in some fleets.
      await until(async () => {
        node.io.to(rooms.map((room) => `acme/${room}`)).emit("(ready)");
        for (const room of rooms) node.io.to(`acme/${room}`).emit("(ready)");
        return [ana, bob, theirs].every((one) => one.all("(ready)").length > rooms.length);
      }, "all hear the rooms");
      return { ana, bob, eve, theirs };
    }

    test("theirs to ours: one room, several, except, bytes", async (t) => {
      const { ana, bob, eve, theirs } = await crowd(t, "one", "two");
      await bob.ask("subscribe", { rooms: ["quiet"] });
      node.io.to("acme/one").emit("a", { n: 1 });
      node.io.to(["acme/one", "acme/two"]).emit("b");
      node.io.to("acme/one").except("acme/quiet").emit("c");
      node.io.to("acme/one").emit("d", Buffer.from([7, 8]));
      node.io.emit("everybody");
      node.io.to("one").emit("lost");
      node.io.to(["acme/one", "beta/one"]).emit("end");
      for (const one of [ana, bob, eve, theirs]) await one.next("end");
      assert.deepEqual(said(ana), ["a", "b", "c", "d", "end"]);
      assert.deepEqual(said(bob), ["a", "b", "d", "end"]);
      assert.deepEqual(said(eve), ["end"]);
      assert.deepEqual(said(theirs), ["a", "b", "c", "d", "everybody", "end"]);
      assert.deepEqual(ana.all("a")[0][0], { n: 1 });
      assert.deepEqual([...ana.all("d")[0][0]], [7, 8]);
    });

    test("ours to theirs: once, as our own clients get it", async (t) => {
      const { ana, bob, eve, theirs } = await crowd(t, "chat");
      const stranger = await node.join(t, "beta/chat", "chat");
      const { id, offset } = await ana.ask("publish", { room: "chat", type: "message", data: { text: "hi" } });
      const [data, meta] = await theirs.nextArgs("message");
      assert.deepEqual(data, { text: "hi" });
      assert.deepEqual([meta.id, meta.offset, meta.room, meta.user], [id, offset, "chat", "ana"]);
      // Two speakers have no order: the second speaks when all have heard the first.
      for (const one of [ana, bob]) await one.next("message");
      await bob.ask("publish", { room: "chat", type: "brief", data: 1, ephemeral: true });
      assert.equal(await theirs.next("brief"), 1);
      await fleet.nodes[0].publish("acme", { type: "end", room: "chat", data: 0 });
      for (const one of [ana, bob, theirs]) {
        await one.next("end");
        assert.deepEqual(said(one), ["message", "brief", "end"]);
      }
      await fleet.nodes[0].publish("beta", { type: "end", room: "chat", data: 0 });
      for (const one of [eve, stranger]) {
        await one.next("end");
        assert.deepEqual(said(one), ["end"]);
      }
    });

    test("sockets are found, made to join and leave, and disconnected", async (t) => {
      const { ana, bob, eve, theirs } = await crowd(t, "room");
      const started = Date.now();
      const found = await within(SOON, node.io.in("acme/room").fetchSockets(), "the sockets");
      assert.ok(Date.now() - started < 3000, "answered in time");
      assert.deepEqual(found.map(({ id }) => id).sort(), [ana, bob, theirs].map(({ socket }) => socket.id).sort());
      const remote = found.find(({ id }) => id === ana.socket.id);
      assert.ok(remote.rooms.has("acme/room") && remote.rooms.has("acme/user:ana") && remote.rooms.has(ana.socket.id));
      assert.deepEqual(remote.data, { tenant: "acme", user: "ana" });
      assert.deepEqual(await node.io.in("acme/nobody").fetchSockets(), []);
      node.io.in("acme/room").socketsJoin(["acme/more", "beta/more"]);
      await until(async () => (await node.io.in("acme/more").fetchSockets()).length === 3, "they have joined");
      assert.deepEqual((await node.io.in("beta/more").fetchSockets()).map(({ id }) => id), [theirs.socket.id]);
      remote.leave("acme/more");
      await until(async () => (await node.io.in("acme/more").fetchSockets()).length === 2, "one has left");
      remote.emit("direct", 1);
      assert.equal(await ana.next("direct"), 1);
      node.io.in("acme/user:bob").disconnectSockets();
      assert.equal(await bob.disconnected(), "io server disconnect");
      node.io.in("acme/user:ana").disconnectSockets(true);
      await ana.disconnected();
      node.io.in("beta/room").emit("end");
      await eve.next("end");
      assert.deepEqual(said(eve), ["end"]);
    });

    test("acknowledgements of a broadcast: counted and gathered", async (t) => {
      const { ana, bob, theirs } = await crowd(t, "ask");
      const plain = await Plain.join(t, fleet.nodes[0], "acme", "pat");
      await plain.ask("subscribe", { rooms: ["ask"] });
      ana.socket.on("question", (n, answer) => answer({ ana: n }));
      bob.socket.on("question", (n, answer) => answer(Buffer.from([n])));
      theirs.socket.on("question", (n, answer) => answer("theirs"));
      plain.ws.on("message", (text) => {
        const { event, id } = JSON.parse(text);
        if (event === "question") plain.send({ ack: id, data: "plain" });
      });
      const answers = await within(SOON, node.io.timeout(4000).to("acme/ask").emitWithAck("question", 5), "the answers");
      const shown = answers.map((answer) => (Buffer.isBuffer(answer) ? [...answer] : answer));
      assert.deepEqual(shown.map((one) => JSON.stringify(one)).sort(), ['"plain"', '"theirs"', "[5]", '{"ana":5}']);
      assert.deepEqual(await node.io.timeout(2000).to("acme/nobody").emitWithAck("question", 1), []);
    });

    test("what servers say to each other is answered, and changes nothing", async (t) => {
      const answers = await within(SOON, node.io.serverSideEmitWithAck("hello", 1), "the answers");
      assert.deepEqual(answers, [null, null]);
      node.io.serverSideEmit("hello");
      if (kind === "classic") {
        const { ana } = await crowd(t, "rooms");
        const rooms = await within(SOON, node.io.of("/").adapter.allRooms(), "all rooms");
        assert.ok(rooms.has("acme/rooms") && rooms.has("acme/user:ana") && rooms.has("beta/rooms"), [...rooms].join());
        assert.ok(ana);
      }
    });

    test("typing reaches theirs", async (t) => {
      const { ana, theirs } = await crowd(t, "typing");
      ana.socket.emit("typing:start", { room: "typing" });
      assert.equal((await theirs.next("typing:start")).user, "ana");
    });
  });
}
