// Long-polling behind a balancer that knows nothing: every request may reach another node than the one before.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Balancer, Fleet, Ledger } from "./fleet.mjs";
import { API_KEY, Client, SOON, Server, Wire, freePort, mint, scope, until, within } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const whole = scope();
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis);
  await fleet.becomes("ok");
});

const numbers = (client) => client.all("n").map(([data]) => data);

for (const transports of [["polling"], ["polling", "websocket"]]) {
  test(`${transports}: no sticky sessions are needed`, async (t) => {
    const tenant = `poll-${transports.length}`;
    const balancer = await Balancer.over(t, fleet);
    const clients = await Promise.all(Array.from({ length: 12 }, (_, n) => Client.join(t, fleet, tenant, `user-${n}`, { url: balancer.url, transports })));
    for (const client of clients) await client.ask("subscribe", { rooms: ["r"] });
    for (let n = 1; n <= 30; n++) {
      const { offset } = await clients[n % 12].ask("publish", { room: "r", type: "n", data: n });
      assert.equal(offset, n);
    }
    for (const client of clients) {
      await client.gather("n", 30);
      assert.deepEqual(numbers(client), Array.from({ length: 30 }, (_, n) => n + 1));
      assert.deepEqual(client.all("(disconnect)"), [], "nobody had to come again");
    }
    const names = clients.map((client) => client.socket.io.engine.transport.name);
    const upgraded = names.filter((name) => name === "websocket").length;
    t.diagnostic(`${upgraded} of ${names.length} changed over to WebSocket`);
    // A WebSocket that comes to another node than its session's is refused: who sent it stays with long-polling, and nobody notices.
    if (transports.length === 1) assert.equal(upgraded, 0);
  });
}

test("binary events and large ones, polled through the wrong node", async (t) => {
  const balancer = await Balancer.over(t, fleet);
  const ana = await Client.join(t, fleet, "poll-large", "ana", { url: balancer.url, transports: ["polling"] });
  await ana.ask("subscribe", { rooms: ["r"] });
  for (let n = 1; n <= 5; n++) await ana.ask("publish", { room: "r", type: "n", data: `${n}${"ü".repeat(100_000)}` });
  await ana.gather("n", 5);
  assert.deepEqual(numbers(ana).map((text) => text[0]), ["1", "2", "3", "4", "5"]);
});

test("a session nobody has is said to be unknown, by any node, at once", async () => {
  for (const node of fleet.nodes) {
    const began = Date.now();
    const { status, body } = await node.fetch("/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA");
    assert.deepEqual([status, body.code], [400, 1]);
    assert.ok(Date.now() - began < 3_000);
  }
});

test("a WebSocket for a session of another node is refused, and the session goes on; one for its own node is taken", async (t) => {
  const [first, second] = fleet.nodes;
  const { body } = await first.fetch("/socket.io/?EIO=4&transport=polling");
  const { sid } = JSON.parse(body.slice(1));
  const where = `/socket.io/?EIO=4&transport=websocket&sid=${sid}`;
  const wrong = new Wire(t, second.url, where);
  assert.match((await within(3_000, wrong.error, "the refusal")).message, /400/);
  const right = new Wire(t, first.url, where);
  await within(SOON, once(right.ws, "open"), "the upgrade");
  right.send("2probe");
  assert.equal(await right.next(), "3probe");
  right.ws.terminate();
  const told = await second.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: `40${JSON.stringify({ token: mint("poll-ws", "ana") })}` });
  assert.deepEqual([told.status, told.text], [200, "ok"]);
  assert.match((await second.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`)).text, /^40\{"sid"/);
});

test("two nodes that are given one number have two", async (t) => {
  const own = await Fleet.start(t, redis, { count: 2, env: { TENANTCAST_SERVER__NODE: "7" } });
  await own.becomes("ok");
  const number = async (node) => {
    const { body } = await node.fetch("/socket.io/?EIO=4&transport=polling");
    return Buffer.from(JSON.parse(body.slice(1)).sid, "base64url").readUInt16BE(0);
  };
  const [one, other] = await Promise.all(own.nodes.map(number));
  assert.ok((one === 7) !== (other === 7), `${one}, ${other}`);
  // Its lease ends with a process that ends well: the next one has it again.
  const first = one === 7 ? 0 : 1;
  await own.drain(first);
  await own.revive(first);
  await own.becomes("ok");
  assert.equal(await number(own.nodes[first]), 7);
});

test("a node that drains gives back the polls of other nodes' sessions, and ends", async (t) => {
  const own = await Fleet.start(t, redis, { count: 1 });
  const admin = String(await freePort());
  own.nodes.push(await Server.start({ ...own.options, env: { ...own.options.env, ADMIN_PORT: admin } }));
  await own.becomes("ok");
  const [owner, other] = own.nodes;
  const metrics = async () => (await fetch(`http://127.0.0.1:${admin}/metrics`, { headers: { authorization: `Bearer ${API_KEY}` } })).text();
  const asked = async () => Number(/tenantcast_neighbour_asks_total (\d+)/.exec(await metrics())[1]);
  const poll = async (node, sid, init) => node.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`, init);
  const { sid } = JSON.parse((await owner.fetch("/socket.io/?EIO=4&transport=polling")).body.slice(1));
  await poll(other, sid, { method: "POST", body: `40${JSON.stringify({ token: mint("poll-drain", "ana") })}` });
  // The welcome may come in several answers: until then nothing waits.
  let welcome = "";
  while (!welcome.includes('"connected"')) welcome += (await poll(other, sid)).text;
  const before = await asked();
  const waits = poll(other, sid);
  await until(async () => (await asked()) > before, "the poll has been handed on");
  await own.drain(1);
  assert.deepEqual(await waits.then(({ status, text }) => [status, text]), [200, "6"]);
  const event = poll(owner, sid);
  await owner.publish("poll-drain", { room: "user:ana", type: "n", data: 1 });
  assert.match((await event).text, /42\["n",1,/);
});

test("Redis away: a request for another node's session is refused at once, one for its own is served", async (t) => {
  const its = await Redis.start(t);
  const own = await Fleet.start(t, its, { count: 2 });
  await own.becomes("ok");
  const [first, second] = own.nodes;
  const { sid } = JSON.parse((await first.fetch("/socket.io/?EIO=4&transport=polling")).body.slice(1));
  const post = (node) => node.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`, { method: "POST", body: "3" });
  assert.equal((await post(second)).status, 200);
  const waits = second.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`);
  await its.kill();
  await own.becomes("degraded");
  assert.deepEqual(await waits.then(({ status, body }) => [status, body.code]), [503, "backplane_unavailable"]);
  const began = Date.now();
  assert.equal((await post(second)).status, 503);
  assert.ok(Date.now() - began < 1_000);
});

test("kill -9 of the owner: polling clients come back by recovery on another node", async (t) => {
  const own = await Fleet.start(t, redis);
  const balancer = await Balancer.over(t, own);
  const ledger = new Ledger(t, own, "poll-kill");
  for (let n = 0; n < 9; n++) await ledger.receive(`member-${n}`, ["r"], balancer.url, { transports: ["polling"] });
  await ledger.publish("backend", "r", { every: 50 });
  for (const at of [0, 1]) {
    await ledger.grown(20);
    await own.kill(at);
    await ledger.flows();
    await own.revive(at);
  }
  await ledger.settle();
  const { recovered } = ledger.check();
  assert.ok(recovered > 0);
});
