// Users who are not there, and receivers who are to acknowledge.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, Events, Line, Plain, Server, mint, until } from "./harness.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

/** Publishes numbered notes for a user; their ids. */
const tell = async (tenant, user, numbers, on = server) =>
  (await on.publish(tenant, numbers.map((n) => ({ user, type: "note", data: n })))).map(({ id }) => id);

/** Leaves, and is gone for the server. */
async function leave(client, tenant, user, on = server) {
  client.socket.disconnect();
  await until(async () => (await on.api("GET", tenant, `users/${user}`)).body.connections === 0, `${user} has left`);
}

/** What a client has got so far; its question is answered after everything before it. */
async function got(client) {
  await client.ask("presence", { room: `user:${client.welcome.user}` });
  return client.all("note").map(([data]) => data);
}

test("what came while a user was away comes in order, before anything newer, until it is received", async (t) => {
  const ids = await tell("queue", "ana", [1, 2, 3]);
  const ana = await Client.join(t, server, "queue", "ana");
  await tell("queue", "ana", [4]);
  const events = await ana.gather("note", 4);
  assert.deepEqual(events.map(([data]) => data), [1, 2, 3, 4]);
  assert.deepEqual(events.map(([, meta]) => meta.queued), [true, true, true, undefined]);
  assert.deepEqual(events.slice(0, 3).map(([, meta]) => meta.id), ids);
  assert.deepEqual(events.map(([, meta]) => [meta.room, meta.offset]), [1, 2, 3, 4].map((n) => ["user:ana", n]));
  assert.equal(ana.names[0], "connected", "the greeting comes first");
  assert.deepEqual(await ana.ask("received", { ids: [ids[0], ids[2], "unknown"] }), { ok: true });
  await leave(ana, "queue", "ana");

  const again = await Client.join(t, server, "queue", "ana");
  assert.deepEqual(await got(again), [2], "what was not acknowledged comes again, what came as it was published does not");
  assert.equal(again.all("note")[0][1].id, ids[1]);
  await again.ask("received", { ids });
  assert.equal((await again.ask("received", { ids: "x" })).code, "invalid_argument");
  assert.equal((await again.ask("received", { ids: Array(1001).fill("x") })).code, "too_many_items");
  await leave(again, "queue", "ana");
  assert.deepEqual(await got(await Client.join(t, server, "queue", "ana")), []);
});

test("over every transport and in every namespace", async (t) => {
  await tell("wires", "ana", [1, 2]);
  const polling = await Client.join(t, server, "wires", "ana", { transports: ["polling"] });
  assert.deepEqual(await got(polling), [1, 2]);
  const plain = await Plain.join(t, server, "wires", "ana");
  const notes = await plain.gather("note", 2);
  assert.deepEqual(notes.map(([data, meta]) => [data, meta.queued]), [[1, true], [2, true]]);
  const events = new Events(t, server, { token: mint("wires", "ana") });
  assert.deepEqual((await events.next("note")).args[0].data, 1);
  assert.deepEqual((await events.next("note")).args[0].meta.queued, true);
  assert.deepEqual(await plain.ask("received", { ids: notes.map(([, meta]) => meta.id) }), { ok: true });
  assert.deepEqual(await got(await Client.join(t, server, "wires", "ana")), []);
});

test("several devices each get theirs", async (t) => {
  const ids = await tell("devices", "ana", [1, 2]);
  const devices = await Promise.all(["websocket", "polling"].map((transport) => Client.join(t, server, "devices", "ana", { transports: [transport] })));
  for (const device of devices) assert.deepEqual(await got(device), [1, 2]);
  await devices[0].ask("received", { ids });
  assert.deepEqual(await got(await Client.join(t, server, "devices", "ana")), []);
  const other = await Client.join(t, server, "elsewhere", "ana");
  assert.deepEqual(await got(other), [], "the same name in another tenant is another user");
});

test("a client that recovers gets it once", async (t) => {
  const line = await Line.to(t, server);
  await tell("recovers", "ana", [1]);
  const ana = await Client.join(t, server, "recovers", "ana", { url: line.url });
  assert.deepEqual(await got(ana), [1]);
  line.cut();
  await ana.disconnected();
  await until(async () => (await server.api("GET", "recovers", "users/ana")).body.connections === 0, "the server has seen it");
  await tell("recovers", "ana", [2, 3]);
  line.mend();
  const welcome = await ana.next("connected");
  assert.equal(welcome.recovered, true);
  assert.deepEqual(await got(ana), [1, 2, 3], "the position it came back with acknowledges the first");
});

test("what is too much is dropped from its old end, and told; what is too old is gone", async (t) => {
  const small = await Server.start({ config: "[offline]\nper_user = 3\nttl_s = 2\n" });
  t.after(() => small.stop());
  await tell("acme", "ana", [1, 2, 3, 4, 5], small);
  const ana = await Client.join(t, small, "acme", "ana");
  const error = await ana.next("error");
  assert.deepEqual([error.code, error.dropped], ["offline_overflow", 2]);
  assert.deepEqual(await got(ana), [3, 4, 5]);
  await leave(ana, "acme", "ana", small);
  // Nobody tells when it is over: ask until it is.
  let clients = 0;
  await until(async () => {
    const client = await Client.join(t, small, "acme", "ana");
    const left = await got(client);
    client.socket.disconnect();
    clients++;
    assert.ok(left.length === 0 || String(left) === "3,4,5", String(left));
    return left.length === 0;
  }, "two seconds");
  assert.ok(clients >= 1);
});

test("an event is acknowledged by its receivers, and its publisher is told who did not", async (t) => {
  const [ana, ben, eve] = await Promise.all(["ana", "ben", "eve"].map((user) => Client.join(t, server, "acks", user)));
  for (const client of [ana, ben, eve]) await client.ask("subscribe", { rooms: ["team"] });
  const plain = await Plain.join(t, server, "acks", "cat");
  await plain.ask("subscribe", { rooms: ["team"] });
  const attempts = [];
  ana.socket.on("alarm", (data, meta, ack) => ack());
  // The second time is soon enough.
  ben.socket.on("alarm", (data, meta, ack) => {
    attempts.push([meta.id, meta.attempt]);
    if (meta.attempt) ack("any answer");
  });
  const answer = server.publish("acks", { room: "team", type: "alarm", data: 1, ack: { timeoutMs: 300, retries: 1 } });
  const { frame } = await plain.log.take((entry) => entry.name === "alarm", "the alarm");
  plain.send({ ack: frame.id });
  const receipt = await answer;
  assert.deepEqual([receipt.acked.sort(), receipt.missing], [["ana", "ben", "cat"], ["eve"]]);
  assert.deepEqual(attempts, [[receipt.id, undefined], [receipt.id, 2]]);
  assert.equal(eve.all("alarm").length, 2, "she was asked twice");

  const [own, told] = await Promise.all([
    ana.nextArgs("alarm", (data) => data === 2),
    ana.ask("publish", { room: "team", type: "alarm", data: 2, ack: { timeoutMs: 200, retries: 0 } }),
  ]);
  assert.equal(own[0], 2);
  assert.deepEqual([told.ok, told.acked, told.missing.sort()], [true, ["ana"], ["ben", "cat", "eve"]]);
  assert.equal((await ana.ask("publish", { room: "team", type: "alarm", ack: {}, ephemeral: true })).code, "invalid_argument");
});

test("whom an event was for and who did not answer finds it in the queue", async (t) => {
  const [receipt] = await server.publish("unanswered", [{ user: "ana", type: "note", data: 1, ack: {} }]);
  assert.deepEqual([receipt.acked, receipt.missing], [[], ["ana"]], "nobody is there: the answer comes at once");
  const ana = await Client.join(t, server, "unanswered", "ana");
  await ana.ask("received", { ids: [receipt.id] });
  const slow = await server.publish("unanswered", { user: "ana", type: "note", data: 2, ack: { timeoutMs: 100, retries: 0 } });
  assert.deepEqual(slow.missing, ["ana"]);
  const quick = server.publish("unanswered", { id: "mine", user: "ana", type: "note", data: 3, ack: {} });
  await ana.next("note", (data) => data === 3);
  await ana.ask("received", { ids: ["mine"] });
  assert.deepEqual((await quick).acked, ["ana"], "received is an acknowledgement, too");
  await leave(ana, "unanswered", "ana");
  assert.deepEqual(await got(await Client.join(t, server, "unanswered", "ana")), [2]);
});

test("whoever asks may hang up before the answer", async (t) => {
  const ana = await Client.join(t, server, "hangup", "ana");
  const gone = new AbortController();
  const body = JSON.stringify({ user: "ana", type: "note", data: 1, ack: { timeoutMs: 200, retries: 0 } });
  const headers = { authorization: "Bearer key-of-every-tenant-0123456789abcdef", "content-type": "application/json" };
  const asked = fetch(`${server.url}/api/v1/tenants/hangup/events`, { method: "POST", body, headers, signal: gone.signal });
  await ana.next("note");
  gone.abort();
  await assert.rejects(asked);
  const next = await server.publish("hangup", { user: "ana", type: "note", data: 2, ack: { timeoutMs: 300, retries: 0 } });
  assert.deepEqual(next.missing, ["ana"]);
});
