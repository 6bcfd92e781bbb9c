// Support desk: rooms of users, accounts, conversations and inboxes, typing, who is there, availability of agents, twelve listeners.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { Client, Log, Server, until } from "./harness.mjs";
import { Console, isWhole, join, publishAll, token } from "./catalogue.mjs";

const HOOK_SECRET = "the secret of the desk's webhooks";

/** What the application's own address was told. */
const calls = new Log();
let hook;
let server;
before(async () => {
  hook = http.createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (text) => (body += text));
    request.on("end", () => {
      calls.push({ name: JSON.parse(body).type, args: [JSON.parse(body)], body, headers: request.headers });
      response.writeHead(204).end();
    });
  });
  hook.listen(0, "127.0.0.1");
  await once(hook, "listening");
  server = await Server.start({
    env: {
      PROFILE: "support-desk",
      FRONTEND_URL: "https://desk.example",
      SUPPORT_DESK_WEBHOOK_URL: `http://127.0.0.1:${hook.address().port}/hook`,
      SUPPORT_DESK_WEBHOOK_SECRET: HOOK_SECRET,
    },
  });
});
after(async () => {
  hook.closeAllConnections?.();
  hook.close();
  await server.stop();
});

const person = (account, user, more = {}) => ({ id: user, accountId: account, ...more });

test("the application's gateway: rooms by itself, who is there, typing", async (t) => {
  const console = new Console();
  const ben = await join(t, server.url, person("acme", "ben"));
  const rival = await join(t, server.url, person("globex", "ben"));
  // What a client of the application's gateway does.
  const client = io(server.url, { auth: { token: token(person("acme", "ana")) }, transports: ["websocket", "polling"] });
  client.on("user:online", (payload) => console.log("user:online", payload));
  client.on("conversation:typing", (payload) => console.log("conversation:typing", payload));
  client.emit("conversation:join", { conversationId: "7" });
  client.emit("conversation:typing", { conversationId: "7" });
  // To here.
  t.after(() => client.disconnect());

  assert.deepEqual(ben.welcome.rooms, ["account:acme", "user:ben"]);
  assert.deepEqual(rival.welcome.rooms, ["account:globex", "user:ben"]);
  assert.equal((await ben.ask("conversation:join", { conversationId: "7" })).ok, true);
  assert.equal((await rival.ask("conversation:join", { conversationId: "7" })).ok, true);
  await client.emitWithAck("presence", { room: "conversation:7" });
  client.emit("conversation:typing", { conversationId: "7" });
  assert.deepEqual(await ben.next("conversation:typing"), { userId: "ana" });
  ben.socket.emit("conversation:typing", { conversationId: "7" });
  assert.deepEqual(await console.said("conversation:typing"), { userId: "ben" });
  // Who types does not hear of it, and other accounts hear of nothing.
  for (const account of ["acme", "globex"]) await server.publish(account, { type: "message.updated", room: "conversation:7", data: "end" });
  await rival.next("message.updated");
  await ben.next("message.updated");
  assert.deepEqual(rival.all("conversation:typing"), []);
  assert.deepEqual(console.all("conversation:typing"), [{ userId: "ben" }]);
});

test("user:online and user:offline, to the account only", async (t) => {
  const ana = await join(t, server.url, person("presence", "ana"));
  const rival = await join(t, server.url, person("elsewhere", "eve"));
  const ben = await join(t, server.url, person("presence", "ben"));
  assert.deepEqual(await ana.next("user:online", ({ userId }) => userId === "ben"), { userId: "ben" });
  ben.socket.disconnect();
  assert.deepEqual(await ana.next("user:offline"), { userId: "ben" });
  await server.publish("elsewhere", { type: "contact.updated", data: "end" });
  await rival.next("contact.updated");
  const heard = [...rival.all("user:online"), ...rival.all("user:offline")].map(([{ userId }]) => userId);
  assert.deepEqual(heard.filter((user) => user !== "eve"), []);
});

test("private channels are for whom the token lets in, public ones for the account", async (t) => {
  const customer = await join(t, server.url, person("rooms", "cara", { rooms: ["conversation:7"] }));
  const stranger = await join(t, server.url, person("rooms", "dora", { rooms: [] }));
  for (const [client, event, argument, ok] of [
    [customer, "conversation:join", { conversationId: "7" }, true],
    [customer, "conversation:join", { conversationId: "8" }, false],
    [customer, "inbox:join", { inboxId: "1" }, false],
    [stranger, "conversation:join", { conversationId: "7" }, false],
    [customer, "conversation:join", {}, false],
    [customer, "conversation:join", { conversationId: { $ne: "" } }, false],
    [customer, "conversation:typing", { conversationId: "8" }, false],
  ]) {
    const answer = await client.ask(event, argument);
    assert.equal(answer.ok, ok, `${event} ${JSON.stringify(argument)}: ${JSON.stringify(answer)}`);
  }
  assert.deepEqual((await stranger.ask("subscribe", { rooms: ["public:news", "user:cara", "account:acme"] })).rooms, ["public:news"]);
});

test("every event of the catalogue, to those and only those who may", async (t) => {
  const clients = {};
  for (const [name, account, more] of [
    ["boss", "desk", { role: "administrator" }],
    ["agent", "desk", { role: "agent" }],
    ["idle", "desk", { role: "agent" }],
    ["cara", "desk", { role: "contact", rooms: ["conversation:7"] }],
    ["rival", "other desk", { role: "administrator" }],
  ]) {
    clients[name] = { tenant: account, client: await join(t, server.url, person(account, name, more)) };
  }
  for (const name of ["agent", "cara", "rival"]) {
    assert.equal((await clients[name].client.ask("conversation:join", { conversationId: "7" })).ok, true);
  }
  for (const name of ["agent", "boss", "rival"]) assert.equal((await clients[name].client.ask("inbox:join", { inboxId: "1" })).ok, true);
  const all = ["boss", "agent", "idle", "cara"];
  const talking = ["agent", "cara"];
  const conversation = { room: "conversation:7" };
  const data = { conversationId: "7" };
  const rows = [
    [{ type: "message.created", ...conversation, data: { ...data, message: { id: 1, content: "hello" } } }, talking],
    [{ type: "message.updated", ...conversation, data: { ...data, message: { id: 1 } } }, talking],
    [{ type: "conversation.created", data }, all],
    [{ type: "conversation.updated", ...conversation, data }, talking],
    [{ type: "conversation.opened", ...conversation, data }, talking],
    [{ type: "conversation.resolved", ...conversation, data }, talking],
    [{ type: "conversation.mentioned", user: "agent", data }, ["agent"]],
    [{ type: "assignee.changed", ...conversation, data }, talking],
    [{ type: "contact.created", data: { contactId: "3" } }, all],
    [{ type: "contact.updated", data: { contactId: "3" } }, all],
    [{ type: "contact.deleted", data: { contactId: "3" } }, all],
    [{ type: "inbox.updated", room: "inbox:1", data: { inboxId: "1", name: "sales" } }, ["boss", "agent"]],
    [{ type: "notification.created", user: "idle", data: { id: 1 } }, ["idle"]],
    [{ type: "notification.updated", user: "idle", data: { id: 1 } }, ["idle"]],
    [{ type: "notification.deleted", user: "idle", data: { id: 1 } }, ["idle"]],
    [{ type: "campaign.triggered", data: { campaignId: "9" } }, ["boss"]],
    [{ type: "first.reply.created", ...conversation, data }, talking],
    [{ type: "account.created", data: { accountId: "desk" } }, ["boss"]],
    [{ type: "agent.added", data: { agentId: "idle" } }, ["boss"]],
    // For some only, as the backend says: a note among agents.
    [{ type: "message.created", ...conversation, data: { ...data, message: { id: 2, private: true } }, to: { roles: ["agent"] } }, ["agent"]],
  ];
  isWhole("support-desk", rows);
  await publishAll({ server, tenant: "desk", delivery: "named", clients, rows, end: { type: "contact.updated", data: "end" } });
});

test("browsers come from the desk's own pages only", async () => {
  for (const [origin, allowed] of [["https://desk.example", "https://desk.example"], ["https://evil.example", null]]) {
    const { headers } = await server.fetch("/socket.io/?EIO=4&transport=polling", { headers: { origin } });
    assert.equal(headers.get("access-control-allow-origin"), allowed, origin);
  }
});

test("availability of agents", async (t) => {
  const boss = await join(t, server.url, person("shift", "boss", { role: "administrator" }));
  const agent = await join(t, server.url, person("shift", "ada", { role: "agent" }));
  const customer = await join(t, server.url, person("shift", "cara", { role: "contact" }));
  assert.deepEqual(await agent.ask("agent:availability", { status: "busy" }), { ok: true });
  assert.deepEqual(await boss.next("agent:availability", ({ userId }) => userId === "ada"), { userId: "ada", availability: "busy" });
  for (const [client, status] of [[customer, "busy"], [agent, "asleep"]]) {
    assert.equal((await client.ask("agent:availability", { status })).ok, false);
  }
  await agent.ask("conversation:join", { conversationId: "1" });
  const { members } = await boss.ask("presence", { room: "conversation:1" });
  assert.deepEqual(members.map(({ user, availability }) => [user, availability]), [["ada", "busy"]]);
});

test("listeners: what one event brings about", async (t) => {
  const agent = await join(t, server.url, person("listened", "ada", { role: "agent" }));
  await agent.ask("inbox:join", { inboxId: "1" });
  const message = { id: 1, content: "help" };
  await server.publish("listened", { type: "message.created", room: "conversation:7", data: { conversationId: "7", inboxId: "1", message } });
  // ActionCableListener: the inbox hears of it.
  assert.deepEqual(await agent.next("inbox.updated"), { inboxId: "1", conversationId: "7" });
  // NotificationListener: whom a conversation is given to.
  await server.publish("listened", { type: "assignee.changed", room: "conversation:7", data: { conversationId: "7", assigneeId: "ada" } });
  assert.deepEqual(await agent.next("notification.created"), { type: "conversation_assignment", conversationId: "7" });
  // BaseListener: every event is counted.
  const stats = (await server.api("GET", "listened", "stats")).body;
  assert.ok(JSON.stringify(stats).includes('"events":2'), JSON.stringify(stats));
});

test("listeners: webhooks are signed", async () => {
  await server.publish("hooked", { type: "message.created", room: "conversation:7", data: { conversationId: "7", message: { id: 1 } } });
  await server.publish("hooked", { type: "account.created", data: { accountId: "hooked" } });
  const of = (type) => ({ args: [{ tenant }], name }) => tenant === "hooked" && name === type;
  // WebhookListener and AgentBotListener; InstallationWebhookListener.
  await calls.gather(2, of("message.created"), "calls for message.created");
  await calls.gather(1, of("account.created"), "calls for account.created");
  for (const { headers, body } of calls.entries.filter(({ args: [{ tenant }] }) => tenant === "hooked")) {
    const [, at, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(headers["tenantcast-signature"]);
    assert.equal(signature, createHmac("sha256", HOOK_SECRET).update(`${at}.${body}`).digest("hex"));
    assert.ok(headers["tenantcast-id"]);
  }
});

test("a notification waits for an agent who is away", async (t) => {
  const ada = await join(t, server.url, person("away", "ada", { role: "agent" }));
  ada.socket.disconnect();
  await until(async () => (await server.api("GET", "away", "users/ada")).body.connections === 0, "ada's leaving");
  await server.publish("away", { type: "notification.created", user: "ada", data: { id: 1 } });
  const again = await join(t, server.url, person("away", "ada", { role: "agent" }));
  assert.deepEqual(await again.next("notification.created"), { id: 1 });
});

test("a token that is none is refused", async (t) => {
  const nobody = new Client(t, server.url, { auth: { token: "x.y.z" } });
  assert.equal((await nobody.refusal()).data.code, "token_malformed");
});
