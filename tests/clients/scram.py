"""The client's half of SCRAM-SHA-256, RFC 5802 §3 and RFC 7677: no client of Debian's has it built in."""

import base64
import hashlib
import hmac
import secrets


class Scram:
    """Called with each challenge in turn, gives each response; checks the server's own proof."""

    def __init__(self, login, password):
        self.password = password.encode()
        name = login.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r={secrets.token_urlsafe(18)}"
        self.step = 0
        self.verified = False

    def __call__(self, challenge=None):
        if not challenge and self.step == 0:
            self.step = 1
            return "n,," + self.bare
        challenge = challenge.decode()
        fields = dict(field.split("=", 1) for field in challenge.split(","))
        if self.step == 1:
            self.step = 2
            return self.proof(challenge, fields)
        self.verified = hmac.compare_digest(base64.b64decode(fields["v"]), self.server_signature)
        if not self.verified:
            raise ValueError("the server does not know the password")
        return ""

    def proof(self, challenge, fields):
        if not fields["r"].startswith(self.bare.split("r=", 1)[1]):
            raise ValueError("the server's nonce does not continue ours")
        final = "c=biws,r=" + fields["r"]
        signed = ",".join((self.bare, challenge, final)).encode()
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return final + ",p=" + base64.b64encode(proof).decode()
