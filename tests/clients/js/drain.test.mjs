// The end of a process, and the next one on the same port.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { test } from "node:test";
import { Client, Events, Plain, SOON, Server, freePort, mint, within } from "./harness.mjs";

for (const name of ["SIGTERM", "SIGINT"]) {
  test(`${name}: everyone is told when to come back, the process ends with 0, and the clients find the next one`, async (t) => {
    const port = await freePort();
    const first = await Server.start({ port });
    t.after(() => first.stop());
    const clients = [
      await Client.join(t, first, "acme", "ana"),
      await Client.join(t, first, "acme", "ben", { transports: ["polling"] }),
      await Client.join(t, first, "globex", "cat", { transports: ["polling", "websocket"] }),
    ];
    const plain = await Plain.join(t, first, "acme", "dan");
    const stream = new Events(t, first, { token: mint("acme", "eve") });
    await stream.next("connected");
    first.signal(name);
    for (const client of clients) {
      const { reconnectAfterMs } = await client.next("server:draining");
      assert.ok(Number.isInteger(reconnectAfterMs) && reconnectAfterMs >= 0, String(reconnectAfterMs));
      await client.disconnected();
    }
    assert.equal(typeof (await plain.next("server:draining")).reconnectAfterMs, "number");
    assert.deepEqual(await plain.close(), { code: 4503, reason: { message: "the server is shutting down, come back", data: { code: "server_draining" } } });
    await stream.next("server:draining");
    await within(SOON, stream.ended, "the end of the stream");
    assert.deepEqual(await within(SOON, first.exited, "the end of the process"), { code: 0, signal: null });
    const second = await Server.start({ port });
    t.after(() => second.stop());
    for (const client of clients) {
      const welcome = await client.next("connected");
      assert.equal(welcome.recovered, false, "a new process has no history, and says so");
    }
  });
}

test("a polling session whose next poll is still to come is told at it, and closed at the one after", async (t) => {
  // In a fleet another node would answer in its place.
  const server = await Server.start({ config: "[drain]\nspread_ms = 0\n", env: { REDIS_URL: null } });
  t.after(() => server.stop());
  const observer = await Client.join(t, server, "acme", "observer", { reconnection: false });
  // A connection for each request: one that is idle may be closed by a drain.
  const get = async (sid, body) => {
    const target = `${server.url}/socket.io/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ""}`;
    const request = http.request(target, { method: body ? "POST" : "GET", agent: false }).end(body);
    const [response] = await within(SOON, once(request, "response"), "an answer");
    let text = "";
    for await (const part of response) text += part;
    return { status: response.statusCode, text };
  };
  const { sid } = JSON.parse((await get()).text.slice(1));
  await get(sid, `40${JSON.stringify({ token: mint("acme", "ana") })}`);
  await observer.next("user:online", ({ user }) => user === "ana");
  server.signal("SIGTERM");
  await observer.next("server:draining");
  const told = await get(sid);
  assert.equal(told.status, 200);
  assert.match(told.text, /42\["server:draining",\{"reconnectAfterMs":\d+\}\]/);
  // The official client loses what comes in one payload with the close.
  assert.doesNotMatch(told.text, /(^|\x1e)1$/);
  assert.deepEqual(await get(sid), { status: 200, text: "1" });
  assert.deepEqual(await within(SOON, server.exited, "the end of the process"), { code: 0, signal: null });
});

test("the same signal again ends at once", async (t) => {
  const server = await Server.start({ config: "[drain]\ntimeout_ms = 60000\n" });
  t.after(() => server.stop());
  const ana = await Client.join(t, server, "acme", "ana");
  // A reader that does not read holds the drain up.
  const stuck = net.connect(server.port, "127.0.0.1");
  t.after(() => stuck.destroy());
  stuck.on("error", () => {});
  await once(stuck, "connect");
  stuck.write(`GET /events?rooms=big&token=${mint("acme", "stuck")} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await ana.next("user:online", ({ user }) => user === "stuck");
  await once(stuck, "readable");
  for (let n = 0; n < 8; n++) await server.publish("acme", { room: "big", type: "x", data: "x".repeat(900_000), ephemeral: true });
  server.signal("SIGTERM");
  await ana.next("server:draining");
  const asked = Date.now();
  server.signal("SIGTERM");
  const { code, signal } = await within(5000, server.exited, "the end of the process");
  assert.ok(code === 143 || code === 0 || signal === "SIGTERM", `${code} ${signal}`);
  assert.ok(Date.now() - asked < 5000);
});

test("nobody new while it drains", async (t) => {
  const server = await Server.start({ config: "[drain]\ntimeout_ms = 60000\n" });
  t.after(() => server.stop());
  assert.equal((await server.fetch("/health/ready")).status, 200);
  const ana = await Client.join(t, server, "acme", "ana", { reconnection: false });
  server.signal("SIGTERM");
  await ana.next("server:draining");
  const target = `${server.url}/socket.io/?EIO=4&transport=polling`;
  let answer;
  do {
    answer = await fetch(target).then(async (response) => ({ status: response.status, text: await response.text() }), () => ({ status: "refused" }));
    // The other shard may hear of it a moment later: who it lets in until then says goodbye.
    if (answer.status === 200) await fetch(`${target}&sid=${JSON.parse(answer.text.slice(1)).sid}`, { method: "POST", body: "1" }).catch(() => {});
  } while (answer.status === 200);
  assert.ok(answer.status === 503 || answer.status === "refused", String(answer.status));
  assert.deepEqual(await within(SOON, server.exited, "the end of the process"), { code: 0, signal: null });
});
