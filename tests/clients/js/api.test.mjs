// The HTTP API for backends, and the health paths.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ACME_KEY, API_KEY, Client, SECRET, SOON, Server, freePort, mint, now, sign, within } from "./harness.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

test("publish to a room, a user, an entity, and the tenant; one event or many", async (t) => {
  const ana = await Client.join(t, server, "acme", "ana");
  await ana.ask("subscribe", { rooms: ["project:7"] });
  const { status, body } = await server.api("POST", "acme", "events", { body: { room: "project:7", type: "paid", data: { n: 1 } } });
  assert.equal(status, 202);
  assert.equal(body.length, 1);
  const [data, meta] = await ana.nextArgs("paid");
  assert.deepEqual(data, { n: 1 });
  assert.deepEqual({ id: meta.id, epoch: meta.epoch, offset: meta.offset }, body[0]);
  assert.equal(meta.user, undefined);

  const many = await server.publish("acme", [
    { room: "project:7", type: "a", data: 1 },
    { user: "ana", type: "b", data: [2] },
    { type: "c" },
    { room: "project:7", type: "d", data: null, ephemeral: true },
    { id: "mine", room: "project:7", entity: { type: "task", id: "9" }, type: "e", data: "5" },
  ]);
  assert.equal(many.length, 5);
  assert.deepEqual([many[0].offset, many[4].offset, many[4].id], [2, 3, "mine"]);
  assert.deepEqual([many[3].offset ?? null, many[3].epoch ?? null], [null, null]);
  const [e, eMeta] = await ana.nextArgs("e");
  assert.deepEqual([e, eMeta.entity], ["5", { type: "task", id: "9" }]);
  assert.deepEqual((await ana.nextArgs("b"))[1].room, "user:ana");
  assert.deepEqual((await ana.nextArgs("c"))[0], null);
  assert.deepEqual(await ana.nextArgs("d"), [null]);
  const again = await server.publish("acme", { id: "mine", room: "project:7", type: "e", data: "5" });
  assert.deepEqual(again, many[4]);
});

test("400 names the place", async () => {
  const rows = [
    [{ room: "x" }, "/type"],
    [[{ type: "a" }, { type: "b" }, { room: "c" }], "/2/type"],
    [{ type: "a", colour: 1 }, "/colour"],
    [{ type: "a", room: 7 }, "/room"],
    [{ type: "a", room: "r", user: "u" }, "/user"],
    [{ type: "connect" }, "/type"],
    [{ type: "a", ephemeral: 1 }, "/ephemeral"],
    [{ type: "a", entity: { type: "t" } }, "/entity/id"],
    [{ type: "a", to: { roles: [] } }, "/to/roles"],
    [{ type: "a", "a/b~c": 1 }, "/a~1b~0c"],
    [[1], "/0"],
    ["text", ""],
    [[], ""],
  ];
  for (const [body, pointer] of rows) {
    const answer = await server.api("POST", "acme", "events", { body: JSON.stringify(body) });
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.deepEqual([answer.body.pointer, typeof answer.body.message], [pointer, "string"], JSON.stringify(body));
  }
  const broken = await server.api("POST", "acme", "events", { body: '{"type":"a",' });
  assert.deepEqual([broken.status, broken.body.code], [400, "invalid_json"]);
  const rooms = await server.api("GET", "acme", "rooms");
  assert.doesNotMatch(rooms.text, /"room":"[rcx]"/, "nothing of a refused batch was published");
  assert.equal((await server.api("GET", "acme", "rooms/c/history")).body.events.length, 0);
});

test("401, 403, 404, 405, 413", async () => {
  const event = { type: "a", room: "codes", data: 1 };
  const post = (options) => server.api("POST", "acme", "events", { body: event, ...options });
  const service = (more) => sign({ sub: "service", tenant: "acme", exp: now() + 60, ...more });
  for (const [key, status, code] of [
    [null, 401, "token_missing"],
    ["wrong-key", 401, /^token_/],
    [`${API_KEY}x`, 401, /^token_/],
    [service({ scope: "publish", exp: now() - 1 }), 401, "token_expired"],
    [sign({ sub: "s", tenant: "acme", scope: "publish" }, { secret: `${SECRET}?` }), 401, "token_invalid"],
    [service({}), 403, "scope_missing"],
    [service({ permissions: ["publish"] }), 403, "scope_missing"],
    [service({ scope: "read" }), 403, "scope_missing"],
    [service({ scope: "publish" }), 202],
    [service({ scope: ["read", "publish"] }), 202],
    [ACME_KEY, 202],
    [API_KEY, 202],
  ]) {
    const answer = await post({ key });
    assert.equal(answer.status, status, `${key}: ${answer.text}`);
    if (code) assert.match(answer.body.code, code instanceof RegExp ? code : new RegExp(`^${code}$`));
    if (status === 401) assert.match(answer.headers.get("www-authenticate"), /^Bearer/);
  }
  assert.equal((await server.api("DELETE", "acme", "users/nobody", { key: service({ scope: "publish" }) })).status, 403);
  assert.equal((await server.api("DELETE", "acme", "users/nobody", { key: service({ scope: "admin" }) })).status, 200);
  assert.equal((await server.api("GET", "acme", "nothing")).status, 404);
  const method = await server.api("PUT", "acme", "events", { body: event });
  assert.deepEqual([method.status, /POST/.test(method.headers.get("allow"))], [405, true]);
  const large = await post({ body: { ...event, data: "x".repeat(1_000_001) } });
  assert.deepEqual([large.status, large.body.code], [413, "body_too_large"]);
  const many = await post({ body: Array(101).fill(event) });
  assert.deepEqual([many.status, many.body.code], [413, "batch_too_large"]);
  assert.equal((await post({ body: Array(100).fill(event) })).status, 202);
});

test("429 with Retry-After", async (t) => {
  const slow = await Server.start({ config: "[limits]\ntenant_events_per_second = 5\n" });
  t.after(() => slow.stop());
  const answers = [];
  for (let n = 0; n < 20; n++) answers.push(await slow.api("POST", "acme", "events", { body: { type: "a", room: "r", data: n } }));
  const refused = answers.filter(({ status }) => status === 429);
  assert.ok(refused.length >= 5 && answers[0].status === 202, answers.map(({ status }) => status).join());
  for (const { headers, body } of refused) {
    assert.ok(Number(headers.get("retry-after")) >= 1);
    assert.equal(body.code, "rate_limited");
  }
  assert.equal((await slow.api("POST", "globex", "events", { body: { type: "a", room: "r" } })).status, 202, "another tenant has its own");
  const { body } = await slow.api("GET", "acme", "rooms/r/history");
  assert.equal(body.events.length, answers.filter(({ status }) => status === 202).length, "what was refused was not published");
  const ana = await Client.join(t, slow, "acme", "ana");
  const asked = [];
  for (let n = 0; n < 20; n++) asked.push(await ana.ask("publish", { room: "r", type: "a", data: n }));
  assert.ok(asked.some(({ code, retryAfterMs }) => code === "rate_limited" && retryAfterMs > 0), "clients are counted too");
  assert.equal(ana.socket.connected, true);
});

test("rooms, history, presence, users, stats", async (t) => {
  const tenant = "looked at";
  const api = async (method, rest) => {
    const answer = await server.api(method, tenant, rest);
    assert.equal(answer.status, 200, `${method} ${rest}: ${answer.text}`);
    return answer.body;
  };
  assert.deepEqual(await api("GET", "rooms"), { rooms: [] });
  const ana = await Client.join(t, server, tenant, "ana");
  const ben = await Client.join(t, server, tenant, "ben/ü");
  await ana.next("user:online", ({ user }) => user === "ben/ü");
  const twin = await Client.join(t, server, tenant, "ben/ü", { transports: ["polling"] });
  await ana.ask("subscribe", { rooms: ["a/b c"] });
  await ben.ask("subscribe", { rooms: ["a/b c"] });
  assert.deepEqual((await api("GET", "rooms")).rooms, [
    { room: "a/b c", members: 2 },
    { room: `tenant:${tenant}`, members: 3 },
    { room: "user:ana", members: 1 },
    { room: "user:ben/ü", members: 2 },
  ]);
  for (let n = 1; n <= 5; n++) await ana.ask("publish", { room: "a/b c", type: "n", data: n });
  const room = encodeURIComponent("a/b c");
  const history = await api("GET", `rooms/${room}/history`);
  assert.deepEqual(history.events.map(({ data, offset, user }) => [data, offset, user]), [1, 2, 3, 4, 5].map((n) => [n, n, "ana"]));
  assert.deepEqual([history.offset, history.complete], [5, true]);
  assert.deepEqual((await api("GET", `rooms/${room}/history?limit=2`)).events.map(({ data }) => data), [4, 5]);
  const since = await api("GET", `rooms/${room}/history?epoch=${history.epoch}&offset=3`);
  assert.deepEqual([since.events.map(({ data }) => data), since.complete], [[4, 5], true]);
  assert.equal((await server.api("GET", tenant, `rooms/${room}/history?limit=0`)).status, 400);
  assert.equal((await server.api("GET", tenant, `rooms/${room}/history?page=1`)).status, 400);
  const { members } = await api("GET", `rooms/${room}/presence`);
  assert.deepEqual(members.map(({ user, connections }) => [user, connections]).sort(), [["ana", 1], ["ben/ü", 1]]);
  const user = `users/${encodeURIComponent("ben/ü")}`;
  const seen = await api("GET", user);
  assert.deepEqual([seen.user, seen.connections, seen.status], ["ben/ü", 2, "online"]);
  assert.deepEqual([...seen.rooms].sort(), ["a/b c", `tenant:${tenant}`, "user:ben/ü"]);
  const stats = await api("GET", "stats");
  assert.ok(Object.values(stats).every((value) => typeof value === "number") && Object.values(stats).includes(3), JSON.stringify(stats));

  assert.deepEqual(await api("DELETE", user), { closed: 2 });
  for (const client of [ben, twin]) {
    assert.equal((await client.next("error")).code, "kicked");
    assert.equal(await client.disconnected(), "io server disconnect");
  }
  await ana.next("user:offline", (left) => left.user === "ben/ü");
  assert.deepEqual([(await api("GET", user)).connections, (await api("GET", user)).status], [0, "offline"]);
  assert.equal(ana.socket.connected, true);
});

test("the OpenAPI document is served and says what is there", async () => {
  const { status, headers, body } = await server.fetch("/api/v1/openapi.json");
  assert.equal(status, 200);
  assert.match(headers.get("content-type"), /^application\/json/);
  assert.match(body.openapi, /^3\.1\./);
  for (const path of ["events", "rooms", "rooms/{room}/history", "rooms/{room}/presence", "users/{user}", "stats"]) {
    assert.ok(body.paths[`/api/v1/tenants/{tenant}/${path}`], path);
  }
  // Every documented GET that needs nothing but a tenant, a room and a user answers.
  for (const [path, methods] of Object.entries(body.paths)) {
    if (!methods.get || /cache|jobs/.test(path)) continue;
    const where = path.replace("{tenant}", "acme").replace("{room}", "r").replace("{user}", "u");
    const answer = await server.fetch(where, { headers: { authorization: `Bearer ${API_KEY}` } });
    assert.ok(methods.get.responses[answer.status], `${path}: ${answer.status}`);
    assert.equal(answer.status, 200, path);
  }
});

test("health", async (t) => {
  for (const path of ["/health", "/health/live", "/health/ready"]) {
    const { status, body } = await server.fetch(path);
    assert.deepEqual([status, body.status], [200, "ok"], path);
  }
  const before = (await server.fetch("/health/websocket")).body;
  assert.deepEqual([before.status, before.service, typeof before.connectedClients], ["ok", "websocket", "number"]);
  const lonely = await Server.start();
  t.after(() => lonely.stop());
  assert.equal((await lonely.fetch("/health/websocket")).body.connectedClients, 0);
  await Promise.all(["a", "b", "c"].map((tenant) => Client.join(t, lonely, tenant, "ana")));
  assert.equal((await lonely.fetch("/health/websocket")).body.connectedClients, 3);
});

test("what is not there is not there", async () => {
  for (const path of ["/", "/metrics", "/admin", "/nothing", "/api/v1", "/socket.iox/"]) assert.equal((await server.fetch(path)).status, 404, path);
});

test("the admin port: health for all, metrics with a key for every tenant", async (t) => {
  const port = await freePort();
  const watched = await Server.start({ env: { ADMIN_PORT: String(port) } });
  t.after(() => watched.stop());
  const admin = (path, key) => within(SOON, fetch(`http://127.0.0.1:${port}${path}`, { headers: key ? { authorization: `Bearer ${key}` } : {} }), path);
  for (const path of ["/health", "/health/live", "/health/ready", "/health/websocket"]) assert.equal((await admin(path)).status, 200, path);
  for (const key of [undefined, ACME_KEY, "wrong", mint("acme", "ana")]) assert.equal((await admin("/metrics", key)).status, 401, key);
  assert.equal((await admin("/socket.io/?EIO=4&transport=polling")).status, 404, "no way in for clients");
  const ana = await Client.join(t, watched, "acme", "ana");
  const refused = new Client(t, watched.url, { auth: { token: "x" } });
  await refused.refusal();
  // Gauges are written at the end of a turn: an answer of the same shard comes after it.
  await ana.ask("presence", { room: "r" });
  await watched.api("GET", "acme", "stats");
  const response = await admin("/metrics", API_KEY);
  assert.deepEqual([response.status, /^text\/plain/.test(response.headers.get("content-type"))], [200, true]);
  const text = await response.text();
  const sum = (name) => [...text.matchAll(new RegExp(`^tenantcast_${name}\\{[^}]*\\} (\\d+)$`, "gm"))].reduce((all, [, number]) => all + Number(number), 0);
  assert.equal(sum("sessions"), 1, text.slice(0, 2000));
  assert.ok(text.split("\n").every((line) => /^(# (TYPE|HELP) .*|tenantcast_\w+(\{.*\})? [\d.e+-]+|)$/.test(line)), "Prometheus' text format");
  assert.doesNotMatch(text, /acme|ana/, "names of tenants and users are no labels");
});
