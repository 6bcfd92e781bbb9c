// Two tenants with the same names for everything. Nothing of one reaches the other.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ACME_KEY, Client, Events, Plain, Server, mint } from "./harness.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

/** The rooms of both tenants; the last two are joined by themselves. */
const rooms = (tenant) => ["project:7", "lobby", "a/b", `tenant:${tenant}`, "user:ana"];
const ROOMS = rooms("globex");

test("same rooms, same users, same ids: each tenant sees its own and only its own", async (t) => {
  // The watcher in the other tenant is in every room, over every transport, before anything happens.
  const watchers = [
    await Client.join(t, server, "globex", "ana"),
    await Client.join(t, server, "globex", "ana", { transports: ["polling"] }),
    await Plain.join(t, server, "globex", "ana"),
  ];
  for (const watcher of watchers) {
    const answer = await watcher.ask("subscribe", { rooms: [...ROOMS, "tenant:acme", "user:eve"] });
    assert.deepEqual(answer.rooms, ROOMS);
    const denied = ["tenant:acme", "user:eve"].map((room) => ({ room, code: "forbidden" }));
    assert.deepEqual(answer.denied, denied, "nobody joins another's own room, not even its own tenant's room of that name");
  }
  const stream = new Events(t, server, { rooms: ROOMS, token: mint("globex", "ana") });
  assert.equal((await stream.response).statusCode, 200);
  await stream.next("connected");
  const before = watchers.map((watcher) => watcher.log.entries.length);
  const streamBefore = stream.log.entries.length;

  // Everything the first tenant can do.
  const ana = await Client.join(t, server, "acme", "ana");
  const eve = await Client.join(t, server, "acme", "eve");
  await ana.next("user:online", ({ user }) => user === "eve");
  const own = await Plain.join(t, server, "acme", "ana");
  for (const client of [ana, eve, own]) await client.ask("subscribe", { rooms: rooms("acme") });
  const receipts = [];
  for (const room of rooms("acme")) {
    receipts.push(await ana.ask("publish", { id: `same-${room}`, room, type: "secret", data: { of: "acme", room } }));
    await ana.ask("publish", { room, type: "secret", data: { of: "acme" }, ephemeral: true });
    await own.ask("publish", { room, type: "secret", data: { of: "acme" } });
    if (room === "user:ana") continue;
    ana.socket.emit("typing:start", { room });
    await eve.next("typing:start", (typing) => typing.room === room);
    ana.socket.emit("typing:stop", { room });
    await eve.next("typing:stop", (typing) => typing.room === room);
  }
  await server.publish("acme", [
    { type: "secret", data: 1 },
    { type: "secret", user: "ana", data: 2 },
    { type: "secret", room: "tenant:globex", data: 3 },
    { type: "secret", entity: { type: "task", id: "1" }, data: 4 },
    { type: "secret", room: "project:7", data: 5, ephemeral: true },
  ]);
  await eve.ask("status", { status: "busy" });
  eve.socket.disconnect();
  await ana.next("user:offline");

  // Then each watcher goes round twice: whatever is on its way would come before the answers.
  for (let round = 0; round < 2; round++) {
    for (const watcher of watchers) {
      for (const room of ROOMS) {
        const history = await watcher.ask("history", { room });
        assert.deepEqual([history.ok, history.events.length, history.offset], [true, round * 1, round * 1], room);
        const presence = await watcher.ask("presence", { room });
        assert.deepEqual(presence.members.map(({ user, connections }) => [user, connections]), [["ana", 4]], room);
      }
    }
    for (const [index, watcher] of watchers.entries()) {
      const leaked = watcher.log.entries.slice(before[index]).filter(({ args }) => JSON.stringify(args).includes("acme"));
      assert.deepEqual(leaked, [], `round ${round}`);
      assert.equal(watcher.all("secret").length, round === 0 ? 0 : ROOMS.length);
      for (const name of ["typing:start", "typing:stop", "user:status", "user:offline"]) assert.deepEqual(watcher.all(name), [], name);
    }
    // Its own tenant may still be told that its own user is there.
    const streamed = stream.log.entries.slice(streamBefore).filter(({ name }) => name !== "user:online");
    assert.equal(streamed.length, round === 0 ? 0 : ROOMS.length);
    if (round === 1) break;
    // The same ids and rooms in the second tenant are other events, with offsets of their own.
    for (const [index, room] of ROOMS.entries()) {
      const receipt = await watchers[0].ask("publish", { id: `same-${room}`, room, type: "secret", data: { of: "globex" } });
      assert.equal(receipt.offset, 1, room);
      assert.notEqual(receipt.epoch, receipts[index].epoch);
    }
    for (const watcher of watchers) await watcher.gather("secret", ROOMS.length);
    await stream.log.gather(ROOMS.length, ({ name }) => name === "secret", "events of the stream");
  }
  for (const watcher of watchers) assert.ok(watcher.all("secret").every(([data]) => data.of === "globex"));
  assert.ok(ana.all("secret").every(([data]) => data?.of !== "globex"), "nor the other way round");
});

test("an epoch of another tenant opens nothing", async (t) => {
  const room = "project:epoch";
  const { epoch } = await server.publish("acme", { room, type: "secret", data: "acme's" });
  await server.publish("acme", { room, type: "secret", data: "acme's" });
  const spy = await Client.join(t, server, "initech", "spy");
  const answer = await spy.ask("subscribe", { rooms: [room], since: { epoch, offset: 0 } });
  assert.deepEqual([answer.ok, answer.recovered], [true, false]);
  const history = await spy.ask("history", { room, since: { epoch, offset: 0 } });
  assert.deepEqual(history.events, []);
  assert.deepEqual(spy.all("secret"), []);
});

test("a recovery id of another tenant opens nothing", async (t) => {
  const ana = await Client.join(t, server, "acme", "ana");
  await ana.ask("subscribe", { rooms: ["vault"] });
  const pid = ana.socket._pid;
  assert.ok(pid);
  ana.socket.io.engine.close();
  await ana.disconnected();
  ana.socket.disconnect();
  await server.publish("acme", { room: "vault", type: "secret", data: 1 });
  for (const [tenant, user] of [["globex", "ana"], ["acme", "eve"]]) {
    const thief = new Client(t, server.url, { auth: { token: mint(tenant, user), pid } });
    const welcome = await thief.next("connected");
    assert.deepEqual([welcome.recovered, welcome.tenant, welcome.user], [false, tenant, user]);
    assert.notEqual(thief.socket.id, welcome.sid === pid);
    assert.equal((await thief.ask("presence", { room: `user:${user}` })).ok, true);
    assert.deepEqual(thief.all("secret"), []);
  }
});

test("the HTTP API keeps the tenants apart", async (t) => {
  const globex = await Client.join(t, server, "globex", "http");
  await globex.ask("subscribe", { rooms: ["http:room"] });
  await server.publish("globex", { room: "http:room", type: "x", data: 1 });
  const service = mint("acme", "service", { scope: "publish read admin" });
  for (const key of [ACME_KEY, service]) {
    for (const [method, rest, body] of [
      ["POST", "events", { type: "x", room: "http:room", data: 2 }],
      ["GET", "rooms"],
      ["GET", "rooms/http:room/history"],
      ["GET", "rooms/http:room/presence"],
      ["GET", "users/http"],
      ["DELETE", "users/http"],
      ["GET", "stats"],
    ]) {
      const refused = await server.api(method, "globex", rest, { key, body });
      assert.deepEqual([refused.status, refused.body.code], [403, "wrong_tenant"], `${method} ${rest}`);
      assert.doesNotMatch(refused.text, /http:room/);
      const allowed = await server.api(method, "acme", rest, { key, body });
      assert.ok([200, 202].includes(allowed.status), `${method} ${rest}: ${allowed.status} ${allowed.text}`);
    }
    const { body } = await server.api("GET", "acme", "rooms", { key });
    assert.ok(body.rooms.every(({ room }) => room !== "user:http"), JSON.stringify(body));
    assert.equal((await server.api("GET", "acme", "users/http", { key })).body.connections, 0);
  }
  assert.equal(globex.socket.connected, true, "nobody kicked it");
  assert.deepEqual(globex.all("x").map(([data]) => data), [1]);
});
