"""Idles in the INBOX and says, with the time, each response that comes; ends after EXISTS of a given number.

    idle.py PORT CA LOGIN PASSWORD EXISTS
"""

import imaplib
import ssl
import sys
import time

port, ca, login, password, exists = sys.argv[1:]
imap = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ssl.create_default_context(cafile=ca), timeout=60)
imap.login(login, password)
imap.select("INBOX")
tag = imap._new_tag()
imap.send(tag + b" IDLE\r\n")
line = imap.readline()
assert line.startswith(b"+"), line
print("idling", flush=True)
while True:
    line = imap.readline().strip().decode()
    print(f"{time.time():.6f} {line}", flush=True)
    if line == f"* {exists} EXISTS":
        break
imap.send(b"DONE\r\n")
while not line.startswith("tag "):
    line = imap.readline().replace(tag, b"tag").strip().decode()
print(line)
imap.logout()
