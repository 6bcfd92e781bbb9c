// `/ws`, `/events`, CORS: the ways in for those without a Socket.IO library.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Client, Events, Plain, SECRET, SOON, Server, mint, now, sign, within } from "./harness.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

test("/ws: the same events and answers", async (t) => {
  const ana = await Plain.join(t, server, "acme", "ana");
  assert.deepEqual([ana.welcome.tenant, ana.welcome.user, ana.welcome.recovered], ["acme", "ana", false]);
  const ben = await Client.join(t, server, "acme", "ben");
  for (const client of [ana, ben]) assert.equal((await client.ask("subscribe", { rooms: ["mixed"] })).ok, true);
  const answer = await ana.ask("publish", { room: "mixed", type: "hello", data: { a: 1 } });
  assert.deepEqual([answer.ok, answer.offset], [true, 1]);
  const [data, meta] = await ana.nextArgs("hello");
  const other = await ben.nextArgs("hello");
  assert.deepEqual([data, meta], other.slice(0, 2), "the same on both wires");
  assert.deepEqual([meta.user, meta.room, meta.offset, meta.id], ["ana", "mixed", 1, answer.id]);
  await ben.ask("publish", { room: "mixed", type: "pointer", data: 5, ephemeral: true });
  const pointer = await ana.log.take(({ name }) => name === "pointer", "pointer");
  assert.deepEqual(pointer.frame, { event: "pointer", data: 5 });
  const history = await ana.ask("history", { room: "mixed" });
  assert.deepEqual(history, await ben.ask("history", { room: "mixed" }));
  assert.deepEqual((await ana.ask("presence", { room: "mixed" })).members.length, 2);
  ana.send({ event: "typing:start", data: { room: "mixed" } });
  await ben.next("typing:start", ({ user }) => user === "ana");
  assert.equal((await ana.ask("no:such", {})).code, "unknown_event");
  ana.send({ event: "no:such" });
  assert.equal((await ana.ask("unsubscribe", { rooms: ["mixed"] })).ok, true, "and it lives");
});

test("/ws: subscribe with since gets what was missed before its answer", async (t) => {
  const first = await Plain.join(t, server, "acme", "back");
  const { epoch } = await first.ask("subscribe", { rooms: ["back"] });
  await server.publish("acme", { room: "back", type: "n", data: 1 });
  await first.next("n");
  first.ws.terminate();
  await server.publish("acme", [2, 3].map((data) => ({ room: "back", type: "n", data })));
  const second = await Plain.join(t, server, "acme", "back");
  const answer = await second.ask("subscribe", { rooms: ["back"], since: { epoch, offset: 1 } });
  assert.deepEqual([answer.recovered, answer.epoch, answer.offset], [true, epoch, 3]);
  assert.deepEqual(second.all("n").map(([data]) => data), [2, 3]);
});

const token = mint("acme", "ana");
const PLACES = {
  "the query": { token },
  "the header": { headers: { authorization: `Bearer ${token}` } },
  "the subprotocol": { protocols: ["bearer", token] },
};
for (const [place, options] of Object.entries(PLACES)) {
  test(`/ws: the token in ${place}`, async (t) => {
    const client = new Plain(t, server, options);
    assert.equal((await client.next("connected")).user, "ana");
    assert.equal(client.ws.protocol, options.protocols ? "bearer" : "");
  });
}

for (const [code, text] of Object.entries({
  token_missing: undefined,
  token_malformed: "abc",
  token_invalid: sign({ sub: "a", tenant: "b" }, { secret: `${SECRET}!` }),
  token_expired: mint("acme", "ana", { exp: now() - 60 }),
  token_not_yet_valid: mint("acme", "ana", { nbf: now() + 600 }),
  tenant_missing: sign({ sub: "ana" }),
})) {
  test(`/ws and /events: ${code}`, async (t) => {
    const client = new Plain(t, server, { token: text });
    const { code: number, reason } = await client.close();
    assert.equal(number, 4401);
    assert.equal(reason.data.code, code);
    assert.equal(typeof reason.message, "string");
    if (text) {
      const subprotocol = new Plain(t, server, { protocols: ["bearer", text] });
      assert.equal((await subprotocol.close()).reason.data.code, code);
    }
    const answer = await server.fetch("/events?rooms=a", text ? { headers: { authorization: `Bearer ${text}` } } : {});
    assert.equal(answer.status, 401);
    assert.equal(answer.body.data.code, code);
    assert.equal(answer.body.message, reason.message);
  });
}

for (const [what, frame] of Object.entries({
  "no JSON": "hello",
  "no object": "[1]",
  "no event": '{"data":1}',
  "an id that is no number": '{"event":"presence","id":"x"}',
  "half an object": '{"event":"presence"',
  "a binary frame": Buffer.from('{"event":"presence"}'),
})) {
  test(`/ws: ${what} is a protocol error`, async (t) => {
    const client = await Plain.join(t, server, "acme", "ana");
    client.ws.send(frame);
    const { code, reason } = await client.close();
    assert.deepEqual([code, reason.data.code], [4400, "protocol_error"]);
  });
}

test("/ws without an upgrade", async () => {
  assert.equal((await server.fetch("/ws")).status, 426);
});

test("/ws: a ping is answered, a close is answered", async (t) => {
  const client = await Plain.join(t, server, "acme", "ana");
  const pong = once(client.ws, "pong");
  client.ws.ping("are you there");
  assert.equal((await within(SOON, pong, "a pong"))[0].toString(), "are you there");
  client.ws.close(1000, "bye");
  assert.equal((await within(SOON, client.closed, "the close")).code, 1000);
});

test("/events: a stream of events, and Last-Event-ID goes on where it ended", async (t) => {
  const open = (options) => new Events(t, server, { rooms: ["feed", "side room/ü"], token: mint("acme", "reader"), ...options });
  const first = open();
  const response = await first.response;
  assert.equal(response.statusCode, 200);
  assert.match(response.headers["content-type"], /^text\/event-stream/);
  assert.match(response.headers["cache-control"], /no-/);
  const welcome = await first.next("connected");
  assert.equal(welcome.args[0].data?.user ?? welcome.args[0].user, "reader");
  const ids = [];
  for (const [room, data] of [["feed", 1], ["side room/ü", "line\nbreak"], ["feed", 3]]) {
    await server.publish("acme", { room, type: "news", data });
    const event = await first.next("news");
    assert.deepEqual([event.args[0].event, event.args[0].data, event.args[0].meta.room], ["news", data, room]);
    assert.ok(event.id);
    ids.push(event.id);
  }
  assert.equal(new Set(ids).size, 3);
  (await first.response).destroy();
  await server.publish("acme", [
    { room: "feed", type: "news", data: 4 },
    { room: "elsewhere", type: "news", data: "no" },
    { room: "side room/ü", type: "news", data: 5 },
  ]);
  for (const more of [{ headers: { "last-event-id": ids[1] } }]) {
    const second = open(more);
    await second.log.gather(3, ({ name }) => name === "news", "missed events");
    await server.publish("acme", { room: "feed", type: "end", data: null });
    await second.next("end");
    assert.deepEqual(second.log.entries.filter(({ name }) => name === "news").map(({ args }) => args[0].data), [3, 4, 5]);
  }
  const lost = open({ headers: { "last-event-id": "zzz-1" } });
  const greeting = (await lost.next("connected")).args[0];
  assert.equal((greeting.data ?? greeting).recovered, false, "what cannot be gone on from is said");
  assert.deepEqual(lost.log.entries.filter(({ name }) => name === "news"), []);
});

test("/events: rooms that are not permitted, and other methods", async (t) => {
  const stream = new Events(t, server, { rooms: ["open:1", "shut:1"], token: mint("acme", "narrow", { rooms: ["open:*"] }) });
  assert.equal((await stream.response).statusCode, 200);
  await stream.next("connected");
  await server.publish("acme", [
    { room: "shut:1", type: "x", data: 1 },
    { room: "open:1", type: "x", data: 2 },
  ]);
  const event = await stream.next("x");
  assert.equal(event.args[0].data, 2);
  assert.equal((await server.fetch("/events", { method: "POST" })).status, 405);
});

test("CORS: pages of FRONTEND_URL are let in, with credentials, and no others", async (t) => {
  const origins = ["https://app.example", "http://localhost:5173"];
  const strict = await Server.start({ env: { FRONTEND_URL: origins.join(",") } });
  t.after(() => strict.stop());
  const paths = ["/socket.io/?EIO=4&transport=polling", "/api/v1/openapi.json", "/events?rooms=a", "/api/v1/tenants/acme/rooms"];
  for (const path of paths) {
    for (const origin of origins) {
      const { headers } = await strict.fetch(path, { headers: { origin } });
      assert.equal(headers.get("access-control-allow-origin"), origin, path);
      assert.equal(headers.get("access-control-allow-credentials"), "true");
      assert.match(headers.get("vary") ?? "", /origin/i);
      const preflight = await strict.fetch(path, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" },
      });
      assert.equal(preflight.status, 204);
      assert.equal(preflight.headers.get("access-control-allow-origin"), origin);
      assert.match(preflight.headers.get("access-control-allow-methods"), /POST/);
      assert.match(preflight.headers.get("access-control-allow-headers"), /authorization/i);
      assert.equal(preflight.headers.get("access-control-allow-credentials"), "true");
    }
    for (const origin of ["https://evil.example", "https://app.example.evil", "http://app.example", "null"]) {
      const { headers } = await strict.fetch(path, { headers: { origin } });
      assert.equal(headers.get("access-control-allow-origin"), null, `${path} ${origin}`);
    }
  }
  const { headers } = await server.fetch(paths[0], { headers: { origin: origins[0] } });
  assert.equal(headers.get("access-control-allow-origin"), null, "off unless configured");
});

test("CORS: FRONTEND_URL=*", async (t) => {
  const open = await Server.start({ env: { FRONTEND_URL: "*" } });
  t.after(() => open.stop());
  const { headers } = await open.fetch("/socket.io/?EIO=4&transport=polling", { headers: { origin: "https://any.example" } });
  assert.equal(headers.get("access-control-allow-origin"), "*");
  assert.equal(headers.get("access-control-allow-credentials"), null, "every origin is without credentials");
});

test("the subprotocol list without a token is answered, so that a browser sees why", async (t) => {
  const client = new Plain(t, server, { protocols: ["bearer"] });
  const { code, reason } = await client.close();
  assert.deepEqual([code, reason.data.code, client.ws.protocol], [4401, "token_missing", "bearer"]);
});
