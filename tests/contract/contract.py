"""The contract: what the node answers is what it says it does. Run by tests/contract/run."""

import json
import os
import pathlib
import subprocess
import sys

from node import Node

HERE = pathlib.Path(__file__).resolve().parent
# The same requests every time: so many of an operation, and no more as time allows.
SEED = "7"
EXAMPLES = "10"
TIMEOUT_S = 150


def prepare(node):
    """What the examples speak of is there."""
    for value in ("blue", "green"):
        node.ask("PUT", "/config/web/dev/color", value)
    node.ask("POST", "/secrets", {"name": "prod-db-password", "value": "s3cret"})
    node.ask("POST", "/accounts", {"name": "deployer", "roles": ["developer"]})
    made = json.loads(node.ask("POST", "/accounts", {"name": "ci", "roles": ["developer"]}))
    # The example of a form has this account's name.
    return made["client_secret"]


def step(words):
    print(f"\n-- {words}", flush=True)


def schemathesis(node, tools, document, more):
    step("the description is one: OpenAPI 3.1's own schema")
    check = (
        "import json, sys\nfrom openapi_spec_validator import validate\n"
        "validate(json.load(open(sys.argv[1])))\nprint('it is')"
    )
    subprocess.run([tools / "schemathesis/bin/python", "-c", check, document], check=True)
    step("schemathesis: some thousand requests, all checks")
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
        "HOLM_CLIENT_SECRET": prepare(node),
    }
    line = [tools / "schemathesis/bin/st", "--config-file", HERE / "schemathesis.toml", "run"]
    line += [f"{node.url}/openapi.json", "-H", f"Authorization: Bearer {node.token}"]
    # All checks, but for what the configuration leaves out.
    line += ["--seed", SEED, "--max-examples", EXAMPLES, *more]
    done = subprocess.run(line, cwd=node.path, env=environment, timeout=TIMEOUT_S)
    if done.returncode:
        node.log.flush()
        print((node.path / "log").read_text()[-4000:])
        sys.exit(f"schemathesis found something: {done.returncode}")


def client(node, tools, document):
    step("a client that openapi-python-client makes from the description")
    made = node.path / "made" / "holm_made"
    made.parent.mkdir()
    python = tools / "openapi-client/bin/python"
    line = [tools / "openapi-client/bin/openapi-python-client", "generate", "--meta", "none"]
    line += ["--config", HERE / "client.yaml", "--path", document, "--output-path", made]
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    if done.returncode or "WARNING" in done.stdout + done.stderr:
        sys.exit(f"it could not be made whole:\n{done.stdout}{done.stderr}")
    environment |= {
        "PYTHONPATH": str(made.parent),
        "HOLM_URL": node.url,
        "HOLM_TOKEN": node.token,
    }
    subprocess.run([python, HERE / "made_client.py"], check=True, env=environment, timeout=60)


def typescript(node, tools, document):
    step("types that openapi-typescript makes from the description, with openapi-fetch")
    place = tools / "typescript"
    run = lambda *line: subprocess.run(line, check=True, cwd=place, timeout=120, env=environment)
    environment = {**os.environ, "HOLM_URL": node.url, "HOLM_TOKEN": node.token}
    run("node", "node_modules/openapi-typescript/bin/cli.js", document, "--output", "holm.ts")
    run("node", "node_modules/typescript/bin/tsc", "--project", "tsconfig.json")
    run("node", "out/made_client.js")


def main():
    program, tools, *more = sys.argv[1:]
    tools = pathlib.Path(tools).resolve()
    with Node(program) as node:
        document = node.path / "openapi.json"
        document.write_bytes(node.ask("GET", "/openapi.json"))
        if (tools / "openapi-client/bin/openapi-python-client").exists():
            client(node, tools, document)
        else:
            print("skipped: PyPI's openapi-python-client is not to be had here")
        if (tools / "typescript/node_modules/typescript").exists():
            typescript(node, tools, document)
        else:
            print("skipped: npm's openapi-typescript is not to be had here")
        if (tools / "schemathesis/bin/st").exists():
            schemathesis(node, tools, document, more)
        else:
            print("skipped: PyPI's schemathesis is not to be had here")


if __name__ == "__main__":
    main()
