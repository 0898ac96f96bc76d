"""What schemathesis is told beside the description: one check of our own in place of the one that
takes every refusal of a well-formed request for a fault. A session or a cursor is an opaque text that
no generator can make up, and some parameters may not stand together; each such refusal is named here,
and any other one is found."""

import json
import os
import re

import schemathesis

# By the error's name: what `detail` may say.
REASONS = {
    # Opaque: made by an answer.
    "BadSession": r"",
    "BadCursor": r"",
    # Which parameters go together is said in words.
    "BadQuery": r"is for consistency=local|goes with resolve=secrets here|"
    r"^since: is not a parameter of this path|^resource: |^message: ",
    "BadHeader": r"cannot be asked together|cannot both be asked|is for one key"
    # Settings and the topology know how much there is.
    r"|is above the limit|asks for \d+ regions",
    "BadField": r"is past|is no grant|is for a credential",
    "DuplicateKey": r"",
}
# How things stand is no fault of the request: something is there or is not, is another version, is
# bound to a role, is used up, or was asked before.
STANDING = {403, 404, 409, 410, 412, 422}


def is_empty_against_its_pattern(case, header):
    """Whether the request's header is empty and what is described has no empty text: the generator
    takes such a one for one that fits. An empty header that the description has is not passed over."""
    if (case.headers or {}).get(header) != "":
        return False
    described = [it.definition["schema"] for it in case.operation.headers if it.name == header]
    has_none = lambda schema: "pattern" in schema and re.search(schema["pattern"], "") is None
    return bool(described) and all(has_none(schema) for schema in described)


@schemathesis.check
def refused_for_a_reason(ctx, response, case):
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive:
        return
    status = response.status_code
    if status < 400 or status in STANDING or case.operation.path == "/oauth/token":
        return
    body = json.loads(response.content or b"{}")
    name, detail = body.get("error", ""), body.get("detail", "")
    if name == "BadHeader" and is_empty_against_its_pattern(case, body.get("field")):
        return
    allowed = REASONS.get(name)
    assert allowed is not None and re.search(allowed, detail), (
        f"a request that fits the description was refused: {status} {name}: {detail}"
    )


@schemathesis.hook
def map_body(context, body):
    """A client secret is shown once, so that no example has one that is good."""
    if context.operation.path == "/oauth/token" and isinstance(body, dict):
        if body.get("client_secret") == "hs_shown-once":
            return {**body, "client_secret": os.environ["HOLM_CLIENT_SECRET"]}
    return body
