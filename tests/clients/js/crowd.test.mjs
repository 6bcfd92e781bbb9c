// Many at once: namespaces on one connection, members in one room.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Manager } from "socket.io-client";
import { Client, SOON, Server, mint, within } from "./harness.mjs";

const NAMESPACES = ["/", "/chat", "/orders", "/admin/live", "/é"];

for (const transports of [["websocket"], ["polling", "websocket"]]) {
  test(`five namespaces over one connection (${transports})`, async (t) => {
    const server = await Server.start({ config: `[socketio]\nnamespaces = ${JSON.stringify(NAMESPACES)}\n` });
    t.after(() => server.stop());
    const manager = new Manager(server.url, { transports });
    t.after(() => manager._close());
    const token = mint("acme", "ana");
    const sockets = NAMESPACES.map((name) => manager.socket(name, { auth: { token } }));
    const welcomes = sockets.map((socket) => new Promise((resolve) => socket.once("connected", resolve)));
    const seen = sockets.map((socket) => {
      const events = [];
      socket.on("note", (data, meta) => events.push([data, meta.offset]));
      return events;
    });
    for (const [n, welcome] of (await within(SOON, Promise.all(welcomes), "five welcomes")).entries()) assert.equal(welcome.sid, sockets[n].id);
    assert.equal(new Set(sockets.map((socket) => socket.id)).size, 5);
    assert.equal(new Set(sockets.map((socket) => socket.io.engine.id)).size, 1, "one connection");
    const { body } = await server.api("GET", "acme", "users/ana");
    assert.equal(body.connections, 1);
    // Each socket is in rooms of its own; a room is the same seen from every namespace.
    for (const [n, socket] of sockets.entries()) {
      const { ok } = await within(SOON, socket.emitWithAck("subscribe", { rooms: n % 2 ? ["odd"] : ["even"] }), "subscribe");
      assert.equal(ok, true);
    }
    for (let n = 0; n < 10; n++) {
      const room = n % 2 ? "odd" : "even";
      const answer = await within(SOON, sockets[n % 5].emitWithAck("publish", { room, type: "note", data: n }), "publish");
      assert.equal(answer.offset, Math.floor(n / 2) + 1);
    }
    for (const socket of sockets) await within(SOON, socket.emitWithAck("presence", { room: "odd" }), "presence");
    const expected = (odd) => Array.from({ length: 5 }, (_, n) => [2 * n + odd, n + 1]);
    for (const [n, events] of seen.entries()) assert.deepEqual(events, expected(n % 2), NAMESPACES[n]);
    // One leaves; the others stay.
    sockets[1].disconnect();
    assert.equal((await within(SOON, sockets[2].emitWithAck("publish", { room: "odd", type: "note", data: "late" }), "publish")).ok, true);
    await within(SOON, sockets[3].emitWithAck("presence", { room: "odd" }), "presence");
    assert.equal(seen[3].at(-1)[0], "late");
    assert.notEqual(seen[1].at(-1)[0], "late");
  });
}

test("a namespace nobody configured", async (t) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const client = new Client(t, `${server.url}/secret`, { auth: { token: mint("acme", "ana") } });
  assert.equal((await client.refusal()).message, "Invalid namespace");
});

test("200 sockets in one room: each gets each event once, in order", async (t) => {
  const server = await Server.start();
  t.after(() => server.stop());
  const EVENTS = 100;
  const transports = (n) => [["websocket"], ["polling"], ["polling", "websocket"]][n % 10 < 8 ? 0 : (n % 10) - 7];
  const members = await Promise.all(
    Array.from({ length: 200 }, (_, n) => Client.join(t, server, "acme", `user-${n}`, { transports: transports(n) })),
  );
  await Promise.all(members.map((member) => member.ask("subscribe", { rooms: ["arena"] })));
  const { body } = await server.api("GET", "acme", "rooms");
  assert.equal(body.rooms.find(({ room }) => room === "arena").members, 200);
  // Half by ten of the members at the same time, half by the backend.
  const own = members.slice(0, 10).map(async (member) => {
    for (let n = 0; n < EVENTS / 20; n++) assert.equal((await member.ask("publish", { room: "arena", type: "hit", data: n })).ok, true);
  });
  const backend = (async () => {
    for (let n = 0; n < EVENTS / 2; n++) await server.publish("acme", { room: "arena", type: "hit", data: n });
  })();
  await Promise.all([...own, backend]);
  const order = Array.from({ length: EVENTS }, (_, n) => n + 1);
  const ids = (await members[0].gather("hit", EVENTS, 30_000)).map(([, meta]) => meta.id);
  for (const member of members) {
    const hits = await member.gather("hit", EVENTS, 30_000);
    assert.deepEqual(hits.map(([, meta]) => meta.offset), order);
    assert.deepEqual(hits.map(([, meta]) => meta.id), ids);
  }
  await Promise.all(members.map((member) => member.ask("presence", { room: "nowhere" })));
  for (const member of members) assert.equal(member.all("hit").length, EVENTS);
});
