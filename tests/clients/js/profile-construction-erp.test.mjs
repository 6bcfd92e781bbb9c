// Construction ERP: company and user events, messages for who is away, documents, presence, 10 connections an address.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Client, Server, until } from "./harness.mjs";
import { Console, isWhole, join, publishAll, token } from "./catalogue.mjs";

let server;
before(async () => (server = await Server.start({ env: { PROFILE: "construction-erp" } })));
after(() => server.stop());

const person = (company, user) => ({ userId: user, companyId: company });

test("the application's own client", async (t) => {
  const console = new Console();
  const accessToken = token(person("build", "u1"));
  const socket = io(server.url, { autoConnect: false });
  // What the application has around it.
  const useWebSocket = () => ({ socket, connected: socket.connected });
  const useEffect = (effect) => effect();
  const updateProject = (data) => console.log("project", data);
  const handleExpenseApproval = (data) => console.log("expense", data);

  // As the application documents it; the second listener is its iOS client's.
  socket.auth = { token: accessToken };
  socket.connect();
  (() => {
    const { socket, connected } = useWebSocket();

    useEffect(() => {
      if (!socket) return;

      socket.on('project:updated', (data) => {
        updateProject(data);
      });

      return () => {
        socket.off('project:updated');
      };
    }, [socket]);
    return connected;
  })();
  socket.on("expense:approved", (data) => handleExpenseApproval(data));
  // To here.
  t.after(() => socket.disconnect());

  await until(() => socket.connected, "the connection");
  await server.publish("other", { type: "project:updated", data: { id: "p9" } });
  await server.publish("build", [
    { type: "project:updated", data: { id: "p1", name: "Bridge" } },
    { type: "expense:approved", user: "u2", data: { id: "e2" } },
    { type: "expense:approved", user: "u1", data: { id: "e1" } },
  ]);
  assert.deepEqual(await console.said("project"), { id: "p1", name: "Bridge" });
  assert.deepEqual(await console.said("expense"), { id: "e1" });
});

test("every event of the catalogue, to those and only those who may", async (t) => {
  const clients = {};
  for (const [name, company] of [["ana", "acme"], ["ben", "acme"], ["rival", "globex"]]) {
    clients[name] = { tenant: company, client: await join(t, server.url, person(company, name)) };
  }
  // The same user's second device.
  clients["ben's phone"] = { tenant: "acme", client: await join(t, server.url, person("acme", "ben")) };
  assert.deepEqual(clients.ana.client.welcome.rooms, ["company_acme", "user_ana"]);
  const ben = ["ben", "ben's phone"];
  const all = ["ana", ...ben];
  const conflict = { strategy: "last-write-wins", conflictedFields: ["title", "status"], originalValue: {}, incomingValue: {}, resolvedValue: {} };
  const rows = [
    [{ type: "project:created", data: { id: "p1" } }, all],
    [{ type: "project:updated", data: { id: "p1" } }, all],
    [{ type: "project:deleted", data: { id: "p1" } }, all],
    [{ type: "task:assigned", user: "ben", data: { taskId: "t1" } }, ben],
    [{ type: "invoice:paid", data: { invoiceId: "i1" } }, all],
    [{ type: "expense:approved", user: "ben", data: { expenseId: "e1" } }, ben],
    [{ type: "expense:rejected", user: "ana", data: { expenseId: "e2" } }, ["ana"]],
    [{ type: "payment:processed", data: { paymentId: "p1" } }, all],
    [{ type: "stock:updated", data: { item: "cement", level: 3 } }, all],
    [{ type: "item:added", data: { item: "sand" } }, all],
    [{ type: "reorder:triggered", data: { item: "cement" } }, all],
    [{ type: "user:online", data: { userId: "site-7", status: "online" } }, all],
    [{ type: "user:offline", data: { userId: "site-7", status: "offline" } }, all],
    [{ type: "user:typing", data: { userId: "site-7" } }, all],
    [{ type: "notification:new", user: "ben", data: { text: "hello" } }, ben],
    [{ type: "document:conflict", data: conflict }, all],
    [{ type: "conflict:resolved", data: { document: "d1" } }, all],
  ];
  isWhole("construction-erp", rows);
  await publishAll({ server, tenant: "acme", delivery: "named", clients, rows, end: { type: "stock:updated", data: "end" } });
});

test("a type that is no event of the application is refused", async () => {
  const { status, body } = await server.api("POST", "acme", "events", { body: { type: "project:update", data: 1 } });
  assert.deepEqual([status, body.code], [400, "unknown_type"]);
});

test("user:online and user:offline, to the company and no other", async (t) => {
  const rival = await join(t, server.url, person("there", "eve"));
  const ana = await join(t, server.url, person("here", "ana"));
  const ben = await join(t, server.url, person("here", "ben"));
  assert.deepEqual(await ana.next("user:online", ({ userId }) => userId === "ben"), { userId: "ben", status: "online" });
  ben.socket.disconnect();
  assert.deepEqual(await ana.next("user:offline"), { userId: "ben", status: "offline" });
  await server.publish("there", { type: "stock:updated", data: "end" });
  await rival.next("stock:updated");
  const heard = [...rival.all("user:online"), ...rival.all("user:offline")].map(([{ userId }]) => userId);
  assert.deepEqual(heard.filter((user) => user !== "eve"), []);
});

test("heartbeat of 25 s, a minute to answer", async () => {
  const { text } = await server.fetch("/socket.io/?EIO=4&transport=polling");
  const { pingInterval, pingTimeout } = JSON.parse(text.slice(1));
  assert.deepEqual([pingInterval, pingTimeout], [25_000, 60_000]);
});

test("10 connections of one address", async (t) => {
  const full = await Server.start({ env: { PROFILE: "construction-erp" } });
  t.after(() => full.stop());
  await Promise.all(Array.from({ length: 10 }, (_, n) => join(t, full.url, person("acme", `u${n}`))));
  const late = new Client(t, full.url, { auth: { token: token(person("acme", "u10")) } });
  await late.refusal();
  const more = await Server.start({ env: { PROFILE: "construction-erp", WS_MAX_CONNECTIONS_PER_IP: "11" } });
  t.after(() => more.stop());
  await Promise.all(Array.from({ length: 11 }, (_, n) => join(t, more.url, person("acme", `u${n}`))));
});

test("what is sent to a user who is away comes first on return, in order, and once", async (t) => {
  const away = async () => {
    await until(async () => (await server.api("GET", "away", "users/ben")).body.connections === 0, "ben's leaving");
  };
  const first = await join(t, server.url, person("away", "ben"));
  first.socket.disconnect();
  await away();
  await server.publish("away", [
    { type: "expense:approved", user: "ben", data: 1 },
    { type: "task:assigned", user: "ben", data: 2 },
    { type: "expense:approved", user: "ana", data: "not his" },
  ]);
  const second = await join(t, server.url, person("away", "ben"));
  await server.publish("away", { type: "notification:new", user: "ben", data: 3 });
  await second.next("notification:new");
  const got = (client) => client.log.entries.filter(({ name }) => /^(expense|task|notification):/.test(name)).map(({ args }) => args[0]);
  assert.deepEqual(got(second), [1, 2, 3]);
  // It has shown life behind them, as every client does: they are done with.
  await second.ask("presence", { room: "user_ben" });
  second.socket.disconnect();
  await away();
  const third = await join(t, server.url, person("away", "ben"));
  await server.publish("away", { type: "notification:new", user: "ben", data: 4 });
  await third.next("notification:new");
  assert.deepEqual(got(third), [4]);
});

test("two edits of one field: the later counts; its writer hears of the conflict, and both how it was resolved", async (t) => {
  const ana = await join(t, server.url, person("docs", "ana"));
  const ben = await join(t, server.url, person("docs", "ben"));
  const document = "project/7";
  const opened = await ana.ask("document:open", { document, version: 1, fields: { title: "Bridge", status: "open", site: "north" } });
  assert.deepEqual([opened.ok, opened.version], [true, 1], JSON.stringify(opened));
  assert.deepEqual((await ben.ask("document:open", { document })).fields, { title: "Bridge", status: "open", site: "north" });
  const at = Date.now();
  const later = await ana.ask("document:update", { document, baseVersion: 1, fields: { title: "Bridge A" }, timestamp: at - 1000 });
  assert.deepEqual([later.ok, later.version], [true, 2]);
  assert.deepEqual((await ben.next("document:updated")).fields, { title: "Bridge A" });
  // On the version before: one field that was changed meanwhile, one that was not.
  const answer = await ben.ask("document:update", { document, baseVersion: 1, fields: { title: "Bridge B", site: "south" }, timestamp: at });
  assert.deepEqual([answer.ok, answer.version], [true, 3], JSON.stringify(answer));
  for (const conflict of [
    await ben.next("document:conflict"),
    await ben.next("conflict:resolved"),
    await ana.next("conflict:resolved"),
  ]) {
    assert.deepEqual(
      [conflict.strategy, conflict.conflictedFields, conflict.originalValue, conflict.incomingValue, conflict.resolvedValue],
      ["last-write-wins", ["title"], { title: "Bridge A" }, { title: "Bridge B" }, { title: "Bridge B" }],
    );
  }
  const { fields } = await ana.ask("document:get", { document });
  assert.deepEqual(fields, { title: "Bridge B", status: "open", site: "south" });
  // An edit on the present version is no conflict.
  const plain = await ana.ask("document:update", { document, baseVersion: 3, fields: { title: "Bridge C" }, timestamp: Date.now() });
  assert.deepEqual([plain.ok, plain.version], [true, 4]);
  await ben.next("document:updated", (updated) => updated.fields.title === "Bridge C");
  assert.deepEqual([ana, ben].map((client) => client.all("document:conflict").length), [0, 1]);
  const rival = await join(t, server.url, person("elsewhere", "ana"));
  assert.notDeepEqual((await rival.ask("document:get", { document })).fields, fields);
});

test("typing in a document, to the others who have it open", async (t) => {
  const [ana, ben, far] = await Promise.all(["ana", "ben", "far"].map((user) => join(t, server.url, person("typing", user))));
  for (const client of [ana, ben]) await client.ask("document:open", { document: "d1", fields: { title: "" } });
  await ana.ask("user:typing", { document: "d1" });
  assert.deepEqual(await ben.next("user:typing"), { userId: "ana", document: "d1", typing: true });
  await server.publish("typing", { type: "stock:updated", data: "end" });
  for (const client of [ana, far]) {
    await client.next("stock:updated");
    assert.deepEqual(client.all("user:typing"), []);
  }
});
