// Node servers on the streams adapter and nodes of ours, between which clients go: with their id, their rooms, and all they missed.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import http from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient, createCluster } from "redis";
import { Server as SocketServer } from "socket.io";
import { Fleet } from "./fleet.mjs";
import { Client, Server, mint, scope, until } from "./harness.mjs";
import { Cluster, Redis } from "./redis.mjs";

const ENV = {
  TENANTCAST_FLEET__ADAPTER: "streams",
  TENANTCAST_FLEET__RECOVERY: "true",
  TENANTCAST_SOCKETIO__NAMESPACES: "/,/chat",
};
const socket = { reconnectStrategy: 50 };
/** A Cluster has several. */
const members = (redis) => redis.members ?? [redis];
const connect = (redis) =>
  redis.members ? createCluster({ rootNodes: redis.members.map(({ url }) => ({ url })), defaults: { socket } }) : createClient({ url: redis.url, socket });
/** Connections, as those of Redis that run list them. */
const connections = async (redis) => (await Promise.all(members(redis).filter((one) => one.isRunning).map((one) => one.ask("CLIENT", "LIST")))).join("\n");

/** A Node server of the fleet with its own recovery on: what a socket is in its client says, and its data is what no JSON has. */
class NodeServer {
  static async start(t, redis, options = {}) {
    const one = connect(redis);
    one.on("error", () => {});
    await one.connect();
    const node = new NodeServer();
    node.http = http.createServer();
    node.io = new SocketServer(node.http, {
      adapter: createAdapter(one, { blockTimeInMs: 200, ...options }),
      connectionStateRecovery: { maxDisconnectionDuration: 60_000 },
    });
    const enter = (socket) => {
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
    };
    for (const namespace of ["/", "/chat"]) node.io.of(namespace).on("connection", enter);
    await new Promise((resolve) => node.http.listen(0, "127.0.0.1", resolve));
    node.url = `http://127.0.0.1:${node.http.address().port}`;
    t.after(async () => {
      await node.io.close();
      // Its reader ends when it has waited.
      const reads = async () => (await connections(redis)).split("\n").some((line) => /lib-name=node-redis/.test(line) && /cmd=xread/.test(line));
      await until(async () => !(await reads()), "the server reads no stream any more");
      await one.close();
    });
    return node;
  }
}

/** Two nodes of ours and a Node server read the stream. */
const threeRead = (redis) =>
  until(async () => (await connections(redis)).split("cmd=xread").length > 3, "three read the stream");

/** One tenant's part of a fleet: a room that both sides speak in, and somebody on each who hears all of it. */
class Stage {
  constructor(redis, fleet, node, tenant, namespace = "/", sessions = "sio:session:") {
    Object.assign(this, { redis, fleet, node, tenant, namespace, sessions, n: 0 });
    this.io = node.io.of(namespace);
  }

  room(name) {
    return `${this.tenant}/${name}`;
  }

  async begin(t) {
    this.bob = await Client.join(t, this.fleet.nodes[1], this.tenant, "bob", { url: this.fleet.nodes[1].url + this.namespace });
    await this.bob.ask("subscribe", { rooms: ["r", "late"] });
    const rooms = ["r", "late", "later"].map((room) => this.room(room));
    this.tod = new Client(t, this.node.url + this.namespace, { auth: { rooms } });
    await this.tod.next("connected");
    return this;
  }

  /** Somebody in r and quiet, at a Node server or a node of ours. */
  async enter(t, place, user = "ana", more = []) {
    const rooms = ["r", "quiet", ...more];
    const auth = { token: mint(this.tenant, user), rooms: [...rooms, `tenant:${this.tenant}`, `user:${user}`].map((room) => this.room(room)) };
    const client = new Client(t, place.url + this.namespace, { auth });
    client.welcome = await client.next("connected");
    if (place !== this.node) assert.equal((await client.ask("subscribe", { rooms })).ok, true);
    return client;
  }

  /**
   * The next number, by a node of ours: the Node server has read it when this ends. What that says itself it gives its own clients at once, also
   * before what stands before it in the stream and was not read yet.
   */
  async ours(room = "r") {
    const n = ++this.n;
    await this.fleet.running[0].publish(this.tenant, { room, type: "n", data: n });
    await this.tod.next("n", (got) => got === n);
    return n;
  }

  /** The next number, by the Node server: it is in the stream when this ends. */
  async theirs(room = "r") {
    const n = ++this.n;
    this.io.to(this.room(room)).emit("n", n);
    await this.bob.next("n", (got) => got === n);
    return n;
  }

  /** Numbers of both, and what is for others. */
  async speak(client) {
    await this.ours();
    await this.theirs();
    await this.theirs();
    this.io.to(this.room("r")).except(this.room("quiet")).emit("not quiet");
    this.io.to(this.room("r")).except(client.id).emit("not you");
    this.io.to([this.room("elsewhere"), "other/r", "r"]).emit("elsewhere");
    this.io.to(client.id).emit("you", this.n);
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
    await until(async () => await this.redis.ask("EXISTS", this.sessions + pid), "its session is kept");
  }

  /** Breaks the connections of clients that have all there is. */
  async cutAll(...clients) {
    for (const client of clients) {
      await this.hasAll(client);
      await this.cut(client);
    }
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
    assert.deepEqual(this.numbers(client), want, `at ${client.socket.io.uri}: ${this.numbers(client)}`);
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
    await threeRead(redis);
  });
  after(() => all.end());
  const stage = (t, tenant, namespace) => new Stage(redis, fleet, node, tenant, namespace).begin(t);
  const places = () => ({ node, one: fleet.nodes[0], two: fleet.nodes[1] });

  for (const [tenant, way, namespace] of [
    ["ab", ["node", "one"]],
    ["ba", ["one", "node"]],
    ["bb", ["one", "two"]],
    ["b0", ["one", "one"]],
    ["aba", ["node", "one", "node", "two", "one", "node"]],
    ["chat", ["node", "one", "two", "node"], "/chat"],
  ]) {
    test(`${way.join(" to ")}${namespace ? ` in ${namespace}` : ""}: the same socket, and what it missed, once and in order`, async (t) => {
      const on = await stage(t, tenant, namespace);
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
      on.io.to(on.room("r")).emit("bytes", { body: Buffer.from([1, 2, 250]) }, "x");
      on.io.volatile.to(on.room("r")).emit("perhaps");
      await on.theirs();
      assert.equal(await on.comeTo(ana, to), true);
      await on.hasAll(ana, first);
      const [[{ body }, x]] = ana.all("bytes");
      assert.deepEqual([[...body], x], [[1, 2, 250], "x"]);
      // A Node server gives what is volatile to who comes back to it; it may have been there.
      if (to !== node) assert.deepEqual(ana.all("perhaps"), []);
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
    const first = await fleet.nodes[0].publish("once", event);
    assert.deepEqual(await fleet.nodes[1].publish("once", event), first);
    const [data, meta, offset] = await ana.nextArgs("paid");
    assert.deepEqual([data, meta.id, meta.epoch, meta.offset], [event.data, "one", first.epoch, first.offset]);
    const [ours, theMeta, theOffset] = await on.bob.nextArgs("paid");
    assert.deepEqual([ours, theMeta], [data, meta]);
    // Its row in this namespace, and its last one.
    for (const row of [offset, theOffset]) assert.match(row, /^[0-9]+-[0-9]+$/);
    await on.ours();
    await on.hasAll(ana);
    assert.deepEqual([ana.all("paid").length, on.bob.all("paid").length], [1, 1]);
    // By our own offsets as ever.
    const since = { epoch: first.epoch, offset: 0 };
    const { events } = await on.bob.ask("history", { room: "r", since });
    assert.deepEqual(events.map(({ type }) => type), ["paid", "n"]);
  });

  test("what one client says stays in its order on every node", async (t) => {
    const on = await stage(t, "order");
    const ana = await on.enter(t, fleet.nodes[0]);
    const want = Array.from({ length: 300 }, (_, n) => n);
    for (const n of want) ana.socket.emit("publish", { room: "r", type: "said", data: n, ephemeral: n % 3 > 0 });
    for (const client of [ana, on.bob]) assert.deepEqual((await client.gather("said", want.length)).map(([n]) => n), want);
    await on.ours();
    await on.theirs();
    await on.cut(ana);
    await on.ours();
    assert.equal(await on.comeTo(ana, fleet.nodes[1]), true);
    await on.hasAll(ana);
    assert.equal(ana.all("said").length, want.length, "what was said in passing is not given again");
  });

  test("what waits for its user, and what it missed", async (t) => {
    const on = await stage(t, "queue");
    const ana = await on.enter(t, fleet.nodes[0]);
    const own = (n) => fleet.nodes[1].publish("queue", { user: "ana", type: "own", data: n });
    for (const [n, to] of [[1, node], [3, fleet.nodes[1]], [5, fleet.nodes[0]]]) {
      await on.cut(ana);
      await own(n);
      await on.ours();
      await own(n + 1);
      assert.equal(await on.comeTo(ana, to), true);
      await on.hasAll(ana);
      assert.deepEqual(ana.all("own").map(([got]) => got), Array.from({ length: n + 1 }, (_, at) => at + 1));
    }
  });

  test("rows that are trimmed before a node has read them are read back", async (t) => {
    const on = await stage(t, "unread");
    await on.ours();
    await on.hasAll(on.bob);
    const behind = fleet.nodes[1];
    behind.signal("SIGSTOP");
    try {
      for (let n = 0; n < 5; n++) await on.ours();
      await redis.ask("XTRIM", "socket.io", "MAXLEN", 0);
    } finally {
      behind.signal("SIGCONT");
    }
    // Who comes now is greeted, and has what follows.
    const eve = await on.enter(t, behind, "eve");
    await on.hasAll(on.bob);
    await on.ours();
    await on.hasAll(on.bob);
    assert.ok(on.numbers(eve).includes(on.n));
  });

  test("an offset that was trimmed away: not recovered, and told so", async (t) => {
    const on = await stage(t, "trimmed");
    const [ana, eve] = [await on.enter(t, node), await on.enter(t, fleet.nodes[0], "eve")];
    await on.ours();
    await on.cutAll(ana, eve);
    await on.theirs();
    await redis.ask("XTRIM", "socket.io", "MAXLEN", 1);
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), false);
    assert.equal(await on.comeTo(eve, fleet.nodes[1]), false);
    assert.notEqual(ana.socket.id, ana.id);
  });
});

describe("Redis restarted", () => {
  let all;
  beforeEach(() => (all = scope()));
  afterEach(() => all.end());
  // What a test has started ends before its Redis: the adapter's reader would wait for that for ever.
  const begin = async (keeps) => {
    const t = all;
    const redis = await Redis.start(t, { keeps });
    const fleet = await Fleet.start(t, redis, { count: 2, env: ENV });
    await fleet.becomes("ok");
    const node = await NodeServer.start(t, redis);
    await threeRead(redis);
    return { redis, fleet, node, on: await new Stage(redis, fleet, node, "again").begin(t) };
  };

  test("with its data: nothing is lost, nor doubled, on either side", async () => {
    const t = all;
    const { redis, fleet, node, on } = await begin("all");
    const [ana, eve] = [await on.enter(t, node), await on.enter(t, fleet.nodes[0], "eve")];
    await on.ours();
    await on.theirs();
    await on.cutAll(ana, eve);
    await redis.kill();
    await fleet.becomes("degraded");
    // What is published meanwhile waits for its place.
    const waits = on.ours();
    await redis.begin();
    await waits;
    await fleet.becomes("ok");
    await on.ours();
    await threeRead(redis);
    await on.theirs();
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), true);
    assert.equal(await on.comeTo(eve, node), true);
    for (const one of [ana, eve]) await on.hasAll(one);
    await on.theirs();
    await on.ours();
    for (const one of [ana, eve, on.bob]) await on.hasAll(one);
  });

  test("empty: nobody is told that nothing is missing", async () => {
    const t = all;
    const { redis, fleet, node, on } = await begin("nothing");
    const [ana, eve] = [await on.enter(t, node), await on.enter(t, fleet.nodes[0], "eve")];
    await on.ours();
    await on.cutAll(ana, eve);
    await redis.kill();
    await fleet.becomes("degraded");
    await redis.begin();
    await fleet.becomes("ok");
    assert.equal((await on.bob.next("gap")).reason, "epoch_changed");
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), false);
    assert.equal(await on.comeTo(eve, fleet.nodes[1]), false);
    await threeRead(redis);
    // It begins anew, for both.
    assert.equal((await eve.ask("subscribe", { rooms: ["r"] })).ok, true);
    const first = on.n + 1;
    await on.ours();
    await on.theirs();
    await on.cut(eve);
    await on.theirs();
    assert.equal(await on.comeTo(eve, node), true);
    await until(async () => on.numbers(eve).includes(on.n), "the last number");
    assert.deepEqual(on.numbers(eve).slice(-3), [first, first + 1, first + 2]);
  });

  test("another stream, on a clock that is behind: it is read, and what came before that", async () => {
    const redis = await Redis.start(all);
    const fleet = await Fleet.start(all, redis, { count: 2, env: ENV });
    await fleet.becomes("ok");
    const [ana, bob] = await Promise.all(fleet.nodes.map((node, at) => Client.join(all, node, "clock", `u${at}`)));
    for (const client of [ana, bob]) await client.ask("subscribe", { rooms: ["r"] });
    const say = (n) => ana.ask("publish", { room: "r", type: "n", data: n });
    const far = 99_999_999_999_999;
    await redis.ask("XADD", "socket.io", `${far}-0`, "nsp", "");
    await say(1);
    for (const client of [ana, bob]) await client.next("n");
    await redis.ask("DEL", "socket.io");
    for (const n of [2, 3, 4]) await say(n);
    for (const client of [ana, bob]) {
      await client.next("n", (got) => got === 4);
      assert.deepEqual(client.all("n").map(([n]) => n), [1, 2, 3, 4]);
    }
  });
});

describe("in a Cluster, all in the slot of the stream", () => {
  const all = scope();
  const sessions = "{socket.io}sio:session:";
  let cluster, fleet, node;
  before(async () => {
    cluster = await Cluster.start(all);
    cluster.ask = async (...words) => (await cluster.masterOf("socket.io")).ask(...words);
    fleet = await Fleet.start(all, cluster, { count: 3, env: { ...ENV, TENANTCAST_FLEET__SESSION_PREFIX: sessions } });
    await fleet.becomes("ok", 20_000);
    node = await NodeServer.start(all, cluster, { sessionKeyPrefix: sessions });
    await until(async () => (await connections(cluster)).split("cmd=xread").length > 4, "four read the stream");
  });
  after(() => all.end());
  const stage = (t, tenant) => new Stage(cluster, fleet, node, tenant, "/", sessions).begin(t);

  test("from a Node server to us, to another of ours, and back", async (t) => {
    const on = await stage(t, "around");
    const ana = await on.enter(t, node);
    await on.ours();
    for (const place of [fleet.nodes[0], fleet.nodes[1], node]) {
      await on.hasAll(ana);
      await on.cut(ana);
      await on.speak(ana);
      assert.equal(await on.comeTo(ana, place), true);
      assert.equal(ana.socket.id, ana.id);
    }
    await on.theirs();
    await on.hasAll(ana);
  });

  test("a node is killed, and the master of the slot", async (t) => {
    const on = await stage(t, "killed");
    const ana = await on.enter(t, fleet.nodes[2]);
    await on.ours();
    await on.hasAll(ana);
    ana.socket.io.reconnection(false);
    await fleet.kill(2);
    await ana.disconnected();
    await on.ours();
    await on.theirs();
    assert.equal(await on.comeTo(ana, fleet.nodes[0]), true);
    await on.hasAll(ana);
    await cluster.failOver("socket.io");
    await on.ours();
    await on.hasAll(ana);
    await on.hasAll(on.bob);
    await on.cut(ana);
    await on.theirs();
    await on.ours();
    assert.equal(await on.comeTo(ana, fleet.nodes[1]), true);
    await on.hasAll(ana);
  });
});

test("in a Cluster the start says what it needs", async (t) => {
  const redis = await Redis.start(t, { options: ["cluster-enabled yes", "cluster-config-file nodes.conf"] });
  const said = async (env) => {
    const started = Server.start({ env: { ...redis.env, ...ENV, ...env } });
    started.then((server) => server.stop(), () => {});
    return (await assert.rejects(started).then(() => started.catch((error) => error))).message;
  };
  assert.match(await said({ REDIS_URL: null, TENANTCAST_REDIS__NODES: redis.address }), /fleet\.recovery: with redis\.nodes it needs the hash tag of fleet\.stream/);
  assert.match(await said({}), /Redis is a Cluster, and fleet\.recovery is on: redis\.nodes has to say so/);
});
