"""The official Python client, both of its kinds, over both transports, against the real server."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import queue
import re
import subprocess
import tempfile
import time
import unittest

import socketio

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")
BIN = os.path.join(ROOT, os.environ.get("TENANTCAST_BIN", "target/debug/tenantcast"))
SECRET = "the python tests' secret, of more than 32 bytes"
SOON = 10
TRANSPORTS = (["websocket"], ["polling"], ["polling", "websocket"])


def mint(tenant, user, **more):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"sub": user, "tenant": tenant, "permissions": ["publish"], "exp": int(time.time()) + 3600, **more}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.new(SECRET.encode(), text, hashlib.sha256).digest())).decode()


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": cls.place.name,
            "HOST": "127.0.0.1",
            "PORT": "0",
            "ADMIN_PORT": "0",
            "SHARDS": "2",
            # The asyncio client that leaves while a POST of its own is out never sends its close packet: it then waits for the answer to
            # its poll, which is the next ping, and the server for it.
            "WS_PING_INTERVAL": "1000",
            "TENANTCAST_DRAIN__TIMEOUT_MS": "3000",
            "JWT_SECRET": SECRET,
        }
        cls.server = subprocess.Popen([BIN, "serve"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready = re.fullmatch(r"tenantcast ready on (127\.0\.0\.1:\d+)\n", cls.server.stdout.readline())
        if not ready:
            cls.server.kill()
            raise AssertionError("no ready line")
        cls.url = "http://" + ready.group(1)

    @classmethod
    def tearDownClass(cls):
        ran = cls.server.poll() is None
        cls.server.terminate()
        code = cls.server.wait(SOON)
        cls.server.stdout.close()
        cls.place.cleanup()
        assert ran and code == 0, f"the server ended with {code}"

    def test_the_sync_client(self):
        for transports in TRANSPORTS:
            with self.subTest(transports=transports):
                room = "sync:" + "-".join(transports)
                events = queue.Queue()
                client = socketio.Client()
                self.addCleanup(client.disconnect)
                client.on("*", lambda event, *args: events.put((event, args)))
                client.connect(self.url, auth={"token": mint("acme", "ana")}, transports=transports, wait_timeout=SOON)

                def following(name):
                    while True:
                        event, args = events.get(timeout=SOON)
                        if event == name:
                            return args

                (welcome,) = following("connected")
                self.assertEqual((welcome["tenant"], welcome["user"], welcome["sid"]), ("acme", "ana", client.get_sid()))
                self.assertTrue(client.call("subscribe", {"rooms": [room]}, timeout=SOON)["ok"])
                receipt = client.call("publish", {"room": room, "type": "note", "data": {"text": "ü"}}, timeout=SOON)
                self.assertEqual((receipt["ok"], receipt["offset"]), (True, 1))
                data, meta = following("note")[:2]
                self.assertEqual((data, meta["id"], meta["user"]), ({"text": "ü"}, receipt["id"], "ana"))
                self.assertEqual(client.transport(), transports[-1])

    def test_a_refusal_says_why(self):
        for transports in TRANSPORTS[:2]:
            refusals = queue.Queue()
            client = socketio.Client(reconnection=False)
            client.on("connect_error", refusals.put)
            with self.assertRaises(socketio.exceptions.ConnectionError):
                client.connect(self.url, auth={"token": mint("acme", "ana", exp=1)}, transports=transports, wait_timeout=SOON)
            self.assertEqual(refusals.get(timeout=SOON)["data"]["code"], "token_expired")
            client.disconnect()

    def test_the_asyncio_client(self):
        async def run(transports):
            room = "async:" + "-".join(transports)
            token = mint("acme", "ben")
            async with socketio.AsyncSimpleClient() as client:
                await client.connect(self.url, auth={"token": token}, transports=transports, wait_timeout=SOON)

                async def following(name):
                    while True:
                        event, *args = await client.receive(timeout=SOON)
                        if event == name:
                            return args

                (welcome,) = await following("connected")
                self.assertEqual(welcome["user"], "ben")
                self.assertTrue((await client.call("subscribe", {"rooms": [room]}, timeout=SOON))["ok"])
                for n in range(20):
                    receipt = await client.call("publish", {"room": room, "type": "n", "data": n}, timeout=SOON)
                    self.assertEqual(receipt["offset"], n + 1)
                for n in range(20):
                    data, meta = (await following("n"))[:2]
                    self.assertEqual((data, meta["offset"]), (n, n + 1))

        for transports in TRANSPORTS:
            with self.subTest(transports=transports):
                asyncio.run(run(transports))


if __name__ == "__main__":
    unittest.main(verbosity=2)
