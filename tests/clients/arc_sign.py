"""Seals a message on standard input by ARC, as a host that hands it on, and writes it with the new set.

    arc_sign.py HOST KEY STATUS    HOST: who seals, with the selector s1; KEY: its RSA key, in PEM
                                   STATUS: what it says of the chain so far: none, pass or fail
"""

import sys

import dkim

host, key, status = sys.argv[1:]
said = f"Authentication-Results: {host}; arc={status}\r\n" if status != "none" else (
    f"Authentication-Results: {host}; spf=pass smtp.mailfrom=a@x.example\r\n"
)
message = said.encode() + sys.stdin.buffer.read()
with open(key, "rb") as file:
    fields = dkim.arc_sign(message, b"s1", host.encode(), file.read(), host.encode())
if len(fields) != 3:
    sys.exit("no set of three fields")
sys.stdout.buffer.write(b"".join(fields) + message)
