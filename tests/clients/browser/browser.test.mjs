// A real browser: the demo page of development mode, and the official client's bundle on a page of another origin.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { SOON, Server, freePort, mint, within } from "../js/harness.mjs";

const require = createRequire(new URL("../js/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

let browser;
before(async () => {
  const executablePath = CANDIDATES.find((path) => path && existsSync(path));
  // Without one on the system: the one that `playwright-core install` has put into its own place.
  browser = await chromium.launch({
    executablePath,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});
after(() => browser?.close());

/** A page whose errors fail the test. */
async function open(t, url) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(SOON);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  const response = await page.goto(url);
  assert.equal(response.status(), 200);
  return { page, errors };
}

test("the demo page: two tenants, one room name, and a line that is cut", async (t) => {
  const server = await Server.start({ env: { JWT_SECRET: null, API_KEYS: null, HOST: null } });
  t.after(() => server.stop());
  const { page, errors } = await open(t, `${server.url}/`);
  const user = (tenant, name) => page.locator(`article[data-tenant="${tenant}"][data-user="${name}"]`);
  const role = (article, name) => article.locator(`[data-role="${name}"]`);
  const people = { acme: ["ana", "ben"], globex: ["gus", "ivy"] };
  for (const [tenant, names] of Object.entries(people)) {
    for (const name of names) {
      await role(user(tenant, name), "status").filter({ hasText: /^connected$/ }).waitFor();
      for (const other of names) await role(user(tenant, name), "presence").locator(`[data-member="${other}"]`).waitFor();
      assert.equal(await role(user(tenant, name), "presence").locator("li").count(), 2, "the other tenant's users are not in this room");
    }
  }
  const say = async (tenant, name, text) => {
    await role(user(tenant, name), "input").fill(text);
    await role(user(tenant, name), "send").click();
  };
  const message = (tenant, name, text) => role(user(tenant, name), "messages").locator("li[data-offset]").filter({ hasText: text });
  const offsets = (tenant, name) => role(user(tenant, name), "messages").locator("li[data-offset]").evaluateAll((items) => items.map((item) => Number(item.dataset.offset)));

  await say("acme", "ana", "only for acme");
  await message("acme", "ben", "only for acme").waitFor();
  await message("acme", "ana", "only for acme").waitFor();
  await say("globex", "gus", "only for globex");
  await message("globex", "ivy", "only for globex").waitFor();
  for (const name of people.globex) assert.equal(await message("globex", name, "only for acme").count(), 0);
  for (const name of people.acme) assert.equal(await message("acme", name, "only for globex").count(), 0);
  assert.deepEqual([await offsets("acme", "ben"), await offsets("globex", "ivy")], [[1], [1]], "each room counts by itself");

  await role(user("acme", "ben"), "cut").click();
  await role(user("acme", "ben"), "status").filter({ hasText: /^cut$/ }).waitFor();
  for (const text of ["missed one", "missed two", "missed three"]) {
    await say("acme", "ana", text);
    await message("acme", "ana", text).waitFor();
  }
  assert.deepEqual(await offsets("acme", "ben"), [1], "nothing comes over a line that is cut");
  await role(user("acme", "ben"), "cut").click();
  await role(user("acme", "ben"), "messages").locator('li[data-note="recovered"]').waitFor();
  const recovered = role(user("acme", "ben"), "messages").locator("li[data-recovered]");
  assert.deepEqual(await recovered.locator('[data-role="text"]').allTextContents(), ["missed one", "missed two", "missed three"]);
  await say("acme", "ana", "live again");
  await message("acme", "ben", "live again").waitFor();
  assert.deepEqual(await offsets("acme", "ben"), [1, 2, 3, 4, 5]);
  for (const name of ["lost", "error"]) assert.equal(await page.locator(`li[data-note="${name}"]`).count(), 0, name);
  assert.equal(await page.locator('[data-role="crossed"]').textContent(), "0");
  assert.deepEqual(errors, []);
});

test("the official client's bundle on a page of another origin: polling, then the upgrade", async (t) => {
  const bundle = readFileSync(new URL("../js/node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url));
  const page = `<!doctype html><title>client</title><link rel="icon" href="data:,"><script src="/client.js"></script>`;
  const pages = http.createServer((request, response) => {
    const isBundle = request.url === "/client.js";
    response.writeHead(200, { "content-type": isBundle ? "text/javascript" : "text/html" }).end(isBundle ? bundle : page);
  });
  const port = await freePort();
  pages.listen(port, "127.0.0.1");
  await once(pages, "listening");
  t.after(() => pages.close());
  t.after(() => pages.closeAllConnections());
  const origin = `http://127.0.0.1:${port}`;
  for (const [frontend, withCredentials] of [[origin, false], [origin, true], ["*", false]]) {
    const server = await Server.start({ env: { FRONTEND_URL: frontend } });
    t.after(() => server.stop());
    const { page: client, errors } = await open(t, origin);
    const talk = client.evaluate(
      async ({ url, token, withCredentials }) => {
        const socket = io(url, { auth: { token }, withCredentials });
        const first = socket.io.engine.transport.name;
        const upgraded = new Promise((resolve) => socket.io.engine.once("upgrade", (to) => resolve(to.name)));
        const failed = new Promise((_, reject) => socket.on("connect_error", reject));
        const [welcome] = await Promise.race([new Promise((resolve) => socket.once("connected", (...args) => resolve(args))), failed]);
        const second = await upgraded;
        const note = new Promise((resolve) => socket.once("note", (data, meta) => resolve([data, meta.offset])));
        await socket.emitWithAck("subscribe", { rooms: ["web"] });
        const bytes = await socket.emitWithAck("publish", { room: "web", type: "note", data: "from a page" });
        const heard = await note;
        socket.disconnect();
        return { first, second, user: welcome.user, ok: bytes.ok, heard };
      },
      { url: server.url, token: mint("acme", "web"), withCredentials },
    );
    assert.deepEqual(await within(SOON, talk, "the page's talk"), {
      first: "polling",
      second: "websocket",
      user: "web",
      ok: true,
      heard: ["from a page", 1],
    });
    assert.deepEqual(errors, [], frontend);
  }
  // A page that is not let in gets nothing.
  const closed = await Server.start({ env: { FRONTEND_URL: "https://elsewhere.example" } });
  t.after(() => closed.stop());
  const { page: stranger } = await open(t, origin);
  const refused = stranger.evaluate(
    ({ url, token }) =>
      new Promise((resolve) => {
        const socket = io(url, { auth: { token }, transports: ["polling"], reconnection: false });
        socket.on("connect_error", (error) => resolve(error.message));
        socket.on("connect", () => resolve("connected"));
      }),
    { url: closed.url, token: mint("acme", "web") },
  );
  assert.equal(await within(SOON, refused, "the refusal"), "xhr poll error");
});
