// Three nodes on one Redis are one server, to the official client and to a backend.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Balancer, Fleet, Ledger, Receiver } from "./fleet.mjs";
import { Client, Plain, scope, until } from "./harness.mjs";
import { Redis } from "./redis.mjs";

const whole = scope();
after(whole.end);
let redis, fleet;
before(async () => {
  redis = await Redis.start(whole);
  fleet = await Fleet.start(whole, redis);
  await fleet.becomes("ok");
});

/** `user` on each node: `name-0`, `name-1`, `name-2`. */
const everywhere = (t, tenant, name, options) => Promise.all(fleet.nodes.map((node, at) => Client.join(t, node, tenant, `${name}-${at}`, options)));
const numbers = (client, name = "n") => client.all(name).map(([data]) => data);

test("the ledger notices what is wrong", async (t) => {
  const at = (offset, epoch = "a") => ({ epoch, offset });
  const event = (n, offset = n, epoch) => (receiver) => receiver.take({ tenant: "x", id: `e-${n}` }, { room: "r", id: `e-${n}`, ...at(offset, epoch) });
  const gap = (receiver) => receiver.hearGap({ reason: "epoch_changed" });
  const back = (recovered, offset, epoch) => (receiver) => receiver.arrive("r", true, { recovered, reason: "x", ...at(offset, epoch) });
  for (const [what, steps, found] of [
    ["nothing", [event(1), event(2), event(3), event(4)], []],
    ["one is missing at the end", [event(1), event(2), event(3)], [/never got e-4/]],
    ["a hole", [event(1), event(2), event(4)], [/a hole/, /never got e-3/]],
    ["twice", [event(1), event(2), event(2), event(3), event(4)], [/twice or out of order/, /twice/]],
    ["out of order", [event(1), event(3, 2), event(2, 3), event(4)], [/is the place of/, /is the place of/]],
    ["another epoch", [event(1), event(2, 2, "b")], [/untold/, /never got e-3/, /never got e-4/]],
    ["a stranger's", [event(1), event(2), event(7), event(3), event(4)], [/nobody sent/]],
    ["a gap, told", [event(1), gap, event(4)], []],
    ["a gap, told too early", [event(1), gap, event(2), event(4)], [/a hole/, /never got e-3/]],
    ["not recovered", [event(1), back(false, 3), event(4)], []],
    ["recovered, it is said", [event(1), back(true, 3), event(4)], [/is said to have come/, /a hole/, /never got e-2/, /never got e-3/]],
  ]) {
    const ledger = new Ledger({ diagnostic: () => {}, after: (end) => t.after(end) }, undefined, "x");
    const receiver = new Receiver(ledger, "ana", ["r"], "http://127.0.0.1:1", { autoConnect: false });
    receiver.arrive("r", false, at(0));
    ledger.receivers.push(receiver);
    ledger.publishers.push({ acked: 4, retries: 0, refusals: {} });
    for (let n = 1; n <= 4; n++) {
      ledger.events.set(`e-${n}`, { room: "r", receipt: at(n) });
      ledger.note("r", at(n), `e-${n}`);
    }
    for (const step of steps) step(receiver);
    try {
      ledger.check({ gaps: true });
    } catch {
      // The faults are looked at one by one.
    }
    assert.equal(ledger.faults.length, found.length, `${what}: ${ledger.faults.join("; ")}`);
    for (const [n, fault] of found.entries()) assert.match(ledger.faults[n], fault, what);
  }
});

test("what is published on any node arrives on all of them, once, in one order", async (t) => {
  const ledger = new Ledger(t, fleet, "order");
  for (const [at, node] of fleet.nodes.entries()) {
    for (let n = 0; n < 4; n++) await ledger.receive(`member-${at}-${n}`, ["project:7", "project:8"], node.url);
  }
  for (const [at, node] of fleet.nodes.entries()) {
    await ledger.publish(`ana-${at}`, "project:7", { url: node.url, every: 5 });
    await ledger.publish(`ben-${at}`, "project:8", { url: node.url, every: 5 });
  }
  await ledger.publish("backend", "project:7", { every: 5 });
  await ledger.grown(600);
  await ledger.settle();
  const { retries } = ledger.check();
  assert.equal(retries, 0, "nothing was sent twice where nothing broke");
  const orders = ledger.receivers.map(({ client }) => client.all("n").filter(([, meta]) => meta.room === "project:7").map(([, meta]) => meta.id).join());
  assert.equal(new Set(orders).size, 1);
  // What the history says on any node is what came.
  for (const node of fleet.nodes) {
    const { body } = await node.api("GET", "order", "rooms/project:7/history?limit=50");
    assert.deepEqual(body.events.map(({ id }) => id), orders[0].split(",").slice(-50));
  }
});

test("a connection hears its own event, and the receipt is the same everywhere", async (t) => {
  const [ana, ben, cat] = await everywhere(t, "receipt", "user");
  for (const client of [ana, ben, cat]) await client.ask("subscribe", { rooms: ["r"] });
  const receipt = await ana.ask("publish", { room: "r", type: "n", data: { text: "ü\u2028", deep: [1, { a: null }] } });
  assert.deepEqual([receipt.ok, receipt.offset], [true, 1]);
  const metas = [];
  for (const client of [ana, ben, cat]) {
    const [data, meta] = await client.nextArgs("n");
    assert.deepEqual(data, { text: "ü\u2028", deep: [1, { a: null }] });
    assert.deepEqual([meta.id, meta.epoch, meta.offset, meta.user], [receipt.id, receipt.epoch, 1, "user-0"]);
    metas.push(meta);
  }
  assert.deepEqual(metas[1], metas[0]);
  assert.deepEqual(metas[2], metas[0]);
});

test("ephemeral events and typing cross nodes, once, and are not kept", async (t) => {
  const [ana, ben, cat] = await everywhere(t, "ephemeral", "user");
  for (const client of [ana, ben, cat]) await client.ask("subscribe", { rooms: ["chat"] });
  for (let n = 1; n <= 20; n++) ana.socket.emit("publish", { room: "chat", type: "n", data: n, ephemeral: true });
  for (const client of [ana, ben, cat]) {
    await client.gather("n", 20);
    assert.deepEqual(client.all("n").map((args) => args[0]), Array.from({ length: 20 }, (_, n) => n + 1));
    assert.equal(client.all("n")[0].length, 1, "no envelope");
  }
  ben.socket.emit("typing:start", { room: "chat" });
  for (const client of [ana, cat]) assert.deepEqual(await client.next("typing:start"), { room: "chat", user: "user-1" });
  ben.socket.emit("typing:stop", { room: "chat" });
  for (const client of [ana, cat]) assert.deepEqual(await client.next("typing:stop"), { room: "chat", user: "user-1" });
  assert.deepEqual([...ben.all("typing:start"), ...ben.all("typing:stop")], [], "to the others only");
  assert.deepEqual((await cat.ask("history", { room: "chat" })).events, []);
});

test("a backend reaches users, roles, entities and the whole tenant through any node", async (t) => {
  const tenant = "backend";
  const clients = await Promise.all(
    fleet.nodes.map((node, at) => Client.join(t, node, tenant, `user-${at}`, { claims: { roles: at === 2 ? ["manager"] : ["clerk"] } })),
  );
  await clients[1].ask("subscribe", { rooms: ["task:9"], entities: [{ type: "task", id: "9" }] });
  for (const [at, node] of fleet.nodes.entries()) {
    await node.publish(tenant, [
      { type: "all", data: at },
      { type: "own", user: "user-1", data: at },
      { type: "managers", data: at, to: { roles: ["manager"] } },
      { type: "task", room: "task:9", entity: { type: "task", id: "9" }, data: at },
      { type: "task", room: "task:9", entity: { type: "task", id: "8" }, data: "another task" },
      { type: "end", data: at },
    ]);
  }
  for (const client of clients) await client.gather("end", 3);
  const came = (name) => clients.map((client) => numbers(client, name).sort());
  await clients[1].gather("task", 3);
  await clients[1].gather("own", 3);
  assert.deepEqual(came("all"), [[0, 1, 2], [0, 1, 2], [0, 1, 2]]);
  assert.deepEqual(came("own"), [[], [0, 1, 2], []]);
  assert.deepEqual(came("managers"), [[], [], [0, 1, 2]]);
  assert.deepEqual(came("task"), [[], [0, 1, 2], []]);
});

test("/ws on one node, Socket.IO over long-polling on another", async (t) => {
  const plain = await Plain.join(t, fleet.nodes[0], "mixed", "plain");
  const polling = await Client.join(t, fleet.nodes[1], "mixed", "polling", { transports: ["polling"] });
  assert.equal((await plain.ask("subscribe", { rooms: ["r"] })).ok, true);
  await polling.ask("subscribe", { rooms: ["r"] });
  await fleet.nodes[2].publish("mixed", { room: "r", type: "n", data: 1 });
  await polling.ask("publish", { room: "r", type: "n", data: 2 });
  assert.equal((await plain.ask("publish", { room: "r", type: "n", data: 3 })).offset, 3);
  for (const client of [plain, polling]) {
    await client.gather("n", 3);
    assert.deepEqual(numbers(client), [1, 2, 3]);
  }
});

test("a node hears a tenant while it has members of it, and not otherwise", async (t) => {
  const tenant = "quiet";
  const hear = (count) => until(async () => (await redis.hearing(tenant)) === count, async () => `${count} nodes hear ${tenant}, ${await redis.hearing(tenant)} do`);
  assert.equal(await redis.hearing(tenant), 0);
  const ana = await Client.join(t, fleet.nodes[0], tenant, "ana");
  await ana.ask("subscribe", { rooms: ["r"] });
  await hear(1);
  const ben = await Client.join(t, fleet.nodes[1], tenant, "ben");
  await hear(2);
  await fleet.nodes[2].publish(tenant, { room: "r", type: "n", data: 1 });
  assert.equal(await ana.next("n"), 1);
  ben.socket.disconnect();
  await hear(1);
  await fleet.nodes[2].publish(tenant, { room: "r", type: "n", data: 2 });
  await ana.gather("n", 2);
  ana.socket.disconnect();
  await hear(0);
  // And it is all there for who comes next, anywhere.
  const cat = await Client.join(t, fleet.nodes[1], tenant, "cat");
  assert.deepEqual((await cat.ask("history", { room: "r" })).events.map(({ data }) => data), [1, 2]);
});

test("`since` on another node: exactly what was missed, then what comes", async (t) => {
  const [ana, ben, cat] = await everywhere(t, "since", "user");
  await ana.ask("subscribe", { rooms: ["r"] });
  for (let n = 1; n <= 6; n++) await fleet.nodes[n % 3].publish("since", { room: "r", type: "n", data: n });
  await ana.gather("n", 6);
  const [, meta] = ana.all("n")[2];
  for (const client of [ben, cat]) {
    const answer = await client.ask("subscribe", { rooms: ["r"], since: { epoch: meta.epoch, offset: meta.offset } });
    assert.deepEqual([answer.recovered, answer.epoch, answer.offset], [true, meta.epoch, 6]);
    assert.deepEqual(numbers(client), [4, 5, 6]);
  }
  await ana.ask("publish", { room: "r", type: "n", data: 7 });
  for (const client of [ben, cat]) await client.next("n", (n) => n === 7);
  const wrong = await ben.ask("subscribe", { rooms: ["other"], since: { epoch: `${meta.epoch}0`, offset: 1 } });
  assert.deepEqual([wrong.ok, wrong.recovered, typeof wrong.reason], [true, false, "string"]);
  assert.equal((await cat.ask("history", { room: "r", since: { epoch: meta.epoch, offset: 5 } })).events.length, 2);
});

test("a room that nobody published to has one epoch on all nodes, and keeps it", async (t) => {
  const [ana, ben, cat] = await everywhere(t, "young", "user");
  const answers = await Promise.all([ana, ben, cat].map((client) => client.ask("subscribe", { rooms: ["r"] })));
  assert.deepEqual(answers.map(({ offset }) => offset), [0, 0, 0]);
  assert.equal(new Set(answers.map(({ epoch }) => epoch)).size, 1);
  const receipt = await ben.ask("publish", { room: "r", type: "n", data: 1 });
  assert.deepEqual([receipt.epoch, receipt.offset], [answers[0].epoch, 1]);
});

test("events published while many are asked back for on another node come once and in order", async (t) => {
  const deep = await Fleet.start(t, redis, { count: 2, config: "[history]\nevents = 2000\n" });
  const batch = (from) => Array.from({ length: 100 }, (_, n) => ({ room: "r", type: "n", data: from + n }));
  for (let n = 0; n < 5; n++) await deep.nodes[0].publish("deep", batch(n * 100));
  const ana = await Client.join(t, deep.nodes[1], "deep", "ana");
  const { epoch } = await ana.ask("history", { room: "r", limit: 1 });
  const answered = ana.ask("subscribe", { rooms: ["r"], since: { epoch, offset: 0 } });
  const more = [];
  for (let n = 5; n < 9; n++) more.push(deep.nodes[n % 2].publish("deep", batch(n * 100)));
  await Promise.all(more);
  assert.equal((await answered).recovered, true);
  await ana.gather("n", 900);
  assert.deepEqual(ana.all("n").map(([, meta]) => meta.offset), Array.from({ length: 900 }, (_, n) => n + 1));
});

test("the same id through different nodes is one event", async (t) => {
  const [ana, ben] = await everywhere(t, "retry", "user");
  for (const client of [ana, ben]) await client.ask("subscribe", { rooms: ["r"] });
  const event = { id: "order-4711", room: "r", type: "n", data: 1 };
  const first = await ana.ask("publish", event);
  assert.deepEqual(await ben.ask("publish", event), first, "over another node");
  assert.deepEqual(await fleet.nodes[2].publish("retry", event), { id: first.id, epoch: first.epoch, offset: first.offset }, "over HTTP");
  // All at once, as a backend whose requests time out.
  const again = { ...event, id: "order-4712", data: 2 };
  const receipts = await Promise.all([0, 1, 2, 0, 1, 2].map((at) => fleet.nodes[at].publish("retry", again)));
  assert.equal(new Set(receipts.map((receipt) => JSON.stringify(receipt))).size, 1, JSON.stringify(receipts));
  assert.equal(receipts[0].offset, first.offset + 1);
  await fleet.nodes[0].publish("retry", { room: "r", type: "n", data: 3 });
  for (const client of [ana, ben]) {
    await client.next("n", (n) => n === 3);
    assert.deepEqual(numbers(client), [1, 2, 3]);
  }
  assert.equal((await fleet.nodes[1].publish("retry-too", event)).offset, 1, "another tenant's id is another event");
});

test("two tenants with the same rooms and users never meet", async (t) => {
  const tenants = ["acme", "globex"];
  const clients = {};
  for (const tenant of tenants) {
    clients[tenant] = await everywhere(t, tenant, "ana");
    for (const client of clients[tenant]) await client.ask("subscribe", { rooms: ["project:7"] });
  }
  const receipts = {};
  for (const [at, node] of fleet.nodes.entries()) {
    for (const tenant of tenants) {
      const events = [
        { id: `same-${at}`, type: "n", room: "project:7" },
        { type: "n", user: "ana-0" },
        { type: "n" },
        { type: "n", room: "project:7", ephemeral: true },
      ].map((event) => ({ ...event, data: tenant }));
      receipts[tenant] = await node.publish(tenant, events);
      await clients[tenant][at].ask("publish", { type: "n", room: `tenant:${tenant}`, data: tenant });
      clients[tenant][at].socket.emit("typing:start", { room: "project:7" });
    }
  }
  for (const tenant of tenants) {
    for (const [at, client] of clients[tenant].entries()) {
      await client.gather("n", at === 0 ? 15 : 12);
      await client.gather("typing:start", 2);
    }
  }
  for (const tenant of tenants) {
    for (const client of clients[tenant]) assert.deepEqual([...new Set(numbers(client))], [tenant]);
    for (const name of ["user:online", "user:offline"]) {
      for (const client of clients[tenant]) assert.ok(client.all(name).every(([{ user }]) => user.startsWith("ana-")));
    }
  }
  assert.equal(receipts.acme[0].offset, 3);
  assert.equal(receipts.globex[0].offset, 3, "each has offsets of its own");
  assert.notEqual(receipts.acme[0].epoch, receipts.globex[0].epoch);
  // Not even by a guess at the other's place.
  const answer = await clients.acme[0].ask("subscribe", { rooms: ["project:7"], since: { epoch: receipts.globex[0].epoch, offset: 0 } });
  assert.equal(answer.recovered, false);
  // A kick, too, stays at home.
  await fleet.nodes[2].api("DELETE", "acme", "users/ana-0");
  assert.equal((await clients.acme[0].next("error")).code, "kicked");
  await fleet.nodes[2].publish("globex", { type: "n", user: "ana-0", data: "globex" });
  await clients.globex[0].gather("n", 16);
  assert.deepEqual(clients.globex.map((client) => client.socket.connected), [true, true, true]);
});

test("a user is thrown out on every node", async (t) => {
  const tenant = "kick";
  const bens = await Promise.all(fleet.nodes.map((node) => Client.join(t, node, tenant, "ben")));
  const anas = await Promise.all(fleet.nodes.map((node) => Client.join(t, node, tenant, "ana")));
  const { status } = await fleet.nodes[0].api("DELETE", tenant, "users/ben");
  assert.equal(status, 200);
  for (const ben of bens) {
    assert.equal((await ben.next("error")).code, "kicked");
    assert.equal(await ben.disconnected(), "io server disconnect");
  }
  await fleet.nodes[1].publish(tenant, { type: "n", data: 1 });
  for (const ana of anas) assert.equal(await ana.next("n"), 1);
});

test("Socket.IO's recovery on another node, again and again, after kill -9", async (t) => {
  const tenant = "wander";
  const own = await Fleet.start(t, redis);
  const balancer = await Balancer.over(t, own);
  const ana = await Client.join(t, own, tenant, "ana", { url: balancer.url });
  await ana.ask("subscribe", { rooms: ["project:7", "quiet"] });
  const { id } = ana.socket;
  const publish = async (data) => own.running[data % own.running.length].publish(tenant, { room: "project:7", type: "n", data });
  let last = 0;
  for (let round = 1; round <= 5; round++) {
    for (let n = 0; n < 3; n++) await publish(++last);
    await ana.next("n", (n) => n === last);
    const at = balancer.last;
    await own.kill(at);
    for (let n = 0; n < 3; n++) await publish(++last);
    await own.running[0].publish(tenant, { user: "ana", type: "own", data: round });
    const welcome = await ana.next("connected");
    assert.deepEqual([ana.socket.recovered, welcome.recovered, ana.socket.id], [true, true, id], `round ${round}`);
    assert.notEqual(balancer.last, at);
    await publish(++last);
    await ana.next("n", (n) => n === last);
    assert.deepEqual(numbers(ana), Array.from({ length: last }, (_, n) => n + 1), `round ${round}`);
    assert.equal((await ana.ask("publish", { room: "quiet", type: "hush", data: round })).offset, round, "it may publish, and is in its rooms");
    await ana.gather("hush", round);
    await own.revive(at);
  }
  await ana.gather("own", 5);
  assert.deepEqual(numbers(ana, "own"), [1, 2, 3, 4, 5]);
  t.diagnostic(`published ${last}, received ${numbers(ana).length}, gaps ${ana.all("gap").length}, 5 nodes killed`);
});

test("Socket.IO's recovery on another node of a socket that had received nothing", async (t) => {
  const tenant = "silent";
  const own = await Fleet.start(t, redis, { count: 2 });
  const balancer = await Balancer.over(t, own);
  const ana = await Client.join(t, own, tenant, "ana", { url: balancer.url });
  await ana.ask("subscribe", { rooms: ["r"] });
  // What is asked for one tenant is done in order: with this, Redis has the socket as it is.
  await ana.ask("publish", { room: "elsewhere", type: "n", data: 0 });
  const { id } = ana.socket;
  const at = balancer.last;
  await own.kill(at);
  for (let n = 1; n <= 4; n++) await own.nodes[1 - at].publish(tenant, { room: "r", type: "n", data: n });
  await ana.next("connected");
  assert.deepEqual([ana.socket.recovered, ana.socket.id], [true, id]);
  await ana.gather("n", 4);
  assert.deepEqual(numbers(ana), [1, 2, 3, 4]);
});

test("a phone that changes its network lands on another node before the old one has noticed", async (t) => {
  const tenant = "phone";
  const own = await Fleet.start(t, redis, { count: 2 });
  const balancer = await Balancer.over(t, own);
  const ana = await Client.join(t, own, tenant, "ana", { url: balancer.url });
  await ana.ask("subscribe", { rooms: ["r"] });
  await own.nodes[0].publish(tenant, { room: "r", type: "n", data: 1 });
  await ana.next("n");
  const at = balancer.last;
  balancer.shunned.add(at);
  const { id } = ana.socket;
  balancer.abandon();
  await ana.next("connected");
  assert.deepEqual([ana.socket.recovered, ana.socket.id, balancer.last], [true, id, 1 - at]);
  for (let n = 2; n <= 5; n++) await own.nodes[n % 2].publish(tenant, { room: "r", type: "n", data: n });
  await ana.next("n", (n) => n === 5);
  assert.deepEqual(numbers(ana), [1, 2, 3, 4, 5]);
  // Nobody is there twice.
  await until(async () => (await own.nodes[at].fetch("/health/websocket")).body.connectedClients === 0, "the old node has let it go");
});

test("history, offsets and recovery survive a restart of every node at once", async (t) => {
  const tenant = "restart";
  const own = await Fleet.start(t, redis);
  const balancer = await Balancer.over(t, own);
  const ana = await Client.join(t, own, tenant, "ana", { url: balancer.url });
  await ana.ask("subscribe", { rooms: ["r"] });
  const receipts = [];
  for (let n = 1; n <= 5; n++) receipts.push(await own.nodes[n % 3].publish(tenant, { room: "r", type: "n", data: n }));
  await ana.gather("n", 5);
  const { id } = ana.socket;
  await Promise.all([0, 1, 2].map((at) => own.kill(at)));
  await ana.disconnected();
  await Promise.all([0, 1, 2].map((at) => own.revive(at)));
  await ana.next("connected");
  assert.deepEqual([ana.socket.recovered, ana.socket.id], [true, id]);
  const { epoch } = receipts[0];
  for (const node of own.nodes) {
    const { body } = await node.api("GET", tenant, "rooms/r/history");
    assert.deepEqual([body.epoch, body.offset, body.events.map(({ data }) => data)], [epoch, 5, [1, 2, 3, 4, 5]]);
  }
  const next = await own.nodes[1].publish(tenant, { room: "r", type: "n", data: 6 });
  assert.deepEqual([next.epoch, next.offset], [epoch, 6]);
  await ana.next("n", (n) => n === 6);
  assert.deepEqual(numbers(ana), [1, 2, 3, 4, 5, 6]);
  const ben = await Client.join(t, own.nodes[2], tenant, "ben");
  const answer = await ben.ask("subscribe", { rooms: ["r"], since: { epoch, offset: 2 } });
  assert.deepEqual([answer.recovered, numbers(ben)], [true, [3, 4, 5, 6]]);
});

test("a goodbye is one on every node", async (t) => {
  const own = await Fleet.start(t, redis, { count: 2 });
  const balancer = await Balancer.over(t, own);
  const ana = await Client.join(t, own, "goodbye", "ana", { url: balancer.url });
  const { id } = ana.socket;
  for (let round = 0; round < 3; round++) {
    ana.socket.disconnect();
    ana.socket.connect();
    await ana.next("connected");
    assert.equal(ana.socket.recovered, false);
    assert.notEqual(ana.socket.id, id);
  }
});

test("a socket that comes back to two nodes at once is on one of them", async (t) => {
  const tenant = "claim";
  const own = await Fleet.start(t, redis);
  const ana = await Client.join(t, own.nodes[0], tenant, "ana");
  await ana.ask("subscribe", { rooms: ["r"] });
  await own.nodes[1].publish(tenant, { room: "r", type: "n", data: 1 });
  await ana.next("n");
  const { id, _pid: pid, _lastOffset: offset } = ana.socket;
  assert.equal(typeof pid, "string");
  ana.socket.io.reconnection(false);
  await own.kill(0);
  const come = async (node) => {
    const client = new Client(t, node.url, { reconnection: false, autoConnect: false, auth: { token: ana.socket.auth.token } });
    client.socket._pid = pid;
    client.socket._lastOffset = offset;
    client.socket.connect();
    await client.next("connected");
    return client;
  };
  const both = await Promise.all([come(own.nodes[1]), come(own.nodes[2])]);
  const recovered = both.filter(({ socket }) => socket.recovered);
  assert.ok(recovered.length > 0, "one of them finds it");
  // Who came second took it over from the first, which is told so.
  const taken = recovered.length === 2 ? await Promise.race(recovered.map(async (client) => (await client.next("error")).code === "replaced" && client)) : undefined;
  const left = recovered.find((client) => client !== taken);
  assert.equal(left.socket.id, id);
  await own.nodes[1].publish(tenant, { room: "r", type: "n", data: 2 });
  await left.next("n", (n) => n === 2);
  assert.deepEqual([numbers(left), taken ? numbers(taken) : []], [[2], []]);
});
