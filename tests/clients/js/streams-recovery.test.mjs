// Node servers on the streams adapter and nodes of ours, between which clients go: with their id, their rooms, and all they missed.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import http from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server as SocketServer } from "socket.io";
import { Fleet } from "./fleet.mjs";
import { Client, mint, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const ENV = { TENANTCAST_FLEET__ADAPTER: "streams", TENANTCAST_FLEET__RECOVERY: "true" };

/** A Node server of the fleet with its own recovery on: what a socket is in its client says, and its data is what no JSON has. */
class NodeServer {
  static async start(t, redis) {
    const one = createClient({ url: redis.url });
    one.on("error", () => {});
    await one.connect();
    const node = new NodeServer();
    node.http = http.createServer();
    node.io = new SocketServer(node.http, {
      adapter: createAdapter(one, { blockTimeInMs: 200 }),
      connectionStateRecovery: { maxDisconnectionDuration: 60_000 },
    });
    node.io.on("connection", (socket) => {
      if (!socket.recovered) {
        socket.join(socket.handshake.auth.rooms ?? []);
        if (Object.keys(socket.data).length === 0) socket.data = { came: new Date(5), raw: Buffer.from([1, 2]), n: 1 };
      }
      socket.on("join", (room, done) => {
        socket.join(room);
        done([...socket.rooms]);
      });
      socket.on("data?", (done) => done([Object.keys(socket.data), socket.data]));
      socket.emit("connected", { recovered: socket.recovered });
    });
    await new Promise((resolve) => node.http.listen(0, "127.0.0.1", resolve));
    node.url = `http://127.0.0.1:${node.http.address().port}`;
    t.after(async () => {
      await node.io.close();
      await until(async () => !(await redis.ask("CLIENT", "LIST")).includes("lib-name=node-redis") || one.isOpen, "the reader has ended").catch(() => {});
      await one.close().catch(() => {});
    });
    return node;
  }
}

/** One tenant's part of a fleet: a room that both sides speak in, and somebody on each who hears all of it. */
class Stage {
  constructor(redis, fleet, node, tenant) {
    Object.assign(this, { redis, fleet, node, tenant, n: 0 });
  }

  room(name) {
    return `${this.tenant}/${name}`;
  }

  async begin(t) {
    this.bob = await Client.join(t, this.fleet.nodes[1], this.tenant, "bob");
    await this.bob.ask("subscribe", { rooms: ["r", "late"] });
    return this;
  }

  /** Somebody in r and quiet, at a Node server or a node of ours. */
  async enter(t, place, user = "ana", more = []) {
    const rooms = ["r", "quiet", ...more];
    const auth = { token: mint(this.tenant, user), rooms: [...rooms, `tenant:${this.tenant}`, `user:${user}`].map((room) => this.room(room)) };
    const client = new Client(t, place.url, { auth });
    client.welcome = await client.next("connected");
    if (place !== this.node) assert.equal((await client.ask("subscribe", { rooms })).ok, true);
    return client;
  }

  /** The next number, by a client of ours: it has its place when this ends. */
  async ours(room = "r") {
    await this.fleet.running[0].publish(this.tenant, { room, type: "n", data: ++this.n });
    return this.n;
  }

  /** The next number, by the Node server: it is in the stream when this ends. */
  async theirs(room = "r") {
    const n = ++this.n;
    this.node.io.to(this.room(room)).emit("n", n);
    await this.bob.next("n", (got) => got === n);
    return n;
  }

  /** Numbers of both, and what is for others. */
  async speak(client) {
    await this.ours();
    await this.theirs();
    await this.theirs();
    this.node.io.to(this.room("r")).except(this.room("quiet")).emit("not quiet");
    this.node.io.to(this.room("r")).except(client.id).emit("not you");
    this.node.io.to([this.room("elsewhere"), "other/r", "r"]).emit("elsewhere");
    this.node.io.to(client.id).emit("you", this.n);
    await this.fleet.running[0].publish(this.tenant, [
      { room: "elsewhere", type: "elsewhere", data: 0 },
      { room: "r", type: "brief", data: this.n, ephemeral: true },
      { user: "bob", type: "elsewhere", data: 0 },
    ]);
    await this.ours();
    await this.theirs();
    await this.ours();
  }

  /** Breaks a client's connection; it is over when its session is kept for all. */
  async cut(client) {
    client.id = client.socket.id;
    const pid = client.socket._pid;
    client.socket.io.reconnection(false);
    client.socket.io.engine.close();
    await until(async () => await this.redis.ask("EXISTS", `sio:session:${pid}`), "its session is kept");
  }

  /** Connects it to another server. */
  async comeTo(client, place) {
    client.socket.io.uri = place.url;
    client.socket.io.reconnection(true);
    client.socket.connect();
    client.welcome = await client.next("connected");
    return client.socket.recovered;
  }

  numbers(client) {
    return client.all("n").map(([n]) => n);
  }

  /** It has all numbers so far, once and in order. */
  async hasAll(client, from = 1) {
    const want = Array.from({ length: this.n - from + 1 }, (_, at) => at + from);
    await until(async () => this.numbers(client).includes(this.n), () => `the last number: ${this.numbers(client)}`);
    assert.deepEqual(this.numbers(client), want);
    for (const name of ["not quiet", "not you", "elsewhere"]) assert.deepEqual(client.all(name), [], name);
  }
}

describe("between a Node server and nodes of ours", () => {
  const all = scope();
  let redis, fleet, node;
  before(async () => {
    redis = await Redis.start(all);
    fleet = await Fleet.start(all, redis, { count: 2, env: ENV });
    await fleet.becomes("ok");
    node = await NodeServer.start(all, redis);
    await until(async () => (await redis.ask("PUBSUB", "NUMSUB", "socket.io#/#"))[1] === 3, "three servers are in the fleet");
    await until(async () => (await redis.ask("CLIENT", "LIST")).split("cmd=xread").length > 3, "three read the stream");
  });
  after(() => all.end());
  const stage = (t, tenant) => new Stage(redis, fleet, node, tenant).begin(t);
  const places = () => ({ node, one: fleet.nodes[0], two: fleet.nodes[1] });

  for (const [tenant, way] of [
    ["ab", ["node", "one"]],
    ["ba", ["one", "node"]],
    ["bb", ["one", "two"]],
    ["b0", ["one", "one"]],
    ["aba", ["node", "one", "node", "two", "one", "node"]],
  ]) {
    test(`${way.join(" to ")}: the same socket, and what it missed, once and in order`, async (t) => {
      const on = await stage(t, tenant);
      const ana = await on.enter(t, places()[way[0]]);
      ana.id = ana.socket.id;
      const data = () => ana.ask("data?");
      const was = way[0] === "node" ? await data() : undefined;
      await on.speak(ana);
      await on.hasAll(ana);
      for (const to of way.slice(1)) {
        await on.cut(ana);
        await on.speak(ana);
        await on.speak(ana);
        assert.equal(await on.comeTo(ana, places()[to]), true, `recovered at ${to}`);
        assert.equal(ana.socket.id, ana.id);
        await on.hasAll(ana);
        if (to !== "node") {
          assert.equal(ana.welcome.recovered, true);
          assert.deepEqual([...ana.welcome.rooms].sort(), ["quiet", "r", `tenant:${tenant}`, "user:ana"]);
        } else if (was) {
          assert.deepEqual(await data(), was);
        }
        await on.speak(ana);
        await on.hasAll(ana);
        // What is for it alone came once each time.
        assert.deepEqual(ana.all("you").map(([n]) => n), [...new Set(ana.all("you").map(([n]) => n))]);
        assert.equal(ana.all("brief").length, new Set(ana.all("brief").map(([n]) => n)).size);
      }
    });
  }

  test("a room that was joined on the other side is taken along", async (t) => {
    const on = await stage(t, "rooms");
    const ana = await on.enter(t, node);
    await on.ours();
    await on.hasAll(ana);
    await on.cut(ana);
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), true);
    assert.equal((await ana.ask("subscribe", { rooms: ["late"] })).ok, true);
    await on.ours("late");
    await on.hasAll(ana);
    await on.cut(ana);
    await on.theirs("late");
    await on.ours("late");
    assert.equal(await on.comeTo(ana, node), true);
    await on.hasAll(ana);
    assert.ok((await ana.ask("join", on.room("later"))).includes(on.room("late")));
    await on.ours("late");
    await on.hasAll(ana);
    await on.cut(ana);
    await on.ours("later");
    await on.ours();
    assert.equal(await on.comeTo(ana, fleet.nodes[1]), true);
    await on.hasAll(ana);
    assert.deepEqual([...ana.welcome.rooms].sort(), ["late", "later", "quiet", "r", "tenant:rooms", "user:ana"]);
  });

  test("who has heard nothing yet comes back, too", async (t) => {
    const on = await stage(t, "quietly");
    for (const [user, from, to] of [["u1", fleet.nodes[0], node], ["u2", fleet.nodes[0], fleet.nodes[1]]]) {
      const ana = await on.enter(t, from, user);
      const first = on.n + 1;
      await on.cut(ana);
      await on.ours();
      await on.theirs();
      assert.equal(await on.comeTo(ana, to), true);
      await on.hasAll(ana, first);
    }
  });

  test("what is behind a private id is its tenant's, and its user's", async (t) => {
    const on = await stage(t, "mine");
    const ana = await on.enter(t, node);
    await on.ours();
    await on.hasAll(ana);
    await on.cut(ana);
    await on.ours();
    const auth = { pid: ana.socket._pid, offset: ana.socket._lastOffset };
    for (const [tenant, user] of [["other", "ana"], ["mine", "eve"]]) {
      const eve = new Client(t, fleet.nodes[0].url, { auth: { token: mint(tenant, user), ...auth } });
      const welcome = await eve.next("connected");
      assert.deepEqual([welcome.recovered, eve.socket.recovered, welcome.sid === ana.id], [false, false, false], tenant);
      assert.deepEqual(eve.all("n"), []);
    }
    // It is there all the same for who it is.
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), true);
    await on.hasAll(ana);
    // In rooms that are no tenant's it could not be had whole.
    const bare = new Client(t, node.url, { auth: { token: mint("mine", "ana"), rooms: [on.room("r"), "lobby"] } });
    await bare.next("connected");
    await on.ours();
    await bare.next("n");
    await on.cut(bare);
    assert.equal(await on.comeTo(bare, fleet.nodes[0]), false);
  });

  test("a node of ours that is killed", async (t) => {
    const on = await stage(t, "killed");
    const own = await Fleet.start(t, redis, { count: 1, env: ENV });
    await own.becomes("ok");
    const ana = await on.enter(t, own.nodes[0]);
    await on.theirs();
    await on.ours();
    await on.hasAll(ana);
    ana.socket.io.reconnection(false);
    await own.kill(0);
    await ana.disconnected();
    await on.ours();
    await on.theirs();
    assert.equal(await on.comeTo(ana, fleet.nodes[1]), true);
    await on.hasAll(ana);
  });

  test("a publish is one event; its place is the room's", async (t) => {
    const on = await stage(t, "once");
    const ana = await on.enter(t, node);
    const event = { id: "one", room: "r", type: "paid", data: { tricky: "€\\\"%d\u2028" } };
    const first = (await fleet.nodes[0].publish("once", event))[0];
    assert.deepEqual((await fleet.nodes[1].publish("once", event))[0], first);
    const [data, meta, offset] = await ana.nextArgs("paid");
    assert.deepEqual([data, meta.id, meta.epoch, meta.offset], [event.data, "one", first.epoch, first.offset]);
    const [ours, theMeta, theOffset] = await on.bob.nextArgs("paid");
    assert.deepEqual([ours, theMeta, theOffset], [data, meta, offset]);
    assert.match(offset, /^[0-9]+-[0-9]+$/);
    await on.ours();
    await on.hasAll(ana);
    assert.deepEqual([ana.all("paid").length, on.bob.all("paid").length], [1, 1]);
    // By our own offsets as ever.
    const since = { epoch: first.epoch, offset: 0 };
    const { events } = await on.bob.ask("history", { room: "r", since });
    assert.deepEqual(events.map(({ type }) => type), ["paid", "n"]);
  });

  test("an offset that was trimmed away: not recovered, and told so", async (t) => {
    const on = await stage(t, "trimmed");
    const [ana, eve] = [await on.enter(t, node), await on.enter(t, fleet.nodes[0], "eve")];
    await on.ours();
    for (const one of [ana, eve]) await on.hasAll(one);
    for (const one of [ana, eve]) await on.cut(one);
    await on.theirs();
    await redis.ask("XTRIM", "socket.io", "MAXLEN", 1);
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), false);
    assert.equal(await on.comeTo(eve, fleet.nodes[1]), false);
    assert.notEqual(ana.socket.id, ana.id);
  });
});
