"""Sends events, a JSON object a line, to adflux; waits until they are counted; prints what became of them.

    python3 client.py http://localhost:8080 < events.ndjson

ADFLUX_KEY is an API key with the scope ingest, where keys are required.
"""

import json, os, sys, time, urllib.error, urllib.request

HEADERS = {"Content-Type": "application/x-ndjson"}
if key := os.environ.get("ADFLUX_KEY"):
    HEADERS["Authorization"] = f"Bearer {key}"


def ask(path, body=None):
    while True:
        try:
            request = urllib.request.Request(sys.argv[1] + path, body, HEADERS)
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code not in (429, 503):
                sys.exit(refused.read().decode())
            time.sleep(int(refused.headers.get("Retry-After", 1)))
        except OSError:  # The answer is lost. The same events sent again count once.
            time.sleep(1)


receipt = ask("/events", sys.stdin.buffer.read())
while receipt.get("state") != "counted":
    receipt = ask("/receipts/" + receipt["receipt_id"])
json.dump(receipt, sys.stdout, indent=2)
