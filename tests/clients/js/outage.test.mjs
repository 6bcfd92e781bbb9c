// What breaks while a fleet is under load: a node, Redis, its master, every node in turn. Each test says its numbers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Balancer, Fleet, Ledger } from "./fleet.mjs";
import { Client, SOON, Server, until } from "./harness.mjs";
import { Cluster, Redis, Sentinels } from "./redis.mjs";

const OUTAGE_MS = 20_000;
const TENANT = "acme";

/** For how long something is broken: that is what is tested. Nothing is waited for by time. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Redis is back: everything flows again, and nothing is missing. */
async function whole(fleet, ledger, ended) {
  await fleet.becomes("ok");
  await ledger.grown(60);
  await ledger.flows();
  await ended();
  await ledger.settle();
  ledger.check();
}

/** Nodes under load: members of two rooms each, all through a balancer; publishers over sockets and over HTTP. */
async function load(t, redis, { count = 3, config, ...options } = {}) {
  const fleet = await Fleet.start(t, redis, { count, config });
  await fleet.becomes("ok");
  const balancer = await Balancer.over(t, fleet);
  return { fleet, balancer, ledger: await populate(t, fleet, balancer, TENANT, options) };
}

async function populate(t, fleet, balancer, tenant, { members = 24, rooms = 4, every = 60 } = {}) {
  const ledger = new Ledger(t, fleet, tenant);
  const room = (n) => `project:${n % rooms}`;
  await Promise.all(Array.from({ length: members }, (_, n) => ledger.receive(`member-${n}`, [room(n), room(n + 1)], balancer.url)));
  for (let n = 0; n < rooms; n++) {
    await ledger.publish(`ana-${n}`, room(n), { url: balancer.url, every });
    await ledger.publish(`backend-${n}`, room(n), { every });
  }
  await ledger.grown(rooms * 10);
  return ledger;
}

/** Ephemeral events between two clients of each node, one every 100 ms: what needs no Redis. */
async function chatter(t, fleet) {
  const pairs = [];
  for (const [at, node] of fleet.nodes.entries()) {
    const [ana, ben] = [await Client.join(t, node, TENANT, `ana-at-${at}`), await Client.join(t, node, TENANT, `ben-at-${at}`)];
    await ben.ask("subscribe", { rooms: [`local:${at}`] });
    pairs.push({ ana, ben, room: `local:${at}`, sent: 0, slowest: 0 });
  }
  const timer = setInterval(() => {
    for (const pair of pairs) pair.ana.socket.emit("publish", { room: pair.room, type: "tick", data: [++pair.sent, Date.now()], ephemeral: true });
  }, 100);
  for (const pair of pairs) pair.ben.socket.on("tick", ([, at]) => (pair.slowest = Math.max(pair.slowest, Date.now() - at)));
  t.after(() => clearInterval(timer));
  return async () => {
    clearInterval(timer);
    for (const { ana, ben, sent } of pairs) {
      const came = (await ben.gather("tick", sent)).map(([[n]]) => n);
      assert.deepEqual(came, Array.from({ length: sent }, (_, n) => n + 1), "local delivery goes on");
      assert.deepEqual([...ana.all("(disconnect)"), ...ben.all("(disconnect)")], []);
    }
    const slowest = Math.max(...pairs.map(({ slowest }) => slowest));
    assert.ok(slowest < 2_000, `a local delivery took ${slowest} ms`);
    const sum = pairs.reduce((sum, { sent }) => sum + sent, 0);
    t.diagnostic(`local ephemeral events: ${sum} sent, ${sum} received, the slowest after ${slowest} ms`);
  };
}

test("kill -9 of a node, mid-stream, twice", async (t) => {
  const { fleet, ledger } = await load(t, await Redis.start(t));
  for (const at of [0, 1]) {
    await fleet.kill(at);
    await ledger.grown(60);
    await ledger.flows();
    await fleet.revive(at);
    await ledger.grown(30);
  }
  await ledger.settle();
  const { recovered } = ledger.check();
  assert.ok(recovered > 0, "some were on a node that was killed");
});

test("Redis answers nothing for 20 s", async (t) => {
  const redis = await Redis.start(t);
  const { fleet, ledger } = await load(t, redis);
  const ended = await chatter(t, fleet);
  await ledger.grown(10);
  const acked = ledger.acked;
  redis.freeze();
  const frozen = Date.now();
  await fleet.becomes("degraded");
  for (const node of fleet.nodes) assert.equal((await node.fetch("/health/live")).status, 200);
  // Answers about what Redis has do not wait for ever.
  const asked = Date.now();
  const client = await Client.join(t, fleet.nodes[0], TENANT, "late");
  const answer = await client.ask("history", { room: "project:0", since: { epoch: "0", offset: 0 } });
  assert.ok(Date.now() - asked < 5_000, `${JSON.stringify(answer)} after ${Date.now() - asked} ms`);
  await pause(Math.max(frozen + OUTAGE_MS - Date.now(), 0));
  t.diagnostic(`acked while Redis was away: ${ledger.acked - acked}`);
  redis.thaw();
  await whole(fleet, ledger, ended);
});

test("Redis is killed, and comes back with its data after 20 s", async (t) => {
  const redis = await Redis.start(t, { keeps: "all" });
  const { fleet, ledger } = await load(t, redis);
  const ended = await chatter(t, fleet);
  await ledger.grown(10);
  await redis.kill();
  const killed = Date.now();
  await fleet.becomes("degraded");
  await pause(Math.max(killed + OUTAGE_MS - Date.now(), 0));
  await redis.begin();
  await whole(fleet, ledger, ended);
});

test("Redis is away when a node starts, and when it comes", async (t) => {
  const redis = await Redis.start(t);
  await redis.kill();
  const fleet = await Fleet.start(t, redis, { count: 2 });
  await fleet.becomes("degraded");
  const ana = await Client.join(t, fleet.nodes[0], TENANT, "ana");
  const ben = await Client.join(t, fleet.nodes[0], TENANT, "ben");
  await redis.begin();
  await fleet.becomes("ok");
  for (const client of [ana, ben]) await until(async () => (await client.ask("subscribe", { rooms: ["r"] })).ok, "it is in the room");
  for (let n = 1; n <= 10; n++) await fleet.nodes[n % 2].publish(TENANT, { room: "r", type: "n", data: n });
  for (const client of [ana, ben]) {
    await client.gather("n", 10);
    assert.deepEqual(client.all("n").map(([n]) => n), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  }
});

test("Redis comes back empty: a new epoch, and everybody is told", async (t) => {
  const redis = await Redis.start(t);
  const { fleet, ledger } = await load(t, redis);
  const before = new Map(ledger.receivers.map((receiver) => [receiver, [...receiver.rooms.values()].map(({ epoch }) => epoch)]));
  await redis.kill();
  await fleet.becomes("degraded");
  await redis.begin();
  assert.equal(await redis.ask("DBSIZE") < 100, true);
  await fleet.becomes("ok");
  await ledger.grown(60);
  await ledger.flows();
  await ledger.settle();
  ledger.check({ gaps: true });
  for (const [{ user, rooms, gaps }, epochs] of before) {
    for (const [at, [room, { epoch }]] of [...rooms].entries()) {
      assert.notEqual(epoch, epochs[at], `${user} is in a new epoch of ${room}`);
      assert.ok(gaps.some((gap) => gap.room === room), `${user} was told of ${room}`);
    }
  }
  // A client that was away all the while is told as well.
  const ana = await Client.join(t, fleet.nodes[1], TENANT, "ana");
  const [epoch] = [...before.values()][0];
  const answer = await ana.ask("subscribe", { rooms: ["project:0"], since: { epoch, offset: 1 } });
  assert.deepEqual([answer.ok, answer.recovered, typeof answer.reason], [true, false, "string"]);
});

test("Redis comes back with an older state: nobody takes an event for another one", async (t) => {
  const redis = await Redis.start(t, { keeps: "snapshots" });
  const { fleet, ledger } = await load(t, redis);
  await redis.ask("SAVE");
  await ledger.grown(120);
  await redis.kill();
  await fleet.becomes("degraded");
  await redis.begin();
  await fleet.becomes("ok");
  await ledger.grown(60);
  await ledger.flows();
  await ledger.settle();
  const { gaps } = ledger.check({ gaps: true });
  assert.ok(gaps >= ledger.receivers.length, "events that were delivered are in no history any more: everybody is told");
});

test("failover in a Cluster: the master of the tenant's slot is killed", async (t) => {
  const cluster = await Cluster.start(t);
  const { balancer, ledger, fleet } = await load(t, cluster, { members: 12 });
  // Tenants of the other masters: what befalls one slot is not to befall them.
  const ledgers = [ledger];
  const masters = new Set([await cluster.masterOf(TENANT)]);
  for (let n = 0; masters.size < 3; n++) {
    const master = await cluster.masterOf(`tenant-${n}`);
    if (masters.has(master)) continue;
    masters.add(master);
    ledgers.push(await populate(t, fleet, balancer, `tenant-${n}`, { members: 6, rooms: 2, every: 100 }));
  }
  const began = Date.now();
  const { old, next } = await cluster.failOver(TENANT);
  assert.notEqual(old, next);
  for (const ledger of ledgers) await ledger.grown(30);
  for (const ledger of ledgers) await ledger.flows();
  t.diagnostic(`from the kill until events flow again: ${Date.now() - began} ms`);
  await fleet.becomes("ok");
  for (const ledger of ledgers) await ledger.settle();
  for (const ledger of ledgers) ledger.check({ gaps: ledger === ledgers[0] });
});

test("failover by Sentinel: the master is killed", async (t) => {
  const set = await Sentinels.start(t);
  const { ledger, fleet } = await load(t, set);
  const began = Date.now();
  const { old, next } = await set.failOver();
  assert.notEqual(old, next);
  await ledger.grown(60);
  await ledger.flows();
  t.diagnostic(`from the kill until events flow again: ${Date.now() - began} ms`);
  await fleet.becomes("ok");
  await ledger.settle();
  ledger.check({ gaps: true });
});

test("a rolling restart of three nodes under load loses nothing and doubles nothing", async (t) => {
  const config = "[drain]\nspread_ms = 1000\n";
  const { fleet, ledger } = await load(t, await Redis.start(t), { members: 120, rooms: 6, every: 50, config });
  for (const at of [0, 1, 2]) {
    await fleet.drain(at);
    await fleet.revive(at);
    await ledger.grown(60);
  }
  await ledger.flows();
  await ledger.settle();
  ledger.check();
  for (const { user, recovered, resumed } of ledger.receivers) assert.ok(recovered + resumed > 0, `${user} was moved`);
});

test("Redis that is full or read-only is said, not fatal", async (t) => {
  const redis = await Redis.start(t);
  const { fleet, ledger } = await load(t, redis, { count: 2, members: 8 });
  await redis.ask("CONFIG", "SET", "maxmemory", "1");
  const ana = await Client.join(t, fleet.nodes[0], TENANT, "ana");
  const refused = await ana.socket.timeout(SOON).emitWithAck("publish", { room: "elsewhere", type: "m", data: 1 }).catch(() => ({ ok: false, code: "no_ack" }));
  assert.equal(refused.ok, false, "an event that is stored nowhere is not acked");
  for (const node of fleet.nodes) assert.equal(node.isRunning, true);
  await redis.ask("CONFIG", "SET", "maxmemory", "0");
  await ledger.grown(60);
  await ledger.flows();
  await ledger.settle();
  ledger.check();
});

/** A fleet of two whose first node reaches Redis by a line that can be cut; a member on each. */
async function split(t, redis, config) {
  const line = await Balancer.over(t, { nodes: [redis] });
  const first = { env: { REDIS_URL: line.url.replace("http", "redis") } };
  const fleet = await Fleet.start(t, first, { count: 1, config });
  fleet.nodes.push(await Server.start({ config, env: redis.env }));
  await fleet.becomes("ok");
  const ledger = new Ledger(t, fleet, TENANT);
  for (const [at, node] of fleet.nodes.entries()) {
    for (let n = 0; n < 6; n++) await ledger.receive(`member-${at}-${n}`, ["project:1", "project:2"], node.url);
  }
  return { line, fleet, ledger };
}

test("one node loses Redis, again and again, and the others do not", async (t) => {
  const { line, fleet, ledger } = await split(t, await Redis.start(t), "[history]\nevents = 5000\n");
  for (const [at, node] of fleet.nodes.entries()) {
    await ledger.publish(`ana-${at}`, "project:1", { url: node.url, every: 10 });
    await ledger.publish(`ben-${at}`, "project:2", { url: node.url, every: 10 });
  }
  for (let round = 0; round < 9; round++) {
    await ledger.grown(50);
    // For a moment; until it is known; and with nothing closed, so that silence alone tells.
    if (round % 3 < 2) line.cut();
    else line.freeze();
    if (round % 3) await until(async () => (await fleet.health())[0] === "degraded", "the node knows that Redis is away");
    else await pause(20);
    await ledger.grown(20);
    if (round % 3 < 2) line.mend();
    else line.thaw();
    await until(async () => (await fleet.health())[0] === "ok", "the node has Redis again");
    await ledger.flows();
  }
  await ledger.settle();
  ledger.check();
});

test("a node that missed more than is kept says so, in each room, and goes on", async (t) => {
  const { line, fleet, ledger } = await split(t, await Redis.start(t), "[history]\nevents = 5\n");
  const publisher = await ledger.publish("ana", "project:1", { url: fleet.nodes[1].url, every: 10 });
  await ledger.grown(20);
  line.cut();
  await ledger.grown(50);
  line.mend();
  await ledger.grown(20);
  await ledger.flows();
  await ledger.settle();
  const { missed } = ledger.check({ gaps: true });
  assert.ok(missed > 0 && publisher.acked > 80);
  for (const { user, gaps } of ledger.receivers) {
    const isCutOff = user.startsWith("member-0");
    assert.equal(gaps.some(({ room }) => room === "project:1"), isCutOff, `${user} ${JSON.stringify(gaps)}`);
  }
});

test("what Redis' channel loses is read back from its streams", async (t) => {
  const redis = await Redis.start(t);
  const { fleet, ledger } = await load(t, redis, { every: 10 });
  for (let round = 0; round < 20; round++) {
    await ledger.grown(40);
    await redis.ask("CLIENT", "KILL", "TYPE", "pubsub");
    if (round % 5 === 0) await redis.ask("SCRIPT", "FLUSH");
    if (round % 7 === 0) await redis.ask("CLIENT", "KILL", "TYPE", "normal");
  }
  await ledger.flows();
  await fleet.becomes("ok");
  await ledger.settle();
  ledger.check();
});

test("who asks to join while Redis is away is told that nobody could be sure of it, and joins when it is back", async (t) => {
  const redis = await Redis.start(t, { keeps: "all" });
  const fleet = await Fleet.start(t, redis, { count: 2 });
  const ana = await Client.join(t, fleet.nodes[0], TENANT, "ana");
  for (let n = 1; n <= 5; n++) await fleet.nodes[1].publish(TENANT, { room: "r", type: "n", data: n });
  const place = await fleet.nodes[1].publish(TENANT, { room: "r", type: "n", data: 6 });
  await redis.kill();
  await fleet.becomes("degraded");
  const answer = await ana.ask("subscribe", { rooms: ["r"], since: { epoch: place.epoch, offset: 3 } });
  assert.deepEqual([answer.rooms, answer.denied], [[], [{ room: "r", code: "backplane_unavailable" }]]);
  await redis.begin();
  await fleet.becomes("ok");
  const receipt = await fleet.nodes[1].publish(TENANT, { room: "r", type: "n", data: 7 });
  assert.deepEqual([receipt.epoch, receipt.offset], [place.epoch, 7]);
  const again = await ana.ask("subscribe", { rooms: ["r"], since: { epoch: place.epoch, offset: 3 } });
  assert.equal(again.recovered, true);
});

test("a join that was answered while Redis was away is not forgotten by a recovery that says nothing was lost", async (t) => {
  const redis = await Redis.start(t, { keeps: "all" });
  const fleet = await Fleet.start(t, redis, { count: 2 });
  const balancer = await Balancer.over(t, fleet);
  const ana = await Client.join(t, fleet, TENANT, "ana", { url: balancer.url });
  await ana.ask("subscribe", { rooms: ["first"] });
  await ana.ask("publish", { room: "elsewhere", type: "n", data: 0 });
  const at = balancer.last;
  await redis.kill();
  await fleet.becomes("degraded");
  const answer = await ana.ask("subscribe", { rooms: ["second"] });
  await fleet.kill(at);
  await redis.begin();
  const welcome = await ana.next("connected");
  assert.ok(!welcome.recovered || welcome.rooms.includes("first"), JSON.stringify(welcome));
  assert.ok(!answer.rooms.includes("second") || !welcome.recovered || welcome.rooms.includes("second"), JSON.stringify([answer, welcome]));
});
