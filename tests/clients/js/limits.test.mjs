// Every limit of the configuration that a client can meet, and tokens that end during a connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { Client, Plain, SOON, Server, Wire, mint, now, until, within } from "./harness.mjs";

async function limited(t, lines, more = {}) {
  const server = await Server.start({ config: `[limits]\n${lines}\n`, ...more });
  t.after(() => server.stop());
  return server;
}

for (const [limit, who] of Object.entries({
  connections_per_user: (n) => ["acme", "ana", ["globex", "ana"], ["acme", "ben"]],
  connections_per_tenant: (n) => ["acme", `user-${n}`, ["globex", "ana"]],
  connections_per_address: (n) => [`tenant-${n}`, "ana"],
})) {
  test(`${limit}: one more is refused, and one less makes room`, async (t) => {
    const server = await limited(t, `${limit} = 3`);
    const clients = [];
    for (let n = 0; n < 3; n++) clients.push(await Client.join(t, server, ...who(n).slice(0, 2), { transports: n === 1 ? ["polling"] : ["websocket"] }));
    const [tenant, user, ...others] = who(3);
    for (const transports of [["websocket"], ["polling"]]) {
      const refused = new Client(t, server.url, { auth: { token: mint(tenant, user) }, transports });
      assert.equal((await refused.refusal()).data.code, "too_many_connections");
      refused.socket.disconnect();
    }
    const plain = new Plain(t, server, { token: mint(tenant, user) });
    const { code, reason } = await plain.close();
    assert.deepEqual([code, reason.data.code], [4429, "too_many_connections"]);
    for (const other of others) await Client.join(t, server, ...other);
    for (const client of clients) assert.equal(client.socket.connected, true, "who is here stays");
    clients[0].socket.disconnect();
    await until(async () => {
      const next = new Client(t, server.url, { auth: { token: mint(tenant, user) } });
      const entry = await next.log.take(({ name }) => ["connected", "(connect_error)"].includes(name), "an answer");
      if (entry.name !== "connected") next.socket.disconnect();
      return entry.name === "connected";
    }, "room for one");
  });
}

test("events_per_second: over the rate is refused, a flood is closed", async (t) => {
  const server = await limited(t, "events_per_second = 10\nevents_burst = 20");
  const ana = await Client.join(t, server, "acme", "ana", { reconnection: false });
  const answers = await Promise.all(Array.from({ length: 25 }, () => ana.ask("presence", { room: "r" })));
  const refused = answers.filter(({ code }) => code === "rate_limited");
  assert.ok(refused.length >= 1 && refused.length <= 7, `${refused.length} refused`);
  assert.ok(answers.slice(0, 15).every(({ ok }) => ok));
  assert.equal(ana.socket.connected, true);
  const poller = await Client.join(t, server, "acme", "poller", { reconnection: false, transports: ["polling"] });
  for (const client of [ana, poller]) {
    for (let n = 0; n < 100; n++) client.socket.emit("presence", { room: "r" });
    assert.equal((await client.next("error")).code, "rate_limited");
    await client.disconnected();
  }
  const plain = await Plain.join(t, server, "acme", "ben");
  for (let n = 0; n < 200; n++) plain.send({ event: "presence", data: { room: "r" } });
  const { code, reason } = await plain.close();
  assert.deepEqual([code, reason.data.code], [4430, "rate_limited"]);
  await Client.join(t, server, "acme", "ana");
});

test("a slow consumer is closed, others are not held up, and it recovers", async (t) => {
  const server = await Server.start({ config: "[limits]\noutbox_bytes = 65536\nhttp_body_bytes = 2000000\n[history]\nevents = 2000\n" });
  t.after(() => server.stop());
  const observer = await Client.join(t, server, "acme", "observer");
  const slow = await Client.join(t, server, "acme", "slow");
  await observer.next("user:online", ({ user }) => user === "slow");
  const bystander = await Client.join(t, server, "acme", "bystander");
  for (const client of [slow, bystander]) await client.ask("subscribe", { rooms: ["big"] });
  const { id } = slow.socket;
  const line = slow.socket.io.engine.transport.ws._socket;
  line.pause();
  const filler = "x".repeat(20_000);
  let published = 0;
  let closed = false;
  const gone = observer.next("user:offline", ({ user }) => user === "slow", 60_000).then(() => (closed = true));
  while (!closed && published < 1500) await server.publish("acme", { room: "big", type: "n", data: { n: ++published, filler } });
  await gone;
  await bystander.gather("n", published);
  await server.publish("acme", { room: "big", type: "n", data: { n: ++published } });
  line.resume();
  await slow.disconnected(30_000);
  await slow.next("connected", ({ sid }) => sid, 30_000);
  assert.deepEqual([slow.socket.recovered, slow.socket.id], [true, id]);
  await slow.gather("n", published, 30_000);
  const order = Array.from({ length: published }, (_, n) => n + 1);
  assert.deepEqual(slow.all("n").map(([{ n }]) => n), order, "each event once, in order, across the close");
  assert.deepEqual(bystander.all("n").map(([{ n }]) => n), order);
});

test("/ws: a slow consumer reads its code", async (t) => {
  const server = await limited(t, "outbox_bytes = 65536");
  const observer = await Client.join(t, server, "acme", "observer");
  const slow = await Plain.join(t, server, "acme", "slow");
  await observer.next("user:online", ({ user }) => user === "slow");
  await slow.ask("subscribe", { rooms: ["big"] });
  slow.ws._socket.pause();
  let closed = false;
  const gone = observer.next("user:offline", ({ user }) => user === "slow", 60_000).then(() => (closed = true));
  for (let n = 0; !closed && n < 1500; n++) await server.publish("acme", { room: "big", type: "n", data: "x".repeat(20_000) });
  await gone;
  slow.ws._socket.resume();
  const { code, reason } = await slow.close(30_000);
  assert.deepEqual([code, reason?.data.code], [4508, "slow_consumer"]);
});

test("ephemeral events are dropped first", async (t) => {
  const server = await limited(t, "outbox_bytes = 65536");
  const slow = await Client.join(t, server, "acme", "slow");
  await slow.ask("subscribe", { rooms: ["big"] });
  const line = slow.socket.io.engine.transport.ws._socket;
  line.pause();
  for (let n = 0; n < 800; n++) await server.publish("acme", { room: "big", type: "flood", data: "x".repeat(20_000), ephemeral: true });
  await server.publish("acme", { room: "big", type: "kept", data: 1 });
  line.resume();
  assert.equal(await slow.next("kept", () => true, 30_000), 1);
  assert.ok(slow.all("flood").length < 800, "some were dropped");
  assert.equal(slow.all("(disconnect)").length, 0, "and it was not closed for them");
});

test("frame_bytes", async (t) => {
  const server = await limited(t, "frame_bytes = 2000");
  const fits = await Client.join(t, server, "acme", "ana", { reconnection: false });
  assert.equal((await fits.ask("publish", { room: "r", type: "x", data: "y".repeat(1800) })).ok, true);
  fits.socket.emit("publish", { room: "r", type: "x", data: "y".repeat(2100) });
  await fits.disconnected();
  const raw = new Wire(t, server.url, "/ws", { headers: { authorization: `Bearer ${mint("acme", "ben")}` } });
  await raw.next();
  raw.send("x".repeat(2001));
  assert.ok([1009, 4400].includes((await raw.gone()).code));
  const { text } = await server.fetch("/socket.io/?EIO=4&transport=polling");
  const { sid, maxPayload } = JSON.parse(text.slice(1));
  assert.equal(maxPayload, 2000);
  const post = await server.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: `4${"x".repeat(2000)}` }).catch(() => ({ status: 413 }));
  assert.equal(post.status, 413);
});

test("a frame that says it is huge is refused before it is there", async (t) => {
  const server = await limited(t, "frame_bytes = 2000");
  const plain = await Plain.join(t, server, "acme", "ana");
  // FIN + text, masked, 64-bit length of 2^40, and nothing after it.
  plain.ws._socket.write(Buffer.from([0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
  const { code } = await within(SOON, plain.closed, "the close");
  assert.equal(code, 1009);
});

test("rooms_per_session and room_name_bytes", async (t) => {
  const server = await limited(t, "rooms_per_session = 3\nroom_name_bytes = 8");
  const ana = await Client.join(t, server, "acme", "ana");
  const answer = await ana.ask("subscribe", { rooms: ["a", "b", "c", "d", "123456789"] });
  assert.deepEqual(answer.rooms, ["a", "b", "c"]);
  assert.deepEqual(answer.denied, [{ room: "d", code: "too_many_rooms" }, { room: "123456789", code: "room_name_too_long" }]);
  await ana.ask("unsubscribe", { rooms: ["a"] });
  assert.deepEqual((await ana.ask("subscribe", { rooms: ["d"] })).rooms, ["d"]);
});

test("handshakes_per_second_per_address", async (t) => {
  const server = await limited(t, "handshakes_per_second_per_address = 5");
  const outcomes = await Promise.all(
    Array.from({ length: 30 }, () =>
      within(SOON, new Promise((resolve) => {
        const ws = new WebSocket(`${server.url.replace("http", "ws")}/ws?token=${mint("acme", "ana")}`);
        t.after(() => ws.terminate());
        ws.on("open", () => resolve("open"));
        ws.on("error", () => resolve("refused"));
      }), "an outcome"),
    ),
  );
  const open = outcomes.filter((outcome) => outcome === "open").length;
  assert.ok(open >= 5 && open <= 20, `${open} of 30 were let in`);
});

// Tokens.

const polling = (t, server, tenant, user, options) => Client.join(t, server, tenant, user, { transports: ["polling"], ...options });

for (const [wire, join] of [["Socket.IO", Client.join], ["Socket.IO over polling", polling], ["/ws", Plain.join]]) {
  test(`${wire}: a token that ends: session:expiring, then token_expired`, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const ana = await join(t, server, "acme", "ana", { claims: { exp: now() + 3 }, reconnection: false });
    const expiring = await ana.next("session:expiring");
    assert.ok(expiring && Math.abs(Date.parse(expiring.expiresAt) - Date.now()) < 5000, JSON.stringify(expiring));
    if (join !== Plain.join) {
      assert.equal((await ana.next("error")).code, "token_expired");
      assert.equal(await ana.disconnected(), "io server disconnect");
    } else {
      const { code, reason } = await ana.close();
      assert.deepEqual([code, reason.data.code], [4401, "token_expired"]);
    }
  });

  test(`${wire}: authenticate extends it`, async (t) => {
    const server = await Server.start();
    t.after(() => server.stop());
    const exp = now() + 3;
    const ana = await join(t, server, "acme", "ana", { claims: { exp }, reconnection: false });
    const ben = await join(t, server, "acme", "ben", { claims: { exp }, reconnection: false });
    await ana.next("session:expiring");
    const fresh = now() + 3600;
    const answer = await ana.ask("authenticate", mint("acme", "ana", { exp: fresh }));
    assert.deepEqual([answer.ok, Math.floor(Date.parse(answer.expiresAt) / 1000)], [true, fresh]);
    // Ben's token had as long as the first one of hers: when he is gone, hers would have ended as well.
    await ana.next("user:offline", ({ user }) => user === "ben");
    assert.equal((await ana.ask("presence", { room: "r" })).ok, true);
    const expired = await ana.ask("authenticate", mint("acme", "ana", { exp: now() - 1 }));
    assert.deepEqual([expired.ok, expired.code], [false, "token_expired"]);
    assert.equal((await ana.ask("presence", { room: "r" })).ok, true, "a bad one changes nothing");
    assert.ok(ben);
  });
}
