// Presence of the default profile: who is there, who was, and what others are told of it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, Line, Server, until } from "./harness.mjs";

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

test("several devices are one user, until the last has said goodbye", async (t) => {
  const ana = await Client.join(t, server, "devices", "ana");
  const first = await Client.join(t, server, "devices", "ben");
  const online = await ana.next("user:online", ({ user }) => user === "ben");
  assert.deepEqual(Object.keys(online), ["user", "status", "time"]);
  const second = await Client.join(t, server, "devices", "ben");
  first.socket.disconnect();
  await until(async () => (await ana.ask("presence", { users: ["ben"] })).users[0].connections === 1, "one device less");
  second.socket.disconnect();
  const offline = await ana.next("user:offline", ({ user }) => user === "ben");
  assert.equal(offline.status, "offline");
  assert.match(offline.lastSeen, TIME);
  assert.deepEqual(ana.all("user:offline").length, 1);
  const { users } = await ana.ask("presence", { users: ["ben", "nobody"] });
  const [ben, nobody] = users;
  assert.deepEqual(ben, { user: "ben", status: "offline", since: offline.lastSeen, lastSeen: offline.lastSeen, connections: 0 });
  assert.deepEqual(nobody, { user: "nobody", status: "offline", since: null, lastSeen: null, connections: 0 });
  const { body } = await server.api("GET", "devices", "users/ben");
  assert.deepEqual([body.status, body.lastSeen, body.rooms], ["offline", offline.lastSeen, []]);
});

test("a short break is hidden; within it the user is present, as it was", async (t) => {
  const line = await Line.to(t, server);
  const ana = await Client.join(t, server, "breaks", "ana");
  const ben = await Client.join(t, server, "breaks", "ben", { url: line.url });
  await ana.next("user:online", ({ user }) => user === "ben");
  await ben.ask("subscribe", { rooms: ["r"] });
  await ben.ask("status", { status: "busy" });
  await ana.next("user:status", ({ user, status }) => user === "ben" && status === "busy");
  line.cut();
  const cut = await until(async () => {
    const { members } = await ana.ask("presence", { room: "r" });
    return members.find(({ connections }) => connections === 0);
  }, "the break to be noticed");
  assert.deepEqual([cut.user, cut.status], ["ben", "busy"]);
  line.mend();
  await ben.next("connected");
  const { members } = await ana.ask("presence", { room: "r" });
  assert.deepEqual(members.map(({ user, status, connections }) => [user, status, connections]), [["ben", "busy", 1]]);
  // What is told is told in order: had there been an offline, it would be here before this.
  await ben.ask("status", { status: "away" });
  await ana.next("user:status", ({ status }) => status === "away");
  assert.deepEqual([ana.all("user:offline").length, ana.all("user:online").length], [0, 1]);
});

test("who does not come back is offline after its grace, not before", async (t) => {
  const line = await Line.to(t, server);
  const ana = await Client.join(t, server, "gone", "ana");
  await Client.join(t, server, "gone", "ben", { url: line.url, reconnection: false });
  await ana.next("user:online", ({ user }) => user === "ben");
  const at = Date.now();
  line.cut();
  const { status } = await ana.next("user:offline", ({ user }) => user === "ben");
  assert.equal(status, "offline");
  assert.ok(Date.now() - at >= 1900, `after ${Date.now() - at} ms`);
});

test("above 100 sockets one event tells of all", async (t) => {
  const ana = await Client.join(t, server, "crowd", "ana");
  const crowd = await Promise.all(Array.from({ length: 130 }, (_, n) => Client.join(t, server, "crowd", `u${n}`)));
  const heard = () =>
    new Set([
      ...ana.all("user:online").map(([{ user }]) => user),
      ...ana.all("presence:changes").flatMap(([{ online = [] }]) => online.map(({ user }) => user)),
    ]);
  await until(() => crowd.every((_, n) => heard().has(`u${n}`)), "everybody's coming");
  const before = ana.all("presence:changes").length;
  for (let n = 0; n < 10; n++) crowd[n].socket.disconnect();
  const changes = await ana.next("presence:changes", ({ offline }) => offline?.length > 0);
  assert.deepEqual(Object.keys(changes.offline[0]), ["user", "status", "time", "lastSeen"]);
  const gone = () => ana.all("presence:changes").slice(before).flatMap(([{ offline = [] }]) => offline.map(({ user }) => user));
  await until(() => gone().length === 10, "everybody's going");
  assert.deepEqual(gone().sort(), Array.from({ length: 10 }, (_, n) => `u${n}`).sort());
  assert.ok(ana.all("presence:changes").length - before <= 3, "they left within a moment");
});

test("nothing of it reaches another tenant", async (t) => {
  const eve = await Client.join(t, server, "elsewhere", "eve");
  const ben = await Client.join(t, server, "here", "ben");
  const ana = await Client.join(t, server, "here", "ana");
  await ben.ask("status", { status: "away" });
  await ana.next("user:status");
  ben.socket.disconnect();
  await ana.next("user:offline");
  const { users } = await eve.ask("presence", { users: ["ben"] });
  assert.deepEqual(users[0], { user: "ben", status: "offline", since: null, lastSeen: null, connections: 0 });
  assert.deepEqual(eve.names.filter((name) => name.startsWith("user:") || name.startsWith("presence:")), []);
});

test("what is refused", async (t) => {
  const ana = await Client.join(t, server, "refused", "ana");
  for (const [event, argument, code] of [
    ["presence", {}, "invalid_argument"],
    ["presence", { room: "r", users: [] }, "invalid_argument"],
    ["presence", { users: Array.from({ length: 101 }, (_, n) => `u${n}`) }, "too_many_items"],
    ["status", { status: "asleep" }, "invalid_argument"],
    ["availability", { status: "busy" }, "availability_unavailable"],
    ["typing:start", { room: "not:joined" }, "not_member"],
  ]) {
    const { ok, code: told } = await ana.ask(event, argument);
    assert.deepEqual([ok, told], [false, code], `${event} ${JSON.stringify(argument).slice(0, 60)}`);
  }
});
