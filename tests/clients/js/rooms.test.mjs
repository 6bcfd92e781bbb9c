// The client events of the default profile, each with its answer.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, Server, mint } from "./harness.mjs";

const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

const join = (t, user, options) => Client.join(t, server, "acme", user, options);

test("connected says who and where", async (t) => {
  const ana = await join(t, "greeted");
  const { sid, tenant, user, rooms, epoch, offset, recovered, ...rest } = ana.welcome;
  assert.deepEqual(rest, {});
  assert.deepEqual({ sid, tenant, user, recovered }, { sid: ana.socket.id, tenant: "acme", user: "greeted", recovered: false });
  assert.deepEqual([...rooms].sort(), ["tenant:acme", "user:greeted"]);
  assert.equal(typeof epoch, "string");
  assert.ok(Number.isInteger(offset) && offset >= 0);
});

test("subscribe, unsubscribe, and what the claim `rooms` denies", async (t) => {
  const ana = await join(t, "ana", { claims: { rooms: ["project:*", "file:?"] } });
  const answer = await ana.ask("subscribe", { rooms: ["project:7", "secret", "file:1", "file:10", "project:8"] });
  assert.equal(answer.ok, true);
  assert.deepEqual(answer.rooms, ["project:7", "file:1", "project:8"]);
  assert.deepEqual(answer.denied, [{ room: "secret", code: "forbidden" }, { room: "file:10", code: "forbidden" }]);
  await server.publish("acme", [
    { type: "a", room: "project:7", data: 1 },
    { type: "a", room: "secret", data: 2 },
    { type: "a", room: "file:1", data: 3 },
  ]);
  const left = await ana.ask("unsubscribe", { rooms: ["project:7", "never:joined"] });
  assert.equal(left.ok, true);
  assert.ok(!left.rooms.includes("project:7") && left.rooms.includes("project:8"));
  await server.publish("acme", [
    { type: "a", room: "project:7", data: 4 },
    { type: "a", room: "project:8", data: 5 },
  ]);
  await ana.next("a", (data) => data === 5);
  assert.deepEqual(ana.all("a").map(([data]) => data), [1, 3, 5]);
});

test("names of rooms: length, controls, any language", async (t) => {
  const ana = await join(t, "namer");
  const rooms = ["ä/日本 x", "x".repeat(256), "x".repeat(257), "", "a\nb"];
  const answer = await ana.ask("subscribe", { rooms });
  assert.deepEqual(answer.rooms, rooms.slice(0, 2));
  assert.deepEqual(answer.denied.map(({ code }) => code), ["room_name_too_long", "room_name_invalid", "room_name_invalid"]);
  await server.publish("acme", { type: "hello", room: "ä/日本 x", data: "🎉" });
  assert.equal(await ana.next("hello"), "🎉");
});

test("publish reaches every member, the publisher too, with the envelope in meta", async (t) => {
  const [ana, ben, cat] = await Promise.all(["pub-ana", "pub-ben", "pub-cat"].map((user) => join(t, user)));
  for (const member of [ana, ben]) await member.ask("subscribe", { rooms: ["order:1"] });
  const data = { text: "ü\u2028", deep: [1, { a: null, b: 1.5 }], "": true };
  const answer = await ana.ask("publish", { room: "order:1", type: "order:paid", data });
  assert.equal(answer.ok, true);
  assert.match(answer.id, ULID);
  assert.equal(answer.offset, 1);
  for (const member of [ana, ben]) {
    const [came, meta] = await member.nextArgs("order:paid");
    assert.deepEqual(came, data);
    const { time, ...rest } = meta;
    assert.match(time, TIME);
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
    assert.deepEqual(rest, { id: answer.id, type: "order:paid", room: "order:1", user: "pub-ana", epoch: answer.epoch, offset: 1 });
  }
  // Who is no member of the room may publish into it all the same, and gets nothing.
  const second = await cat.ask("publish", { room: "order:1", type: "order:sent", data: null });
  assert.deepEqual([second.offset, second.epoch], [2, answer.epoch]);
  await ben.next("order:sent");
  await cat.ask("presence", { room: "order:1" });
  assert.deepEqual(cat.all("order:sent"), []);
});

test("an ephemeral event has no meta, no offset, and no place in history", async (t) => {
  const [ana, ben] = await Promise.all(["eph-ana", "eph-ben"].map((user) => join(t, user)));
  for (const member of [ana, ben]) await member.ask("subscribe", { rooms: ["board"] });
  const answer = await ana.ask("publish", { room: "board", type: "cursor", data: { x: 1 }, ephemeral: true });
  assert.equal(answer.ok, true);
  assert.ok(answer.offset === undefined || answer.offset === null, JSON.stringify(answer));
  assert.deepEqual(await ben.nextArgs("cursor"), [{ x: 1 }]);
  assert.deepEqual(await ana.nextArgs("cursor"), [{ x: 1 }]);
  const history = await ana.ask("history", { room: "board" });
  assert.deepEqual([history.ok, history.events], [true, []]);
});

test("who may publish: permission `publish`, or `publish:<pattern>`", async (t) => {
  for (const [permissions, room, allowed] of [
    [[], "project:7", false],
    [["publish"], "project:7", true],
    [["publish:project:*"], "project:7", true],
    [["publish:project:*"], "other", false],
    [["publish:project:?"], "project:77", false],
    [["read", "publisher"], "project:7", false],
  ]) {
    const client = await join(t, "publisher", { claims: { permissions } });
    const answer = await client.ask("publish", { room, type: "x", data: null });
    assert.equal(answer.ok, allowed, `${permissions} ${room}: ${JSON.stringify(answer)}`);
    if (!allowed) assert.deepEqual([answer.code, typeof answer.message], ["forbidden", "string"]);
    client.socket.disconnect();
  }
});

test("history: limit, since, offsets that rise by one", async (t) => {
  const ana = await join(t, "historian");
  const room = "history:1";
  await ana.ask("subscribe", { rooms: [room] });
  const receipts = [];
  for (let n = 1; n <= 30; n++) receipts.push(await ana.ask("publish", { room, type: "step", data: { n } }));
  assert.deepEqual(receipts.map(({ offset }) => offset), Array.from({ length: 30 }, (_, n) => n + 1));
  assert.equal(new Set(receipts.map(({ epoch }) => epoch)).size, 1);
  assert.equal(new Set(receipts.map(({ id }) => id)).size, 30);
  const { epoch } = receipts[0];

  const all = await ana.ask("history", { room });
  assert.deepEqual([all.ok, all.epoch, all.offset, all.complete], [true, epoch, 30, true]);
  assert.deepEqual(all.events.map(({ offset, data }) => [offset, data.n]), receipts.map(({ offset }) => [offset, offset]));
  const { time, ...envelope } = all.events[4];
  assert.match(time, TIME);
  assert.deepEqual(envelope, { id: receipts[4].id, type: "step", room, data: { n: 5 }, user: "historian", epoch, offset: 5 });

  const last = await ana.ask("history", { room, limit: 3 });
  assert.deepEqual([last.events.map(({ offset }) => offset), last.complete], [[28, 29, 30], false]);
  const since = await ana.ask("history", { room, since: { epoch, offset: 25 } });
  assert.deepEqual([since.events.map(({ offset }) => offset), since.complete], [[26, 27, 28, 29, 30], true]);
  const page = await ana.ask("history", { room, since: { epoch, offset: 10 }, limit: 4 });
  assert.deepEqual([page.events.map(({ offset }) => offset), page.complete, page.offset], [[11, 12, 13, 14], false, 14]);
  const lost = await ana.ask("history", { room, since: { epoch: "zzz", offset: 1 } });
  assert.deepEqual([lost.ok, lost.complete], [true, false]);
  const none = await ana.ask("history", { room: "history:never" });
  assert.deepEqual([none.ok, none.events, none.offset, none.complete], [true, [], 0, true]);
  const own = await ana.ask("history");
  assert.equal(own.ok, true, "without a room: the tenant's");
});

test("history keeps what is configured for a room", async (t) => {
  const few = await Server.start({ config: '[history]\nevents = 5\nrooms = [{ pattern = "log:*", events = 2 }]\n' });
  t.after(() => few.stop());
  const ana = await Client.join(t, few, "acme", "ana");
  for (const [room, kept] of [["chat", [4, 5, 6, 7, 8]], ["log:1", [7, 8]]]) {
    for (let n = 0; n < 8; n++) await few.publish("acme", { room, type: "x", data: n });
    const { events, complete, offset } = await ana.ask("history", { room });
    assert.deepEqual([events.map((event) => event.offset), complete, offset], [kept, false, 8]);
  }
});

test("publish with the same id is one event", async (t) => {
  const ana = await join(t, "retrier");
  await ana.ask("subscribe", { rooms: ["retry"] });
  const event = { id: "order-4711", room: "retry", type: "order", data: { n: 1 } };
  const first = await ana.ask("publish", event);
  assert.equal(first.id, "order-4711");
  assert.deepEqual(await ana.ask("publish", event), first);
  assert.deepEqual(await server.publish("acme", event), { id: first.id, epoch: first.epoch, offset: first.offset }, "over HTTP too");
  const next = await ana.ask("publish", { ...event, id: "order-4712" });
  assert.equal(next.offset, first.offset + 1);
  await ana.next("order", (_, meta) => meta.id === "order-4712");
  assert.equal(ana.all("order").length, 2);
  assert.equal((await server.publish("globex", event)).offset, 1, "another tenant's id is another event");
});

test("subscribe narrows by event types and entities", async (t) => {
  const [types, entities, all] = await Promise.all(["nar-types", "nar-entities", "nar-all"].map((user) => join(t, user)));
  await types.ask("subscribe", { rooms: ["narrow"], eventTypes: ["task:*", "done"] });
  await entities.ask("subscribe", { rooms: ["narrow"], entities: [{ type: "task", id: "1" }] });
  await all.ask("subscribe", { rooms: ["narrow"] });
  const events = [
    { type: "task:new", data: 1, entity: { type: "task", id: "1" } },
    { type: "task:new", data: 2, entity: { type: "task", id: "2" } },
    { type: "other", data: 3, entity: { type: "task", id: "1" } },
    { type: "done", data: 4 },
    { type: "donee", data: 5 },
  ];
  await server.publish("acme", events.map((event) => ({ ...event, room: "narrow" })));
  const wanted = (client) => client.log.entries.filter(({ args }) => args[1]?.room === "narrow").map(({ args }) => args[0]);
  await all.log.gather(5, ({ args }) => args[1]?.room === "narrow", "events of the room");
  assert.deepEqual(wanted(all), [1, 2, 3, 4, 5]);
  await Promise.all([types.ask("presence", { room: "narrow" }), entities.ask("presence", { room: "narrow" })]);
  assert.deepEqual(wanted(types), [1, 2, 4]);
  assert.deepEqual(wanted(entities), [1, 3]);
  const [, meta] = await all.nextArgs("other");
  assert.deepEqual(meta.entity, { type: "task", id: "1" });
  await types.ask("subscribe", { rooms: ["narrow"] });
  await server.publish("acme", { type: "other", data: 6, room: "narrow" });
  assert.equal(await types.next("other"), 6, "subscribing again without a filter lifts it");
});

test("presence and status", async (t) => {
  const tenant = "presence";
  const join = (user, options) => Client.join(t, server, tenant, user, options);
  const ana = await join("ana");
  const ben = await join("ben");
  assert.equal((await ana.next("user:online", ({ user }) => user === "ben")).user, "ben");
  const again = await join("ben");
  for (const member of [ana, ben, again]) await member.ask("subscribe", { rooms: ["lobby"] });
  const { ok, members } = await ana.ask("presence", { room: "lobby" });
  assert.equal(ok, true);
  const sorted = [...members].sort((a, b) => a.user.localeCompare(b.user));
  assert.deepEqual(sorted.map(({ user, status, connections }) => [user, status, connections]), [["ana", "online", 1], ["ben", "online", 2]]);
  for (const member of members) for (const time of [member.since, member.lastSeen]) assert.match(time, TIME);

  assert.deepEqual(await ben.ask("status", { status: "busy" }), { ok: true });
  const changed = await ana.next("user:status", ({ user }) => user === "ben");
  assert.equal(changed.status, "busy");
  const seen = (await ana.ask("presence", { room: "lobby" })).members.find(({ user }) => user === "ben");
  assert.equal(seen.status, "busy");
  assert.equal((await ben.ask("status", { status: "asleep" })).ok, false);

  ben.socket.disconnect();
  await again.ask("status", { status: "away" });
  await ana.next("user:status", ({ status }) => status === "away");
  assert.deepEqual(ana.all("user:offline"), [], "one of two connections is left");
  again.socket.disconnect();
  assert.equal((await ana.next("user:offline")).user, "ben");
  assert.deepEqual((await ana.ask("presence", { room: "lobby" })).members.map(({ user }) => user), ["ana"]);
  assert.equal(ana.all("user:online").filter(([{ user }]) => user === "ben").length, 1, "a second connection is no news");
});

test("typing reaches the others only, and stops by itself", async (t) => {
  const [ana, ben, out] = await Promise.all(["typ-ana", "typ-ben", "typ-out"].map((user) => join(t, user)));
  for (const member of [ana, ben]) await member.ask("subscribe", { rooms: ["chat"] });
  ana.socket.emit("typing:start", { room: "chat" });
  assert.deepEqual(await ben.next("typing:start"), { room: "chat", user: "typ-ana" });
  ana.socket.emit("typing:stop", { room: "chat" });
  assert.deepEqual(await ben.next("typing:stop"), { room: "chat", user: "typ-ana" });
  ana.socket.emit("typing:start", { room: "chat" });
  await ben.next("typing:start");
  const started = Date.now();
  await ben.next("typing:stop", () => true, 12_000);
  const lasted = Date.now() - started;
  assert.ok(lasted > 5000 && lasted < 9000, `stopped after ${lasted} ms`);
  // Who leaves stops typing.
  ana.socket.emit("typing:start", { room: "chat" });
  await ben.next("typing:start");
  ana.socket.disconnect();
  await ben.next("typing:stop");
  await out.ask("presence", { room: "chat" });
  for (const client of [ana, out]) assert.deepEqual([...client.all("typing:start"), ...client.all("typing:stop")], []);
});

test("the backend reaches a user, an entity, the tenant, and some roles", async (t) => {
  const tenant = "backend";
  const boss = await Client.join(t, server, tenant, "boss", { claims: { roles: ["manager"] } });
  const temp = await Client.join(t, server, tenant, "temp", { claims: { role: "temp", permissions: ["billing"] } });
  await boss.ask("subscribe", { entities: [{ type: "task", id: "9" }], rooms: ["task:9"] });
  await server.publish(tenant, [
    { type: "all", data: 1 },
    { type: "mine", user: "temp", data: 2 },
    { type: "managers", data: 3, to: { roles: ["manager"] } },
    { type: "billing", data: 4, to: { permissions: ["billing"] } },
    { type: "end", data: 5 },
  ]);
  const seen = (client) => client.log.entries.filter(({ args }) => args[1]?.offset !== undefined).map(({ name, args }) => [name, args[0]]);
  await Promise.all([boss.next("end"), temp.next("end")]);
  // A user's own room and the tenant's are two rooms: the order is by room.
  const byData = (a, b) => a[1] - b[1];
  assert.deepEqual(seen(boss).sort(byData), [["all", 1], ["managers", 3], ["end", 5]]);
  assert.deepEqual(seen(temp).sort(byData), [["all", 1], ["mine", 2], ["billing", 4], ["end", 5]]);
});

test("errors are answers, and close nothing", async (t) => {
  const ana = await join(t, "clumsy");
  for (const [event, ...args] of [
    ["no:such:event", {}],
    ["subscribe"],
    ["subscribe", null],
    ["subscribe", { rooms: "project:7" }],
    ["subscribe", { rooms: [1] }],
    ["publish", {}],
    ["publish", { room: "x" }],
    ["publish", { room: "x", type: "disconnect", data: 1 }],
    ["publish", { room: "x", type: "connect", data: 1 }],
    ["publish", { room: "x", type: "", data: 1 }],
    ["publish", "text"],
    ["history", { since: 3 }],
    ["presence", {}],
    ["status", {}],
    ["authenticate", {}],
    ["authenticate", "nonsense"],
    ["document:update", { document: "d", baseVersion: 1, fields: {} }],
    ["typing:start", {}],
  ]) {
    const answer = await ana.ask(event, ...args);
    assert.equal(answer.ok, false, `${event} ${JSON.stringify(args)}: ${JSON.stringify(answer)}`);
    assert.equal(typeof answer.code, "string");
    assert.equal(typeof answer.message, "string");
  }
  ana.socket.emit("no:such:event", Buffer.from([1, 2, 3]), { deep: Buffer.from([4]) });
  assert.equal((await ana.ask("subscribe", { rooms: ["still:here"] })).ok, true);
  assert.equal(ana.socket.connected, true);
  assert.deepEqual(ana.log.entries.filter(({ name }) => name === "(disconnect)"), []);
  assert.deepEqual(await ana.ask("received", { ids: ["a"] }), { ok: true });
});

test("another tenant's or user's token changes nothing", async (t) => {
  const ana = await join(t, "constant");
  for (const token of [mint("globex", "constant"), mint("acme", "somebody")]) {
    assert.equal((await ana.ask("authenticate", token)).ok, false);
  }
  const answer = await ana.ask("authenticate", mint("acme", "constant"));
  assert.equal(answer.ok, true);
  assert.match(answer.expiresAt, TIME);
});
