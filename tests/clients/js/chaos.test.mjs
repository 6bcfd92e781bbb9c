// Half a minute of a fleet under load in which something breaks all the time, chosen by a seed. Nothing may be lost, doubled or out of order.
//
// CHAOS_SEED=n plays other choices (when exactly they fall is the machine's doing), CHAOS_SECONDS makes it longer.

import { test } from "node:test";
import { Balancer, Fleet, Ledger } from "./fleet.mjs";
import { Redis } from "./redis.mjs";

const SEED = Number(process.env.CHAOS_SEED ?? 7919);
const SECONDS = Number(process.env.CHAOS_SECONDS ?? 30);
const ROOMS = 4;

/** For how long something is broken, and for how long it is not: chosen by the seed. Nothing is waited for by time. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Numbers below n, the same for the same seed (mulberry32). */
function chance(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n;
  };
}

/** What breaks, and how it is mended. */
const BREAKS = {
  "a node is killed": async ({ fleet, at, random }) => {
    await fleet.kill(at);
    await pause(random(300));
    await fleet.revive(at);
  },
  "two nodes are killed": async ({ fleet, at, random }) => {
    const both = [at, (at + 1) % 3];
    await Promise.all(both.map((at) => fleet.kill(at)));
    await pause(random(300));
    for (const at of both) await fleet.revive(at);
  },
  "a node is drained": async ({ fleet, at }) => {
    await fleet.drain(at);
    await fleet.revive(at);
  },
  "Redis is killed": async ({ redis, random }) => {
    await redis.kill();
    await pause(random(1_500));
    await redis.begin();
  },
  "Redis and a node are killed": async ({ redis, fleet, at, random }) => {
    await redis.kill();
    await fleet.kill(at);
    await pause(random(500));
    await redis.begin();
    await fleet.revive(at);
  },
  "Redis answers nothing": async ({ redis, random }) => {
    redis.freeze();
    await pause(random(4_000));
    redis.thaw();
  },
  "Redis closes its channels": ({ redis }) => redis.ask("CLIENT", "KILL", "TYPE", "pubsub"),
  "Redis closes its connections": ({ redis }) => redis.ask("CLIENT", "KILL", "TYPE", "normal"),
  "Redis forgets its scripts": ({ redis }) => redis.ask("SCRIPT", "FLUSH"),
  "all clients are cut off": ({ balancer }) => balancer.sockets.forEach((socket) => socket.destroy()),
};

const LIMITS = "[history]\nevents = 5000\n\n[drain]\nspread_ms = 300\n";

test(`whatever breaks, each event is received once and in order (seed ${SEED})`, (t) => play(t, BREAKS, LIMITS));

// Events come from the stream that is shared with Node servers, and clients keep its rows.
const SHARED = { ...BREAKS, "the stream is trimmed": ({ redis }) => redis.ask("XTRIM", "socket.io", "MAXLEN", 0) };

test(`the same with fleet.recovery (seed ${SEED})`, (t) =>
  play(t, SHARED, `${LIMITS}\n[fleet]\nadapter = "streams"\nrecovery = true\n`));

async function play(t, breaks, config) {
  const random = chance(SEED);
  const redis = await Redis.start(t, { keeps: "all" });
  const fleet = await Fleet.start(t, redis, { config });
  await fleet.becomes("ok");
  const balancer = await Balancer.over(t, fleet);
  const ledger = new Ledger(t, fleet, "chaos");
  const room = (n) => `room:${n % ROOMS}`;
  for (let n = 0; n < 30; n++) await ledger.receive(`member-${n}`, [room(n), room(n + 1), room(n + 2)], balancer.url);
  for (let n = 0; n < ROOMS; n++) {
    await ledger.publish(`ana-${n}`, room(n), { url: balancer.url, every: 15 });
    await ledger.publish(`backend-${n}`, room(n), { every: 15 });
  }
  const names = Object.keys(breaks);
  const count = {};
  const end = Date.now() + SECONDS * 1_000;
  while (Date.now() < end) {
    const name = names[random(names.length)];
    count[name] = (count[name] ?? 0) + 1;
    await breaks[name]({ redis, fleet, balancer, random, at: random(3) });
    await pause(random(600));
  }
  t.diagnostic(Object.entries(count).map(([name, times]) => `${name}: ${times}`).join(", "));
  await fleet.becomes("ok");
  await ledger.grown(40);
  await ledger.flows();
  await ledger.settle();
  ledger.check();
}
