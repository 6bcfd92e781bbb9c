// Engine.IO v4 and Socket.IO v5 on the raw wire, against the echo application (`examples/protocol_echo.rs`: ping interval 300 ms, timeout
// 200 ms): what the public protocol test suites exercise, and what the official client does with the same application.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, test } from "node:test";
import { Client, Echo, SOON, Wire, within } from "./harness.mjs";

const INTERVAL = 300;
const TIMEOUT = 200;
/** Longer than any heartbeat takes, far shorter than anything else. */
const BEAT = 3000;

/** The suites' application, and one that waits longer for a pong: what is not about that shall not hang on a busy machine's 200 ms. */
let brisk, patient;
let echo;
before(async () => {
  [brisk, patient] = await Promise.all([Echo.start(TIMEOUT), Echo.start(20_000)]);
  echo = patient;
});
after(() => Promise.all([brisk.stop(), patient.stop()]));

/** A test of the heartbeat itself. Tests of a file run one after another. */
const beating = (name, body) =>
  test(name, async (t) => {
    echo = brisk;
    try {
      await body(t);
    } finally {
      echo = patient;
    }
  });

const request = async (where, init) => {
  const response = await within(SOON, fetch(echo.url + where, init), where);
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
};

for (const base of ["/engine.io/", "/socket.io/"]) {
  const polling = (sid) => `${base}?EIO=4&transport=polling${sid ? `&sid=${sid}` : ""}`;
  const websocket = (sid) => `${base}?EIO=4&transport=websocket${sid ? `&sid=${sid}` : ""}`;
  const get = (sid) => request(polling(sid));
  const post = (sid, body) => request(polling(sid), { method: "POST", body });
  const open = async () => JSON.parse((await get()).text.slice(1)).sid;

  /** A WebSocket that has read its handshake. */
  const dial = async (t) => {
    const wire = new Wire(t, echo.url, websocket());
    const first = await wire.next();
    assert.equal(first[0], "0");
    return { wire, handshake: JSON.parse(first.slice(1)) };
  };

  beating(`${base}: handshake over polling`, async () => {
    const { status, type, text } = await get();
    assert.equal(status, 200);
    assert.match(type, /^text\/plain; charset=utf-8$/i);
    assert.equal(text[0], "0");
    const { sid, ...rest } = JSON.parse(text.slice(1));
    assert.match(sid, /^[\w-]{20}$/);
    assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: INTERVAL, pingTimeout: TIMEOUT, maxPayload: 1_000_000 });
  });

  beating(`${base}: handshake over WebSocket`, async (t) => {
    const { handshake } = await dial(t);
    const { sid, ...rest } = handshake;
    assert.match(sid, /^[\w-]{20}$/);
    assert.deepEqual(rest, { upgrades: [], pingInterval: INTERVAL, pingTimeout: TIMEOUT, maxPayload: 1_000_000 });
  });

  test(`${base}: handshakes that are refused`, async (t) => {
    for (const [query, code, message] of [
      ["", 0, "Transport unknown"],
      ["?EIO=4", 0, "Transport unknown"],
      ["?EIO=4&transport=abc", 0, "Transport unknown"],
      ["?transport=polling", 5, "Unsupported protocol version"],
      ["?EIO=abc&transport=polling", 5, "Unsupported protocol version"],
      ["?EIO=3&transport=polling", 5, "Unsupported protocol version"],
      ["?EIO=4&transport=polling&sid=unknown", 1, "Session ID unknown"],
      ["?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown"],
      ["?EIO=4&transport=websocket", 3, "Bad request"],
    ]) {
      const { status, text } = await request(base + query);
      assert.deepEqual([status, JSON.parse(text)], [400, { code, message }], query);
    }
    for (const method of ["POST", "PUT", "DELETE"]) {
      const { status, text } = await request(polling(), { method });
      assert.deepEqual([status, JSON.parse(text)], [400, { code: 2, message: "Bad handshake method" }], method);
    }
    for (const query of ["?transport=websocket", "?EIO=abc&transport=websocket", "?EIO=4", "?EIO=4&transport=abc", "?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA"]) {
      const wire = new Wire(t, echo.url, base + query);
      assert.match((await within(SOON, wire.error, "the refusal")).message, /400/, query);
      await wire.gone();
    }
  });

  test(`${base}: heartbeat over polling`, async () => {
    const sid = await open();
    if (base === "/socket.io/") {
      // Who joins no namespace is closed for that.
      assert.equal((await post(sid, "40")).status, 200);
      // The application says a word of its own, in the same answer or the next.
      let said = "";
      while (!said.includes("42[")) said += (await get(sid)).text;
      assert.match(said, /^40\{/);
    }
    for (let beat = 0; beat < 3; beat++) {
      const started = Date.now();
      const { status, text } = await get(sid);
      assert.deepEqual([status, text], [200, "2"]);
      assert.ok(Date.now() - started < BEAT);
      assert.equal((await post(sid, "3")).status, 200);
    }
  });

  beating(`${base}: no pong, no session: polling`, async () => {
    const sid = await open();
    assert.equal((await get(sid)).text, "2");
    // The next poll is answered when the session ends.
    const started = Date.now();
    const { status } = await get(sid);
    assert.ok(Date.now() - started < BEAT);
    if (status === 200) assert.equal((await get(sid)).status, 400);
  });

  beating(`${base}: heartbeat over WebSocket, and no pong, no session`, async (t) => {
    const { wire } = await dial(t);
    if (base === "/socket.io/") {
      // Who joins no namespace is closed for that.
      wire.send("40");
      for (const start of ["40{", "42["]) assert.ok((await wire.next()).startsWith(start));
    }
    for (let beat = 0; beat < 3; beat++) {
      assert.equal(await wire.next({ pings: true, ms: BEAT }), "2");
      wire.send("3");
    }
    assert.equal(await wire.next({ pings: true, ms: BEAT }), "2");
    const started = Date.now();
    await wire.gone(BEAT);
    assert.ok(Date.now() - started >= TIMEOUT - 50, "not before its time");
  });

  test(`${base}: the client closes`, async (t) => {
    const sid = await open();
    const waiting = get(sid);
    // The poll has to be there first; a request on another path goes round meanwhile.
    await request(base);
    assert.equal((await post(sid, "1")).status, 200);
    const { status, text } = await waiting;
    assert.deepEqual([status, text], [200, "6"]);
    assert.equal((await get(sid)).status, 400);
    const { wire } = await dial(t);
    wire.send("1");
    await wire.gone();
  });

  test(`${base}: two polls at once end the session`, async () => {
    const sid = await open();
    const both = await Promise.all([get(sid), get(sid)]);
    const statuses = both.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [200, 400]);
    assert.equal(both.find(({ status }) => status === 200).text, "1");
    assert.equal((await get(sid)).status, 400);
  });

  test(`${base}: packets nobody may send end the session`, async (t) => {
    for (const body of ["abc", "9", "", "0{}", "2"]) {
      const sid = await open();
      const { status } = await post(sid, body);
      if (status === 200) assert.notEqual((await get(sid)).text[0], "4", body);
      assert.equal((await get(sid)).status, 400, JSON.stringify(body));
    }
    for (const message of ["abc", "9", "0{}", "2", "5"]) {
      const { wire } = await dial(t);
      wire.send(message);
      await wire.gone();
    }
  });

  test(`${base}: bodies of a POST: too long, not UTF-8`, async () => {
    const sid = await open();
    const long = await post(sid, `4${"x".repeat(1_000_000)}`).catch(() => ({ status: 413 }));
    assert.equal(long.status, 413);
    const other = await open();
    assert.equal((await post(other, Buffer.from([0x34, 0xff, 0xfe]))).status, 400);
  });

  test(`${base}: upgrade`, async (t) => {
    const sid = await open();
    const wire = new Wire(t, echo.url, websocket(sid));
    await within(SOON, once(wire.ws, "open"), "open");
    wire.send("2probe");
    assert.equal(await wire.next(), "3probe");
    const { status, text } = await get(sid);
    assert.deepEqual([status, text], [200, "6"], "the poll is let go");
    wire.send("5");
    // Polling is over, and a second WebSocket too; the first does not notice.
    assert.equal((await until400(() => get(sid))).status, 400);
    const second = new Wire(t, echo.url, websocket(sid));
    await second.gone();
    if (base === "/engine.io/") {
      wire.send("4hello");
      assert.equal(await wire.next(), "4hello");
      wire.send(Buffer.from([1, 2, 3]));
      assert.deepEqual(await wire.next(), Buffer.from([1, 2, 3]));
    } else {
      wire.send("40");
      assert.match(await wire.next(), /^40\{"sid":"[\w-]{20}"\}$/);
    }
  });

  test(`${base}: a probe that says something else is closed, and polling goes on`, async (t) => {
    const sid = await open();
    const wire = new Wire(t, echo.url, websocket(sid));
    await within(SOON, once(wire.ws, "open"), "open");
    wire.send("4hello");
    await wire.gone();
    assert.equal((await get(sid)).text, "2");
  });

  test(`${base}: a WebSocket that only opens does not disturb polling`, async (t) => {
    const sid = await open();
    const wire = new Wire(t, echo.url, websocket(sid));
    await within(SOON, once(wire.ws, "open"), "open");
    wire.ws.terminate();
    assert.equal((await get(sid)).text, "2");
    assert.equal((await post(sid, "3")).status, 200);
  });
}

/** The "5" of an upgrade and a poll travel on two connections: until it is there, a poll is let go with "6". */
async function until400(ask) {
  for (;;) {
    const answer = await ask();
    if (answer.text !== "6") return answer;
  }
}

// Engine.IO alone: messages come back as they are.

const engine = (sid) => `/engine.io/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ""}`;

test("messages over polling: one, several, binary among them", async () => {
  for (const body of ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA==", "4", "4ü🎉\x1eb/w=="]) {
    const sid = JSON.parse((await request(engine())).text.slice(1)).sid;
    const pushed = await request(engine(sid), { method: "POST", body });
    assert.deepEqual([pushed.status, pushed.text], [200, "ok"]);
    assert.equal((await request(engine(sid))).text, body);
  }
});

test("messages over WebSocket: text and binary, whole and in fragments", async (t) => {
  const wire = new Wire(t, echo.url, "/engine.io/?EIO=4&transport=websocket");
  await wire.next();
  for (const message of ["4hello", "4", `4${"ü".repeat(100_000)}`]) {
    wire.send(message);
    assert.equal(await wire.next(), message);
  }
  for (const bytes of [Buffer.from([1, 2, 3, 4]), Buffer.alloc(0), Buffer.alloc(200_000, 7)]) {
    wire.send(bytes);
    assert.deepEqual(await wire.next(), bytes);
  }
  wire.ws.send("4in", { fin: false });
  wire.ws.ping();
  wire.ws.send(" three ", { fin: false });
  wire.ws.send("parts", { fin: true });
  assert.equal(await wire.next(), "4in three parts");
});

test("a waiting poll gets the message as it comes, over another connection", async () => {
  const sid = JSON.parse((await request(engine())).text.slice(1)).sid;
  const waiting = request(engine(sid));
  await request("/engine.io/");
  await request(engine(sid), { method: "POST", body: "4late" });
  assert.equal((await waiting).text, "4late");
});

// Socket.IO.

async function socketIo(t, connect = true) {
  const wire = new Wire(t, echo.url, "/socket.io/?EIO=4&transport=websocket");
  await wire.next();
  if (connect) {
    wire.send("40");
    assert.match(await wire.next(), /^40\{/);
    assert.equal(await wire.next(), '42["auth",{}]');
  }
  return wire;
}

test("CONNECT: namespaces and what is sent with it", async (t) => {
  for (const [packet, prefix, auth] of [
    ["40", "40", "{}"],
    ['40{"token":"123"}', "40", '{"token":"123"}'],
    ["40/custom,", "40/custom,", "{}"],
    ["40/custom", "40/custom,", "{}"],
    ['40/custom,{"token":"abc"}', "40/custom,", '{"token":"abc"}'],
  ]) {
    const wire = await socketIo(t, false);
    wire.send(packet);
    const answer = await wire.next();
    assert.ok(answer.startsWith(prefix), answer);
    assert.deepEqual(Object.keys(JSON.parse(answer.slice(prefix.length))), ["sid"]);
    assert.equal(await wire.next(), `${prefix.replace("40", "42")}["auth",${auth}]`);
  }
  const wire = await socketIo(t, false);
  wire.send("40/random");
  assert.equal(await wire.next(), '44/random,{"message":"Invalid namespace"}');
});

beating("no CONNECT in time, no connection", async (t) => {
  const wire = await socketIo(t, false);
  // Pongs are sent: it is not the heartbeat that ends it.
  const pings = (async () => {
    for (;;) await wire.next({ ms: BEAT });
  })().catch(() => {});
  await wire.gone(BEAT);
  void pings;
});

test("DISCONNECT leaves one namespace", async (t) => {
  const wire = await socketIo(t);
  wire.send("40/custom");
  assert.match(await wire.next(), /^40\/custom,\{/);
  assert.equal(await wire.next(), '42/custom,["auth",{}]');
  wire.send("41/custom");
  wire.send('42["message","message to main namespace"]');
  assert.equal(await wire.next(), '42["message-back","message to main namespace"]');
  wire.send("41");
  assert.equal(await wire.next({ pings: true, ms: BEAT }), "2", "the connection itself lives");
});

test("events and acknowledgements, with attachments", async (t) => {
  const wire = await socketIo(t);
  for (const [sent, expected] of [
    ['42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'],
    ['42["message"]', '42["message-back"]'],
    ['42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'],
    ['420["message-with-ack"]', "430[]"],
  ]) {
    wire.send(sent);
    assert.equal(await wire.next(), expected);
  }
  const two = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';
  for (const [sent, expected] of [
    [`452-["message",${two}]`, `452-["message-back",${two}]`],
    [`452-789["message-with-ack",${two}]`, `462-789[${two}]`],
  ]) {
    wire.send(sent);
    wire.send(Buffer.from([1, 2, 3]));
    wire.send(Buffer.from([4, 5, 6]));
    assert.equal(await wire.next(), expected);
    assert.deepEqual([await wire.next(), await wire.next()], [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])]);
  }
});

for (const [what, ...messages] of [
  ["an unknown packet type", "4abc"],
  ["a payload that is no array", "42{}"],
  ["an id that is no number", '42abc["message-with-ack",1,"2",{"3":[false]}]'],
  ["an event without a name", "42[]"],
  ["an event whose name is no text", "42[{}]"],
  ["a name that is reserved", '42["connect"]'],
  ["broken JSON", '42["message",'],
  ["an event of a namespace it is not in", '42/custom,["message"]'],
  ["a second CONNECT", "40"],
  ["too many attachments", '4511-["message"]'],
  ["text where an attachment is due", '451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
  ["an attachment nobody announced", Buffer.from([1])],
  ["a placeholder that is not there", '451-["message",{"_placeholder":true,"num":5}]', Buffer.from([1])],
]) {
  test(`${what} closes the connection`, async (t) => {
    const wire = await socketIo(t);
    for (const message of messages) wire.send(message);
    await wire.gone();
  });
}

// The official client.

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  test(`the official client: binary both ways, acknowledgements both ways (${transports})`, async (t) => {
    const client = new Client(t, `${echo.url}/custom`, { transports, auth: { who: "ana" } });
    assert.deepEqual(await client.next("auth"), { who: "ana" });
    const bytes = Buffer.from([0, 1, 254, 255]);
    const deep = { list: [Buffer.from("a"), { b: Buffer.alloc(70_000, 1) }], text: "ü" };
    client.socket.emit("message", bytes, deep, 5, "six");
    assert.deepEqual(await client.nextArgs("message-back"), [bytes, deep, 5, "six"]);
    assert.deepEqual(await client.ask("message-with-ack", 1, { two: 2 }), 1);
    assert.deepEqual(await client.ask("message-with-ack", deep), deep);
    client.socket.once("question", (question, give) => give({ got: question }, Buffer.from([9])));
    client.socket.emit("ask-me", { n: 1 });
    assert.deepEqual(await client.nextArgs("answered"), [{ got: { n: 1 } }, Buffer.from([9])]);
  });
}

test("as many messages at once as the burst allows come back in order", async (t) => {
  const client = new Client(t, echo.url);
  await client.next("auth");
  // Of 500: an attachment is part of its event, and one is CONNECT's.
  for (let n = 0; n < 490; n++) client.socket.emit("message", n, Buffer.from([n & 255]));
  const back = await client.gather("message-back", 490);
  assert.deepEqual(back.map(([n, bytes]) => [n, bytes[0]]), Array.from({ length: 490 }, (_, n) => [n, n & 255]));
});

test("requests one after the other on one connection, sent all at once", async (t) => {
  const socket = net.connect(echo.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.setEncoding("utf8");
  socket.write("GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2) + "GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  let text = "";
  socket.on("data", (more) => (text += more));
  await within(SOON, once(socket, "close"), "the end");
  assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 404"]);
});
