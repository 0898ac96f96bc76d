"""Reads, writes and watches with the client that was made from the description: nothing here is
written by hand that the generator wrote."""

import json
import os

from holm_made import AuthenticatedClient
from holm_made.api.cluster import get_cluster
from holm_made.api.configurations import (
    get_configuration,
    list_configurations,
    list_versions,
    post_configurations,
    put_configuration,
    remove_configuration,
)
from holm_made.api.secrets import get_secret, post_secret
from holm_made.models import Configuration, EntriesType0, ManyEntries, NewSecret, OneEntry, Problem
from holm_made.types import UNSET

client = AuthenticatedClient(
    base_url=os.environ["HOLM_URL"], token=os.environ["HOLM_TOKEN"], raise_on_unexpected_status=True
)

# Writes, reads.
written = post_configurations.sync_detailed(
    "made", "dev", client=client, body=OneEntry(key="color", value="blue", message="made")
)
assert written.status_code == 201 and isinstance(written.parsed, Configuration), written
session = written.headers["Holm-Session"]
read = get_configuration.sync("made", "dev", "color", client=client, holm_session=session)
assert isinstance(read, Configuration) and (read.value, read.version) == ("blue", 1), read
again = put_configuration.sync_detailed(
    "made", "dev", "color", client=client, body="green", expect_version=1, idempotency_key="made-1"
)
assert again.status_code == 200 and again.parsed.version == 2, again
replayed = put_configuration.sync_detailed(
    "made", "dev", "color", client=client, body="green", expect_version=1, idempotency_key="made-1"
)
assert replayed.headers["Idempotency-Replayed"] == "true" and replayed.parsed.version == 2, replayed
several = ManyEntries(entries=EntriesType0.from_dict({"a": 1, "b": {"c": [True]}}))
several = post_configurations.sync("made-too", "dev", client=client, body=several)
assert [item.key for item in several.items] == ["a", "b"], several
stale = put_configuration.sync("made", "dev", "color", client=client, body="red", expect_version=1)
assert isinstance(stale, Problem) and stale.error == "PreconditionFailed", stale
page = list_configurations.sync("made", "dev", client=client, size=1)
assert [item.key for item in page.items] == ["color"] and page.next_cursor is None, page
history = list_versions.sync("made", "dev", "color", client=client)
assert [entry.version for entry in history.items] == [2, 1], history

# Watches: the generator makes the request, httpx reads the stream.
request = list_configurations._get_kwargs("made", "dev", size=UNSET)
request["headers"] = {**request.get("headers", {}), "Accept": "text/event-stream"}
seen = []
with client.get_httpx_client().stream(**request) as events:
    assert events.headers["Content-Type"] == "text/event-stream", events.headers
    kind = None
    for line in events.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: ") and kind in ("put", "remove"):
            item = Configuration.from_dict(json.loads(line.removeprefix("data: ")))
            seen.append((kind, item.key, item.version))
            if kind == "remove":
                break
        elif line.startswith("data: ") and kind == "ready":
            removed = remove_configuration.sync_detailed("made", "dev", "color", client=client)
            assert removed.status_code == 200, removed
assert seen == [("put", "color", 2), ("remove", "color", 3)], seen

gone = get_configuration.sync("made", "dev", "color", client=client)
assert isinstance(gone, Problem) and gone.error == "NotFound" and gone.removal.version == 3, gone

# A secret, and the cluster.
post_secret.sync(client=client, body=NewSecret(name="made", value="s3cret"))
assert get_secret.sync("made", client=client, reveal=True).value == "s3cret"
assert get_cluster.sync(client=client).ready is True
print("it wrote, read, watched and was refused as described")
