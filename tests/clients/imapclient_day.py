"""A day with IMAPClient; says what each call was answered.

    imapclient_day.py PORT CA LOGIN PASSWORD

In the INBOX are an acceptance and a delivery receipt. After "idling" something must be delivered.
"""

import datetime
import ssl
import sys

import imapclient
from imapclient.exceptions import LoginError

port, ca, login, password = sys.argv[1:]


def connect(context):
    return imapclient.IMAPClient("localhost", int(port), ssl=True, ssl_context=context, timeout=30)


def tell(what, answer):
    print(f"{what}: {answer}")


def outline(part):
    """Its type, with what is inside."""
    if part.is_multipart:
        return f"multipart/{part[1].decode()}({' '.join(outline(each) for each in part[0])})".lower()
    return f"{part[0].decode()}/{part[1].decode()}".lower()


def flags(all_flags):
    return sorted(flag.decode() for flag in all_flags)


try:
    connect(ssl.create_default_context())
except ssl.SSLCertVerificationError as error:
    tell("without the authority", error.verify_message)
context = ssl.create_default_context(cafile=ca)
try:
    connect(context).login(login, "sbagliata")
except LoginError as error:
    tell("wrong password", error)

imap = connect(context)
imap.login(login, password)
tell("id", imap.id_({"name": "IMAPClient"})[0][:2])
tell("namespace", imap.namespace())
for attributes, delimiter, name in imap.list_folders():
    tell("list", (flags(attributes), delimiter.decode(), name))
tell("sent", imap.find_special_folder(rb"\Sent"))
quota = {each.resource: (each.usage > 0, each.limit) for each in imap.get_quota("INBOX")}
tell("quota", quota)

selected = imap.select_folder("INBOX")
tell("select", (selected[b"EXISTS"], selected[b"UIDNEXT"], selected[b"READ-WRITE"]))
items = ["FLAGS", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE", "BODY.PEEK[]", "BODY.PEEK[1.MIME]", "BODY.PEEK[1]"]
for uid, got in imap.fetch([1, 2], items).items():
    subject = got[b"ENVELOPE"].subject.decode()
    whole = got[b"BODY[]"]
    tell("message", (uid, flags(got[b"FLAGS"]), subject, got[b"RFC822.SIZE"] == len(whole)))
    tell("structure", outline(got[b"BODYSTRUCTURE"]))
    # The signed part as it is signed: the CRLF before the delimiter is the delimiter's.
    signed = got[b"BODY[1.MIME]"] + got[b"BODY[1]"]
    tell("signed part", (whole.count(signed), whole.split(signed)[1][:4]))
tell("search", imap.search(["KEYWORD", "$PecConsegna"]))
tell("search in text", imap.search(["BODY", "accettato dal sistema"]))
tell("sort", imap.sort("REVERSE SUBJECT"))
tell("thread", imap.thread(criteria="ALL"))
tell("capable of moving", imap.has_capability("MOVE"))

tell("flags", {uid: flags(all_flags) for uid, all_flags in imap.add_flags([1], [r"\Seen", "Protocollato"]).items()})
tell("create", imap.create_folder("Attività & affari").decode())
tell("exists", imap.folder_exists("Attività & affari"))
when = datetime.datetime(2026, 3, 2, 9, 0, tzinfo=datetime.timezone.utc)
draft = "From: a@example.org\r\nSubject: Bozza\r\n\r\nPerché no?\r\n".encode()
said = imap.append("Attività & affari", draft, [r"\Draft"], when).decode()
tell("append", said.split()[0] + " " + said.split(maxsplit=2)[2])
moved = imap.move([1], "Attività & affari")
tell("status", imap.folder_status("Attività & affari", ["MESSAGES", "UNSEEN", "UIDNEXT"]))
tell("left", imap.search())

imap.idle()
print("idling", flush=True)
told = imap.idle_check(timeout=30)
while not any(b"EXISTS" in each for each in told):
    told += imap.idle_check(timeout=30)
tell("told", [each for each in told if b"EXISTS" in each])
tell("done", imap.idle_done()[0].decode())
newest = max(imap.search())
tell("new", imap.fetch([newest], ["ENVELOPE"])[newest][b"ENVELOPE"].subject.decode())
tell("logout", imap.logout().decode())
