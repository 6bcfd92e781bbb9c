// Receivers on three nodes are to acknowledge, and the publisher on any of them is told of all; a node is killed while it is waited for.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Fleet } from "./fleet.mjs";
import { Client, Plain, profileWith, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const whole = scope();
/** The default profile, and a type whose receivers are always asked. */
const PROFILE = profileWith(whole, `[events]\nsiren = { acknowledge = { timeout_ms = 200, retries = 1 } }`);
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis, { env: { PROFILE } });
  await fleet.becomes("ok");
});

/** A member of `team` on a node. */
const member = async (t, at, tenant, user) => {
  const client = await Client.join(t, fleet.nodes[at], tenant, user);
  await client.ask("subscribe", { rooms: ["team"] });
  return client;
};
/** Its receiver acknowledges what its attempts say. */
const acks = (client, event, on = () => true) => client.socket.on(event, (data, meta, ack) => on(meta.attempt ?? 1) && ack());
const sorted = ({ acked, missing }) => [[...acked].sort(), [...missing].sort()];

test("whoever publishes, anywhere, is told of the receivers of all nodes", async (t) => {
  const [ana, ben, eve] = await Promise.all(["ana", "ben", "eve"].map((user, at) => member(t, at, "acks", user)));
  // One user on two nodes, of which one device answers.
  const [mute, quick] = await Promise.all([0, 2].map((at) => member(t, at, "acks", "two")));
  const plain = await Plain.join(t, fleet.nodes[1], "acks", "cat");
  await plain.ask("subscribe", { rooms: ["team"] });
  acks(ana, "alarm");
  acks(ben, "alarm", (attempt) => attempt === 2);
  acks(quick, "alarm");
  for (const [at, node] of fleet.nodes.entries()) {
    const before = [eve, ben, mute].map((client) => client.all("alarm").length);
    const answer = node.publish("acks", { room: "team", type: "alarm", data: at, ack: { timeoutMs: 400, retries: 1 } });
    const { frame } = await plain.log.take((entry) => entry.name === "alarm", "the alarm");
    plain.send({ ack: frame.id });
    const receipt = await answer;
    assert.deepEqual(sorted(receipt), [["ana", "ben", "cat", "two"], ["eve"]]);
    assert.equal(receipt.offset, at + 1);
    const asked = [eve, ben, mute].map((client, nth) => client.all("alarm").length - before[nth]);
    assert.deepEqual(asked, [2, 2, 1], "who has not answered is asked again, and no other device of who has");
  }
  // A client that publishes is told by its acknowledgement, as soon as all have answered.
  for (const client of [ben, eve]) acks(client, "alarm", (attempt) => attempt === 1);
  const last = eve.ask("publish", { room: "team", type: "alarm", data: 9, ack: { timeoutMs: 5_000, retries: 1 } });
  const { frame } = await plain.log.take((entry) => entry.name === "alarm", "the alarm");
  assert.deepEqual(await plain.ask("received", { ids: [frame.meta.id] }), { ok: true });
  assert.deepEqual(sorted(await last), [["ana", "ben", "cat", "eve", "two"], []]);
});

test("a user is asked where it is, and one that is nowhere is missing at once", async (t) => {
  const ana = await Client.join(t, fleet.nodes[1], "own", "ana");
  acks(ana, "note");
  // Who is where is known to Redis a moment after its greeting.
  await until(async () => (await fleet.nodes[0].api("GET", "own", "users/ana")).body.connections === 1, "ana is known");
  for (const node of fleet.nodes) {
    const [seen, nobody] = await node.publish("own", ["ana", "ben"].map((user) => ({ user, type: "note", data: 1, ack: {} })));
    assert.deepEqual([sorted(seen), sorted(nobody)], [[["ana"], []], [[], ["ben"]]]);
  }
});

test("what the catalogue has acknowledged is asked for on all nodes", async (t) => {
  const clients = await Promise.all([0, 1, 2].map((at) => member(t, at, "siren", `user-${at}`)));
  acks(clients[1], "siren");
  const receipt = await clients[0].ask("publish", { room: "team", type: "siren", data: 1 });
  assert.deepEqual([receipt.ok, receipt.offset, receipt.acked], [true, 1, undefined], "its publisher does not wait");
  for (const client of [clients[0], clients[2]]) {
    const attempts = (await client.gather("siren", 2)).map(([, meta]) => meta.attempt);
    assert.deepEqual(attempts, [undefined, 2]);
  }
  assert.equal(clients[1].all("siren").length, 1);
});

test("a node that is killed holds no publisher longer than a receiver that is silent", async (t) => {
  const [ana, , eve] = await Promise.all(["ana", "ben", "eve"].map((user, at) => member(t, at, "killed", user)));
  acks(ana, "alarm");
  acks(eve, "alarm");
  await fleet.kill(1);
  const began = performance.now();
  const receipt = await fleet.nodes[0].publish("killed", { room: "team", type: "alarm", data: 1, ack: { timeoutMs: 1_000, retries: 0 } });
  const took = performance.now() - began;
  assert.deepEqual(sorted(receipt), [["ana", "eve"], []]);
  assert.ok(took >= 1_000 && took < 4_000, `${took} ms`);
  await fleet.revive(1);
});
