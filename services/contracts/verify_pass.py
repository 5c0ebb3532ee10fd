"""Verifies the codes of passes without the network, with Python's standard library and the command openssl (3.0 or later).

    curl -s http://localhost:8080/.well-known/passes/jwks.json > keys.json      # before, with the network
    python3 services/contracts/verify_pass.py keys.json SHOW_ID < codes.txt     # one code a line, as a scanner reads them

It prints one line for each code: "valid ORDER_ID", or "refused" with the reason. Remember also which orders were let in:
a code alone does not show that its pass was used, or is void because of a refund or a resale. With a network, use POST /api/shows/{showId}/checkins.
"""

import base64
import json
import subprocess
import sys
import tempfile

# What stands before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
DER_PREFIX = bytes.fromhex("302a300506032b6570032100")


class Refused(Exception):
    """A code that is not one of a pass for this show."""


def decode(text):
    """Decodes base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_signed(key, signed, signature):
    """Reports whether an Ed25519 key, 32 bytes, has made a signature."""
    with tempfile.NamedTemporaryFile() as key_file, tempfile.NamedTemporaryFile() as text_file, tempfile.NamedTemporaryFile() as signature_file:
        for file, content in ((key_file, DER_PREFIX + key), (text_file, signed), (signature_file, signature)):
            file.write(content)
            file.flush()
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", key_file.name]
        command += ["-rawin", "-in", text_file.name, "-sigfile", signature_file.name]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def verify(key_set, show, code):
    """Returns the claims of a code, or raises Refused. Every comparison is needed."""
    try:
        header_text, claims_text, signature_text = code.split(".")
        header, claims, signature = json.loads(decode(header_text)), json.loads(decode(claims_text)), decode(signature_text)
        kid, type_of_code, algorithm = header["kid"], header["typ"], header["alg"]
    except (ValueError, KeyError, TypeError):
        raise Refused("it is no code") from None
    if (algorithm, type_of_code) != ("EdDSA", "pass+jwt"):
        raise Refused("it is another kind of token")
    key = next((key for key in key_set["keys"] if key["kid"] == kid), None)
    if key is None:
        raise Refused("its key is not in the key set")
    if not is_signed(decode(key["x"]), f"{header_text}.{claims_text}".encode(), signature):
        raise Refused("its signature is wrong")
    if (claims.get("iss"), claims.get("aud")) != ("boxoffice/orders", "boxoffice/checkin"):
        raise Refused("it is another kind of token")
    if claims.get("show") != show:
        raise Refused("it is for another show")
    return claims


def main(key_file, show):
    with open(key_file, encoding="utf-8") as file:
        key_set = json.load(file)
    let_in = set()
    for line in sys.stdin:
        try:
            order = verify(key_set, show, line.strip())["order"]
            if order in let_in:
                raise Refused("it was used")
            let_in.add(order)
            print("valid", order, flush=True)
        except Refused as reason:
            print("refused:", reason, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
