// Both transports, the upgrade between them, and the places a token may be in.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Client, SECRET, SOON, Server, Wire, mint, now, sign, within } from "./harness.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

for (const transport of ["polling", "websocket"]) {
  test(`${transport} alone: connects, asks, receives`, async (t) => {
    const client = await Client.join(t, server, "acme", `alone-${transport}`, { transports: [transport] });
    assert.equal(client.socket.io.engine.transport.name, transport);
    assert.equal(client.socket.id.length, 20);
    assert.equal(client.socket.io.engine.id.length, 20);
    assert.notEqual(client.socket.id, client.socket.io.engine.id);
    const room = `alone:${transport}`;
    assert.equal((await client.ask("subscribe", { rooms: [room] })).ok, true);
    for (let n = 0; n < 20; n++) assert.equal((await client.ask("publish", { room, type: "note", data: { n } })).offset, n + 1);
    const notes = await client.gather("note", 20);
    assert.deepEqual(notes.map(([data]) => data.n), [...Array(20).keys()]);
    assert.equal(client.socket.io.engine.transport.name, transport);
  });
}

test("polling, then the upgrade: nothing is lost and nothing doubled while it happens", async (t) => {
  // Half of the rounds start to publish before the client is there, and every client publishes as soon as it can.
  for (let round = 0; round < 8; round++) {
    const tenant = `upgrade-${round}`;
    const client = new Client(t, server.url, { transports: ["polling", "websocket"], auth: { token: mint(tenant, "ana") } });
    const upgraded = new Promise((resolve) => client.socket.io.engine.once("upgrade", (to) => resolve(to.name)));
    let published = 0;
    const publish = async (count) => {
      for (let n = 0; n < count; n++) await server.publish(tenant, { type: "tick", data: { n: published++ } });
    };
    if (round % 2 === 0) await publish(5);
    const welcome = await client.next("connected");
    const asked = Array.from({ length: 20 }, (_, n) => client.ask("publish", { room: `tenant:${tenant}`, type: "own", data: { n } }));
    await publish(20);
    assert.equal(await within(SOON, upgraded, "the upgrade"), "websocket", `round ${round}`);
    assert.equal(client.socket.io.engine.transport.name, "websocket");
    await publish(5);
    const answers = await Promise.all(asked);
    assert.ok(answers.every((answer) => answer.ok), JSON.stringify(answers));
    await server.publish(tenant, { type: "end", data: null });
    const [, end] = await client.nextArgs("end");
    const offsets = client.log.entries.filter(({ name }) => ["tick", "own", "end"].includes(name)).map(({ args }) => args[1].offset);
    const expected = Array.from({ length: end.offset - welcome.offset }, (_, n) => welcome.offset + 1 + n);
    assert.deepEqual(offsets, expected, `round ${round}`);
    client.socket.disconnect();
  }
});

test("every client upgrades, wherever its session began and its tenant lives", async (t) => {
  const outcomes = [];
  for (let n = 0; n < 60; n++) {
    const client = new Client(t, server.url, { transports: ["polling", "websocket"], auth: { token: mint(`home-${n}`, "ana") } });
    const { engine } = client.socket.io;
    const ends = new Promise((resolve) => {
      engine.once("upgrade", () => resolve("upgraded"));
      engine.once("upgradeError", (error) => resolve(String(error)));
    });
    outcomes.push(await within(5000, ends, "the upgrade").catch(String));
    client.socket.disconnect();
  }
  assert.deepEqual(outcomes.filter((outcome) => outcome !== "upgraded"), []);
});

test("an upgrade that races its session's move is answered", async () => {
  // CONNECT moves a session to its tenant's shard; the probe is on its way on another connection at that moment.
  const poll = (sid) => `/socket.io/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ""}`;
  const race = async (n) => {
    const { sid } = JSON.parse((await server.fetch(poll())).text.slice(1));
    const probe = new WebSocket(server.url.replace("http", "ws") + poll(sid).replace("polling", "websocket"));
    const answered = new Promise((resolve) => {
      probe.on("open", () => probe.send("2probe"));
      probe.on("message", (data) => resolve(data.toString()));
      probe.on("error", (error) => resolve(error.message));
    });
    const body = `40${JSON.stringify({ token: mint(`race-${n}`, "ana") })}`;
    const [posted, polled] = await Promise.all([server.fetch(poll(sid), { method: "POST", body }), server.fetch(poll(sid))]);
    assert.deepEqual([posted.status, polled.status], [200, 200]);
    const outcome = await within(3000, answered, "an answer").catch((error) => error.message);
    probe.terminate();
    return outcome;
  };
  const outcomes = {};
  for (let n = 0; n < 400; n++) {
    const outcome = await race(n);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  assert.deepEqual(outcomes, { "3probe": 400 });
});

test("polling cannot go on beside its own WebSocket", async (t) => {
  const client = new Client(t, server.url, { transports: ["polling", "websocket"], auth: { token: mint("acme", "upgraded") } });
  await within(SOON, new Promise((resolve) => client.socket.io.engine.once("upgrade", resolve)), "the upgrade");
  await client.next("connected");
  // Over the WebSocket: the server has taken it for the session's transport before the poll comes, on whatever shard.
  assert.equal((await client.ask("presence", { room: "tenant:acme" })).ok, true);
  const sid = client.socket.io.engine.id;
  assert.equal((await server.fetch(`/socket.io/?EIO=4&transport=polling&sid=${sid}`)).status, 400);
  assert.equal((await client.ask("presence", { room: "tenant:acme" })).ok, true, "and it did no harm");
});

const PLACES = {
  "auth.token": (token) => ({ auth: { token } }),
  "an auth function": (token) => ({ auth: (give) => give({ token }) }),
  "the Authorization header": (token) => ({ extraHeaders: { Authorization: `Bearer ${token}` } }),
  "the query": (token) => ({ query: { token } }),
};

for (const [place, options] of Object.entries(PLACES)) {
  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    test(`the token in ${place} over ${transports}`, async (t) => {
      const client = new Client(t, server.url, { transports, ...options(mint("acme", "ben")) });
      const welcome = await client.next("connected");
      assert.deepEqual([welcome.tenant, welcome.user], ["acme", "ben"]);
    });
  }
}

test("auth.token counts before the header, the header before the query", async (t) => {
  const [first, second, third] = ["first", "second", "third"].map((user) => mint("acme", user));
  const all = new Client(t, server.url, { auth: { token: first }, extraHeaders: { Authorization: `Bearer ${second}` }, query: { token: third } });
  assert.equal((await all.next("connected")).user, "first");
  const two = new Client(t, server.url, { extraHeaders: { Authorization: `Bearer ${second}` }, query: { token: third } });
  assert.equal((await two.next("connected")).user, "second");
});

test("every claim that may name the user or the tenant", async (t) => {
  for (const name of ["sub", "userId", "user_id", "id"]) {
    const client = new Client(t, server.url, { auth: { token: sign({ [name]: "ana", tenant: "acme", exp: now() + 60 }) } });
    assert.equal((await client.next("connected")).user, "ana", name);
  }
  for (const name of ["tenant", "tenantId", "tenant_id", "accountId", "organizationId", "orgId", "companyId"]) {
    const client = new Client(t, server.url, { auth: { token: sign({ sub: "ana", [name]: "acme", exp: now() + 60 }) } });
    assert.equal((await client.next("connected")).tenant, "acme", name);
  }
  for (const alg of ["none", "HS384"]) {
    // Signed right for HS256: the algorithm comes from the key, never from the token. (HS384 is another length.)
    const client = new Client(t, server.url, { auth: { token: sign({ sub: "ana", tenant: "acme" }, { header: { alg, typ: "JWT" } }) } });
    assert.match((await client.refusal()).data.code, /^token_(invalid|malformed)$/, alg);
  }
});

const REFUSALS = {
  token_missing: () => undefined,
  token_malformed: () => "not.a.token",
  token_invalid: () => sign({ sub: "ana", tenant: "acme", exp: now() + 60 }, { secret: `${SECRET}?` }),
  token_expired: () => mint("acme", "ana", { exp: now() - 60 }),
  token_not_yet_valid: () => mint("acme", "ana", { nbf: now() + 3600 }),
  tenant_missing: () => sign({ sub: "ana", exp: now() + 60 }),
};

for (const [code, token] of Object.entries(REFUSALS)) {
  test(`refused: ${code}`, async (t) => {
    for (const transports of [["polling"], ["websocket"]]) {
      for (const place of Object.values(PLACES)) {
        const options = token() === undefined ? {} : place(token());
        const client = new Client(t, server.url, { transports, ...options });
        const error = await client.refusal();
        assert.equal(error.data?.code, code);
        assert.ok(error.message.length > 0);
        assert.deepEqual(client.names, [], "it was told nothing else");
        client.socket.disconnect();
      }
    }
  });
}

test("an unknown namespace is refused in the Node server's words, and the session lives", async (t) => {
  const wire = new Wire(t, server.url, "/socket.io/?EIO=4&transport=websocket");
  assert.match(await wire.next(), /^0\{/);
  wire.send("40/nowhere,{}");
  assert.equal(await wire.next(), '44/nowhere,{"message":"Invalid namespace"}');
  wire.send(`40${JSON.stringify({ token: mint("acme", "ana") })}`);
  assert.match(await wire.next(), /^40\{"sid":"[\w-]{20}","pid":"[^"]+"\}$/);
});
