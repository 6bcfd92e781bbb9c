// Who is there, over nodes: told once, listed and counted everywhere the same, also when a node dies or Redis does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Fleet } from "./fleet.mjs";
import { Client, SOON, mint, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const LEASE_S = 4;
const env = { WS_PRESENCE_TTL: String(LEASE_S) };
const whole = scope();
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis, { env });
  await fleet.becomes("ok");
});

const listed = async (client, room) =>
  (await client.ask("presence", { room })).members.map(({ user, status, connections }) => `${user} ${status} ${connections}`).join(", ");

/** Waits until everybody is told the same of a room. */
async function lists(clients, room, expected, ms = SOON) {
  for (const client of clients) await until(async () => (await listed(client, room)) === expected, async () => `${expected}, not ${await listed(client, room)}`, ms);
}

const told = (client, event, user) => client.all(event).filter(([data]) => data.user === user).length;

test("presence of a room and of users is of all nodes", async (t) => {
  const tenant = "presence";
  const ana = await Client.join(t, fleet.nodes[0], tenant, "ana");
  const ben = await Client.join(t, fleet.nodes[1], tenant, "ben");
  await ana.next("user:online", ({ user }) => user === "ben");
  const again = await Client.join(t, fleet.nodes[2], tenant, "ben");
  for (const client of [ana, ben, again]) await client.ask("subscribe", { rooms: ["lobby"] });
  await lists([ana, ben, again], "lobby", "ana online 1, ben online 2");
  await ben.ask("status", { status: "busy" });
  for (const client of [ana, again]) await client.next("user:status", ({ user, status }) => user === "ben" && status === "busy");
  await lists([ana, ben, again], "lobby", "ana online 1, ben busy 2");
  ben.socket.disconnect();
  await lists([ana, again], "lobby", "ana online 1, ben busy 1");
  await again.ask("status", { status: "away" });
  await ana.next("user:status", ({ status }) => status === "away");
  assert.equal(told(ana, "user:offline", "ben"), 0, "one of two connections is left, on another node");
  const { users } = await ana.ask("presence", { users: ["ben", "eve"] });
  assert.deepEqual(users.map(({ user, status, connections }) => [user, status, connections]), [["ben", "away", 1], ["eve", "offline", 0]]);
  for (const node of fleet.nodes) {
    const { body } = await node.api("GET", tenant, "users/ben");
    assert.deepEqual([body.status, body.connections, body.rooms], ["away", 1, ["lobby", "tenant:presence", "user:ben"]]);
    assert.deepEqual((await node.api("GET", tenant, "rooms/lobby/presence")).body.members.map(({ user }) => user), ["ana", "ben"]);
    const { rooms } = (await node.api("GET", tenant, "rooms")).body;
    assert.deepEqual(rooms.find(({ room }) => room === "lobby"), { room: "lobby", members: 2 });
    const stats = (await node.api("GET", tenant, "stats")).body;
    assert.deepEqual([stats.connections, stats.users, stats.rooms], [2, 2, 4]);
  }
  again.socket.disconnect();
  const { lastSeen } = await ana.next("user:offline", ({ user }) => user === "ben");
  assert.equal(told(ana, "user:online", "ben"), 1, "a second connection is no news");
  for (const node of fleet.nodes) {
    const { body } = await node.api("GET", tenant, "users/ben");
    assert.deepEqual([body.status, body.connections, body.lastSeen], ["offline", 0, lastSeen]);
  }
});

test("a node that dies is gone from presence within one lease, and nobody who asks waits for it", async (t) => {
  const tenant = "dead";
  const own = await Fleet.start(t, redis, { env });
  const ana = await Client.join(t, own.nodes[0], tenant, "ana");
  const cat = await Client.join(t, own.nodes[2], tenant, "cat");
  const ben = await Client.join(t, own.nodes[1], tenant, "ben", { reconnection: false });
  for (const client of [ana, ben, cat]) await client.ask("subscribe", { rooms: ["lobby"] });
  await lists([ana, cat], "lobby", "ana online 1, ben online 1, cat online 1");
  await own.kill(1);
  const killed = Date.now();
  // Nobody asks on this one: it finds out by itself.
  const heard = cat.next("user:offline", ({ user }) => user === "ben", LEASE_S * 1000 + SOON).then(() => Date.now() - killed);
  let slowest = 0;
  await until(async () => {
    const asked = Date.now();
    const left = await listed(ana, "lobby");
    slowest = Math.max(slowest, Date.now() - asked);
    return left === "ana online 1, cat online 1";
  }, "the dead node's user is gone", LEASE_S * 1000 + 1_000);
  const gone = Date.now() - killed;
  t.diagnostic(`gone after ${gone} ms, told after ${await heard} ms, with a lease of ${LEASE_S} s; the slowest answer took ${slowest} ms`);
  assert.ok(slowest < 1_000);
  await ana.next("user:offline", ({ user }) => user === "ben");
  await own.revive(1);
  await Client.join(t, own.nodes[1], tenant, "ben");
  for (const client of [ana, cat]) await client.next("user:online", ({ user }) => user === "ben");
  for (const client of [ana, cat]) assert.equal(told(client, "user:offline", "ben"), 1);
});

test("a node that is drained takes its users away at once", async (t) => {
  const own = await Fleet.start(t, redis, { env: { WS_PRESENCE_TTL: "300" } });
  const ana = await Client.join(t, own.nodes[0], "drained", "ana");
  await Client.join(t, own.nodes[1], "drained", "ben", { reconnection: false });
  await ana.next("user:online", ({ user }) => user === "ben");
  await own.drain(1);
  await ana.next("user:offline", ({ user }) => user === "ben");
  await lists([ana], "tenant:drained", "ana online 1");
});

test("the number of connections closed by a kick is that of all nodes", async (t) => {
  const bens = await Promise.all(fleet.nodes.map((node) => Client.join(t, node, "kicked", "ben")));
  assert.deepEqual((await fleet.nodes[0].api("DELETE", "kicked", "users/ben")).body, { closed: 3 });
  for (const ben of bens) assert.equal((await ben.next("error")).code, "kicked");
});

test("connections are counted over all nodes: per user, per tenant", async (t) => {
  const config = "[limits]\nconnections_per_user = 3\nconnections_per_tenant = 5\n";
  const own = await Fleet.start(t, redis, { config });
  // One that its node could refuse by itself is refused, one that only the store could count is let in and closed.
  const turnedAway = async (node, user) => {
    const client = new Client(t, node.url, { auth: { token: mint("counted", user) }, reconnection: false });
    const { args } = await client.log.take(({ name }) => name === "error" || name === "(connect_error)", "too many");
    assert.equal(args[0].code ?? args[0].data.code, "too_many_connections");
    await client.disconnected().catch(() => {});
  };
  const kept = [];
  for (const node of own.nodes) kept.push(await Client.join(t, node, "counted", "ana"));
  await turnedAway(own.nodes[1], "ana");
  kept.push(await Client.join(t, own.nodes[0], "counted", "ben"));
  kept.push(await Client.join(t, own.nodes[2], "counted", "cat"));
  await turnedAway(own.nodes[0], "dan");
  await Client.join(t, own.nodes[0], "another", "ana");
  assert.ok(kept.every(({ socket }) => socket.connected));
  kept[0].socket.disconnect();
  await until(async () => (await own.nodes[1].api("GET", "counted", "stats")).body.connections === 4, "one has gone");
  const dan = await Client.join(t, own.nodes[0], "counted", "dan");
  await lists([dan], "tenant:counted", "ana online 2, ben online 1, cat online 1, dan online 1");
});

test("Redis restarted empty: all who are there are listed again, and nobody is told what it knew", async (t) => {
  const own = await Redis.start(t);
  const nodes = await Fleet.start(t, own, { env, count: 2 });
  const tenant = "empty";
  const ana = await Client.join(t, nodes.nodes[0], tenant, "ana");
  const ben = await Client.join(t, nodes.nodes[1], tenant, "ben");
  await ana.next("user:online", ({ user }) => user === "ben");
  await ben.ask("status", { status: "busy" });
  await ana.next("user:status");
  await own.kill();
  await nodes.becomes("degraded");
  const { members, partial } = await ana.ask("presence", { room: "tenant:empty" });
  assert.deepEqual([members.map(({ user }) => user), partial], [["ana"], true], "what its own node has");
  const cat = await Client.join(t, nodes.nodes[0], tenant, "cat");
  await ana.next("user:online", ({ user }) => user === "cat");
  await own.begin();
  await nodes.becomes("ok");
  await ben.next("user:online", ({ user }) => user === "cat");
  await lists([ana, ben, cat], "tenant:empty", "ana online 1, ben busy 1, cat online 1");
  assert.deepEqual([told(ana, "user:online", "ben"), told(ana, "user:online", "cat"), told(ben, "user:online", "ana")], [1, 1, 0]);
  for (const client of [ana, ben, cat]) assert.deepEqual(client.all("user:offline"), []);
});
