"""openapi-spec-validator and Schemathesis against the administration of the running example `standalone`.

The administrator is `team`, whose secret is in ADMINISTRATOR_SECRET. It may give the scopes and the audience of the examples in the
description to clients, and it cannot change itself, so that no request ends its own token.
"""

import base64
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from openapi_spec_validator.readers import read_from_filename

ISSUER = os.environ["ISSUER"]
ROOT = Path(__file__).parents[3]
DESCRIPTION = ROOT / "examples/administration.openapi.yaml"
SETTINGS = ROOT / "tests/clients/schemathesis.toml"


def token():
    pair = base64.b64encode(f"team:{os.environ['ADMINISTRATOR_SECRET']}".encode()).decode()
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "clients:read clients:write"})
    request = urllib.request.Request(f"{ISSUER}/token", form.encode(), {"Authorization": f"Basic {pair}"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["access_token"]


specification, _ = read_from_filename(str(DESCRIPTION))
validate(specification, cls=OpenAPIV31SpecValidator)

schemathesis = Path(sys.executable).with_name("schemathesis")
command = [schemathesis, "--config-file", SETTINGS, "run", DESCRIPTION, "--url", ISSUER, "--no-color"]
sys.exit(subprocess.run([*command, "-H", f"Authorization: Bearer {token()}"], cwd=os.environ["WORK"]).returncode)
