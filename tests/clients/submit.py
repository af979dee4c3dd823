"""Submits one message with smtplib, and says what was answered.

    submit.py tls|starttls PORT MECHANISM CA LOGIN PASSWORD FROM TO SUBJECT MESSAGE_ID
"""

import email.message
import smtplib
import ssl
import sys

from scram import Scram

mode, port, mechanism, ca, login, password, sender, recipient, subject, message_id = sys.argv[1:]
trust = ssl.create_default_context(cafile=ca)
if mode == "tls":
    smtp = smtplib.SMTP_SSL("localhost", int(port), context=trust, timeout=30)
else:
    smtp = smtplib.SMTP("localhost", int(port), timeout=30)
    smtp.ehlo()
    print("in clear:", "AUTH offered" if smtp.has_extn("auth") else "no AUTH")
    smtp.starttls(context=trust)
smtp.ehlo()
print("offered:", *sorted(smtp.esmtp_features["auth"].split()))
smtp.user, smtp.password = login, password
exchange = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login, "SCRAM-SHA-256": Scram(login, password)}[mechanism]
code, text = smtp.auth(mechanism, exchange)
print("auth:", code, text.decode())
if isinstance(exchange, Scram):
    print("the server proved that it knows the password:", exchange.verified)
message = email.message.EmailMessage()
message["From"], message["To"], message["Subject"], message["Message-ID"] = sender, recipient, subject, message_id
message.set_content("Buongiorno,\n\nsi allega l'offerta.\n")
print("refused:", smtp.send_message(message))
print("quit:", *smtp.quit())
