// Connections that break, and what comes back.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, test } from "node:test";
import { Client, Line, SOON, Server, mint, now, within } from "./harness.mjs";

let server;
// Where a polling client is cut between two requests, only the missing pong tells the server.
before(async () => (server = await Server.start({ env: { WS_PING_INTERVAL: "1000", WS_PING_TIMEOUT: "1000" } })));
after(() => server.stop());

/** Publishes `from..=to` to a room, one request each. */
async function publish(tenant, room, from, to) {
  for (let n = from; n <= to; n++) await server.publish(tenant, { room, type: "n", data: n });
}

const numbers = (client) => client.all("n").map(([data]) => data);

/** Joins through a line of its own; `observer` learns when the server has seen the end. */
async function setUp(t, tenant, options = {}) {
  const line = await Line.to(t, server);
  const observer = await Client.join(t, server, tenant, "observer");
  const ana = await Client.join(t, server, tenant, "ana", { url: line.url, ...options });
  await ana.ask("subscribe", { rooms: ["project:7", "quiet"] });
  // Who comes and goes within one telling of presence is not told of.
  const there = () => observer.next("user:online", ({ user }) => user === "ana");
  const gone = () => observer.next("user:offline", ({ user }) => user === "ana");
  await there();
  return { line, observer, ana, there, gone };
}

const WAYS = {
  "a reset line": async ({ line, gone }) => {
    line.cut();
    await gone();
    return () => line.mend();
  },
  "the engine closed by the client": async ({ ana, gone }) => {
    ana.socket.io.reconnection(false);
    ana.socket.io.engine.close();
    await gone();
    return () => {
      ana.socket.io.reconnection(true);
      ana.socket.connect();
    };
  },
};

for (const [way, end] of Object.entries(WAYS)) {
  for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
    const tenant = `rec-${way.length}-${transports.join("")}`;
    test(`${way}, ${transports}: the same socket comes back to exactly what it missed`, async (t) => {
      const all = await setUp(t, tenant, { transports });
      const { ana } = all;
      await publish(tenant, "project:7", 1, 3);
      await ana.gather("n", 3);
      const { id } = ana.socket;
      for (let round = 1; round <= 3; round++) {
        const mend = await end(all);
        const first = numbers(ana).length + 1;
        await publish(tenant, "project:7", first, first + 4);
        await server.publish(tenant, [
          { room: "project:7", type: "n", data: "ephemeral", ephemeral: true },
          { room: "elsewhere", type: "n", data: "not its room" },
          { user: "observer", type: "n", data: "not its user" },
          { user: "ana", type: "own", data: round },
          { type: "everyone", data: round },
        ]);
        mend();
        const welcome = await ana.next("connected");
        await all.there();
        assert.equal(ana.socket.recovered, true);
        assert.deepEqual([ana.socket.id, welcome.sid, welcome.recovered], [id, id, true]);
        await publish(tenant, "project:7", first + 5, first + 5);
        await ana.next("n", (n) => n === first + 5);
        assert.deepEqual(numbers(ana), Array.from({ length: first + 5 }, (_, n) => n + 1), `round ${round}`);
        assert.deepEqual(ana.all("own").map(([n]) => n), Array.from({ length: round }, (_, n) => n + 1));
        assert.deepEqual(ana.all("everyone").map(([n]) => n), Array.from({ length: round }, (_, n) => n + 1));
        const offsets = ana.all("n").map(([, meta]) => meta.offset);
        assert.deepEqual(offsets, offsets.map((_, n) => n + 1), "offsets rise by one");
      }
      assert.equal((await ana.ask("publish", { room: "project:7", type: "n", data: "alive" })).ok, true);
    });
  }
}

test("a waiting poll that is reset ends its session at once", async (t) => {
  const patient = await Server.start();
  t.after(() => patient.stop());
  const observer = await Client.join(t, patient, "acme", "observer");
  const poll = (sid) => `/socket.io/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ""}`;
  const { sid } = JSON.parse((await patient.fetch(poll())).text.slice(1));
  await patient.fetch(poll(sid), { method: "POST", body: `40${JSON.stringify({ token: mint("acme", "ana") })}` });
  await observer.next("user:online", ({ user }) => user === "ana");
  assert.match((await patient.fetch(poll(sid))).text, /^40\{/);
  const waiting = net.connect(patient.port, "127.0.0.1");
  t.after(() => waiting.destroy());
  waiting.write(`GET ${poll(sid)} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  // An answer on it shows that the server has read it; the one after that waits.
  await patient.publish("acme", { user: "ana", type: "hello", data: 1 });
  await within(SOON, once(waiting, "data"), "the poll's answer");
  waiting.write(`GET ${poll(sid)} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await patient.api("GET", "acme", "stats");
  waiting.resetAndDestroy();
  await observer.next("user:offline", ({ user }) => user === "ana", 5000);
});

test("a socket that had received nothing yet", async (t) => {
  const { line, ana, gone } = await setUp(t, "rec-nothing");
  line.cut();
  await gone();
  await publish("rec-nothing", "quiet", 1, 4);
  line.mend();
  await ana.next("connected");
  assert.equal(ana.socket.recovered, true);
  await ana.gather("n", 4);
  assert.deepEqual(numbers(ana), [1, 2, 3, 4]);
});

test("an ephemeral event that ends in a text does not spoil the place", async (t) => {
  // The official client takes any text at the end of an event for the offset.
  const { line, ana, gone } = await setUp(t, "rec-spoiled");
  await publish("rec-spoiled", "project:7", 1, 2);
  await server.publish("rec-spoiled", { room: "project:7", type: "said", data: "just a text", ephemeral: true });
  await ana.next("said");
  line.cut();
  await gone();
  await publish("rec-spoiled", "project:7", 3, 4);
  line.mend();
  await ana.next("connected");
  assert.equal(ana.socket.recovered, true);
  await ana.gather("n", 4);
  assert.deepEqual(numbers(ana), [1, 2, 3, 4]);
});

test("back before the server saw the end: the new connection takes over", async (t) => {
  const { line, observer, ana } = await setUp(t, "rec-frozen");
  await publish("rec-frozen", "project:7", 1, 2);
  await ana.gather("n", 2);
  // The far side of the line stays open, silent: the server sees a live socket until its next ping.
  for (const { near, far } of line.pairs) {
    near.unpipe(far);
    far.unpipe(near);
    far.pause();
    far.removeAllListeners("close");
    near.removeAllListeners("close");
    near.resetAndDestroy();
    t.after(() => far.destroy());
  }
  line.pairs.clear();
  await ana.disconnected();
  await ana.next("connected");
  assert.equal(ana.socket.recovered, true);
  await publish("rec-frozen", "project:7", 3, 3);
  await ana.next("n", (n) => n === 3);
  assert.deepEqual(numbers(ana), [1, 2, 3]);
  const { members } = await observer.ask("presence", { room: "project:7" });
  assert.deepEqual(members.map(({ user, connections }) => [user, connections]), [["ana", 1]]);
});

test("disconnect() is a goodbye: no recovery", async (t) => {
  const ana = await Client.join(t, server, "rec-goodbye", "ana");
  const { id } = ana.socket;
  ana.socket.disconnect();
  ana.socket.connect();
  const welcome = await ana.next("connected");
  assert.deepEqual([ana.socket.recovered, welcome.recovered], [false, false]);
  assert.notEqual(ana.socket.id, id);
});

test("a bad token on the way back gets nothing", async (t) => {
  const tenant = "rec-token";
  const bad = {
    token_expired: mint(tenant, "ana", { exp: now() - 5 }),
    token_invalid: mint(tenant, "ana").slice(0, -2),
    token_malformed: "x",
  };
  for (const [code, token] of Object.entries(bad)) {
    let current = mint(tenant, "ana");
    const { line, ana, gone } = await setUp(t, tenant, { auth: (give) => give({ token: current }) });
    line.cut();
    await gone();
    current = token;
    await publish(tenant, "project:7", 1, 3);
    line.mend();
    const error = await ana.next("(connect_error)", (error) => error.data !== undefined);
    assert.match(error.data.code, code === "token_invalid" ? /^token_(invalid|malformed)$/ : new RegExp(code));
    assert.deepEqual(numbers(ana), []);
    ana.socket.disconnect();
  }
});

test("rooms that a new token no longer permits are not come back to", async (t) => {
  const tenant = "rec-rooms";
  let current = mint(tenant, "ana");
  const { line, ana, gone } = await setUp(t, tenant, { auth: (give) => give({ token: current }) });
  line.cut();
  await gone();
  current = mint(tenant, "ana", { rooms: ["quiet"] });
  await publish(tenant, "project:7", 1, 1);
  await publish(tenant, "quiet", 2, 2);
  line.mend();
  await ana.next("connected");
  await publish(tenant, "project:7", 3, 3);
  await publish(tenant, "quiet", 4, 4);
  await ana.next("n", (n) => n === 4);
  assert.deepEqual(numbers(ana).filter((n) => n % 2 === 1), [], "nothing of the room it may not be in any more");
});

test("a hole in the history is said, not hidden", async (t) => {
  const short = await Server.start({ config: "[history]\nevents = 3\n" });
  t.after(() => short.stop());
  const line = await Line.to(t, short);
  const observer = await Client.join(t, short, "acme", "observer");
  const ana = await Client.join(t, short, "acme", "ana", { url: line.url });
  const { epoch } = await ana.ask("subscribe", { rooms: ["project:7"] });
  const { id } = ana.socket;
  await short.publish("acme", { room: "project:7", type: "n", data: 1 });
  await ana.next("n");
  await observer.next("user:online", ({ user }) => user === "ana");
  line.cut();
  await observer.next("user:offline");
  for (let n = 2; n <= 8; n++) await short.publish("acme", { room: "project:7", type: "n", data: n });
  line.mend();
  const welcome = await ana.next("connected");
  assert.deepEqual([ana.socket.recovered, welcome.recovered], [false, false]);
  assert.notEqual(ana.socket.id, id);
  const answer = await ana.ask("subscribe", { rooms: ["project:7"], since: { epoch, offset: 1 } });
  assert.deepEqual([answer.recovered, typeof answer.reason, answer.offset], [false, "string", 8]);
  assert.deepEqual(numbers(ana), [1], "not a part of what was missed");
  const enough = await ana.ask("subscribe", { rooms: ["project:7"], since: { epoch, offset: 5 } });
  assert.equal(enough.recovered, true);
  assert.deepEqual(numbers(ana), [1, 6, 7, 8]);
});

test("too late: the session is forgotten after recovery_ms", async (t) => {
  const brief = await Server.start({ config: "[socketio]\nrecovery_ms = 100\n" });
  t.after(() => brief.stop());
  const line = await Line.to(t, brief);
  const observer = await Client.join(t, brief, "acme", "observer");
  const ana = await Client.join(t, brief, "acme", "ana", { url: line.url });
  await observer.next("user:online", ({ user }) => user === "ana");
  line.cut();
  await observer.next("user:offline");
  await new Promise((resolve) => setTimeout(resolve, 150)); // The time itself is what is tested.
  line.mend();
  assert.equal((await ana.next("connected")).recovered, false);
});

test("subscribe with `since`", async (t) => {
  const tenant = "since";
  const ana = await Client.join(t, server, tenant, "ana");
  await publish(tenant, "project:7", 1, 6);
  const { epoch } = await server.publish(tenant, { room: "other", type: "n", data: 100 });
  const history = await ana.ask("history", { room: "project:7" });
  const answer = await ana.ask("subscribe", { rooms: ["project:7"], since: { epoch: history.epoch, offset: 4 } });
  assert.deepEqual([answer.recovered, answer.epoch, answer.offset], [true, history.epoch, 6]);
  assert.deepEqual(numbers(ana), [5, 6], "what was missed is here before the answer");
  const wrong = await ana.ask("subscribe", { rooms: ["other"], since: { epoch: `${epoch}0`, offset: 0 } });
  assert.deepEqual([wrong.ok, wrong.recovered, typeof wrong.reason], [true, false, "string"]);
  const future = await ana.ask("subscribe", { rooms: ["project:7"], since: { epoch: history.epoch, offset: 7 } });
  assert.equal(future.recovered, false, "an offset nobody gave out");
  const current = await ana.ask("subscribe", { rooms: ["project:7"], since: { epoch: history.epoch, offset: 6 } });
  assert.equal(current.recovered, true);
  await publish(tenant, "project:7", 7, 7);
  await ana.next("n", (n) => n === 7);
  assert.deepEqual(numbers(ana), [5, 6, 7]);
});

test("events published while hundreds of events are asked back for come once and in order", async (t) => {
  const deep = await Server.start({ config: "[history]\nevents = 2000\n" });
  t.after(() => deep.stop());
  const batch = (from) => Array.from({ length: 100 }, (_, n) => ({ room: "r", type: "n", data: from + n }));
  for (let n = 0; n < 10; n++) await deep.publish("acme", batch(n * 100));
  const ana = await Client.join(t, deep, "acme", "ana");
  const { epoch } = await ana.ask("history", { room: "r", limit: 1 });
  const answered = ana.ask("subscribe", { rooms: ["r"], since: { epoch, offset: 0 } });
  const more = [];
  for (let n = 10; n < 14; n++) more.push(deep.publish("acme", batch(n * 100)));
  await Promise.all(more);
  assert.equal((await answered).recovered, true);
  await ana.gather("n", 1400);
  assert.deepEqual(ana.all("n").map(([, meta]) => meta.offset), Array.from({ length: 1400 }, (_, n) => n + 1));
});
